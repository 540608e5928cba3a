"""The circuits of bits, winners and noise, on shares of two owners in one process."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from processes import DATA_OWNER, MODEL_OWNER
from scipy import stats
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from test_release import L2, RARE, C, D, R
from three import run

from mpc_appraisal.common.errors import InputError, OwnerError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.methods import Appraiser, Facts, GradientNorm, Influence
from mpc_appraisal.mpc.backends.fast import DrySession, FastSession, TrainingContext
from mpc_appraisal.mpc.protocols.tensors import Secret
from mpc_appraisal.mpc.session import Opening, PlainSession, Session
from mpc_appraisal.release import Best, NoisedRelease
from mpc_appraisal.release.base import Score
from mpc_appraisal.release.best import WHICH
from mpc_appraisal.release.bit import reaches
from mpc_appraisal.release.dp.noise import scale
from mpc_appraisal.release.dp.release import clamp

# ---- on shares, in this process


class Threads(FastSession):
    """An owner's session over an engine of `three`."""

    _check = None

    def __init__(self, engine):
        Session.__init__(self)
        self.role, self.channel, self.context = OWNERS[engine.me], engine.channel, TrainingContext(engine, 16.0)


class ShapesOnly(DrySession):
    """The dry one."""

    integrity = False

    def __init__(self, engine):
        Session.__init__(self)
        self.role, self.context, self.marks = MODEL_OWNER, TrainingContext(engine, 16.0), []


def session_of(engine) -> Session:
    return (ShapesOnly if engine.dry else Threads)(engine)


def shared(ring: list[int], bits: int, seed: int = 0):
    """Uniform shares of ring elements, as a secret of an engine's session."""
    exact = torch.tensor(ring, dtype=torch.int64)
    r = torch.randint(-(2**63), 2**63 - 1, exact.shape, generator=torch.Generator().manual_seed(seed))

    def secret(session: Session) -> Secret:
        engine = session.context.engine
        share = torch.empty(exact.shape, dtype=torch.int64, device="meta") if engine.dry else (r, exact - r)[engine.me]
        return Secret(session.context, share, bits)

    return secret


@dataclass(frozen=True)
class Number(Appraiser):
    """Its score is its value, or the value's opposite."""

    name: ClassVar[str] = "number"
    needs: ClassVar[frozenset[str]] = frozenset()
    opens: ClassVar[str] = "a number"
    rising: ClassVar[bool] = True

    def private_shapes(self, facts):
        return {}

    def prepare(self, model, train, test):
        return {}

    def score(self, owned, x, y, facts):
        raise AssertionError("the scores of this method are given")

    def opened_at(self, value, facts):
        return value if self.rising else -value

    def comparable(self, score, facts):
        return score

    def paper_value(self, opened, facts):
        return -opened if self.rising else opened


class Falling(Number):
    rising: ClassVar[bool] = False


FACTS = Facts(D, C, 60, 30, 10, L2, R, R, 16.0, 1.0)


def wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize(("low", "high", "bits"), [(-1.5, 2.25, 34), (0.0, 2.0**18, 36), (-(2.0**22), 2.0**22, 36)])
def test_clamp_of_any_ring_element(low, high, bits):
    ends = [int(end * 2**bits) for end in (low, high)]
    g = np.random.default_rng(5)
    ring = [end + step for end in (*ends, 0, 2**62, -(2**62)) for step in (-1, 0, 1)]
    ring += [2**63 - 1, 2**63 - 2, -(2**63), 1 - 2**63, *g.integers(-(2**63), 2**63, 200).tolist()]
    ring += [*g.integers(ends[0], ends[1], 100).tolist(), *(2 * g.integers(ends[0], ends[1], 100)).tolist()]
    secret = shared(ring, bits)
    done = run(lambda engine: clamp(secret(session_of(engine)), low, high).share)
    found = (done.results[0] + done.results[1]).tolist()

    def exact(v: int) -> int:
        v = ends[0] if wrapped(v - ends[0]) < 0 else v
        return ends[1] if wrapped(ends[1] - v) < 0 else v

    assert found == [exact(v) for v in ring]
    assert all(ends[0] <= v <= ends[1] for v in found)
    assert all(out == min(max(v, ends[0]), ends[1]) for v, out in zip(ring, found, strict=True) if abs(v) <= 2**62)
    assert {ends[0], ends[1], ends[0] + 1, ends[1] - 1} <= set(found)


@pytest.mark.parametrize("method", [Number(), Falling()], ids=["rising", "falling"])
def test_the_threshold_is_compared_to_the_last_of_its_29_bits(method):
    bits, sign, unit = 36, 1 if method.rising else -1, 2.0**-29
    values = [0.0, unit, 0.75, -0.75, 1000 - unit, -1000.0, 2.0**17 + unit]
    cases = [(v, v + k * unit) for v in values for k in (-1, 0, 1)]
    cases += [(v, t) for v in (-(2.0**18), 0.0, 2.0**18) for t in (1e12, -1e12, 1e300, -1e300)]
    secrets = [shared([round(sign * v * 2**bits)], bits, seed) for seed, (v, _) in enumerate(cases)]

    def program(engine):
        session = session_of(engine)
        return torch.cat(
            [
                reaches(session, Score(method, "", FACTS, None), secret(session), lambda t=t: t).share
                for secret, (_, t) in zip(secrets, cases, strict=True)
            ]
        )

    done = run(program)
    assert (done.results[0] + done.results[1]).tolist() == [int(v >= t) for v, t in cases]


BEST_CASES = [  # k, values, budget, prices
    (k, values, budget, prices)
    for values in ([5], [3, 3], [2, 2, 2, 2], [-7, 4, 4, -7, 0])
    for k in (2, len(values) + 2)
    for budget, prices in (
        (None, None),
        (3.0, [2.0, 1.0, 3.0, 0.0, 1.5]),
        (0.3, [0.1, 0.1, 0.1, 0.2, 0.4]),
        (0.0, [9.0] * 5),
    )
]


@pytest.mark.parametrize("method", [Number(), Falling()], ids=["rising", "falling"])
def test_the_best_of_equals_are_the_first_and_prices_are_added_exactly(method):
    sign = 1 if method.rising else -1
    built = []
    for seed, (k, values, budget, prices) in enumerate(BEST_CASES):
        names = [f"c{j}" for j in range(len(values))]
        stated = None if prices is None else dict(zip(names, prices, strict=False))
        # of different precision, as those of candidates of different sizes are
        bits = [20 + 7 * (j % 3) for j in range(len(values))]
        secrets = [shared([sign * v << b], b, 9 * seed + j) for j, (v, b) in enumerate(zip(values, bits, strict=True))]
        built.append((Best(k, budget=budget, prices=stated), names, secrets))

    def program(engine):
        found = []
        for release, names, secrets in built:
            session = session_of(engine)
            session.permit(release.description.openings(method, len(names)))
            scores = [Score(method, n, FACTS, secret(session)) for n, secret in zip(names, secrets, strict=True)]
            found.append((release.open(session, scores), session.ledger))
        return found

    counts = set()
    for results in run(program).results:
        for (k, values, budget, prices), (outcomes, ledger) in zip(BEST_CASES, results, strict=True):
            left, money, won = list(range(len(values))), budget, []
            money = None if budget is None else round(10 * budget)
            while len(won) < k:
                able = [j for j in left if money is None or round(10 * prices[j]) <= money]
                if not able:
                    break
                won.append(max(able, key=lambda j: (values[j], -j)))
                left.remove(won[-1])
                money = money if money is None else money - round(10 * prices[won[-1]])
            assert [o.rank for o in outcomes] == [won.index(j) + 1 if j in won else None for j in range(len(values))]
            assert [o.winner for o in outcomes] == [j in won for j in range(len(values))]
            assert [o.opened for o in outcomes] == [sign * v if j in won else None for j, v in enumerate(values)]
            assert [o.what for o in ledger] == [WHICH, method.opens] * len(won)
            counts.add(len(won))
    assert counts >= {0, 1, 2, 3, 4, 5}


# ---- openings that nobody approved


def test_what_was_not_approved_is_not_opened_nor_is_any_message_of_it_sent():
    secret = shared([1 << 16, 2 << 16], 16)
    value, pair = Opening("a value", OWNERS, 1, "asked"), Opening("a pair", (MODEL_OWNER,), 2, "asked")
    tries = [  # what, to, whether both numbers, and whether it is permitted after all before it
        ("a value", OWNERS, False, True),
        ("a value", OWNERS, False, False),  # once too often
        ("a pair", (MODEL_OWNER,), True, True),
        ("a pair", (MODEL_OWNER,), True, False),
        ("another", OWNERS, False, False),
        ("a pair", OWNERS, True, False),  # to more
        ("a pair", (DATA_OWNER,), True, False),  # to another
        ("a value", OWNERS, True, False),  # more numbers
    ]

    def program(engine):
        session, found = session_of(engine), []
        session.permit([value, pair])
        if engine.dry:
            return
        s = secret(session)
        for what, to, whole, _ in tries:
            before, known = engine.channel.meter.cost().bytes_sent, len(session.ledger)
            try:
                session.reveal(s if whole else s[:1], what, "for another reason", to)
                refused = False
            except OwnerError as error:
                assert "was not approved" in str(error) and what in str(error)
                refused = True
            sent = engine.channel.meter.cost().bytes_sent - before
            found.append((refused, sent, len(session.ledger) - known, len(engine.channel.seen)))
        return found

    done = run(program)
    for me, results in enumerate(done.results):
        assert [refused for refused, *_ in results] == [not good for *_, good in tries]
        assert all(sent == more == 0 for refused, sent, more, _ in results if refused)
        assert all(more == 1 for refused, _, more, _ in results if not refused)
        # a commitment, then nonce and share, to both; a share alone to one
        assert [sent for refused, sent, *_ in results if not refused] == [32 + 32 + 8, 0 if me == 0 else 16]
        assert {seen for *_, seen in results[2:]} == {len(done.seen[me])}, "nothing came after the last permitted one"


@pytest.mark.parametrize("permitted", [[], [Opening("a value", OWNERS, 1, "")]])
def test_a_plain_session_refuses_too(permitted):
    session = PlainSession()
    session.permit(permitted)
    for _ in permitted:
        assert session.reveal(torch.ones(1), "a value", "").item() == 1
    with pytest.raises(OwnerError, match="a value.*not approved"):
        session.reveal(torch.ones(1), "a value", "")
    assert len(session.ledger) == len(permitted)


# ---- noise

DRAWS = 900  # draws of half the variance, or of twice, pass by a chance below 1e-14


def is_noise(draws: np.ndarray, deviation: float) -> bool:
    """Whether independent draws have mean 0 and this deviation; a false alarm has a chance below 2 RARE."""
    n = len(draws)
    low, high = stats.chi2.ppf([RARE / 2, 1 - RARE / 2], n)
    mean = abs(draws.mean()) * math.sqrt(n) / deviation
    return bool(low <= np.square(draws / deviation).sum() <= high and mean <= stats.norm.ppf(1 - RARE / 2))


class Noted(NoisedRelease):
    """Keeps what it draws, and draws at wrong scales: factors by owner."""

    factor, drawn = 1.0, None

    def _draw(self, delta, bits):
        if not self.factor:
            self.drawn.append(0.0)
            return 0
        unit = super()._draw(self.factor * delta, bits)
        self.drawn.append(unit / 2**bits)
        return unit


def released(factors: tuple[float, float]) -> tuple[np.ndarray, list[np.ndarray], float, float]:
    """What DRAWS private influences of 3 differ from 3 by; each owner's own draws; sigma and sensitivity."""
    release = Noted(sigma=2.0, row_norm=R)
    secret = shared([3 << 34], 34)

    def program(engine):
        mine, session = Noted(sigma=2.0, row_norm=R), session_of(engine)
        object.__setattr__(mine, "factor", factors[engine.me])
        object.__setattr__(mine, "drawn", [])
        score = Score(Influence(), "", FACTS, secret(session))
        opened = [mine.open(session, [score])[0].opened for _ in range(DRAWS)]
        return opened, mine.drawn

    done = run(program)
    assert done.results[0][0] == done.results[1][0]
    own = [np.array(drawn) for _, drawn in done.results]
    return np.array(done.results[0][0]) - 3, own, 2.0, release.sensitivity(Influence(), FACTS)


def test_each_owner_adds_noise_of_its_own_of_the_stated_scale():
    noise, own, sigma, delta = released((1.0, 1.0))
    assert 2 * R * FACTS.spread <= delta < 2.1 * R * FACTS.spread
    assert np.allclose(noise, own[0] + own[1], atol=2.0**-30)
    assert is_noise(noise, math.sqrt(2) * sigma * delta)
    for mine in own:  # what an owner who takes its own off is left with
        assert is_noise(mine, sigma * delta) and is_noise(noise - mine, sigma * delta)
    assert abs(np.corrcoef(own[0], own[1])[0, 1]) * math.sqrt(DRAWS) < stats.norm.ppf(1 - RARE / 2)
    assert len(np.unique(noise)) == DRAWS


@pytest.mark.parametrize("factors", [(2.0, 2.0), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_noise_of_a_wrong_scale_or_of_one_owner_alone_is_noticed(factors):
    noise, own, sigma, delta = released(factors)
    assert not is_noise(noise, math.sqrt(2) * sigma * delta)
    for me in (0, 1):
        assert is_noise(noise - own[me], sigma * delta) == (factors[1 - me] == 1.0)


def test_a_plain_session_adds_the_noise_of_both():
    release, session = NoisedRelease(sigma=2.0, row_norm=R), PlainSession()
    score = Score(Influence(), "", FACTS, torch.tensor(3.0, dtype=torch.float64))
    noise = np.array([release.open(session, [score])[0].opened for _ in range(DRAWS)]) - 3
    assert is_noise(noise, math.sqrt(2) * 2.0 * release.sensitivity(Influence(), FACTS))


class Large(NoisedRelease):
    """Draws 3.9 deviations, so that the noise of both owners is 5.5 deviations of their sum."""

    def _draw(self, delta, bits):
        return round(3.9 * scale(self.sigma, delta, bits))


@pytest.mark.parametrize(("method", "bits", "most"), [(GradientNorm(), 36, 2.0**18), (Influence(), 34, 0.0)])
def test_the_most_noise_that_is_allowed_can_be_opened(method, bits, most):
    """Noise and the largest value stay below the 2^55 units that are refused, but for once in ten million."""
    f, low, high = replace(FACTS, rows=60, spread=1000.0), 1e-4, 1e9
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        try:
            NoisedRelease(sigma=middle, row_norm=R).mechanism(method, f)
            low = middle
        except InputError:
            high = middle
    deviation = math.sqrt(2) * low * NoisedRelease(sigma=low, row_norm=R).sensitivity(method, f)
    assert 2 * stats.norm.sf((2.0 ** (55 - bits) - most) / deviation) < 1e-7
    secret, release = shared([0], bits), Large(sigma=low, row_norm=R)
    released = run(lambda e: release.open(s := session_of(e), [Score(method, "", f, secret(s))])[0])
    assert released.results[0].opened == pytest.approx(5.5 * deviation, rel=0.01)
