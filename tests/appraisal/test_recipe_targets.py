"""A recipe whose target is a number, or two classes: linear and logistic regression of raw tables, against numpy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.run import appraise_config
from mpc_appraisal.common.errors import InputError

L2 = 0.02
FIELDS = "- {name: a, type: number, feature: {mean: 1, scale: 2}}\n- {name: b, type: number}\n"
NUMBER = "- {name: y, type: number, constraints: {minimum: -50, maximum: 50}}\n"
TWO = "- {name: y, type: boolean, trueValues: ['yes'], falseValues: ['no']}\n"


def table(rows: int, seed: int) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    a, b = r.normal(1, 2, rows).round(3), r.normal(size=rows).round(3)
    return pd.DataFrame({"a": a, "b": b, "y": (a - 2 * b + r.normal(size=rows)).round(3)})


def influence(frames: list[pd.DataFrame], two: bool) -> float:
    """The influence of the third table, by Newton and the full Hessian; one step is exact for a squared error."""
    (x, y), test, data = [
        (np.c_[(f["a"] - 1) / 2, f["b"], np.ones(len(f))], f["y"].to_numpy() > 0 if two else f["y"].to_numpy())
        for f in frames
    ]

    def slope(a, t, w):
        return a.T @ (1 / (1 + np.exp(-a @ w)) - t if two else 2 * (a @ w - t)) / len(a)

    def hessian(w):
        p = 1 / (1 + np.exp(-x @ w))
        return (x.T * (p * (1 - p) if two else 2.0)) @ x / len(x) + 2 * L2 * np.eye(3)

    w = np.zeros(3)
    for _ in range(50):
        w = w - np.linalg.solve(hessian(w), slope(x, y, w) + 2 * L2 * w)
    return float(slope(*data, w) @ np.linalg.solve(hessian(w), slope(*test, w)))


def stated(folder, two: bool, target: str) -> tuple[list[pd.DataFrame], list[str]]:
    """The three tables, and the configuration that reads them by a recipe with this target."""
    recipe, frames = folder / "recipe.yaml", [table(*one) for one in ((60, 1), (40, 2), (30, 3))]
    recipe.write_text(f"fields:\n{FIELDS}{target}target: y\n")
    written = [f.assign(y=np.where(f["y"] > 0, "yes", "no")) if two else f for f in frames]
    written[0].to_csv(folder / "train.csv", index=False)
    written[1].to_csv(folder / "test.csv", index=False)
    written[2][["y", "b", "a"]].to_parquet(folder / "data.parquet", index=False)
    files = {"train": "train.csv", "test": "test.csv", "data": "data.parquet"}
    words = [f"party.{key}={folder / name}" for key, name in files.items()]
    return frames, [*words, f"recipe={recipe}", "session=plain", "appraisal=influence", "baselines.true_utility=false"]


@pytest.mark.parametrize(("model", "two", "target"), [
    ("linear_regression", False, NUMBER),
    ("logistic_regression", True, TWO),
    ("logistic_regression", True, "- {name: y, type: string, categories: ['no', 'yes']}\n"),
])  # fmt: skip
def test_the_value_is_that_of_features_made_by_hand(tmp_path, model, two, target):
    frames, words = stated(tmp_path, two, target)
    (record,) = appraise_config(compose([*words, f"model={model}", f"model.l2={L2}"]), print, tmp_path)
    assert record.value == pytest.approx(influence(frames, two), rel=1e-5)
    assert record.classes == (2 if two else 1) and record.recipe is not None


@pytest.mark.parametrize(("model", "two", "found"), [
    ("softmax_regression", False, "is a number; expected a target of classes"),
    ("logistic_regression", False, "is a number; expected a boolean, or two categories"),
    ("linear_regression", True, "has 2 classes; expected a number"),
])  # fmt: skip
def test_a_recipe_for_another_model_is_refused(tmp_path, model, two, found):
    _, words = stated(tmp_path, two, TWO if two else NUMBER)
    with pytest.raises(InputError, match=f"party.train: recipe: got a recipe whose target 'y' {found}"):
        appraise_config(compose([*words, f"model={model}"]), print, tmp_path)
