"""Makes nbval compare figures too, byte for byte: by itself it lets any picture pass for any other.

And marks each notebook with a cell that measures time, so that ``make test`` runs nothing beside it.
"""

from nbval.plugin import IPyNbFile


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        collector.skip_compare = tuple(key for key in collector.skip_compare if not key.startswith("image/"))
        if "nbval-ignore-output" in collector.path.read_text(encoding="utf-8"):
            collector.add_marker("alone")
