"""Every command and every Python block of the README and of the documentation runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from processes import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NEEDED = {" overlap ": "private_set_intersection", " overlap=": "private_set_intersection"}  # words of a block, and the
# package without which it cannot run, since there are no wheels for some versions of Python
WALK = "PUBLIC="  # the walk-through runs in test_walkthrough, for a person answers in between
TYPED = " types"  # ends the first line of a block that one of several people types; they run in test_two_machines


def blocks(page) -> list[tuple[str, str]]:
    """(language, text) of each block of a page that the test runs."""
    return [
        (kind, text)
        for kind, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if WALK not in text and TYPED not in text.partition("\n")[0]
    ]


WITH_BLOCKS = [page for page in PAGES if blocks(page)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment in which `mpc-appraisal` and `python` are those of this test."""
    folder = tmp_path_factory.mktemp("bin")
    for name, words in (("mpc-appraisal", "-m mpc_appraisal.cli.app"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, tmp_path, environment):
    for number, (kind, text) in enumerate(blocks(page)):
        if any(words in text and find_spec(package) is None for words, package in NEEDED.items()):
            continue
        script = tmp_path / f"block{number}.{'sh' if kind == 'bash' else 'py'}"
        script.write_text(text)
        command = ["bash", "-e", script.name] if kind == "bash" else [sys.executable, script.name]
        options = {"cwd": tmp_path, "env": environment, "stdin": subprocess.DEVNULL, "timeout": 300}
        done = subprocess.run(command, capture_output=True, text=True, **options)
        assert done.returncode == 0, f"{text}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def test_pages_have_blocks_of_both_kinds():
    kinds = {kind for page in PAGES for kind, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert kinds == {"bash", "python"} and len(WITH_BLOCKS) >= 8


LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
