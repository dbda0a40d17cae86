"""Makes nbval compare figures too, byte for byte: by itself it lets any picture pass for any other.

And marks each cell that measures time, so that ``make test`` runs nothing beside it.
"""

from nbval.plugin import IPyNbCell, IPyNbFile


def pytest_collectstart(collector):
    if isinstance(collector, IPyNbFile):
        collector.skip_compare = tuple(key for key in collector.skip_compare if not key.startswith("image/"))


def pytest_itemcollected(item):
    if isinstance(item, IPyNbCell) and "nbval-ignore-output" in item.cell.metadata.get("tags", []):
        item.add_marker("alone")
