"""Candidates whose rows are shared as integers: values, costs, releases, streams, and wrong statements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from three import run

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal import program as joint
from mpc_appraisal.appraisal.agreement import make_request
from mpc_appraisal.appraisal.cost import estimate
from mpc_appraisal.appraisal.integers import announced, used, with_resolution
from mpc_appraisal.appraisal.norms import published_norms, with_spread
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.preparation import fitted_to_norms, prepare
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.appraisal.questions import _as_dict
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.data import Digits, Resolution
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence, plaintext
from mpc_appraisal.models.logistic_regression import LogisticRegression
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import FITS
from mpc_appraisal.mpc.backends.fast import DrySession, EngineSession, FastSession, TrainingContext
from mpc_appraisal.release import Best, Bit, NoisedRelease, Value
from mpc_appraisal.release.accuracy import error_bound

METHODS = (GradientNorm(), Influence())
MARKET = LabelNoise(train_size=150, candidates=2, size=60, test_size=50).build(*Digits().load(), seed=0)
PIXELS = {"scale": 255, "bits": 8}


def pixels(rows: int, seed: int, classes: int = 3, name: str = "pixels") -> Dataset:
    """Images of eight pixels, of which one tells the class, in float32 as k / 255."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, rows)
    k = random.integers(0, 256, (rows, 8))
    k[np.arange(rows), y] = random.integers(128, 256, rows)
    k[0, 0] = 255
    return Dataset.of(k.astype(np.float32) / np.float32(255), y, classes, name)


class Here(FastSession):
    """One owner's session over the queues of this process."""

    _check = None

    def __init__(self, engine):
        EngineSession.__init__(self)
        self.role, self.channel, self.context = OWNERS[engine.me], engine.channel, TrainingContext(engine, 16.0)


def facts_of(plan: Plan, prepared, buyer, candidates) -> tuple[float, dict[str, Facts]]:
    """The public facts of a session between parties, as they derive them."""
    seller = DataOwnerInput(tuple(candidates.values()))
    norms = {
        MODEL_OWNER: published_norms(MODEL_OWNER, buyer, prepared.model.theta, prepared.inputs, plan),
        DATA_OWNER: published_norms(DATA_OWNER, seller, None, {}, plan),
    }
    facts = {name: Facts.of(prepared.model, prepared.train, prepared.test, c) for name, c in candidates.items()}
    bound, facts = fitted_to_norms(plan, with_resolution(facts, announced(seller, plan), plan), norms)
    return bound, with_spread(facts, norms)


def appraised(plan: Plan, train: Dataset, candidates: dict[str, Dataset], threshold: float | None = None):
    """What both owners were shown and the facts, of a run in this process with the dealer of the dry run's script."""
    buyer = ModelOwnerInput(train, train, threshold=threshold)
    prepared = prepare(buyer, plan, train.classes)
    bound, facts = facts_of(plan, prepared, buyer, candidates)

    def parties(engine):
        session = DrySession(MODEL_OWNER) if engine.dry else Here(engine)
        if engine.dry:
            session.context = TrainingContext(engine, 16.0)
        own = candidates if not engine.dry and engine.me == 1 else {}
        inputs = prepared.inputs if not engine.dry and engine.me == 0 else {}
        return program(session, plan, own, inputs, facts, bound, lambda event: None)

    return run(parties), facts, prepared


@pytest.fixture(scope="module")
def result():
    """Digits, whose 17 shades are k / 16, in three processes."""
    return appraise(MARKET.candidates, train=MARKET.train, test=MARKET.test, method=METHODS, session="spawn")


def test_private_values_are_those_of_plaintext(result):
    for record in result:
        assert record.resolution == {"scale": 16, "bits": 5}
        tolerance = {"gradient_norm": 5e-4 * abs(record.plaintext_value), "influence": 2e-4}[record.method]
        assert abs(record.difference) <= min(tolerance, record.error_bound)
        assert '"resolution": {"scale": 16, "bits": 5}' in record.to_json()


def test_the_forecast_is_exact_and_a_row_takes_five_bytes_a_number(result):
    for record in result:
        assert record.rounds == record.estimate["rounds"]
        assert all(record.estimate[f"bytes_sent.{role}"] == sent for role, sent in record.bytes_sent.items())
    facts = Facts(64, 10, 150, 50, 60, 1e-2)
    narrow, wide = (
        estimate((Influence(),), replace(facts, resolution=one), 1, 16.0) for one in (Resolution(16, 5), None)
    )
    saved = wide.bytes_sent[DATA_OWNER] - narrow.bytes_sent[DATA_OWNER]
    assert saved == 3 * 60 * 65 and narrow.rounds == wide.rounds == 12
    facts = replace(facts, row_norm=4.0, longest=4.0)
    norm = [estimate((GradientNorm(),), replace(facts, resolution=one), 1, 16.0) for one in (Resolution(16, 5), None)]
    assert norm[0].rounds == norm[1].rounds - 1  # X' R is opened once, and multiplied as it was opened
    both = (Influence(), Finetuning(steps=1))  # fine-tuning does not take integers, so that nothing is narrow
    assert len({estimate(both, replace(facts, resolution=one), 1, 16.0).bytes_sent[DATA_OWNER]
                for one in (Resolution(16, 5), None)}) == 1  # fmt: skip


@pytest.mark.parametrize("kind, classes", [(SoftmaxRegression, 3), (LogisticRegression, 2)])
def test_streams_and_whole_candidates_agree_with_plaintext(monkeypatch, kind, classes):
    train = pixels(90, 1, classes)
    candidates = {f"c{k}": pixels(100, 2 + k, classes, f"c{k}") for k in range(2)}
    plan = Plan(METHODS, 1e-2, 0, "", lambda data: FITS[kind.name](data, l2=1e-2), model=kind)
    for held, block in ((1 << 15, 1 << 13), (40, 64)):
        monkeypatch.setattr(joint, "HELD_ROWS", held)
        monkeypatch.setattr(joint, "BLOCK_ROWS", block)
        done, facts, prepared = appraised(plan, train, candidates)
        assert all(f.resolution == Resolution(255, 8) for f in facts.values())
        masks = [request for request in done.dry.script if request[0] == "mask" and request[2] == 1]
        assert len([m for m in masks if m[4:] == [40]]) == (2 if held > 100 else 2 * 2 * 2)
        for mine, theirs in zip(*done.results, strict=True):
            f = facts[mine.candidate]
            assert 0 < f.spread < 2.1 * float(prepared.inputs["influence"].tensors["direction"].norm())
            assert mine.outcome == theirs.outcome
            value = mine.method.value(mine.outcome.opened, f)
            plain = plaintext(mine.method, prepared.model, train, train, candidates[mine.candidate])[0]
            assert abs(value - plain) <= error_bound(mine.method, f, "fast").value
            assert value == pytest.approx(plain, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_decisions_and_orders_of_integers(method):
    train = pixels(90, 1)
    candidates = {f"c{k}": pixels(60 + 20 * k, 5 + k, name=f"c{k}") for k in range(3)}
    plan = Plan((method,), 1e-2, 0, "", lambda data: FITS["softmax_regression"](data, l2=1e-2))
    model = plan.fit(train)
    values = {name: plaintext(method, model, train, train, c)[0] for name, c in candidates.items()}
    order = sorted(values, key=values.get)
    threshold = (values[order[0]] + values[order[1]]) / 2
    done, _, _ = appraised(replace(plan, release=Bit()), train, candidates, threshold)
    assert {r.candidate for r in done.results[0] if not r.outcome.decision} == {order[0]}
    done, facts, _ = appraised(replace(plan, release=Best(1)), train, candidates)
    (winner,) = (r for r in done.results[0] if r.outcome.winner)
    assert winner.candidate == order[2]
    assert method.value(winner.outcome.opened, facts[order[2]]) == pytest.approx(values[order[2]], rel=1e-3, abs=1e-4)


def test_what_a_gradient_norm_opens_has_its_units():
    facts = replace(Facts(8, 3, 9, 9, 60, 1e-2, row_norm=3.0), resolution=Resolution(255, 8))
    method = GradientNorm()
    for value in (-0.25, -40.0):
        assert method.value(method.opened_at(value, facts), facts) == pytest.approx(value)
    assert method.opened_at(-1.0, facts) == pytest.approx((255 / 256) ** 2 * method.scale(facts) ** 2)


def test_a_wrong_statement_is_refused_at_its_owner():
    seller, plan = DataOwnerInput((pixels(30, 1),)), Plan(METHODS, 1e-2, 0, "", fit=None)
    assert announced(seller, plan) == {"resolution": PIXELS} == announced(replace(seller, resolution=255), plan)
    assert announced(replace(seller, resolution="off"), plan) == {}
    with pytest.raises(
        InputError, match=r"party.data \(pixels\): party.resolution: got the number .*; expected k / 100"
    ):
        announced(replace(seller, resolution=100), plan)
    with pytest.raises(InputError, match="party.resolution: got a number of 1; expected numbers of at most 0.5"):
        announced(replace(seller, resolution={"bits": 8, "range": 0.5}), plan)
    with pytest.raises(InputError, match=r"^data \(pixels\): resolution: .*expected k / 100"):
        appraise(pixels(30, 1), train=pixels(60, 2), method="gradient_norm", session="spawn", resolution=100)


def test_rounding_is_that_of_the_plaintext_value_too():
    random = np.random.default_rng(0)
    data = Dataset.of(random.normal(0, 1, (40, 8)).clip(-4, 4), random.integers(0, 3, 40), 3, "floats")
    stated = {"bits": 6, "range": 4.0}
    found = appraise(data, train=pixels(60, 2), method="gradient_norm", session="plain", resolution=stated)
    x = torch.round(data.x * 15) / 15
    rounded = appraise(replace(data, x=x), train=pixels(60, 2), method="gradient_norm", session="plain")
    assert next(iter(found)).value == pytest.approx(next(iter(rounded)).value, rel=1e-12)
    assert announced(DataOwnerInput((data,), resolution=stated), Plan(METHODS, 1e-2, 0, "", fit=None)) == {
        "resolution": {"scale": 15, "bits": 6}
    }


def test_it_is_announced_only_where_it_is_used():
    plan, seller = Plan(METHODS, 1e-2, 0, "", fit=None), DataOwnerInput((pixels(30, 1),))
    others = {
        "noise": replace(plan, release=NoisedRelease(row_norm=2.0)),
        "fine-tuning": replace(plan, methods=(*METHODS, Finetuning())),
        "stock": replace(plan, engine="stock"),
        "rtas": replace(plan, engine="rtas"),
    }
    assert used(plan)
    for other in others.values():
        assert not used(other) and announced(seller, other) == {}
        with pytest.raises(PeerError, match="announced a resolution; expected none"):
            with_resolution({}, {"resolution": PIXELS}, other)
    for bad in ({"scale": 256, "bits": 8}, {"scale": 0, "bits": 8}, {"scale": 1, "bits": 17}):
        with pytest.raises(PeerError, match="party.resolution"):
            with_resolution({}, {"resolution": bad}, plan)


def test_a_request_states_it_and_a_question_does_not():
    plan = Plan(METHODS, 1e-2, 0, "0" * 16, fit=None, release=Value())
    norms = {"row_norm": 2.0, "weight_norm": 1.0}
    plain = Facts(8, 3, 90, 90, 30, 1e-2, 2.0, 2.0, 2.0)
    requests, questions = [], []
    for f in (plain, replace(plain, resolution=Resolution(255, 8))):
        facts = {"c": f}
        requests.append(make_request(plan, facts, {DATA_OWNER: {"row_norm": 2.0}, MODEL_OWNER: norms}, {"c": None}))
        questions.append(_as_dict(f))
    without, stated = requests
    assert stated.content == without.content | {"resolution": PIXELS}
    words = "By the data owner: every number of the data is k / 255 for an integer k of at most 8 bits."
    assert words in " ".join(stated.text().replace("\n ", "").split()) and "255" not in without.text()
    assert questions[0] == questions[1] and "resolution" not in questions[0]
