"""Linear and logistic regression privately, with real processes: values, bits, two organisations, and refusals."""

from __future__ import annotations

import pytest
import torch
from processes import CLEAR, DATA_OWNER, MODEL_OWNER, ROLES, UNCHECKED, UNGUARDED, Processes, free_port, write_csv
from regressions import LINEAR, LOGISTIC, problem

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal.norms import published_norms, shared_rows
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.program import mixed_rows
from mpc_appraisal.appraisal.sessions import Spawn
from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import with_bias
from mpc_appraisal.methods import (
    Diversity,
    Facts,
    Finetuning,
    GradientNorm,
    Influence,
    InfluenceError,
    MlpFinetuning,
    Relevance,
    Retraining,
    plaintext,
)
from mpc_appraisal.models.training import refit
from mpc_appraisal.release import Best, Bit, NoisedRelease
from mpc_appraisal.reporting.record import read

L2, FEATURES = 0.02, 8
BOTH = pytest.mark.parametrize("model", [LINEAR, LOGISTIC], ids=lambda model: model.name)
TUNING = Finetuning(steps=3, lr=0.1)


def sides(model):
    """The model owner's rows, and two candidates: one of more and one of fewer rows than columns."""
    train, test = (problem(model, n, s, FEATURES, name=k) for n, s, k in ((60, 1, "train"), (40, 2, "test")))
    return train, test, [problem(model, n, s, FEATURES, name=f"of {n} rows") for n, s in ((50, 3), (7, 4))]


def close(value, expected):
    return value == pytest.approx(expected, rel=1e-3, abs=2e-4)


@BOTH
def test_private_values_are_those_of_plaintext(model):
    train, test, candidates = sides(model)
    found = appraise(candidates, train=train, test=test, model=model.name, l2=L2,
                     method=["gradient_norm", "influence", TUNING], session=Spawn())  # fmt: skip
    fitted = refit(train, L2, 1e-7, model)
    assert len(found) == 6
    for record in found:
        method = {"gradient_norm": GradientNorm(), "influence": Influence(), "finetuning": TUNING}[record.method]
        candidate = next(c for c in candidates if c.name == record.candidate)
        assert close(record.value, plaintext(method, fitted, train, test, candidate)[0])
        assert (record.error_bound is None) == (record.method == "finetuning")
        assert record.error_bound is None or abs(record.value - record.plaintext_value) <= record.error_bound
        assert record.recompute["settings"] == method.settings and record.recompute["model"] == model.name


@BOTH
def test_relevance_and_diversity_read_neither_the_target_nor_the_model(model):
    train, test, candidates = sides(model)
    methods = [Relevance(3), Diversity(3)]
    found = appraise(candidates, train=train, model=model.name, l2=L2, method=methods, session=Spawn())
    own, *others = [Dataset(d.x, (d.y > 0).to(torch.int64), 2, d.name) for d in (train, *candidates)]
    labelled = appraise(others, train=own, l2=L2, method=methods, session="plain")
    for record in found:
        assert record.plaintext_value == pytest.approx(labelled[record.method, record.candidate].value, rel=1e-9)
        assert record.value == pytest.approx(record.plaintext_value, rel=1e-3, abs=1e-3)
    given = {"train": train, "test": test, "model": model.name, "l2": L2, "method": methods[0]}
    retraining = Retraining(train, test, L2, refit(train, L2, 1e-7, model))
    for record in appraise(candidates, **given, session="plain", true_utility=True).of("relevance"):
        candidate = next(c for c in candidates if c.name == record.candidate)
        assert record.utility == pytest.approx(retraining.value(candidate), abs=1e-6)


def test_targets_that_no_method_reads_are_not_announced():
    train, test, candidates = sides(LINEAR)
    theta = torch.zeros(FEATURES + 1, 1, dtype=torch.float64)
    owners = ModelOwnerInput(train, test), DataOwnerInput(tuple(candidates))
    for methods, announced in (((Relevance(3),), False), ((Relevance(3), GradientNorm()), True)):
        plan = Plan(methods, L2, 0, "", fit=None, model=LINEAR)
        assert all(("target_norm" in published_norms("", own, theta, {}, plan)) == announced for own in owners)


def test_a_linear_model_without_rows_of_its_owner():
    train, _, candidates = sides(LINEAR)
    fitted = refit(train, L2, 1e-7, LINEAR)
    for record in appraise(candidates, model=fitted, l2=L2, method="gradient_norm"):
        candidate = next(c for c in candidates if c.name == record.candidate)
        assert close(record.value, plaintext(GradientNorm(), fitted, None, None, candidate)[0])


def test_a_private_bit_and_the_best_of_linear_regression():
    train, test, candidates = sides(LINEAR)
    values = [plaintext(Influence(), refit(train, L2, 1e-7, LINEAR), train, test, c)[0] for c in candidates]
    threshold = sum(values) / 2
    own = {"train": train, "test": test, "model": "linear_regression", "l2": L2, "method": "influence"}
    bits = appraise(candidates, **own, release=Bit(), threshold=threshold)
    assert [record.decision for record in bits] == [value >= threshold for value in values]
    best = appraise(candidates, **own, release=Best())
    assert [record.winner for record in best] == [value == max(values) for value in values]


def test_mixed_rows_have_the_sums_of_all_rows():
    data = problem(LINEAR, 50, 5, FEATURES)
    mixed, rows = mixed_rows(data), torch.cat([with_bias(data.x), data.targets()], 1)
    assert mixed.shape == (10, 10) and (mixed.T @ mixed - rows.T @ rows).abs().max() < 1e-10
    facts = Facts(FEATURES, 1, 60, 40, 50, L2, row_norm=4.0, link="identity", target=5.0)
    assert shared_rows([Influence(), GradientNorm(), TUNING], facts) == 10
    assert shared_rows([Influence(), InfluenceError()], facts) == 50  # an error is no sum over rows alone
    assert shared_rows([Finetuning(batch_size=20)], facts) == 50
    assert shared_rows([Influence()], Facts(FEATURES, 3, 60, 40, 50, L2)) == 50


def test_two_organisations_and_files_with_a_numeric_target(tmp_path, capsys):
    train, test, (candidate, _) = sides(LINEAR)
    with Processes(tmp_path) as processes:
        files = {
            name: write_csv(tmp_path / name / "data.csv", data.x.numpy(), data.y.numpy())
            for name, data in (("train", train), ("test", test), ("seller", candidate))
        }
        public = ["session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "session.join_timeout=60",
                  "appraisal=influence", "model=linear_regression", f"model.l2={L2}", *CLEAR, *UNGUARDED,
                  *UNCHECKED]  # fmt: skip
        catalogue(["publish", f"data={files['seller']}", "name=flats", f"out={tmp_path / 'public'}", "target=number",
                   "unit=EUR", "statistics=yes"])  # fmt: skip
        listing = f"party.listing={tmp_path / 'public' / 'flats.json'}"
        own = {MODEL_OWNER: [f"party.train={files['train']}", f"party.test={files['test']}", listing],
               DATA_OWNER: [f"party.data={files['seller']}", listing]}  # fmt: skip
        started = [processes.app(role, *public, f"session.role={role}", *own.get(role, [])) for role in ROLES]
        for process in started:
            ended = process.wait(120)
            assert ended.code == 0, ended.err
    value = plaintext(Influence(), refit(train, L2, 1e-7, LINEAR), train, test, candidate)[0]
    for role in (MODEL_OWNER, DATA_OWNER):
        (record,) = [one for path in (tmp_path / role).rglob("records.jsonl") for one in read(path)]
        assert close(record.value, value) and record.classes == 1
        assert not any("class" in text for text in record.warnings) and abs(record.value - value) < record.error_bound
    assert "target, a number" not in capsys.readouterr().out
    catalogue(["show", "flats", f"in={tmp_path / 'public'}"])
    assert "label, a number in EUR" in capsys.readouterr().out
    record = next((tmp_path / MODEL_OWNER).rglob("records.jsonl"))
    said = ["check", f"listing={tmp_path / 'public' / 'flats.json'}", f"data={files['seller']}", f"record={record}",
            *(f"{name}={files[name]}" for name in ("train", "test"))]  # fmt: skip
    catalogue(said)
    assert "agrees with" in capsys.readouterr().out
    record.write_text(record.read_text().replace(f'"value": {read(record)[0].value!r}', f'"value": {value + 0.01!r}'))
    with pytest.raises(InputError, match="record: influence of flats: got .*the recorded number"):
        catalogue(said)


REFUSED = {
    "the perceptron": (LINEAR, {"method": MlpFinetuning()}, "mlp_finetuning with model=linear_regression"),
    "a metric of classes": (LINEAR, {"method": Influence(metric="auroc")}, "metric.*auroc.*squared_error"),
    "the perceptron of two classes": (LOGISTIC, {"method": MlpFinetuning()}, "mlp_finetuning with model=logistic"),
    "noise without a bound on targets": (
        LINEAR,
        {"release": NoisedRelease(row_norm=4.0)},
        "^target_norm: got None",
    ),
    "a bound on labels": (
        LOGISTIC,
        {"release": NoisedRelease(row_norm=4.0, target_norm=1.0)},
        "expected null: model=log",
    ),
    "noise and a helper": (
        LINEAR,
        {"release": NoisedRelease(row_norm=4.0, target_norm=1.0), "session": Spawn(engine="rtas")},
        "release: got dp; expected engine=fast",
    ),
    "labels for numbers": (LINEAR, {"train": problem(LOGISTIC, 60, 1, FEATURES)}, "train.*numeric target"),
    "numbers for labels": (LOGISTIC, {"data": problem(LINEAR, 30, 3, FEATURES)}, "data.*labels 0 and 1"),
    "an unknown model": (LINEAR, {"model": "ridge"}, "model.*one of softmax_regression"),
    "a model of another kind": (LINEAR, {"l2": 0.5, "model": LINEAR(torch.zeros(9, 1).double(), 0.1)}, "model: got"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_does_not_serve_a_model_is_refused_before_anything_is_shared(case):
    model, changed, message = REFUSED[case]
    train, test, candidates = sides(model)
    stated = {"data": candidates, "train": train, "test": test, "model": model.name, "l2": L2, "method": "influence"}
    with pytest.raises(InputError, match=message):
        appraise(**stated | changed)


def test_targets_too_large_for_the_ring_are_refused():
    train, test, candidates = sides(LINEAR)
    large = [Dataset(c.x * 300, c.y * 3000, 1, c.name) for c in candidates]
    with pytest.raises(InputError, match="divide the target|standardise the features"):
        appraise(large, train=Dataset(train.x, train.y * 3000, 1, "train"), test=test, model="linear_regression",
                 l2=L2, method="gradient_norm")  # fmt: skip
