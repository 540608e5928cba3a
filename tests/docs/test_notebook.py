"""The tutorial's notebook runs cell by cell, and shows what its saved outputs show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from processes import ROOT

NOTEBOOK = ROOT / "docs" / "tutorials" / "notebook.ipynb"
# What a kernel does with a cell: it runs the statements, and shows the last one if it is an expression.
KERNEL = """
import ast, json, sys
scope, shown = {"__name__": "notebook"}, []
for source in json.load(sys.stdin):
    *body, last = ast.parse(source).body
    value = None
    if not isinstance(last, ast.Expr):
        body.append(last)
    exec(compile(ast.Module(body, []), "cell", "exec"), scope)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), scope)
    forms = {"text/plain": repr(value)} if value is not None else {}
    forms |= {"text/html": page} if (page := getattr(value, "_repr_html_", str)()) else {}
    forms |= {"image/png": value._repr_png_()[:4].hex()} if hasattr(value, "_repr_png_") else {}
    shown.append(forms)
json.dump(shown, open(sys.argv[1], "w"))
"""


def cells(kind: str) -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("notebook")
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, "shown.json"],
        input=json.dumps(["".join(cell["source"]) for cell in cells("code")]),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "warning" not in done.stderr
    return json.loads((folder / "shown.json").read_text())


def test_the_saved_outputs_are_those_of_a_run(shown):
    saved = [{} for _ in shown]
    for k, cell in enumerate(cells("code")):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            saved[k] = output.get("data", saved[k])
    assert [set(each) for each in saved] == [set(each) for each in shown]
    whole = ["".join(each["text/plain"]) for each in saved if "text/html" in each]
    fresh = [each["text/plain"] for each in shown if "text/html" in each]
    for before, now in zip(whole, fresh, strict=True):
        if before.startswith("In short"):  # of all outputs it has no digits that may differ, the time aside
            assert re.sub("Cost .*", "", before) == re.sub("Cost .*", "", now)
    assert sum("In short" in each for each in whole) == 2


def test_the_figure_is_a_picture(shown):
    assert [each["image/png"] for each in shown if "image/png" in each] == ["89504e47"]


def test_links_of_the_notebook_lead_to_files():
    found = [link for cell in cells("markdown") for link in re.findall(r"\]\(([^)]+)\)", "".join(cell["source"]))]
    assert found and all((NOTEBOOK.parent / link).exists() for link in found)
