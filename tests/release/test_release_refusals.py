"""Releases that are refused before anything is shared."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
from processes import MODEL_OWNER
from scipy import stats
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from test_release import CANDIDATES, PRIVATE, TEST, TRAIN, TUNED, TWO, Asked, R
from test_release_circuits import FACTS, Number

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.party import _fitted
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods import Finetuning, Influence
from mpc_appraisal.release import Best, Bit, Mechanism, NoisedRelease, Value, epsilon
from mpc_appraisal.release.dp.release import smallest_sigma

# ---- refusals


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NoisedRelease(), r"^row_norm: got None"),
        (lambda: NoisedRelease(row_norm=1.0), r"^row_norm: got 1\.0"),
        (lambda: NoisedRelease(row_norm=3.0, delta=1.0), r"^delta: got 1\.0"),
        (lambda: NoisedRelease(row_norm=3.0, delta=0.0), r"^delta: got 0\.0"),
        (lambda: NoisedRelease(row_norm=3.0, epsilon=math.nan), r"^epsilon: got nan"),
        (lambda: NoisedRelease(row_norm=3.0, epsilon=1e-9, delta=1e-12), r"^epsilon: got 1e-09"),
        (lambda: NoisedRelease(row_norm=3.0, sigma=0.0), r"^sigma: got 0\.0"),
        (lambda: NoisedRelease(row_norm=3.0, ceiling=-1.0), r"^ceiling: got -1\.0"),
        (lambda: NoisedRelease(row_norm=3.0, spread=math.inf), r"^spread: got inf"),
        (lambda: NoisedRelease(row_norm=3.0, what="rank"), r"^what: got 'rank'"),
        (lambda: NoisedRelease(row_norm=3.0, to="dealer"), r"^to: got 'dealer'"),
        (lambda: NoisedRelease(row_norm=3.0).fitted(TUNED), r"^release\.ceiling: got None.*finetuning"),
        (lambda: NoisedRelease(row_norm=3.0).fitted([Number()]), r"^release\.ceiling: got None.*number"),
        (lambda: Value("nobody"), r"^to: got 'nobody'"),
        (lambda: Bit("nobody"), r"^to: got 'nobody'"),
        (lambda: Best(1, "nobody"), r"^to: got 'nobody'"),
        (lambda: Best(0), r"^k: got 0"),
        (lambda: Best(True), r"^k: got True"),
        (lambda: Best(1.5), r"^k: got 1\.5"),
        (lambda: Best(1, budget=-1.0), r"^budget: got -1\.0"),
        (lambda: Best(1, budget=math.nan), r"^budget: got nan"),
        (lambda: Best(1, prices={"a": 1.0}), r"^budget: got None"),
        (lambda: Best(1, budget=1.0, prices={"a": math.inf}), r"^prices\.a: got inf"),
        (lambda: Best(1, MODEL_OWNER, 1.0, {"a": 1.0}), r"^to: got .*model_owner"),
        (lambda: Best(1, budget=1.0).fitted((), ["a"]), r"^release\.prices: got \[\].*'a'"),
        (lambda: Best(1, budget=1.0, prices={"a": 1.0}).fitted((), ["a", "b"]), r"^release\.prices: got \['a'\].*'b'"),
        (lambda: Best(1, budget=1.0).fitted((), "ab", {"a": 1.0, "b": None}), r"^release\.prices: got \['a'\]"),
    ],
)
def test_a_release_that_cannot_be_is_refused_by_name(make, said):
    with pytest.raises(InputError, match=said):
        make()


def asked_in_the_clear(release, threshold=None, session="plain", **more):
    data = {"small": CANDIDATES["small"]}
    return appraise(data, train=TRAIN, test=TEST, release=release, threshold=threshold, session=session, **more)


@pytest.mark.parametrize("release", [Bit(), replace(PRIVATE, what="bit")])
@pytest.mark.parametrize("stated", [None, math.nan, math.inf, True, {"gradient_norm": 1.0}, {"influence": "1"}])
def test_a_bit_needs_a_threshold(release, stated):
    with pytest.raises(InputError, match=r"^threshold: got .*influence"):
        asked_in_the_clear(release, stated)


def test_prices_that_miss_a_candidate_and_methods_without_ceiling_are_refused_by_appraise():
    with pytest.raises(InputError, match=r"^prices"):
        asked_in_the_clear(Best(1, budget=1.0))
    with pytest.raises(InputError, match=r"^ceiling"):
        asked_in_the_clear(NoisedRelease(row_norm=3.0), method=TUNED)
    with pytest.raises(InputError, match=r"^release: got 'best'"):
        asked_in_the_clear("best")


def test_noise_that_the_ring_cannot_hold_is_refused_before_anything_is_shared():
    release = NoisedRelease(row_norm=R, ceiling=1e12)
    with pytest.raises(InputError, match=r"^(ceiling|sigma): got .*(the ring holds|when it is opened)"):
        asked_in_the_clear(release, method=TUNED)
    with pytest.raises(InputError, match=r"^ceiling: got .*finetuning.*(the ring holds|when it is opened)"):
        asked_in_the_clear(release, method=TUNED, session="spawn")
    with pytest.raises(InputError, match=r"^release\.ceiling"):  # what the request, before any session, is made of
        release.privacy(Finetuning(), FACTS)


@pytest.mark.parametrize("release", [Bit(), PRIVATE, Best(1)])
def test_crypten_as_shipped_opens_values_alone(release):
    for engine in ("fast", "stock"):
        plan = replace(Asked(release, TWO).plan(), engine=engine)
        with (
            nullcontext()
            if engine == "fast"
            else pytest.raises(InputError, match=rf"^release: got '?{release.description.kind}")
        ):
            assert _fitted(plan, list(CANDIDATES), {}) is release


@pytest.mark.parametrize(("target", "delta"), [(0.05, 1e-6), (0.5, 1e-9), (1.0, 1e-6), (4.0, 1e-3)])
def test_the_smallest_sigma_is_enough_and_hardly_more(target, delta):
    """Against the exact curve of a Gaussian (Balle and Wang 2018, theorem 8)."""

    def delta_of(sigma: float) -> float:
        a, b = 1 / (2 * sigma), target * sigma
        return stats.norm.cdf(a - b) - math.exp(target) * stats.norm.cdf(-a - b)

    sigma = smallest_sigma(target, delta)
    assert NoisedRelease(epsilon=target, delta=delta, row_norm=R).sigma == sigma
    assert delta_of(sigma) <= delta < delta_of(0.998 * sigma)
    assert epsilon([Mechanism("gaussian", sigma=sigma)], delta) <= target
    assert epsilon([Mechanism("gaussian", sigma=0.998 * sigma)], delta) > target
    release = NoisedRelease(epsilon=target, delta=delta, row_norm=R)
    assert 0.99 * target < release.privacy(Influence(), FACTS).epsilon <= target
