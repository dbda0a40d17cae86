"""Makes nbval compare figures too, byte for byte: by itself it lets any picture pass for any other."""

from nbval.plugin import IPyNbFile


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        collector.skip_compare = tuple(key for key in collector.skip_compare if not key.startswith("image/"))
