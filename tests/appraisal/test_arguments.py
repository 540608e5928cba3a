"""What `appraise` takes from Python: frames with a named target, public names, and errors by the argument's name."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mpc_appraisal
from mpc_appraisal import (
    Best,
    Bit,
    Finetuning,
    GradientNorm,
    Influence,
    InfluenceError,
    InputError,
    Join,
    LabelNoise,
    NoisedRelease,
    Plain,
    Relevance,
    Spawn,
    Value,
    appraise,
    preflight,
)
from mpc_appraisal.appraisal.argument_names import by_argument, in_words_of_arguments
from mpc_appraisal.cli.config import compose
from mpc_appraisal.common.errors import BoundError, DisagreementError, PeerError
from mpc_appraisal.data import Dataset

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(240, 4))
Y = X[:, :3].argmax(1)
COLUMNS = ["a", "b", "c", "d"]
NAMES = ("cat", "dog", "eel")
PARTS = {"seller": slice(0, 80), "train": slice(80, 160), "test": slice(160, 240)}
ARRAYS = {name: (X[rows], Y[rows]) for name, rows in PARTS.items()}


def frame(name: str, target: str = "kind", words: bool = False, columns=COLUMNS) -> pd.DataFrame:
    x, y = ARRAYS[name]
    found = pd.DataFrame(x, columns=COLUMNS)[list(columns)]
    found.insert(1, target, [NAMES[each] for each in y] if words else y)
    return found


def value(**changed) -> float:
    own = {"train": ARRAYS["train"], "test": ARRAYS["test"], "session": "plain"} | changed
    return appraise(
        {"seller": changed.pop("seller", ARRAYS["seller"])}, **{k: v for k, v in own.items() if k != "seller"}
    )["seller"].value


def test_frames_with_a_named_target_are_the_same_data():
    plain = value()
    for words in (False, True):
        frames = {name: frame(name, words=words) for name in PARTS}
        frames["seller"] = frame("seller", words=words, columns=["d", "a", "c", "b"])  # columns go by name
        assert value(target="kind", **frames) == pytest.approx(plain, rel=1e-9)
    mixed = frame("seller", words=True)
    mixed = mixed[mixed["kind"] != "eel"]  # one class is without a row at the seller
    rows = ARRAYS["seller"][1] != 2
    expected = value(seller=(ARRAYS["seller"][0][rows], ARRAYS["seller"][1][rows]))
    own = {name: frame(name, words=True) for name in ("train", "test")}
    assert value(target="kind", seller=mixed, **own) == pytest.approx(expected, rel=1e-9)


def test_a_number_to_predict_may_be_a_column():
    price = X @ np.arange(4.0)
    frames = {name: pd.DataFrame(X[rows], columns=COLUMNS).assign(price=price[rows]) for name, rows in PARTS.items()}
    arrays = {name: (X[rows], price[rows]) for name, rows in PARTS.items()}
    found = value(target="price", model="linear_regression", **frames)
    assert found == pytest.approx(value(model="linear_regression", **arrays), rel=1e-9)


def test_a_fitted_estimator_takes_the_models_place():
    x, y = ARRAYS["train"]
    ones = np.c_[x, np.ones(len(x))]
    fitted = LogisticRegression(C=1 / (2 * 1e-2 * len(x)), fit_intercept=False, tol=1e-12, max_iter=10_000).fit(ones, y)
    frames = {name: frame(name) for name in PARTS}
    assert value(target="kind", model=fitted, **frames) == pytest.approx(value(), rel=1e-4)


def test_the_index_of_a_frame_and_the_type_of_its_labels_change_nothing():
    plain = value()
    frames = {name: frame(name, words=True) for name in PARTS}
    frames["train"].index = [f"row {k}" for k in range(80)]
    frames["seller"].index = range(80, 0, -1)
    frames["test"] = frames["test"].astype({"kind": "category"})
    assert value(target="kind", **frames) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("fitted", [False, True])
def test_an_estimators_own_l2_holds_where_the_caller_states_none(fitted):
    estimator = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-12, max_iter=10_000)
    x, y = ARRAYS["train"]
    given = estimator.fit(np.c_[x, np.ones(len(x))], y) if fitted else estimator
    assert value(model=given) == pytest.approx(value(l2=1 / (2 * 0.5 * len(x))), rel=1e-4)
    with pytest.raises(
        InputError, match="^model: got an estimator whose l2 is 0.0125 .*; expected l2=0.0125 .now 0.01."
    ):
        value(model=given, l2=1e-2)


@pytest.mark.parametrize("act", ["save", "report"])
def test_a_file_in_the_place_of_a_folder_is_named(act, tmp_path):
    (tmp_path / "taken").write_text("x")
    result = appraise({"seller": ARRAYS["seller"]}, train=ARRAYS["train"], test=ARRAYS["test"], session="plain")
    for place in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(InputError, match=r"^folder: got .*taken.*; expected a folder, and .*taken is a file"):
            getattr(result, act)(place)
    assert (tmp_path / "taken").read_text() == "x"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": frame("train")}, "^train: got a DataFrame with the columns .*expected target=..."),
        ({"train": frame("train"), "target": "sort"}, "^train: got .*expected one column 'sort', the target"),
        (
            {"train": frame("train").assign(kind=[np.nan, *Y[81:160]]), "target": "kind"},
            "^train: got no value of 'kind' in 1 of 80 rows, the first in row 0; expected a label",
        ),
        (
            {"train": frame("train").assign(b=["x"] * 80), "target": "kind"},
            "^train: got a DataFrame with the columns 'b' of (object|str); expected columns of numbers; a recipe",
        ),
        (
            {"train": frame("train").assign(c=[*X[80:82, 2], np.nan, *X[83:160, 2]]), "target": "kind"},
            "^train: got 1 values of x that are NaN or infinite, the first in row 2 and column 'c'; expected finite",
        ),
        (
            {"model": make_pipeline(StandardScaler(), LogisticRegression())},
            "^model: got scikit-learn's Pipeline; .*steps",
        ),
        ({"test": None}, "^test: "),
        ({"train": None}, "^train: "),
        ({"l2": -1}, "^l2: "),
        ({"method": "influenza"}, "^method: "),
        ({"train": (X[:9], Y[:8])}, "^train: "),
        ({"seller": (X[:9, :2], Y[:9])}, "features|columns"),
        ({"resolution": "on"}, "^resolution: got on"),
        ({"resolution": {"bits": 99, "range": 1}}, "^resolution: bits: got 99"),
        ({"resolution": 255, "session": "spawn"}, r"^data \(seller\): resolution: got the number"),
        ({"release": "bit"}, "^threshold: "),
    ],
)
def test_errors_name_the_argument(changed, message):
    with pytest.raises((InputError, mpc_appraisal.AppraisalError), match=message) as raised:
        value(**changed)
    assert "party." not in str(raised.value)


KEYS = [f"party.{key}" for key in compose([]).party] + ["party.label_key", "party.class_names", "model.l2", "appraisal"]
OWN = {"party.model": "model", "model.l2": "l2", "appraisal": "method"}


def test_keys_that_an_argument_states_have_its_name_and_no_other_key_changes():
    stated = set(inspect.signature(appraise).parameters)
    controls = {each.name for each in fields(mpc_appraisal.DisclosureControls)}
    changed = {}
    for key in KEYS:
        last = key.rpartition(".")[2]
        expected = OWN.get(key) or (last if last in stated else f"controls.{last}" if last in controls else key)
        for text in (key, f"{key} (set)", f"{key}: more"):
            assert in_words_of_arguments(text) == text.replace(key, expected), text
        changed[key] = expected
    assert {name.partition(".")[0] for key, name in changed.items() if name != key} <= stated
    assert {"train", "test", "data", "model", "threshold", "resolution", "controls.scale"} <= set(changed.values())
    assert changed["party.label"] == "party.label", "the arguments have no such name"
    # Only where it begins a text is the word a key: it is a word of sentences too.
    assert in_words_of_arguments("appraisal.lr: as party.data says") == "lr: as data says"
    assert in_words_of_arguments("an appraisal of party.dataset") == "an appraisal of party.dataset"


@pytest.mark.parametrize(
    ("section", "kinds"), [("session", (Plain, Spawn, Join)), ("release", (Value, Bit, Best, NoisedRelease))]
)
def test_settings_of_a_session_and_a_release_have_the_names_of_arguments(section, kinds):
    for kind in kinds:
        for name in inspect.signature(kind).parameters:
            assert in_words_of_arguments(f"lower {section}.{name} to 1") == f"lower {name} to 1"
    assert in_words_of_arguments(f"{section}.nothing") == f"{section}.nothing", "no argument has this name"


SQUARE = Dataset.of(X[:80], Y[:80])
FLAT = Dataset.of(np.c_[X[:80, :1], np.ones((80, 3))], Y[:80])
WRONG_AT_RUN_TIME = {
    "no such column": ({"method": Influence(metric="worst_group", group=99)}, "group"),
    "weights of other classes": ({"method": Influence(metric="class_weighted", class_weights=(1.0,))}, "class_weights"),
    "no such function": ({"method": Influence(metric="nowhere:loss")}, "metric"),
    "a metric of numbers": ({"method": Influence(metric="auroc"), "model": "linear_regression",
                             **{k: (X[:80], X[:80, 0]) for k in ("train", "test", "seller")}}, "metric"),
    "another damping": ({"method": [Influence(), InfluenceError(damping=0.5)]}, "damping"),
    "too few directions": ({"method": Relevance(directions=3), "train": FLAT, "test": FLAT}, "directions"),
    "no ceiling": ({"method": Finetuning(steps=2), "release": NoisedRelease(row_norm=4.0)}, "ceiling"),
    "noise beyond the ring": ({"method": "influence", "release": NoisedRelease(row_norm=4.0, sigma=1e6)}, "sigma"),
    "a bound on labels": ({"release": NoisedRelease(row_norm=4.0, target_norm=1.0)}, "target_norm"),
    "no prices": ({"release": Best(budget=1.0)}, "prices"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_AT_RUN_TIME, ids=str)
def test_errors_of_a_run_name_the_argument_of_the_object_that_was_given(case):
    changed, name = WRONG_AT_RUN_TIME[case]
    with pytest.raises(InputError) as raised:
        value(**changed)
    assert raised.value.name == name, str(raised.value)
    assert not re.search(r"\b(appraisal|session|release|party)\.", str(raised.value))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"methods": "influenza"}, "methods"),
        ({"methods": [Influence(), InfluenceError(damping=0.5)]}, "damping"),
        ({"train": None}, "train"),
        ({"test": SQUARE.subset(range(3))}, "test"),
        ({"parts": 1}, "parts"),
        ({"l2": -1.0}, "l2"),
    ],
)
def test_errors_of_a_preflight_name_its_arguments(changed, name):
    with pytest.raises(InputError) as raised:
        preflight(**{"train": SQUARE, "test": SQUARE} | changed)
    assert raised.value.name == name


@pytest.mark.parametrize("kind", [mpc_appraisal.AppraisalError, BoundError, DisagreementError, PeerError])
def test_messages_of_other_errors_have_arguments_names_too(kind):
    expected = "^finetuning: too far: lower lr, or state a larger logit_bound$"
    with pytest.raises(kind, match=expected) as raised, by_argument():
        raise kind("finetuning: too far: lower appraisal.lr, or state a larger session.logit_bound")
    assert type(raised.value) is kind


def test_an_error_keeps_its_notes_and_its_cause_and_others_pass():
    error = InputError("party.data (a)", "party.train", 7)
    error.__notes__ = ["a note"]
    with pytest.raises(InputError) as raised, by_argument():
        raise error
    found = raised.value
    assert (found.name, found.value, found.expected) == ("data (a)", "train", 7) and found.__notes__ == ["a note"]
    assert found.__cause__ is error
    untouched = InputError("the bound on logits", "x", "y")
    with pytest.raises(InputError) as raised, by_argument():
        raise untouched
    assert raised.value is untouched
    with pytest.raises(KeyError), by_argument():
        raise KeyError("party.data")


def test_public_names_import_from_the_top_and_cost_nothing_before():
    assert {"Influence", "NoisedRelease", "LabelNoise", "Digits", "Result", "appraise"} <= set(dir(mpc_appraisal))
    assert [getattr(mpc_appraisal, name).__name__ for name in mpc_appraisal.__all__]
    assert (Influence().name, GradientNorm().name, LabelNoise.__name__, NoisedRelease.__name__)[:2] == (
        "influence",
        "gradient_norm",
    )
    with pytest.raises(AttributeError, match="no attribute 'Influenza'"):
        _ = mpc_appraisal.Influenza
    check = (
        "import sys, mpc_appraisal; sys.exit(len({'torch', 'crypten', 'pandas', 'numpy', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], timeout=600).returncode == 0
