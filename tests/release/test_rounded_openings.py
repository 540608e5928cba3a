"""What is opened is rounded on shares first: of the engine's own rounding, which depends on masks and on hidden values,
little or nothing leaves the computation."""

from __future__ import annotations

import pytest
import torch
from test_error_bounds import DIGITS, facts_of
from test_release_circuits import session_of
from three import private, run

from mpc_appraisal.data import with_bias
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence, plaintext
from mpc_appraisal.methods import finetuning as module
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.fast import MARGIN_BITS, DrySession
from mpc_appraisal.mpc.protocols.tensors import Secret
from mpc_appraisal.release import Value
from mpc_appraisal.release.accuracy import grid
from mpc_appraisal.release.base import Score

torch.set_num_threads(1)
TRAIN, TEST, OWN = DIGITS
MODEL = fit(TRAIN, 1e-2)


def opened(method, runs: int) -> tuple[list[float], list[int], float]:
    """Of repeated runs on one input what was opened, before and after rounding in units of the grid."""
    facts, owned = facts_of(method, MODEL, TRAIN, TEST, OWN)
    bound, bits = facts.logit_bound * method.logit_growth, []

    def program(engine):
        tensors = {key: private(engine, 0, value, bound) for key, value in owned.items()}
        x, y = private(engine, 1, with_bias(OWN.x.double()), bound), private(engine, 1, OWN.one_hot(), bound)
        score = method.score(tensors, x, y, facts)
        rounded = session_of(engine).rounded(score, grid(method, facts))
        bits.append((score.bits, rounded.bits, rounded.cut))
        return torch.stack([score.share.reshape(()), rounded.share.reshape(())])

    raw, units = [], []
    for _ in range(runs):
        done = run(program)
        both = done.results[0] + done.results[1]
        raw.append(both[0].item() / 2.0 ** bits[-1][0])
        units.append(both[1].item())
    assert bits[-1][1] == grid(method, facts) and bits[-1][2] == bits[-1][0] - bits[-1][1]
    right = plaintext(method, MODEL, TRAIN, TEST, OWN)[0]
    assert abs(method.value(units[0] / 2.0 ** bits[-1][1], facts) - right) < 1e-4 * max(1.0, abs(right))
    return raw, units, 2.0 ** -bits[-1][1]


def test_twenty_five_runs_on_one_input_open_numbers_that_differ_by_few_units():
    raw, units, unit = opened(Influence(), 25)
    assert len(set(raw)) == 25, "masks differ, and so does the engine's rounding"
    assert max(units) - min(units) <= 3, (sorted(units), unit)
    assert len(set(units)) <= 4, "two bits at most"
    assert max(abs(u * unit - r) for u, r in zip(units, raw, strict=True)) <= unit


@pytest.mark.parametrize("method", [Finetuning(steps=2), GradientNorm()], ids=lambda m: m.name)
def test_of_other_methods_few_bits_are_left(method, monkeypatch):
    monkeypatch.setattr(module, "record_weights", lambda weights: weights)
    raw, units, unit = opened(method, 6)
    assert max(units) - min(units) <= (8 if isinstance(method, Finetuning) else 512)
    assert max(abs(u * unit - r) for u, r in zip(units, raw, strict=True)) <= unit


def test_a_dry_run_asks_for_the_same_and_a_coarser_number_is_left_alone():
    dry = DrySession()
    number = Secret(dry.context, torch.zeros((), dtype=torch.int64, device="meta"), 34)
    facts, _ = facts_of(Influence(), MODEL, TRAIN, TEST, OWN)
    Value().open(dry, [Score(Influence(), "a", facts, number)])
    bits = grid(Influence(), facts)
    assert [request[0] for request in dry.script] == ["truncate"] and dry.script[0][2] == 34 - bits
    coarse = Secret(dry.context, number.share, bits)
    assert dry.rounded(coarse, bits) is coarse


def test_a_number_that_the_ring_cannot_have_held_is_refused_after_rounding_too():
    """Rounding takes bits off a wrapped sum as well: the check of plausible values counts them."""
    wrapped = torch.tensor(2**61 + 12345)

    def program(engine):
        session = session_of(engine)
        share = torch.zeros((), dtype=torch.int64, device="meta") if engine.dry else wrapped * (engine.me == 0)
        number = session.rounded(Secret(session.context, share, 34), 12)
        return session, number

    def limit(engine):
        _, number = program(engine)
        return number.share, number.cut

    (mine, cut), (theirs, _) = run(limit).results
    assert cut == 22 and abs((mine + theirs).item()) >= 1 << (63 - MARGIN_BITS - cut)
    assert abs((mine + theirs).item()) < 1 << (63 - MARGIN_BITS), "without the count it would have passed"
