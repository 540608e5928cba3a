"""Methods of other packages, installed as pip would install them: found by name in Python and on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.errors import HydraException

from mpc_appraisal import appraise
from mpc_appraisal.cli import front
from mpc_appraisal.cli.config import compose, instantiate, public_part
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods import METHODS, Influence, as_methods, method_named
from mpc_appraisal.methods.installed import installed_names

MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

from mpc_appraisal.methods import Appraiser


@dataclass(frozen=True)
class RowCount(Appraiser):
    """The sum of all labels' entries, which is the number of rows, times a factor."""

    factor: float = 1.0
    steps: tuple = (1, 2)
    name: ClassVar[str] = "row_count"
    needs: ClassVar[frozenset] = frozenset()
    opens: ClassVar[str] = "the number of rows, times a factor"
    streams: ClassVar[bool] = False

    def private_shapes(self, facts):
        return {}

    def prepare(self, model, train, test):
        return {}

    def score(self, owned, x, y, facts):
        return y.sum() * self.factor

    def paper_value(self, opened, facts):
        return opened

    def value(self, opened, facts):
        return opened


@dataclass(frozen=True)
class Required(RowCount):
    least: int = None
    name: ClassVar[str] = "required"

    def __init__(self, least):
        pass


NOT_A_CLASS = 3
'''
ENTRIES = {
    "row_count": "row_count_method:RowCount",
    "influence": "row_count_method:RowCount",
    "required": "row_count_method:Required",
    "other_name": "row_count_method:RowCount",
    "no_class": "row_count_method:NOT_A_CLASS",
    "no_module": "no_such_module_here:RowCount",
}
ROWS = np.random.default_rng(0).normal(size=(24, 3))
DATA = ROWS, (ROWS[:, 0] > 0).astype(int)


def install(folder: Path, name: str, entries: dict[str, str]) -> None:
    """Write what pip writes of a distribution whose entry points these are."""
    written = folder / f"{name}-1.0.dist-info"
    written.mkdir()
    (written / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in entries.items()]
    (written / "entry_points.txt").write_text("\n".join(["[mpc_appraisal.methods]", *lines, ""]))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    (tmp_path / "row_count_method.py").write_text(MODULE)
    install(tmp_path, "row_count_method", ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("row_count_method", None)


def test_without_such_a_package_nothing_is_offered():
    assert not set(ENTRIES) & set(installed_names()) and method_named("row_count") is None
    with pytest.raises(InputError, match="got row_count; expected one of gradient_norm, .*, or all"):
        as_methods("row_count")


def test_an_installed_method_is_appraised_by_its_name(installed):
    result = appraise({"a": DATA}, train=DATA, method=["row_count", "influence"], test=DATA, session="plain")
    assert result["row_count", "a"].value == 24.0
    assert method_named("influence") is Influence is METHODS["influence"]  # no other package takes the name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other_name", "whose class has the name 'row_count'"),
        ("no_class", "which is 3; expected a class that derives from Appraiser"),
        ("no_module", "imported from no_such_module_here:RowCount; it raised ModuleNotFoundError"),
        ("required", "an object, since the class has no defaults"),
        ("unknown", "one of gradient_norm, .*, no_module, .*, row_count, or all"),
    ],
)
def test_what_is_no_method_is_refused_by_its_name(installed, name, said):
    with pytest.raises(InputError, match=f"^appraisal: got {name}.*{said}"):
        as_methods(name)


def test_two_packages_with_one_name_are_refused(installed):
    install(installed, "another", {"row_count": "another:Method"})
    with pytest.raises(InputError, match="stands for another:Method and row_count_method:RowCount"):
        as_methods("row_count")


def test_the_command_line_chooses_it_and_its_settings_are_keys(installed):
    cfg = compose(["appraisal=row_count", "appraisal.factor=2.5"])
    (method,) = as_methods(instantiate(cfg.appraisal))
    assert repr(method) == "RowCount(factor=2.5, steps=[1, 2])"
    public = public_part(cfg)
    assert public["appraisal._target_"] == "row_count_method.RowCount" and public["appraisal.factor"] == 2.5
    assert compose(["appraisal=influence"]).appraisal._target_ == "mpc_appraisal.methods.Influence"


def test_a_misspelt_name_is_answered_by_the_installed_ones(installed):
    with pytest.raises(InputError):
        compose(["appraisal=row_cuont"])
    refused = HydraException("Could not find 'appraisal/row_cuont'")
    assert "Did you mean row_count?" in str(front.explained(refused))
