"""What fixed point adds to a value is within the bound that a record states, whatever the method and the setting.

Oracles: float64 formulas, and for the engine's functions torch's own on the exact logits.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from three import private, run, sharing

from mpc_appraisal import Dataset
from mpc_appraisal.data import Digits, with_bias
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence, InfluenceError, MlpFinetuning, plaintext
from mpc_appraisal.methods import finetuning as module
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.protocols.log_softmax import MAX_LOG_CLASSES, log_softmax, mean_factor
from mpc_appraisal.mpc.protocols.softmax import softmax
from mpc_appraisal.mpc.ring.powers_of_three import power_of_three, stretched
from mpc_appraisal.release import Best, Bit, Value
from mpc_appraisal.release.accuracy import certainty, doubt_of, error_bound, grid
from mpc_appraisal.release.dp.clipping import spread
from mpc_appraisal.release.softmax_accuracy import LAMBDA, LOGIT_BITS, TABLE, log_softmax_off, softmax_off

torch.set_num_threads(1)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the engine's functions

LOGITS = [(2, 8.0), (2, 64.0), (3, 16.0), (10, 8.0), (10, 32.0), (10, 256.0), (50, 32.0), (256, 16.0)]


def logits(classes: int, bound: float, rows: int = 120) -> torch.Tensor:
    """Centred rows within the bound: flat, sure, tied, random ones."""
    z = normal(rows, classes, seed=classes) * torch.logspace(-2, 1, rows, dtype=torch.float64)[:, None]
    z[0], z[1], z[2] = 0.0, 0.0, -1.0
    z[1, 0], z[2, : classes // 2] = 1.0, 1.0
    z = z - z.mean(1, keepdim=True)
    return z * (bound / z.abs().amax(1, keepdim=True).clamp_min(1e-9)).clamp(max=1.0)


def test_probabilities_and_their_logarithms_are_within_their_bounds():
    sets = [(c, b, logits(c, b)) for c, b in LOGITS]
    shares = [sharing(z, 40, seed) for seed, (_, _, z) in enumerate(sets)]
    small = [k for k, (c, _, _) in enumerate(sets) if c <= 10]

    def everything(engine):
        p = [softmax(engine, share(engine), 40, b) for share, (_, b, _) in zip(shares, sets, strict=True)]
        return p + [log_softmax(engine, shares[k](engine), 40, sets[k][1])[0] for k in small]

    done = run(everything)
    results = [(a + b).double() for a, b in zip(*done.results, strict=True)]
    near = []
    for (classes, bound, z), found in zip(sets, results, strict=False):
        off = softmax_off(classes, bound, "fast")
        error = found / 2.0**16 - z.softmax(1)
        for seed in range(20):  # functionals of coefficients at most 1 apart, and of sum 0 or not
            random = torch.Generator().manual_seed(seed)
            c = torch.rand(classes, generator=random, dtype=torch.float64) - 0.5 * (seed % 2)
            stated = len(z) * off.sure + LAMBDA * off.chance * math.sqrt(len(z))
            near.append(abs(error @ c).sum().item() / (len(z) * off.sure + len(z) * LAMBDA * off.chance))
            assert abs((error @ c).sum().item()) <= stated, (classes, bound)
            assert (error @ c).abs().max() <= off.sure + LAMBDA * off.chance
    for k, found in zip(small, results[len(sets) :], strict=True):
        classes, bound, z = sets[k]
        off, error = log_softmax_off(classes, bound, "fast"), found / 2.0**18 - z.log_softmax(1)
        assert error.abs().max() <= off.sure + LAMBDA * off.chance
        assert error.mean(0).abs().max() <= off.sure + LAMBDA * off.chance / math.sqrt(len(z)), (classes, bound)
    print(f"mean error of a functional, in parts of its bound: {np.mean(near):.3f}, at most {max(near):.3f}")


@pytest.mark.parametrize("offset", [0, 9])
def test_powers_of_three_have_no_mean_error(offset):
    fraction = torch.arange(-(2**19), 2**19, dtype=torch.int64) * 2**20 + 2**19 - 7
    for mantissa in (12, 17):
        found = power_of_three(fraction, mantissa, offset).double() / 2.0 ** (mantissa + stretched(offset))
        relative = found / 3.0 ** (fraction.double() / 2.0**40) - 1
        assert abs(relative.mean()) < TABLE


# ---- the methods


def text(n: int, seed: int, d: int = 300) -> Dataset:
    """Rows of norm 1, 30 of 300 words each, weighted by how rare they are."""
    r = np.random.default_rng(seed)
    x, y = np.zeros((n, d)), r.integers(0, 2, n)
    for i in range(n):
        p = np.where(np.arange(d) % 2 == y[i], 1.5, 0.5)
        np.add.at(x[i], r.choice(d, 30, p=p / p.sum()), 1)
    x *= np.log(1 + 100 / (1 + np.arange(d)))
    return Dataset.of(x / np.linalg.norm(x, axis=1, keepdims=True), y, 2, f"text {seed}")


def digits(n: int, seed: int) -> Dataset:
    whole, _ = Digits().load()
    return whole.subset(np.random.default_rng(seed).permutation(whole.rows)[:n])


def coarse(n: int, seed: int) -> Dataset:
    """Rows of one repeated value, whose rounding has one sign in all of them."""
    x = (normal(n, 6, seed=seed) > 0).double() * 0.1
    return Dataset(x, (x.sum(1) > 0.3).long(), 2, f"coarse {seed}")


def up(number: float) -> float:
    return number * (1 + 1 / 16)


def facts_of(method, model, train, test, own) -> tuple[Facts, dict[str, torch.Tensor]]:
    """The public facts as the owners would announce them, and the model owner's tensors."""
    norms = [up(with_bias(data.x).norm(dim=1).max().item()) for data in (own, train, test)]
    weight = up((model.theta - model.theta.mean(1, keepdim=True)).norm(dim=0).max().item())
    owned = method.prepare(model, train, test)
    found = Facts(model.features, model.classes, train.rows, test.rows, own.rows, model.l2, norms[0], max(norms))
    wide = up(spread(owned["direction"])) if "direction" in owned else None
    return Facts(**vars(found) | {"logit_bound": max(norms) * weight, "spread": wide}), owned


def errors(method, model, train, test, own, repeats: int = 2) -> tuple[float, float]:
    """The largest error of the value on shares, and its bound."""
    facts, owned = facts_of(method, model, train, test, own)
    bound, bits = facts.logit_bound * method.logit_growth, []

    def program(engine):
        tensors = {key: private(engine, 0, value, bound) for key, value in owned.items()}
        x, y = private(engine, 1, with_bias(own.x.double()), bound), private(engine, 1, own.one_hot(), bound)
        score = method.score(tensors, x, y, facts).to_bits(grid(method, facts))
        bits.append(score.bits)
        return score.reshape(1).share

    right, found = plaintext(method, model, train, test, own)[0], []
    for _ in range(repeats):
        done = run(program)
        opened = (done.results[0] + done.results[1]).item() / 2.0 ** bits[-1]
        found.append(abs(method.value(opened, facts) - right))
    return max(found), error_bound(method, facts, "fast").value


@pytest.fixture
def untrained(monkeypatch):
    """The check of the trained weights' bound has its own tests, and takes a session."""
    monkeypatch.setattr(module, "record_weights", lambda weights: weights)


TEXT = (text(200, 0), text(200, 1), text(200, 10))
DIGITS = (digits(200, 0), digits(150, 1), digits(100, 2))
COARSE = (coarse(120, 0), coarse(80, 1), coarse(100, 2))
RATES = [(1e-3, 16), (0.1, 4), (0.3, 16), (2.4, 5)]


@pytest.mark.parametrize("sets", [TEXT, DIGITS, COARSE], ids=["text", "digits", "coarse"])
def test_finetuning_is_within_its_bound_at_every_rate(sets, untrained):
    train, test, own = sets
    model = fit(train, 1e-3 if sets is TEXT else 1e-2)
    for lr, steps in RATES:
        found, stated = errors(Finetuning(lr=lr, steps=steps), model, train, test, own, 1)
        print(f"finetuning {train.name} lr {lr:g}: {found:.1e} of {stated:.1e}")
        assert found <= stated, (lr, steps)
        assert lr > 1e-3 or stated < 1e-3


def test_a_small_rate_loses_nothing_to_rounding(untrained):
    """The series of fine-tuning is far closer to eq. 4 than the value, and so certain of its sign."""
    for (train, test, own), lr, steps in ((TEXT, 1e-3, 16), (DIGITS, 1e-3, 1), (COARSE, 0.1, 1)):
        method, model = Finetuning(lr=lr, steps=steps), fit(train, 1e-2)
        found, stated = errors(method, model, train, test, own, 1)
        right = abs(plaintext(method, model, train, test, own)[0])
        assert found <= stated and found < 3e-3 * right, (lr, steps)
        assert stated < right or own is DIGITS[2]


def test_a_series_that_public_facts_do_not_make_sure_says_so():
    method, model = Finetuning(lr=0.1, steps=1), fit(DIGITS[0], 1e-2)
    facts, _ = facts_of(method, model, *DIGITS)
    assert "apart by at most 0.75" in error_bound(method, facts, "fast").note
    sure = Finetuning(lr=0.75 / math.sqrt(2) / method.largest_move(facts) * 0.1 * 0.99, steps=1)
    assert error_bound(sure, facts, "fast").note is None
    assert not Finetuning(lr=0.02, steps=6).expands(facts) and Finetuning(lr=0.02, steps=5).expands(facts)


def test_the_mean_that_logits_are_taken_from_is_close_enough():
    """The public integer in place of 1 / classes leaves a mean that moves no bound on logits by a tenth."""
    for classes in (2, 3, 5, 7, MAX_LOG_CLASSES):
        for bound in (0.5, 16.0, 100.0, 256.0):
            for bits in LOGIT_BITS:
                t, r, aside = mean_factor(classes, bits, bound)
                assert abs(r / 2**t - 1 / classes) * classes * bound <= aside < 0.1 * max(bound / 16, 0.1)


@pytest.mark.parametrize("method", [GradientNorm(), Influence(), InfluenceError()], ids=lambda m: m.name)
@pytest.mark.parametrize("sets", [TEXT, DIGITS, COARSE], ids=["text", "digits", "coarse"])
def test_the_other_methods_are_within_theirs(method, sets):
    train, test, own = sets
    near_nothing = train.subset(range(60))  # on its own rows the gradient is small
    model = fit(train, 1e-2)
    for candidate in (own, near_nothing, own.subset(range(1))):
        found, stated = errors(method, model, train, test, candidate, 1)
        assert found <= stated, (candidate.name, candidate.rows)


def test_the_gradient_norm_keeps_its_relative_accuracy_and_influence_its_small_values():
    train, test, own = DIGITS
    model = fit(train, 1e-2)
    for method, relative in ((GradientNorm(), 5e-5), (Influence(), 1e-3)):
        found, _ = errors(method, model, train, test, own, 3)
        right = plaintext(method, model, train, test, own)[0]
        assert found < relative * abs(right) + 5e-6, method.name


# ---- what is said


FACTS = Facts(64, 10, 200, 150, 100, 1e-2, 5.0, 5.0, 10.0, 6.0)


def test_every_engine_and_method_states_a_bound_or_why_there_is_none():
    methods = [GradientNorm(), Influence(), InfluenceError(), Finetuning(), MlpFinetuning()]
    for method in methods:
        assert error_bound(method, FACTS, "plaintext").value == 0.0
        shipped = error_bound(method, FACTS, "stock")
        assert shipped.value is None and "CrypTen" in shipped.note
        for engine in ("fast", "rtas"):
            found = error_bound(method, FACTS, engine)
            assert (found.value is not None and found.value > 0) or found.note, method.name
    assert "does not amplify" in error_bound(Finetuning(lr=2.4), FACTS, "fast").note
    assert error_bound(Finetuning(lr=1e-2), FACTS, "fast").note is None


def test_a_request_says_what_no_comparison_is_certain_of():
    assert doubt_of(Value().description, [Influence()], [FACTS], "fast") == []
    (bit,) = doubt_of(Bit().description, [Finetuning(lr=1e-3)], [FACTS], "fast")
    (best,) = doubt_of(Best().description, [Influence()], [FACTS], "fast")
    assert "farther than" in bit and "threshold" in bit and "order" in best
    assert certainty(0.00123, False).startswith("a decision is certain only for a value farther than 0.0013 from")
    assert "no bound" in certainty(None, True)
