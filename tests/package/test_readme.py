"""What the README shows is what one gets."""

import base64
import contextlib
import io
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_prints_what_the_readme_says():
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    promised = re.search(r"```text\n(.*?)```", README, re.S)[1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == promised


def test_every_command_is_a_target_of_the_makefile():
    named = set(re.findall(r"make ([a-z]+)\b", re.sub(r"[Ww]ithout make:|and make\.", "", README)))
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert (
        {"book", "test", "lab", "serve", "notebooks", "results", "bench", "lint"}
        <= named
        <= targets | {"alone"}
    )


def test_the_picture_is_the_one_that_the_start_page_computed():
    cells = json.loads((ROOT / "chapters" / "start.ipynb").read_text(encoding="utf-8"))["cells"]
    (answer,) = [cell for cell in cells if cell["id"] == "answer-figure"]
    stored = base64.b64decode(answer["outputs"][0]["data"]["image/png"])
    assert (ROOT / "_static" / "answer.png").read_bytes() == stored, (
        "save the picture of the start page again"
    )
