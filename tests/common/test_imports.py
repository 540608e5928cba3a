"""Who may import what beside the order of rooms, which import-linter holds (`make lint`)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mpc_appraisal"
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """mpc_appraisal/mpc/ring.py -> 'mpc_appraisal.mpc.ring'."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, source: str | None = None) -> set[str]:
    """Dotted names of everything that a file imports, wherever in it, relative imports resolved."""
    found: set[str] = set()
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    for node in ast.walk(ast.parse(source if source is not None else path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    return found


def within(names: set[str], package: str) -> set[str]:
    return {name for name in names if name == package or name.startswith(package + ".")}


def test_only_the_engine_imports_crypten():
    users = {name_of(path) for path in FILES if within(imports(path), "crypten")}
    assert users and all(name.startswith("mpc_appraisal.mpc.") for name in users)


def test_methods_know_neither_hydra_nor_a_session():
    for path in (PACKAGE / "methods").glob("*.py"):
        for foreign in ("hydra", "omegaconf", "crypten", "mpc_appraisal.appraisal.party"):
            assert not within(imports(path), foreign), f"{path.name} imports {foreign}"
        # Of the engine, only what plain and secret tensors are told apart by.
        engine = within(imports(path), "mpc_appraisal.mpc")
        assert engine == within(engine, "mpc_appraisal.mpc.ops"), f"{path.name} imports {sorted(engine)}"


def test_methods_run_without_crypten():
    check = "import sys, mpc_appraisal.methods; sys.exit('crypten' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=600).returncode == 0


def test_hydra_stays_in_the_command_line():
    users = {name_of(path) for path in FILES if within(imports(path), "hydra") | within(imports(path), "omegaconf")}
    assert users and all(name.startswith("mpc_appraisal.cli.") for name in users)


def test_nothing_imports_the_experiments():
    for path in FILES:
        assert not within(imports(path), "experiments"), path.name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import crypten.mpc as m", "crypten.mpc"),
        ("def f():\n    from crypten import nn", "crypten.nn"),
        ("import importlib\nimportlib.import_module('crypten')", "crypten"),
        ("from ..mpc import session", "mpc_appraisal.mpc.session"),
        ("from . import base", "mpc_appraisal.methods.base"),
        ("from .base import scaled", "mpc_appraisal.methods.base"),
    ],
)
def test_the_reader_of_imports_sees_every_form(source, found):
    assert found in imports(PACKAGE / "methods" / "influence.py", source)
