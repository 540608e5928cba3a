"""session.logit_bound=auto: fine-tuning at any rate on shares, without a check, where training may leave the bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mpc_appraisal import Spawn, appraise
from mpc_appraisal.appraisal.agreement import _openings
from mpc_appraisal.appraisal.cost import estimate
from mpc_appraisal.appraisal.norms import checks_weights, chosen_by_rule
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.appraisal.questions import _as_dict
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.data import Digits, with_bias
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence, MlpFinetuning
from mpc_appraisal.models.linear_regression import LinearRegression
from mpc_appraisal.models.logistic_regression import LogisticRegression
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.checks import LOGIT_CHECK_WHAT
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.unbounded_softmax import unbounded_softmax
from mpc_appraisal.mpc.ring.prg import DryStream
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor
from mpc_appraisal.release.accuracy import error_bound
from mpc_appraisal.release.dp.release import NoisedRelease
from mpc_appraisal.release.unbounded_logits import AUTO, unbounded_spread, unbounded_words

torch.set_num_threads(1)
FACTS = Facts(784, 10, 600, 2000, 5940, 3e-3, row_norm=17.0, longest=17.0, logit_bound=28.0, auto=True)
FAST = Finetuning(lr=10.0, steps=4)
MARKET = LabelNoise(train_size=100, candidates=3, size=150, test_size=100).build(*Digits().load(), seed=0)


@pytest.fixture(scope="module")
def result():
    sets = [candidate.data for candidate in MARKET.candidates]
    method = [FAST, Influence()]
    return appraise(sets, train=MARKET.train, test=MARKET.test, method=method, session=Spawn(logit_bound=AUTO))


def test_rate_10_is_computed_between_processes_and_agrees_with_plaintext(result):
    records = [record for record in result if record.method == FAST.name]
    values = np.array([[record.value, record.plaintext_value] for record in records])
    assert np.abs(values[:, 0] - values[:, 1]).max() < 0.01 * values[:, 1].std() and np.abs(values).min() > 1.0
    for record in records:
        assert abs(record.difference) <= record.error_bound
        assert [opening["what"] for opening in record.openings] == [FAST.opens]
        assert "the softmax needs no bound on logits" in record.error_note
        assert record.settings["session.logit_bound"] == AUTO
        assert record.estimate["rounds"] == record.rounds


def test_the_clear_training_leaves_the_bound_that_would_be_checked():
    x, y = with_bias(MARKET.train.x.double()), MARKET.train.one_hot()
    theta, farthest = torch.zeros(x.shape[1], 10, dtype=torch.float64), 0.0
    for _ in range(4):
        theta = theta - 10.0 * x.T @ ((x @ theta).softmax(1) - y) / len(x)
        farthest = max(farthest, float((x @ theta - (x @ theta).mean(1, keepdim=True)).abs().max()))
    norm = float(x.norm(dim=1).max())
    spread = FAST.logit_spread(replace(FACTS, longest=norm, logit_bound=1e-9, l2=0.0))
    assert 100.0 < 2 * farthest < spread < 2.0**20


# ---- the rule


def test_the_rule_takes_no_bound_where_training_may_leave_it_and_nowhere_without_auto():
    assert unbounded_spread(FAST, FACTS) == FAST.logit_spread(FACTS) > 2 * 256
    assert unbounded_spread(FAST, replace(FACTS, auto=False)) is None
    assert unbounded_spread(Finetuning(lr=1e4, steps=100), FACTS) is None  # the bound is checked as without auto
    assert unbounded_spread(MlpFinetuning(), FACTS) is None
    assert unbounded_spread(FAST, replace(FACTS, link=LinearRegression.link.name)) is None
    logistic = replace(FACTS, link=LogisticRegression.link.name, classes=2)
    assert unbounded_spread(FAST, logistic) == pytest.approx(FAST.logit_spread(logistic))


def test_the_rule_takes_the_cheaper_softmax_where_the_bound_is_certain():
    assert unbounded_spread(Influence(), FACTS) == 56.0  # two squarings cost more rounds than a maximum
    many = replace(FACTS, classes=100, logit_bound=8.0)
    assert unbounded_spread(Influence(), many) is None
    assert unbounded_spread(Influence(), replace(many, logit_bound=1000.0)) == 2000.0  # no other softmax can


def test_one_step_keeps_to_the_spread():
    generator = torch.Generator().manual_seed(0)
    for lr in (0.1, 10.0, 200.0):
        method = Finetuning(lr=lr, steps=3)
        x = torch.randn(50, 6, dtype=torch.float64, generator=generator)
        x = x / x.norm(dim=1, keepdim=True) * 3.0
        theta = torch.randn(6, 4, dtype=torch.float64, generator=generator)
        theta = theta - theta.mean(1, keepdim=True)
        facts = Facts(5, 4, 20, 9, 30, 0.1, longest=3.0, logit_bound=3.0 * float(theta.norm(dim=0).max()), auto=True)
        for _ in range(method.steps):
            z = x @ theta
            assert (z.max(1).values - z.min(1).values).max() <= method.logit_spread(facts)
            hostile = torch.eye(4, dtype=torch.float64)[(x[:, 0] > 0).long()]
            theta = theta - lr * (x.T @ (z.softmax(1) - hostile) / 50 + 2 * 0.1 * theta)
        assert theta.norm(dim=0).max() <= method.farthest_norm(facts)


# ---- what is announced, opened and counted


def plan(method, release=None, bound=AUTO, engine="fast") -> Plan:
    found = Plan((method,), 3e-3, 0, "", fit=None, logit_bound=bound, engine=engine)
    return found if release is None else replace(found, release=release)


def test_no_check_is_announced_and_the_words_say_so():
    assert [one.what for one in _openings(plan(FAST), FAST, [FACTS] * 2)] == [FAST.opens] * 2
    checked = _openings(plan(FAST, bound=None), FAST, [replace(FACTS, auto=False)])
    assert [one.what for one in checked] == [LOGIT_CHECK_WHAT, FAST.opens]
    (words,) = unbounded_words([FAST, MlpFinetuning()], [FACTS])
    assert words.startswith("By finetuning: the softmax needs no bound on logits") and "e+" in words
    assert not unbounded_words([FAST], [replace(FACTS, auto=False)])
    assert not checks_weights(FAST, plan(FAST), FACTS)


def test_nothing_is_chosen_for_noise_or_for_another_engine():
    assert chosen_by_rule(plan(FAST)) and not chosen_by_rule(plan(FAST, bound=64.0))
    assert not chosen_by_rule(plan(FAST, bound=None)) and not chosen_by_rule(plan(FAST, engine="rtas"))
    assert not chosen_by_rule(plan(GradientNorm(), NoisedRelease(row_norm=2.0)))


def test_the_question_of_a_ledger_is_another_one_with_auto_alone():
    known = _as_dict(replace(FACTS, auto=False))
    assert "auto" not in known and _as_dict(FACTS) == known | {"auto": True}


def test_the_cost_is_that_of_the_program_and_below_the_checked_one():
    sizes = replace(FACTS, train_rows=60, test_rows=50, rows=80)
    dry = DrySession()
    program(dry, plan(FAST), {}, {}, {"a": sizes}, sizes.logit_bound, lambda event: None)
    found = estimate([FAST], sizes, 1, sizes.logit_bound, auto=True)
    assert found.bytes_sent[MODEL_OWNER] == dry.meter.bytes_sent
    assert found.rounds < estimate([FAST], sizes, 1, sizes.logit_bound).rounds
    assert [one.what for one in dry.ledger] == [FAST.opens]


def test_the_error_bound_counts_the_softmax_that_is_used():
    small = Finetuning(lr=0.01, steps=2)
    assert 0 < error_bound(small, FACTS, "fast").value < 0.1
    assert "no bound on logits" in error_bound(FAST, FACTS, "fast").note
    assert "no bound on logits" not in (error_bound(FAST, replace(FACTS, auto=False), "fast").note or "")


@pytest.mark.parametrize("stated", ["none", "Auto", "12"])
def test_another_word_is_refused(stated):
    with pytest.raises(InputError, match=r"^logit_bound: .*auto"):
        Spawn(logit_bound=stated)


def test_a_step_takes_three_rounds_beside_its_softmax():
    """The residuals and what was learnt are sent masked, one round each, and one round updates the weights."""
    sizes = replace(FACTS, train_rows=60, test_rows=50, rows=80)
    two, three = (estimate([Finetuning(lr=0.3, steps=n)], sizes, 1, 28.0, auto=True).rounds for n in (2, 3))
    engine = Engine(0, DryChannel(Meter()), Engine.streams_of(None), DryStream(), dry=True)
    unbounded_softmax(engine, shape_tensor((140, 10)), 48, 1000.0)
    assert three - two == engine.channel.meter.rounds + 3


@pytest.mark.parametrize("lr", [1e-30, 1e-6, 1e-3, 0.3, 1.0, 10.0, 1e3])
def test_what_was_learnt_fits_the_ring_in_products_and_keeps_16_bits(lr):
    method = Finetuning(lr=lr, steps=15)
    kept, entering, shift = method.change_bits(FACTS), method.product_bits(FACTS), round(np.log2(method.unit))
    assert method.unit == (1.0 if lr >= 1 else 2.0 ** max(-24, np.floor(np.log2(lr)))) and kept >= max(16, entering)
    assert entering == 1 or 20 + entering - shift + np.log2(method.logit_spread(FACTS)) <= 61
