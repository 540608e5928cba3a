"""Linear and logistic regression on every engine and with noise, with real processes, against closed forms in numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from processes import ROOT
from regressions import LINEAR, LOGISTIC, problem

from mpc_appraisal import Dataset, Spawn, appraise
from mpc_appraisal.appraisal.party import _fitted
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.tasks import check_supported
from mpc_appraisal.cli.config import compose, public_part, release_settings
from mpc_appraisal.common.errors import BoundError, InputError
from mpc_appraisal.methods import METHODS, Finetuning
from mpc_appraisal.models.training import MODELS
from mpc_appraisal.release import Best, Bit, NoisedRelease, Value

L2, FEATURES = 0.02, 6
BOTH = pytest.mark.parametrize("model", [LINEAR, LOGISTIC], ids=lambda model: model.name)
TUNING = {LINEAR: Finetuning(steps=3, lr=0.1), LOGISTIC: Finetuning(steps=3, lr=4.0)}  # values of about 0.01
ENGINES = {"rtas": Spawn(engine="rtas"), "stock": Spawn(engine="stock", transport="gloo")}
OFF = {
    "rtas": (1e-3, 3e-4),
    "stock": (2e-2, 1.5e-3),
}  # the part of a value, or the number, that an engine may be off by


def sides(model) -> list[Dataset]:
    sizes = ((60, 1, "train"), (40, 2, "test"), (90, 3, "candidate"))
    return [problem(model, rows, seed, FEATURES, name=name) for rows, seed, name in sizes]


class Oracle:
    """Values in closed form; the fit of logistic regression is by Newton's method."""

    def __init__(self, model, train: Dataset, test: Dataset):
        self.linear, self.tuning = model is LINEAR, TUNING[model]
        self.train, self.test = self.arrays(train), self.arrays(test)
        self.theta = np.zeros(FEATURES + 1)
        for _ in range(30):
            self.theta = self.theta - np.linalg.solve(self.hessian(), self.slope(self.train) + 2 * L2 * self.theta)

    @staticmethod
    def arrays(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        return np.c_[data.x.numpy(), np.ones(data.rows)], data.y.numpy().astype(float)

    def slope(self, data, theta=None):
        """The gradient of the mean loss."""
        (x, y), theta = data, self.theta if theta is None else theta
        return x.T @ (2 * (x @ theta - y) if self.linear else 1 / (1 + np.exp(-x @ theta)) - y) / len(x)

    def hessian(self):
        x, p = self.train[0], 1 / (1 + np.exp(-self.train[0] @ self.theta))
        return (x.T * (2.0 if self.linear else p * (1 - p))) @ x / len(x) + 2 * L2 * np.eye(FEATURES + 1)

    def loss(self, theta):
        x, y = self.test
        return np.mean((x @ theta - y) ** 2 if self.linear else np.logaddexp(0, x @ theta) - y * (x @ theta))

    def value(self, method: str, data) -> float:
        if method == "gradient_norm":
            return -np.linalg.norm(self.slope(data)) * len(data[0])
        if method == "influence":
            return self.slope(data) @ np.linalg.solve(self.hessian(), self.slope(self.test))
        both, theta = tuple(map(np.concatenate, zip(self.train, data, strict=True))), self.theta
        for _ in range(self.tuning.steps):
            theta = theta - self.tuning.lr * (self.slope(both, theta) + 2 * L2 * theta)
        return self.loss(self.theta) - self.loss(theta)


@BOTH
@pytest.mark.parametrize("engine", ENGINES)
def test_values_by_a_helper_and_by_crypten_as_shipped(model, engine):
    train, test, candidate = sides(model)
    oracle, method = Oracle(model, train, test), ["gradient_norm", "influence", TUNING[model]]
    found = appraise(candidate, train=train, test=test, model=model.name, l2=L2, method=method, session=ENGINES[engine])
    assert len(found) == 3
    for record in found:
        expected = oracle.value(record.method, oracle.arrays(candidate))
        assert record.value == pytest.approx(expected, rel=OFF[engine][0], abs=OFF[engine][1])
        if engine == "rtas":
            assert record.estimate["rounds"] == record.rounds


def test_training_that_no_helper_sees_is_checked_on_shares():
    train, test, candidate = sides(LINEAR)
    with pytest.raises(BoundError, match="training has left the public bound"):
        appraise(candidate, train=train, test=test, model=LINEAR.name, l2=L2, method=Finetuning(steps=6, lr=2.0),
                 session=ENGINES["rtas"])  # fmt: skip


@BOTH
def test_a_noised_value_is_that_of_the_clipped_rows(model):
    """With noise that is too small to protect anything, so that a value can be compared."""
    train, test, candidate = sides(model)
    norm, target = (2.5, 1.5) if model is LINEAR else (1.5, None)
    release = NoisedRelease(sigma=0.01, row_norm=norm, target_norm=target)
    found = appraise(candidate, train=train, test=test, model=model.name, l2=L2, release=release,
                     method="influence", session=Spawn())  # fmt: skip
    oracle, (x, y) = Oracle(model, train, test), Oracle.arrays(candidate)
    long = np.sqrt(norm**2 - 1) / np.linalg.norm(x[:, :-1], axis=1)
    shorter = np.c_[x[:, :-1] * np.minimum(long, 1)[:, None], np.ones(len(x))]
    kept = y if target is None else y.clip(-target, target)
    assert (long < 1).any() and (target is None or (abs(y) > target).any())
    for record in found:
        told = record.release
        assert told["low"] <= record.value <= told["high"] and told["sensitivity"] > 0
        right, plain = (oracle.value(record.method, data) for data in ((shorter, kept), (x, y)))
        off = 3 * (told["high"] - told["low"])  # 95% are within half of one
        assert abs(record.value - right) < off < abs(plain - right)


def test_a_bound_on_targets_is_public_and_older_digests_stay(tmp_path):
    noised = ["release=dp", "release.row_norm=5", "model=linear_regression"]
    assert not any("target_norm" in key for key in public_part(compose(noised)))
    assert public_part(compose([*noised, "release.target_norm=3"]))["release.target_norm"] == 3
    text = repr(NoisedRelease(sigma=1.0, row_norm=5.0))
    assert text == (
        "NoisedRelease(what='value', epsilon=1.0, delta=1e-06, sigma=1.0, row_norm=5.0, ceiling=None, spread=None, "
        "to='both')"
    )
    assert repr(NoisedRelease(sigma=1.0, row_norm=5.0, target_norm=2.0)) == text[:-1] + ", target_norm=2.0)"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "fields:\n- {name: a, type: number}\n- {name: y, type: number, constraints: {minimum: -50, maximum: 20}}\n"
        "target: y\n"
    )
    by_recipe = [*noised, f"recipe={recipe}"]
    assert release_settings(compose(by_recipe)).target_norm == 50
    assert release_settings(compose([*by_recipe, "release.target_norm=3"])).target_norm == 3
    assert release_settings(compose(noised)).target_norm is None


# ---- the table of the page on models

RELEASES = {
    "value": (Value(),),
    "bit": (Bit(),),
    "best": (Best(),),
    "dp": (NoisedRelease(sigma=1.0, row_norm=4.0), NoisedRelease(sigma=1.0, row_norm=4.0, target_norm=4.0)),
}


def table() -> dict[tuple[str, str], dict[str, str]]:
    """The page's table: by method and model, the engines of each release."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    lines = [line for line in page.split("## What serves what")[1].split("\n\n")[2].splitlines() if line[0] == "|"]
    header, _, *rows = [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]
    found = {}
    for method, models, *cells in rows:
        for model in MODELS if models == "all three" else models.split(", "):
            found[method, model] = dict(zip(header[2:], cells, strict=True))
    return found


def served(method, model, release, engine) -> str:
    """What the code's own checks say before anything is shared: nothing, the engine, or the engine with a ceiling."""
    for ceiling in (None, 1.0):
        for one in RELEASES[release]:
            given = (
                NoisedRelease(sigma=1.0, row_norm=4.0, target_norm=one.target_norm, ceiling=ceiling) if ceiling else one
            )
            plan = Plan((method,), L2, 0, "", fit=None, engine=engine, release=given, model=model)
            try:
                check_supported(plan)
                _fitted(plan, ["one", "two"], {})
            except InputError:
                continue
            return f"{engine}, with a ceiling" if ceiling else engine
        if release != "dp":
            break
    return ""


def test_the_table_of_the_page_is_what_the_code_serves():
    stated = table()
    assert set(stated) == set(itertools.product(METHODS, MODELS))
    for (method, model), cells in stated.items():
        assert set(cells) == set(RELEASES)
        for release, cell in cells.items():
            engines = [
                served(METHODS[method](), MODELS[model], release, engine) for engine in ("fast", "rtas", "stock")
            ]
            assert cell == (", ".join(filter(None, engines)) or "no"), (method, model, release)
