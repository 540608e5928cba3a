"""Files, modules and classes that pages, docstrings and comments name exist under that name."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from processes import ROOT

from mpc_appraisal.mpc import ops

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGE = ROOT / "mpc_appraisal"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "experiments").rglob("*.py")])
FILES = [str(path.relative_to(ROOT)) for folder in ("mpc_appraisal", "experiments", "tests", "docs", "conf")
         for path in (ROOT / folder).rglob("*")]  # fmt: skip
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir()} | {"mpc_appraisal"}
EXAMPLES = {"foo", "yours", "rules"}  # names that a page invents for its reader
FILE = re.compile(r"(?<![\w/.{])((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|yaml))\b")
DOTTED = re.compile(r"`([a-z_]+(?:\.[A-Za-z_0-9]+)+)(?:\(\))?`")
CLASS = re.compile(r"`([A-Z][a-z]+[A-Za-z]*)`")


def prose(path: Path) -> Iterator[str]:
    """Yield the docstrings and the comments of a source file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    with tokenize.open(path) as file:
        yield from (each.string for each in tokenize.generate_tokens(file.readline) if each.type == tokenize.COMMENT)


def exists(name: str) -> bool:
    """Return whether a file of the project ends in `name`, or the name is an example's."""
    return bool(EXAMPLES & set(re.split(r"[/.]", name))) or any(f"/{file}".endswith(f"/{name}") for file in FILES)


def resolves(name: str) -> bool:
    """Return whether a dotted name that begins with a room of the package, or with `ops`, is a module or its member."""
    first, *rest = name.split(".")
    if first == "ops":
        return hasattr(ops, rest[0])
    where = rest if first == "mpc_appraisal" else [first, *rest]
    path = PACKAGE
    for at, part in enumerate(where):
        if (path / part).is_dir():
            path = path / part
        elif (path / f"{part}.py").is_file():
            members = where[at + 1 :]  # without any, nothing is imported: some modules change others
            return not members or has((path / f"{part}.py"), members)
        else:
            return has(path / "__init__.py", where[at:])
    return True


def has(module: Path, members: list[str]) -> bool:
    found = importlib.import_module(".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    for member in members:
        if not hasattr(found, member) and member not in getattr(found, "__annotations__", {}):
            return False
        found = getattr(found, member, None)
    return True


@pytest.fixture(scope="module")
def classes() -> set[str]:
    pattern = re.compile(r"^\s*class (\w+)|^(\w+)(?:: \w+)? = ", re.MULTILINE)
    return {name for path in SOURCES for pair in pattern.findall(path.read_text(encoding="utf-8")) for name in pair}


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """Return the keys of conf/, such as release.epsilon: pages and docstrings name them too."""
    found = set(nested("", load(ROOT / "conf" / "config.yaml")))
    for path in (ROOT / "conf").glob("*/*.yaml"):
        found |= {f"{path.parent.name}.{key}" for key in nested("", load(path))}
    return found


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def nested(before: str, values: dict) -> Iterator[str]:
    for key, value in values.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from nested(f"{before}{key}.", value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_in_a_page_exist(page, classes, keys):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    missing = [name for name in CLASS.findall(text)
               if not (name in classes or hasattr(builtins, name) or hasattr(torch, name))]  # fmt: skip
    assert [*missing, *unknown(text, keys)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_docstrings_and_comments_exist(path, keys):
    assert [name for text in prose(path) for name in unknown(text, keys)] == []


def unknown(text: str, keys: set[str]) -> list[str]:
    """Return the files, modules and members that the text names and nobody finds."""
    dotted = [name for name in DOTTED.findall(text) if name.split(".")[0] in ROOMS | {"ops"} and name not in keys]
    return [name for name in FILE.findall(text) if not exists(name)] + [
        name for name in dotted if not name.endswith((".py", ".yaml")) and not resolves(name)
    ]
