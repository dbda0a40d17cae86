"""What every test shares: one thread, no window, property tests that draw the same cases, no skips in CI."""

import os

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"CI has all that a test needs, yet this one was skipped: {report.longrepr}"
    return report
