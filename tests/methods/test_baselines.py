"""Leave one out and Shapley against all orders of the players, another library's solver, axioms and known games."""

from __future__ import annotations

import itertools
import math
import sys
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
import torch

from mpc_appraisal import Join, appraise
from mpc_appraisal.appraisal.plan import DisclosureControls
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Coalitions, Game, LeaveOneOut, Shapley, Valuation, as_baselines
from mpc_appraisal.models.training import fit, utility
from mpc_appraisal.reporting.record import Record

D, C, L2 = 4, 3, 1e-2


def data(n: int, seed: int, noise: float = 0.1, name: str = "") -> Dataset:
    return Dataset(*oracles.problem(n, D, C, seed, noise), C, name or f"seed {seed}")


TRAIN, TEST = data(20, 1), data(60, 2, 0.0)
SETS = [data(25, 3, 0.0, "clean"), data(15, 4, 0.4, "noisy"), data(25, 5, 1.0, "redrawn"), data(10, 6, 0.1, "small")]


class Table(Game):
    """A game by its table, or by a function of the set; counts how often it was asked."""

    def __init__(self, m: int, worth):
        super().__init__([f"p{k}" for k in range(m)])
        self._worth, self.asked = worth, []

    def worth(self, members: frozenset[int]) -> float:
        self.asked.append(members)
        return float(self._worth(members))


def random_game(m: int, seed: int = 0) -> Table:
    worths: dict[frozenset[int], float] = {}
    generator = np.random.default_rng(seed)
    for size in range(1, m + 1):
        for members in itertools.combinations(range(m), size):
            worths[frozenset(members)] = generator.normal()
    return Table(m, worths.__getitem__)


def by_all_orders(game: Game) -> list[float]:
    """The second form of the definition: each player's mean over all m! orders."""
    m = len(game.names)
    total = [0.0] * m
    for order in itertools.permutations(range(m)):
        for place, player in enumerate(order):
            total[player] += game.value(order[: place + 1]) - game.value(order[:place])
    return [t / math.factorial(m) for t in total]


# ---- games whose answer is known


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_exact_shapley_is_the_mean_over_all_orders(m):
    found = Shapley().values(random_game(m, m))
    assert list(found.values.values()) == pytest.approx(by_all_orders(random_game(m, m)), abs=1e-12)
    assert found.exact and found.retrainings == 2**m - 1 and set(found.standard_errors.values()) == {0.0}


# coopgt has no release for Python 3.10. The mean over all orders, in the test above, is the oracle there.
@pytest.mark.skipif(sys.version_info < (3, 11), reason="coopgt needs Python 3.11")
@pytest.mark.parametrize("m", [3, 6])
def test_exact_shapley_is_that_of_coopgt(m):
    from coopgt.shapley_value import calculate

    game = random_game(m)
    subsets = (s for size in range(m + 1) for s in itertools.combinations(range(m), size))
    theirs = calculate({tuple(k + 1 for k in s): game.value(s) for s in subsets})  # it counts players from 1
    assert list(Shapley().values(random_game(m)).values.values()) == pytest.approx(theirs, abs=1e-12)


def test_efficiency_symmetry_dummy_and_a_glove_game():
    game = random_game(6)
    assert sum(Shapley().values(game).values.values()) == pytest.approx(game.value(range(6)), abs=1e-12)
    # p0 and p1 are interchangeable, p3 adds nothing to anybody.
    table = Table(4, lambda s: len(s & {0, 1}) ** 2 + (3 if 2 in s and s & {0, 1} else 0))
    for method in (Shapley(), LeaveOneOut()):
        values = method.values(table).values
        assert values["p0"] == pytest.approx(values["p1"], abs=1e-12) and values["p3"] == pytest.approx(0, abs=1e-12)
    # One left glove, two right ones; a pair is worth 1: 2/3, 1/6, 1/6, and leaving a right one out costs nothing.
    gloves = Table(3, lambda s: 0 in s and len(s) > 1)
    assert list(Shapley().values(gloves).values.values()) == pytest.approx([2 / 3, 1 / 6, 1 / 6])
    assert LeaveOneOut().values(gloves).values == {"p0": 1.0, "p1": 0.0, "p2": 0.0}


def test_leave_one_out_is_a_difference_and_takes_m_plus_one():
    game = random_game(5)
    found = LeaveOneOut().values(game)
    everybody = set(range(5))
    assert list(found.values.values()) == [game.value(everybody) - game.value(everybody - {k}) for k in range(5)]
    assert found.retrainings == 6 and found.exact
    assert LeaveOneOut().values(random_game(1)).retrainings == 1  # without the only one: nobody, 0


def test_nothing_is_computed_twice_and_events_count():
    game, events = random_game(4), []
    LeaveOneOut().values(game)
    found = Shapley().values(game, events.append)
    assert len(game.asked) == len(set(game.asked)) == 15 and found.retrainings == 15 - 5
    assert [e["done"] for e in events] == list(range(1, 16)) and {e["of"] for e in events} == {15}
    assert all(e["method"] == "shapley" and e["candidate"] in game.names for e in events)


# ---- sampling


@pytest.mark.parametrize("seed", range(3))
def test_sampled_shapley_is_within_its_standard_error(seed):
    m, truth = 7, Shapley().values(random_game(7))
    found = Shapley(retrainings=120, truncation=0.0, seed=seed).values(random_game(m))
    assert not found.exact and found.retrainings <= 120 and found.permutations >= 20
    off = [(found.values[n] - truth.values[n]) / found.standard_errors[n] for n in truth.values]
    assert max(map(abs, off)) < 4 and max(map(abs, off)) > 1e-6
    # Every order hands out all of v(N).
    assert sum(found.values.values()) == pytest.approx(random_game(m).value(range(m)), abs=1e-12)


def test_the_standard_error_is_that_of_repetition():
    runs = [Shapley(200, 0.0, seed).values(Table(8, lambda s: len(s) ** 2 * (1 + (0 in s)))) for seed in range(60)]
    spread = np.std([r.values["p0"] for r in runs], ddof=1)
    stated = np.mean([r.standard_errors["p0"] for r in runs])
    assert 0.7 < spread / stated < 1.4  # 60 repetitions: sd of the ratio is about 1/sqrt(118) = 0.09


def test_an_additive_game_is_exact_in_two_orders():
    found = Shapley(15, 0.0).values(Table(8, lambda s: sum(k + 1 for k in s)))
    assert list(found.values.values()) == pytest.approx(range(1, 9)) and found.permutations >= 2
    assert max(found.standard_errors.values()) == pytest.approx(0, abs=1e-12)


def test_truncation_saves_retrainings_and_misses_no_more_than_stated():
    def saturating(s: frozenset[int]) -> float:
        return 1 - 0.5 ** len(s)

    m = 12
    whole, cut = (Table(m, saturating) for _ in range(2))
    full = Shapley(600, 0.0, 1).values(whole)
    short = Shapley(600, 0.02, 1).values(cut)
    assert max(len(s) for s in cut.asked if len(s) < m) == 6  # 1 - 2^-6 is within 2% of all
    assert short.permutations > full.permutations
    assert sum(full.values.values()) == pytest.approx(1 - 0.5**m)
    assert 0 < sum(full.values.values()) - sum(short.values.values()) < 0.02


def test_sampling_ends_and_depends_on_the_seed_alone():
    one, same, other = (Shapley(30, 0.5, seed).values(random_game(6)) for seed in (1, 1, 2))
    assert one == same and one.values != other.values
    # So much truncation that few sets are ever asked for: the number of orders ends it.
    found = Shapley(62, 0.9).values(Table(6, lambda s: 1.0))
    assert found.permutations == 62 and found.retrainings == 7
    assert "62 permutations, standard error at most" in found.words and "By 7 retrainings" in found.words


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Shapley(retrainings=0), "retrainings"),
        (lambda: Shapley(retrainings=True), "retrainings"),
        (lambda: Shapley(seed=-1), "seed"),
        (lambda: Shapley(truncation=1.0), "truncation"),
        (lambda: Shapley(truncation=float("nan")), "truncation"),
        (lambda: Shapley(retrainings=10).values(random_game(6)), "retrainings"),
    ],
)
def test_bad_settings_are_named(make, key):
    with pytest.raises(InputError, match=f"^baselines.{key}:"):
        make()


def test_baselines_by_name_and_object():
    assert as_baselines(["leave_one_out", "shapley"], 7) == (LeaveOneOut(), Shapley(seed=7))
    assert as_baselines("shapley") == (Shapley(),) and as_baselines([Shapley(9)]) == (Shapley(9),)
    for bad in (["retraining"], ["shapley", Shapley(5)], [3], "loo"):
        with pytest.raises(InputError, match="^baselines:.*leave_one_out and shapley"):
            as_baselines(bad)


# ---- the game of retraining


@pytest.fixture(scope="module")
def game():
    return Coalitions(TRAIN, TEST, SETS, L2, tolerance=1e-8)


def test_a_coalition_is_worth_what_newtons_method_says(game):
    def test_loss(parts: list[Dataset]) -> float:
        theta = oracles.descended(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]), C, L2)
        return oracles.loss(theta, TEST.x, TEST.y).item()

    before = test_loss([TRAIN])
    for members in ([0], [3, 1], [0, 1, 2, 3]):
        theirs = before - test_loss([TRAIN, *(SETS[k] for k in members)])
        assert game.value(members) == pytest.approx(theirs, abs=1e-6)
    assert game.value([]) == 0.0


def test_one_candidate_is_the_utility_by_retraining(game):
    for k, candidate in enumerate(SETS):
        assert game.value([k]) == pytest.approx(utility(TRAIN, TEST, candidate, L2, tolerance=1e-8), abs=1e-6)


def test_shapley_of_candidates_adds_up_and_ranks_the_clean_one_first(game):
    found = Shapley().values(game)
    assert list(found.values.values()) == pytest.approx(by_all_orders(game), abs=1e-12)
    assert sum(found.values.values()) == pytest.approx(game.value(range(4)), abs=1e-12)
    assert max(found.values, key=found.values.get) == "clean" and min(found.values, key=found.values.get) == "redrawn"


def test_duplicates_share_and_leave_nothing_out():
    clean = data(25, 7, 0.0, "clean")
    game = Coalitions(TRAIN, TEST, [clean, SETS[1], clean.renamed("copy")], L2, tolerance=1e-8)
    values, left = Shapley().values(game).values, LeaveOneOut().values(game).values
    alone = Coalitions(TRAIN, TEST, [clean, SETS[1]], L2, tolerance=1e-8)
    assert values["clean"] == pytest.approx(values["copy"], abs=1e-6)
    assert left["clean"] == pytest.approx(left["copy"], abs=1e-6)
    assert 0 < values["clean"] < Shapley().values(alone).values["clean"]
    assert left["clean"] < LeaveOneOut().values(alone).values["clean"] / 2


def test_a_candidate_that_repeats_the_training_data_alone_is_worth_nothing():
    game = Coalitions(TRAIN, TEST, [TRAIN.renamed("again")], L2, tolerance=1e-8)
    for method in (Shapley(), LeaveOneOut()):
        assert method.values(game).values["again"] == pytest.approx(0, abs=1e-7)


def test_a_given_model_is_what_is_improved():
    model = fit(data(40, 8), L2)
    found = Coalitions(TRAIN, TEST, SETS[:1], L2, model, 1e-8).value([0])
    assert found == pytest.approx(utility(TRAIN, TEST, SETS[0], L2, model, 1e-8), abs=1e-6)


def test_candidates_that_do_not_fit_are_named():
    narrow = Dataset(TRAIN.x[:, :2], TRAIN.y, C, "narrow")
    with pytest.raises(InputError, match="^features of narrow: got 2; expected 4"):
        Coalitions(TRAIN, TEST, [narrow], L2)
    for sets in ([], [SETS[0], SETS[0]]):
        with pytest.raises(InputError, match="^data:"):
            Coalitions(TRAIN, TEST, sets, L2)
    separable = Dataset(torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([0, 1]), 2, "two")
    bare = SimpleNamespace(
        theta=torch.zeros(2, 2, dtype=torch.float64), logits=lambda x: torch.zeros(len(x), 2).double()
    )
    game = Coalitions(separable, separable, [separable.renamed("more")], 0.0, bare, 1e-300)
    with pytest.raises(AppraisalError, match="did not converge"):
        game.value([0])


# ---- in one call


def test_appraise_sets_them_beside():
    events = []
    result = appraise(
        SETS,
        train=TRAIN,
        test=TEST,
        session="plain",
        true_utility=True,
        baselines=["leave_one_out", Shapley(retrainings=8, truncation=0.0)],
        progress=events.append,
    )
    assert result.methods == ["influence", "retraining", "leave_one_out", "shapley", "random"]
    game = Coalitions(TRAIN, TEST, SETS, 1e-2)
    left = LeaveOneOut().values(game)
    for record in result.of("leave_one_out"):
        assert record.value == record.plaintext_value == pytest.approx(left.values[record.candidate], abs=1e-5)
        assert record.session == "plain" and record.baseline and not record.openings and not record.bytes_sent
        assert "no privacy. By 5 retrainings, exact." in record.trust
        assert Record.from_json(record.to_json()) == record and record.utility is not None
    assert all("standard error at most" in r.trust for r in result.of("shapley"))
    assert {e["method"] for e in events} == {"influence", "retraining", "leave_one_out", "shapley"}
    assert "shapley" in str(result) and "leave_one_out" in str(result)


def test_without_true_utility_only_what_was_asked_for():
    result = appraise(SETS[:2], train=TRAIN, test=TEST, session="plain", baselines="shapley")
    assert result.methods == ["influence", "shapley"] and result.of("shapley")[0].utility is None


def test_baselines_need_both_sides():
    with pytest.raises(InputError, match="^baselines: .*no test data"):
        appraise(SETS, train=TRAIN, method="gradient_norm", session="plain", baselines="shapley")
    with pytest.raises(InputError, match="^baselines: .*between organisations"):
        appraise(SETS, session=Join(role="data_owner"), controls=DisclosureControls(), baselines="shapley")
    with pytest.raises(InputError, match="^baselines:"):
        appraise(SETS, train=TRAIN, test=TEST, session="plain", baselines=["utility"])


def test_words_of_an_exact_valuation():
    assert Valuation({"a": 1.0}, {"a": 0.0}, 1023, True).words == "By 1,023 retrainings, exact."
