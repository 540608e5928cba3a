"""What fixed point adds to sensitivities, on shares: the stated bounds against integers, and neighbours end to end.

The two runs of a pair are given the same masks, as in the argument of `release/dp/rounding.py`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import three
import torch
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from test_release_circuits import session_of
from three import run, sharing

from mpc_appraisal.appraisal.plan import MethodInput, Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.mpc.protocols.softmax import BITS, softmax
from mpc_appraisal.mpc.protocols.tensors import OPERAND_BITS
from mpc_appraisal.mpc.ring.fixed_point import encode
from mpc_appraisal.release import NoisedRelease
from mpc_appraisal.release.dp.clipping import clip_direction, clip_rows, clipped, spread
from mpc_appraisal.release.dp.rounding import opened_error, softmax_error
from mpc_appraisal.release.softmax_accuracy import LOGIT_BITS

torch.set_num_threads(1)
SIZES = list(itertools.product((2, 3, 10, 50, 256), (2.0, 8.0, 16.0, 64.0, 256.0)))  # classes, bound
REPEATS = 12


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the distance of probabilities from the simplex


def distance(p: np.ndarray) -> np.ndarray:
    """Of each row, summed over its entries: what is negative is brought to 0, and then the sum to 1."""
    return -p.clip(max=0).sum(1) + np.abs(p.clip(min=0).sum(1) - 1)


def hostile(classes: int, bound: float) -> torch.Tensor:
    """Rows of logits, centred within the bound or a constant beside it: extremes, ties, sure ones, random ones."""
    sure = torch.full((classes,), -1.0, dtype=torch.float64)
    sure[0] = classes - 1.0
    half = torch.cat([torch.ones(classes // 2), -torch.ones(classes // 2), torch.zeros(classes % 2)]).double()
    tie = torch.full((classes,), -1.0, dtype=torch.float64)
    tie[: max(1, classes // 3)] = 3.0
    rows = [torch.zeros(classes).double(), sure, -sure, half, half / 2, tie, -tie, sure / 50]
    rows += list(normal(3, classes, seed=classes)) + list(normal(3, classes, seed=classes) ** 3)
    z = torch.stack(rows)
    z = z - z.mean(1, keepdim=True)
    z = z * (bound / z.abs().amax(1, keepdim=True).clamp_min(1e-9)).clamp(max=1e9)
    z[7], z[-1] = z[7] / 50, z[-1] / 10
    return torch.cat([z, z + 3.0]).repeat(REPEATS, 1)


def test_the_distance_is_that_to_the_nearest_point():
    g, p = np.random.default_rng(3), np.array([[0.7, 0.5, -0.1], [0.2, 0.3, 0.1], [1.0, 0.0, 0.0]])
    assert np.allclose(distance(p), [0.3, 0.4, 0.0])
    points = g.dirichlet((0.3, 0.3, 0.3), 200_000)
    for row, found in zip(p, distance(p), strict=True):
        assert found - 1e-9 <= np.abs(points - row).sum(1).min() < found + 0.02


def test_probabilities_as_computed_are_within_the_bound_of_the_simplex():
    logits = {(c, b, bits): hostile(c, b) for c, b in SIZES for bits in (LOGIT_BITS if c == 10 else LOGIT_BITS[1:2])}
    shares = {key: sharing(z, key[2], seed) for seed, (key, z) in enumerate(logits.items())}

    def everything(engine):
        session_of(engine).require_exact_truncation()
        return [softmax(engine, share(engine), bits, bound) for (_, bound, bits), share in shares.items()]

    done, near = run(everything), {}
    assert all(engine.failure == 0 for engine in done.engines)
    for (key, z), mine, theirs in zip(logits.items(), *done.results, strict=True):
        p = ((mine + theirs).double() / 2.0**BITS).numpy()
        classes, bound, _ = key
        stated = softmax_error(classes, bound)
        near[key] = distance(p).max() / stated
        assert near[key] <= 1, key
        print(f"classes {classes:3} bound {bound:3.0f} bits {key[2]}: {distance(p).max():.2e} of {stated:.2e}")
        # Of these logits, that is; at the largest bound and the most classes by and large.
        assert np.abs(p - z.softmax(1).numpy()).max() < (1e-3 if classes <= 10 else 0.2)
    assert max(near.values()) > 0.1, "a bound of no use"
    assert all(softmax_error(c, b) < (0.02 if c <= 10 else 0.5) for c, b in SIZES)


def test_nothing_is_truncated_locally_once_a_session_is_exact():
    share = sharing(hostile(3, 8.0), 36)

    def one(exact: bool):
        def parts(engine):
            if exact:
                session_of(engine).require_exact_truncation()
            return softmax(engine, share(engine), 36, 8.0)

        return run(parts)

    for exact in (True, False):
        done = one(exact)
        requests = [request[0] for request in done.dry.script]
        assert requests.count("truncate") == exact
        assert all((engine.failure == 0) == exact for engine in (*done.engines, done.dry))


# ---- what is cut after the rows are summed

R, CLASSES, ROWS = 6.0, 10, 30


def noted(engine) -> list[torch.Tensor]:
    """From here on, every share that `truncate` gives."""
    found, truncate = [], engine.truncate

    def note(v, bits):
        found.append(truncate(v, bits))
        return found[-1]

    engine.truncate = note
    return found


def integers(values: torch.Tensor) -> np.ndarray:
    return values.numpy().astype(object)


@pytest.mark.parametrize("method", [GradientNorm(), Influence()], ids=lambda m: m.name)
@pytest.mark.parametrize("features", [4, 64, 784])
def test_what_is_opened_is_exact_arithmetic_on_the_probabilities_as_computed(method, features):
    x = with_bias(clip_rows(3 * normal(ROWS, features, seed=1), R))
    labels = torch.randint(CLASSES, (ROWS,), generator=torch.Generator().manual_seed(2))
    theta = normal(features + 1, CLASSES, seed=3)
    theta *= 2.0 / (theta - theta.mean(1, keepdim=True)).norm(dim=0).max()
    direction = clip_direction(normal(features + 1, CLASSES, seed=4), 3.0)
    f = Facts(features, CLASSES, 50, 50, ROWS, 1e-2, R, R, 2.0 * R * 1.01, 3.0)
    own = {"weights": theta, "direction": direction}

    def scored(engine):
        session = session_of(engine)
        session.require_exact_truncation()
        session.bound_logits(f.logit_bound)
        owned = {k: session.input(MODEL_OWNER, lambda k=k: own[k], s, k) for k, s in method.private_shapes(f).items()}
        rows = session.input(DATA_OWNER, lambda: x, x.shape, "x")
        y = session.input(DATA_OWNER, lambda: torch.eye(CLASSES)[labels], (ROWS, CLASSES), "y")
        found = noted(engine)
        return [session.reveal(method.score(owned, rows, y, f), "a score", ""), rows.bits, *found]

    done = run(scored)
    opened, bits = done.results[0][0].item(), done.results[0][1]
    p, cut = (a + b for a, b in zip(done.results[0][2:], done.results[1][2:], strict=True))
    residual = integers(p) - integers(torch.eye(CLASSES, dtype=torch.int64)[labels]) * 2**BITS
    gradient = integers(encode(x, "x", bits)).T @ residual  # exact, with 16 + bits fractional bits
    error = softmax_error(CLASSES, f.logit_bound)
    assert distance(p.double().numpy() / 2.0**BITS).max() <= error
    if isinstance(method, GradientNorm):
        scale = method.scale(f)
        exact = int((gradient**2).sum()) / 4.0 ** (BITS + bits) * scale**2
        stated = opened_error(method, f, scale * (math.sqrt(2) + error) * R)
    else:
        scale = 1.0
        exact = int((gradient * integers(encode(direction, "direction"))).sum()) / 2.0 ** (2 * BITS + bits)
        stated = opened_error(method, f, 0.0, 3.0)
    # the premise: every entry is cut to 18 bits, within one unit
    off = np.abs(cut.double().numpy() - gradient.astype(np.float64) * scale * 2.0 ** (OPERAND_BITS - BITS - bits))
    assert 0.5 < off.max() <= 1
    print(f"{method.name} {features}: off by {abs(opened - exact):.2e} of {stated:.2e}, of {abs(exact):.3g}")
    assert 0 < abs(opened - exact) <= stated < 0.01 * abs(exact)


def test_other_methods_have_no_bound_on_rounding():
    f = Facts(4, 3, 10, 10, 10, 1e-2)
    for method, direction in ((Finetuning(), 1.0), (Influence(), None)):
        with pytest.raises(InputError, match="no other method's rounding is bounded"):
            opened_error(method, f, 1.0, direction)


# ---- neighbours, through the clipped and private pipeline without its noise


class Silent(NoisedRelease):
    """A private release without noise, for what the noise has to cover."""

    def _draw(self, delta, bits):
        return 0


class Unclipped(Silent):
    """The same of rows as they are."""


@dataclass(frozen=True)
class Pair:
    """Two candidates that differ in row 0, and a model."""

    method: object
    weights: torch.Tensor
    direction: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    other_x: torch.Tensor
    other_y: int
    release: NoisedRelease

    def candidates(self) -> list[Dataset]:
        x, y = self.x.clone(), self.y.clone()
        x[0], y[0] = self.other_x, self.other_y
        classes = self.weights.shape[1]
        return [Dataset(a, b, classes, "one") for a, b in ((self.x, self.y), (x, y))]


@pytest.fixture
def same_masks(monkeypatch):
    """Both runs of a pair draw the same."""
    keys = itertools.cycle([bytes([k]) * len(three.new_key()) for k in (1, 2, 3)])
    monkeypatch.setattr(three, "new_key", lambda: next(keys))


def difference(pair: Pair) -> tuple[float, float, float, float]:
    """|difference| of what is opened, the stated sensitivity, one of the opened, and its value in float64."""
    method, release = pair.method, pair.release
    owned = {"weights": pair.weights, "direction": pair.direction}
    owned = {k: v for k, v in owned.items() if k == "weights" or isinstance(method, Influence)}
    tensors, published = release.announce({method.name: owned})
    owned = tensors[method.name]
    centred = pair.weights - pair.weights.mean(1, keepdim=True)
    bound = release.row_norm * centred.norm(dim=0).max().item() * 1.01 + 0.1
    f = Facts(len(pair.weights) - 1, pair.weights.shape[1], 20, 20, len(pair.x), 1e-2, release.row_norm,
              release.row_norm, bound, published.get("spread"))  # fmt: skip
    plan, opened, probabilities = Plan((method,), 1e-2, 0, "", None, release=release), [], []
    for candidate in pair.candidates():
        own = {"one": clipped(candidate, None if isinstance(release, Unclipped) else release.row_norm, f.classes)}

        def appraised(engine, own=own):
            found = noted(engine)
            mine = ({}, {}) if engine.dry else (own, {method.name: MethodInput(owned)})
            return program(session_of(engine), plan, *mine, {"one": f}, bound, lambda event: None), found

        done = run(appraised)
        (result,) = done.results[0][0]
        assert result.outcome.opened is not None and result.failure == 0.0
        opened.append(result.outcome.opened)
        probabilities.append(done.results[0][1][0] + done.results[1][1][0])
        exact = method.score(owned, with_bias(own["one"].x), candidate.one_hot(), f).item()
    assert torch.equal(probabilities[0][1:], probabilities[1][1:]), "the other rows are the same to the bit"
    return abs(opened[0] - opened[1]), release.sensitivity(method, f), opened[1], exact


LONG, SURE = 8.0, 14.0  # R, and the bias that makes the model sure of class 1


def adversarial(method, rows: int, classes: int, features: int, ceiling: float | None = None, right: int = 0,
                release=Silent, length: float = 40.0) -> Pair:  # fmt: skip
    """Rows of which the model is sure and wrong, all alike, of which one is turned to its opposite. They are longer
    than R before they are clipped. `right` of them are classified rightly, and have no gradient.

    A single row is replaced by one that the model is right about for gradient_norm: its opposite has the same norm.
    """
    weights = torch.zeros(features + 1, classes, dtype=torch.float64)
    weights[-1, 1] = SURE
    along = torch.zeros(features, dtype=torch.float64)
    along[: min(4, features)] = 1 / math.sqrt(min(4, features))
    direction = torch.zeros(features + 1, classes, dtype=torch.float64)
    direction[:-1, 1], direction[:-1, 0] = along, -along
    x, y = length * along.repeat(rows, 1), torch.zeros(rows, dtype=torch.int64)
    y[rows - right :] = 1
    single = rows - right == 1 and isinstance(method, GradientNorm)
    made = release(sigma=1.0, row_norm=LONG, ceiling=ceiling)
    return Pair(method, weights, direction, x, y, x[0] if single else -x[0], int(single), made)


FULL = 6 * math.sqrt(2) * LONG * 0.999  # the gradient's norm of six rows
WORST = {
    "gradient_norm, one row": adversarial(GradientNorm(), 1, 3, 4),
    "gradient_norm, two rows": adversarial(GradientNorm(), 2, 3, 4),
    "gradient_norm, six rows": adversarial(GradientNorm(), 6, 2, 4),
    "gradient_norm, six rows of ten classes": adversarial(GradientNorm(), 6, 10, 64),
    "gradient_norm, six of twelve rows under a ceiling": adversarial(GradientNorm(), 12, 3, 4, FULL, 6),
    "influence, one row": adversarial(Influence(), 1, 2, 4),
    "influence, six rows": adversarial(Influence(), 6, 3, 4),
    "influence, forty rows of ten classes": adversarial(Influence(), 40, 10, 64),
    "influence, twenty rows under a ceiling": adversarial(Influence(), 20, 3, 4, 1000.0),
}


@pytest.mark.parametrize("key", list(WORST))
def test_the_worst_neighbours_differ_by_no_more_than_the_sensitivity_and_come_near(key, same_masks):
    found, stated, opened, exact = difference(WORST[key])
    print(f"{key}: {found:.6g} of {stated:.6g}, {found / stated:.1%}")
    assert 0.8 * stated <= found <= stated
    if WORST[key].release.ceiling is None:
        assert abs(opened - exact) <= 1e-3 * max(stated, abs(exact))


def test_the_same_candidate_twice_gives_the_same_to_the_bit(same_masks):
    for key in ("gradient_norm, six rows", "influence, six rows"):
        pair = WORST[key]
        found, *_ = difference(Pair(**{**vars(pair), "other_x": pair.x[0], "other_y": int(pair.y[0])}))
        assert found == 0.0


@pytest.mark.parametrize("method", [GradientNorm(), Influence()], ids=lambda m: m.name)
def test_rows_that_are_not_clipped_exceed_the_sensitivity(method, same_masks):
    found, stated, *_ = difference(adversarial(method, 6, 3, 4, release=Unclipped, length=12.0))
    assert found > 1.3 * stated


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("method", [GradientNorm(), Influence()], ids=lambda m: m.name)
def test_random_neighbours_differ_by_no_more_than_the_sensitivity(method, seed, same_masks):
    rows, features, classes, ceiling = [(1, 4, 3, None), (5, 6, 10, None), (40, 3, 2, None), (7, 5, 4, 20.0)][seed % 4]
    weights = (0.3, 3.0)[seed % 2] * normal(features + 1, classes, seed=seed)
    direction = normal(features + 1, classes, seed=50 + seed)
    g = torch.Generator().manual_seed(seed)
    x, labels = 4 * normal(rows + 1, features, seed=90 + seed), torch.randint(classes, (rows + 1,), generator=g)
    release = Silent(sigma=1.0, row_norm=4.0, ceiling=ceiling)
    pair = Pair(method, weights, direction, x[1:], labels[1:], x[0], int(labels[0]), release)
    found, stated, *_ = difference(pair)
    assert found <= stated and (found > 0 or ceiling is not None)


def test_the_announced_spread_is_kept_by_what_is_shared(same_masks):
    pair = WORST["influence, six rows"]
    owned, announced = pair.release.announce({"influence": {"direction": pair.direction}})
    out, published = owned["influence"]["direction"], announced["spread"]
    assert spread(pair.direction) < published <= spread(pair.direction) * (1 + 1 / 8)
    assert spread(encode(out, "direction").double() / 2.0**16) <= published
    silent = Silent(sigma=1.0, row_norm=LONG, spread=0.5)
    shrunk, announced = silent.announce({"influence": {"direction": pair.direction}})
    assert announced == {}
    assert 0.49 < spread(encode(shrunk["influence"]["direction"], "direction").double() / 2.0**16) <= 0.5
