"""Sessions whose influence is by another metric: values between processes, what each side learns, and what is shown."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from deals import OWNERS, SELLER, TEST, TRAIN
from processes import DATA_OWNER, MODEL_OWNER
from test_deal_listings import Listed

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal.plan import DisclosureControls, ModelOwnerInput
from mpc_appraisal.appraisal.questions import inputs_of
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.config import compose, instantiate, public_part
from mpc_appraisal.cli.jobs import job_key
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods import GradientNorm, Influence, InfluenceError, Retraining, as_methods, plaintext
from mpc_appraisal.methods.metrics import Measure, sentences
from mpc_appraisal.methods.preflight.check import preflight
from mpc_appraisal.models.training import fit, union
from mpc_appraisal.release import NoisedRelease
from mpc_appraisal.release.dp.clipping import spread
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.report import write_report
from mpc_appraisal.reporting.result import Result

AUROC = {"metric": "auroc"}
L2 = 1e-2
OWN = {key: Dataset.of(*xy, classes=3, name=key) for key, xy in {"train": TRAIN, "test": TEST}.items()}
SETS = {"clean": Dataset.of(*SELLER, classes=3, name="clean")}
SETS["wrong"] = Dataset(SETS["clean"].x, (SETS["clean"].y + 1) % 3, 3, "wrong")
SETS["half"] = Dataset(
    SETS["clean"].x,
    torch.where(torch.arange(len(SELLER[1])) % 2 == 0, *(SETS[name].y for name in ("clean", "wrong"))),
    3,
    "half",
)


def columns(x: np.ndarray) -> np.ndarray:
    """The rows with a column more, which is 0 or 1."""
    return np.column_stack([x, (np.arange(len(x)) % 2).astype(float)])


# ---- three processes on this machine


@pytest.fixture(scope="module")
def spawned() -> Result:
    methods = [Influence(**AUROC), InfluenceError(**AUROC), GradientNorm()]
    return appraise(SETS, **OWN, method=methods, l2=L2, true_utility=True)


def test_the_private_value_by_auroc_is_that_in_plaintext(spawned):
    model = fit(OWN["train"], L2)
    for record in spawned.of("influence"):
        expected = plaintext(Influence(**AUROC), model, *OWN.values(), SETS[record.candidate])[0]
        assert abs(record.value - expected) <= record.error_bound < 0.2 * abs(expected)
        assert record.plaintext_value == pytest.approx(expected, rel=1e-9)
        error = spawned["influence_error", record.candidate]
        assert error.value == pytest.approx(error.plaintext_value, rel=0.01)
    assert spawned["influence", "wrong"].value < spawned["influence", "clean"].value - 0.05


def test_records_state_the_metric_and_their_utility_is_its_fall(spawned):
    model, measure = fit(OWN["train"], L2), Measure("auroc")
    for candidate in SETS.values():
        after = fit(union(OWN["train"], candidate), L2)
        fall = measure.value(model, OWN["test"]) - measure.value(after, OWN["test"])
        loss = Retraining(*OWN.values(), L2, model).value(candidate)
        found = {r.method: (r.metric, r.utility) for r in spawned if r.candidate == candidate.name}
        assert found["influence"] == found["influence_error"] == ("auroc", pytest.approx(fall, abs=1e-9))
        assert found["gradient_norm"] == found["retraining"] == found["random"] == (None, pytest.approx(loss, abs=1e-9))
    record = spawned["influence", "clean"]
    assert record.openings[0]["what"] == Influence(**AUROC).opens != Influence.opens
    assert record.recompute["settings"] == {"metric": "auroc", "damping": 0.0}
    assert Record.from_json(record.to_json()) == record and '"metric": "auroc"' in record.to_json()
    assert "metric" not in json.loads(spawned["gradient_norm", "clean"].to_json())
    frame = spawned.to_frame().set_index(["method", "candidate"])
    assert frame.loc[("influence", "clean"), "metric"] == "auroc"


def test_where_all_methods_have_one_metric_the_baselines_measure_it():
    found = appraise(SETS, **OWN, method=Influence(**AUROC), session="plain", true_utility=True, baselines=["shapley"])
    for record in found.of("retraining"):
        assert record.metric == "auroc" and record.value == record.utility
        assert record.utility == found["influence", record.candidate].utility
    everything = OWN["train"]
    for candidate in SETS.values():
        everything = union(everything, candidate)
    before, after = (Measure("auroc").value(fit(rows, L2), OWN["test"]) for rows in (OWN["train"], everything))
    assert sum(record.value for record in found.of("shapley")) == pytest.approx(before - after, abs=1e-6)
    assert "metric" not in appraise(SETS, **OWN, session="plain").to_frame()


def test_report_and_card_say_what_the_value_is_for(spawned, tmp_path):
    report = " ".join(write_report(spawned, tmp_path)[0].read_text().split())
    said = (
        "influence, influence_error: values and utilities are for the fall of the smoothed 1 - AUROC of the model owner"
    )
    assert said in report.replace("\\", "") and "retraining: values" not in report
    cards = [path.read_text() for path in write_cards(spawned, tmp_path) if path.suffix == ".md"]
    assert all(
        "estimates the fall of the smoothed 1 - AUROC" in " ".join(card.replace("\\", "").split()) for card in cards
    )
    plain = appraise(SETS, **OWN, session="plain")
    assert "values and utilities are for" not in str(plain)


def test_noise_is_scaled_to_the_spread_of_the_metrics_direction():
    sets = [
        Dataset.of(columns(x), y, 3, name) for name, (x, y) in {"train": TRAIN, "test": TEST, "one": SELLER}.items()
    ]
    method, release = Influence(metric="worst_group", group=4), NoisedRelease(row_norm=8.0, sigma=0.5)
    own = {"train": sets[0], "test": sets[1], "l2": 0.1, "session": "plain", "release": release}
    (record,), (other,) = (appraise([sets[2]], **own, method=one) for one in (method, Influence()))
    low, high = record.interval
    assert low < record.value < high and abs(record.value - record.plaintext_value) < 5 * (high - low) / 3.92
    direction = method.prepare(fit(sets[0], 0.1), sets[0], sets[1])["direction"]
    assert record.release["sensitivity"] == pytest.approx(2 * 8.0 * spread(direction), rel=0.08)
    assert record.release["sensitivity"] != other.release["sensitivity"] and record.metric == "worst_group"


# ---- between organisations


@pytest.fixture(scope="module")
def deal(module_processes):
    """The data owner and the dealer state the metric, and the model owner alone its weights."""
    market = Listed(module_processes, "weighted", {"one": 250, "two": 100})
    own = {
        MODEL_OWNER: [*market.own[MODEL_OWNER], "appraisal.class_weights=[1,2,5]"],
        DATA_OWNER: market.own[DATA_OWNER],
    }
    session = market.start("appraisal.metric=class_weighted", **own)
    session.end()
    return market, session


def test_between_organisations_the_value_is_by_the_model_owners_weights(deal):
    _, session = deal
    sets = [Dataset.of(*xy, classes=3, name="set") for xy in (TRAIN, TEST, SELLER)]
    method = Influence(metric="class_weighted", class_weights=[1, 2, 5])
    expected = plaintext(method, fit(sets[0], L2), *sets)[0]
    for role in OWNERS:
        (record,) = [record for record in session.records(role) if record.candidate == "one"]
        assert record.value == pytest.approx(expected, abs=2e-4) and record.metric == "class_weighted"
        assert record.recompute["settings"] == {"metric": "class_weighted", "damping": 0.0}
    others = [plaintext(Influence(metric=name), fit(sets[0], L2), *sets)[0] for name in ("log_loss", "class_weighted")]
    assert min(abs(expected - other) for other in others) > 1e-3


def test_the_request_states_the_metric_and_the_weights_leave_no_trace_at_the_data_owner(deal):
    _, session = deal
    texts = [(session.run(role) / "request.md").read_text() for role in OWNERS]
    assert texts[0] == texts[1]
    words = " ".join(texts[0].replace("\\", "").replace("\n  ", " ").split())
    assert (
        "as Influence(metric='class_weighted', damping=0.0); it opens: influence on the class-weighted log loss"
        in words
    )
    assert sentences([Influence(metric="class_weighted")])[0] in words
    written = session.written(DATA_OWNER)
    assert b"class_weighted" in written and b"2.0, 5" not in written and b"[1,2,5]" not in written


def test_after_the_deal_the_answer_is_computed_again_by_the_same_metric(deal, capsys):
    market, session = deal
    said = {"listing": market.root / "buyer" / "one.json", "data": market.files["clean"]}
    said |= {"record": session.run(MODEL_OWNER) / "records.jsonl", "train": market.train, "test": market.test}

    def check(**more) -> None:
        COMMANDS["catalogue"](["check", *(f"{key}={value}" for key, value in (said | more).items())])

    check(metric="class_weighted", class_weights="[1, 2, 5]")
    out = capsys.readouterr().out
    assert "the model owner's inputs are those of the record: commitment " in out and "agrees with " in out
    with pytest.raises(InputError, match="metric: got log_loss; expected metric=class_weighted, as the record says"):
        check()
    with pytest.raises(InputError, match="another file, threshold, metric or salt"):
        check(metric="class_weighted", class_weights="[1,2,4]")
    with pytest.raises(InputError, match="class_weights: got .1,two.; expected numbers"):
        check(metric="class_weighted", class_weights="[1,two]")


# ---- what is public, and what stays


def public(*overrides: str) -> dict:
    return public_part(compose(["session=join", *overrides]))


@pytest.mark.parametrize("choice", ["influence", "influence_interval", "all"])
def test_the_metric_is_public_and_the_group_is_the_model_owners(choice):
    prefix = "appraisal." if choice == "influence" else "appraisal.influence."
    stated = [f"appraisal={choice}", f"{prefix}metric=worst_group", f"{prefix}group=branch"]
    plain, found = public(f"appraisal={choice}"), public(*stated)
    keys = {f"{prefix}metric"} | ({"appraisal.influence_error.metric"} if choice == "influence_interval" else set())
    assert set(found) - set(plain) == keys and {found[key] for key in keys} == {"worst_group"}
    assert found == public(*stated[:2]) and not any("branch" in str(value) for value in found.values())
    methods = as_methods(instantiate(compose(stated).appraisal))
    assert {m.group for m in methods if hasattr(m, "group")} == {"branch"} and "branch" not in str(methods)


def test_a_finished_job_of_another_group_or_metric_is_not_this_one():
    stated = ["appraisal.metric=worst_group", "appraisal.group=a"]
    keys = [job_key(compose(["appraisal=influence", *stated[:n]])) for n in range(3)]
    keys.append(job_key(compose(["appraisal=influence", "appraisal.metric=worst_group", "appraisal.group=b"])))
    assert len(set(keys)) == 4


def test_a_method_of_somebody_elses_keeps_its_settings_of_these_names():
    cfg = compose(["appraisal=influence", "appraisal._target_=mine.Method", "appraisal.group=3"])
    assert public_part(cfg)["appraisal.group"] == 3 and public_part(cfg)["appraisal.metric"] == "log_loss"


def test_the_model_owner_commits_itself_to_its_own_settings():
    own = ModelOwnerInput(*OWN.values(), controls=DisclosureControls(salt=bytes(32)))
    methods = [Influence(), Influence(**AUROC), Influence(metric="worst_group", group=3)]
    methods += [Influence(metric="worst_group", group=4), Influence(metric=f"{__name__}:own_metric")]
    found = [inputs_of(own, [method]) for method in methods]
    assert found[0] == found[1] == inputs_of(own) and len(set(found)) == 4


def own_metric(predictions, targets):
    return -predictions[torch.arange(len(targets)), targets].mean()


def test_the_request_says_in_words_what_the_data_owner_cannot_see():
    assert sentences([Influence(), GradientNorm()]) == []
    (of_group,) = sentences([Influence(metric="worst_group", group="city"), InfluenceError(metric="worst_group")])
    assert "by which column" in of_group and "city" not in of_group
    (own,) = sentences([Influence(metric="pricing.rules:cost")])
    assert "metric pricing.rules:cost" in own and "The function stays with the model owner" in own


def test_an_object_states_the_metric_and_not_the_group():
    methods = [Influence(metric="worst_group", group=name) for name in ("a", None)]
    assert repr(methods[0]) == repr(methods[1])
    with pytest.raises(InputError, match="^group: got 70"):
        bad = replace(methods[0], group=70)
        appraise(SETS, **OWN, method=bad, session="plain")


# ---- the pre-flight


def test_the_pre_flights_truth_is_the_fall_of_the_metric():
    train, test = OWN.values()
    found = preflight(train, test, ["influence"], quick=True, parts=4).as_dict()
    assert "metric" not in found["checks"][0]
    both = preflight(train, test, [Influence(**AUROC), "gradient_norm"], quick=True, parts=4)
    assert [check.metric for check in both.checks] == ["auroc", None]
    alone = preflight(train, test, "gradient_norm", quick=True, parts=4)
    assert both["gradient_norm"] == alone["gradient_norm"]
    assert any(
        "influence: the true utility is the fall of the smoothed 1 - AUROC" in note for note in both.tables()[0].notes
    )
    unfit = preflight(train, test, Influence(metric="worst_group", group=0), quick=True, parts=4)
    assert unfit.checks == () and unfit.skipped[0][1].startswith("group: got 0")
