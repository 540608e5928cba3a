"""Selection, validation and low-quality data against oracles; the marketplace's experiment, small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.harness.jobs import Job
from experiments.harness.size import Size
from experiments.studies.marketplace.selection import Selections
from experiments.studies.marketplace.study import STUDY
from experiments.studies.marketplace.validation import Trials
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.low_quality import evasive, grey_crops, mislabelled, random_labels, shuffled_pixels
from mpc_appraisal.marketplace.buying.selection import STRATEGIES, entropy, least_confidence, margin, random, select
from mpc_appraisal.marketplace.buying.validation import subsets, uniform, validate, wrong_predictions
from mpc_appraisal.models.networks import Architecture, Dense, initial, train

ROOT = Path(__file__).resolve().parents[2]
CERTAIN = {"least_confidence", "margin", "entropy"}


def probabilities(n: int = 60, classes: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet([0.4] * classes, n))


# --- selection


def test_uncertainties_are_their_formulas():
    p = probabilities()
    ordered = np.sort(p.numpy(), axis=1)
    np.testing.assert_allclose(least_confidence(p), 1 - p.numpy().max(axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(margin(p), 1 - (ordered[:, -1] - ordered[:, -2]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(entropy(p), stats.entropy(p.numpy(), axis=1), rtol=0, atol=1e-12)


def test_certain_and_uniform_predictions_are_the_ends_of_each_scale():
    ends = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    for strategy, most in ((least_confidence, 0.75), (margin, 1.0), (entropy, np.log(4))):
        assert strategy(ends).tolist() == pytest.approx([0.0, most], abs=1e-12)


def test_of_two_classes_all_three_buy_nearest_to_one_half():
    first = torch.linspace(0.013, 0.97, 41, dtype=torch.float64)
    p = torch.stack([first, 1 - first], dim=1)
    nearest = sorted(range(41), key=lambda row: abs(float(first[row]) - 0.5))[:15]
    for strategy in CERTAIN:
        assert select(p, strategy, 15).tolist() == nearest


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("budget", [1, 7, 60])
def test_selection_is_that_of_a_sort_in_python(strategy, budget):
    p = probabilities().repeat_interleave(2, dim=0)[torch.randperm(120, generator=torch.Generator().manual_seed(1))]
    known = {"least_confidence": least_confidence, "margin": margin, "entropy": entropy}
    uncertainty = (random(120, 3) if strategy == "random" else known[strategy](p)).tolist()
    expected = sorted(range(120), key=lambda row: (-uncertainty[row], row))[:budget]
    assert select(p, strategy, budget, seed=3).tolist() == expected  # pairs of equal rows: ties by row number


def test_equal_rows_are_bought_in_their_order():
    p = torch.full((6, 3), 1 / 3)
    for strategy in CERTAIN:
        assert select(p, strategy, 4).tolist() == [0, 1, 2, 3]


def test_random_depends_on_the_seed_alone():
    one, other = probabilities(400, seed=1), probabilities(400, seed=2)
    assert torch.equal(select(one, "random", 50, 5), select(other, "random", 50, 5))
    assert not torch.equal(select(one, "random", 50, 5), select(one, "random", 50, 6))
    assert stats.kstest(random(4000, 9).numpy(), "uniform").pvalue > 1e-4


def test_rounded_predictions_are_taken():
    p = probabilities()
    rounded = p + 4e-4 * (torch.rand(p.shape, generator=torch.Generator().manual_seed(0)) - 0.5)
    assert float(rounded.min()) < 0
    assert bool(torch.isfinite(entropy(rounded)).all())
    assert len(set(select(p, "margin", 20).tolist()) & set(select(rounded, "margin", 20).tolist())) >= 19


@pytest.mark.parametrize("budget", [0, -1, 61, True, 2.0, None])
def test_bad_budgets_are_refused(budget):
    with pytest.raises(InputError, match=r"selection\.budget.*1 \.\. 60"):
        select(probabilities(), "margin", budget)


def test_unknown_strategies_are_refused():
    with pytest.raises(InputError, match=r"selection\.strategy.*least_confidence"):
        select(probabilities(), "variance", 3)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "p",
    [
        torch.tensor([[0.5, 0.5], [0.5, float("nan")]]),
        torch.tensor([[0.5, 0.5], [2.0, -1.0]]),
        torch.tensor([[0.5, 0.5], [3.0, 1.0]]),
        torch.tensor([0.5, 0.5]),
        torch.ones(3, 1),
        torch.empty(0, 4),
    ],
    ids=["nan", "negative", "logits", "one dimension", "one class", "no rows"],
)
def test_what_are_no_probabilities_is_refused(strategy, p):
    with pytest.raises(InputError, match=r"selection\.p"):
        select(p, strategy, 1)


# --- validation


def test_subsets_are_the_selection_in_its_order():
    selection = torch.tensor([9, 4, 7, 1, 0, 8, 2])
    parts = subsets(selection, 3)
    assert [part.tolist() for part in parts] == [[9, 4, 7], [1, 0, 8], [2]]
    assert [part.tolist() for part in subsets(selection, 7)] == [selection.tolist()]


@pytest.mark.parametrize("granularity", [0, 8, -2, True, 2.5])
def test_bad_granularities_are_refused(granularity):
    with pytest.raises(InputError, match=r"validation\.granularity"):
        subsets(torch.arange(7), granularity)


def predictor(wrong: int, y: torch.Tensor):
    """Of so many of the first rows another class than y."""

    def predict(x: torch.Tensor) -> torch.Tensor:
        found = y.clone()
        found[:wrong] = (found[:wrong] + 1) % 3
        return torch.nn.functional.one_hot(found, 3).double()

    return predict


def test_verdicts_follow_the_rule_and_ties_are_accepted():
    y = torch.arange(20) % 3
    errors = {0: 5, 2: 4, 4: 6}  # by the first row of a subset; before: 5 of 20
    tried = []

    def retrain(rows):
        tried.append(rows.tolist())
        return predictor(errors[int(rows[0])], y)

    found = validate(retrain, torch.arange(6), 2, torch.zeros(20, 1), y, threshold=5 / 20)
    assert tried == [[0, 1], [2, 3], [4, 5]]
    assert [(v.subset, v.rows, v.wrong, v.of) for v in found] == [
        (0, (0, 1), 5, 20),
        (1, (2, 3), 4, 20),
        (2, (4, 5), 6, 20),
    ]
    assert [v.accepted for v in found] == [True, True, False]
    assert [v.error for v in found] == [0.25, 0.2, 0.3]


def test_kept_subsets_stay_and_set_the_threshold():
    y = torch.arange(20) % 3
    tried = []

    def retrain(rows):
        tried.append(rows.tolist())
        return predictor(4 if 9 in rows.tolist() else {2: 3, 3: 2}[len(rows)], y)

    found = validate(retrain, torch.tensor([0, 1, 9, 8, 5]), 2, torch.zeros(20, 1), y, threshold=5 / 20, keep=True)
    # first kept: 3 of 20 becomes the threshold, which the second (4) misses, so that it is not among the third's rows
    assert tried == [[0, 1], [0, 1, 9, 8], [0, 1, 5]]
    assert [v.threshold for v in found] == [0.25, 0.15, 0.15]
    assert [v.accepted for v in found] == [True, False, True]


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan"), "0.1"])
def test_bad_thresholds_are_refused(threshold):
    with pytest.raises(InputError, match=r"validation\.threshold"):
        validate(lambda rows: predictor(0, torch.zeros(2, dtype=torch.int64)), torch.arange(2), 1, torch.zeros(2, 1),
                 torch.zeros(2, dtype=torch.int64), threshold)  # fmt: skip


@pytest.mark.parametrize("scores", [torch.zeros(3), torch.zeros(2, 3), torch.full((3, 2), float("nan"))])
def test_bad_predictions_are_refused(scores):
    with pytest.raises(InputError, match=r"validation\.predictions"):
        wrong_predictions(lambda x: scores, torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def test_a_network_accepts_right_labels_and_refuses_wrong_ones():
    architecture = Architecture("tiny", (1, 2, 2), (Dense(8), Dense(3)))
    generator = torch.Generator().manual_seed(0)

    def blobs(n):
        y = torch.arange(n) % 3
        return 0.5 + 0.22 * torch.eye(4)[y] + 0.09 * torch.randn(n, 4, generator=generator), y

    own, offered, held = blobs(12), blobs(300), blobs(600)
    own = tuple(part[own[1] != 2] for part in own)  # the shopper has never seen the third class
    before = train(initial(architecture, 1), *own, epochs=100, lr=0.05, batch_size=4)
    threshold = wrong_predictions(before.logits, *held) / 600
    assert threshold >= 1 / 3
    accepted = {}
    for name, labels in (
        ("good", offered[1]),
        ("mislabelled", mislabelled(offered[1], 3, 0)),
        ("evasive", evasive(before.logits(offered[0]), offered[1])),
    ):

        def retrain(rows, labels=labels):
            x, y = torch.cat([own[0], offered[0][rows]]), torch.cat([own[1], labels[rows]])
            return train(before, x, y, epochs=40, lr=0.05, batch_size=16).logits

        accepted[name] = [v.accepted for v in validate(retrain, torch.arange(300), 100, *held, threshold)]
    assert accepted == {"good": [True] * 3, "mislabelled": [False] * 3, "evasive": [False] * 3}


def test_uniform_rows_are_as_many_of_each_class():
    y = torch.tensor([0] * 50 + [1] * 9 + [2] * 20)
    rows = uniform(y, 24, 3, 0)
    assert len(set(rows.tolist())) == 24 and torch.bincount(y[rows]).tolist() == [8, 8, 8]
    assert torch.equal(rows, uniform(y, 24, 3, 0)) and not torch.equal(rows, uniform(y, 24, 3, 1))
    for size in (30, 10, 0):  # ten of class 1, of which there are nine; no multiple of three; none
        with pytest.raises(InputError, match=r"validation\.size"):
            uniform(y, size, 3, 0)


# --- low-quality data


def test_mislabelled_is_any_other_class_alike():
    y = torch.arange(8000) % 10
    found = mislabelled(y, 10, 1)
    assert not bool((found == y).any())
    counts = torch.bincount((found - y) % 10, minlength=10)[1:]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    assert torch.equal(found, mislabelled(y, 10, 1)) and not torch.equal(found, mislabelled(y, 10, 2))
    with pytest.raises(InputError, match=r"low_quality\.y"):
        mislabelled(y, 9, 1)


def test_random_labels_do_not_follow_anything():
    counts = torch.bincount(random_labels(5000, 10, 3), minlength=10)
    assert len(counts) == 10 and stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_shuffled_pixels_keep_each_rows_values_and_no_order():
    x = torch.arange(200.0).repeat(5, 1)
    found = shuffled_pixels(x, 0)
    assert torch.equal(found.sort(dim=1).values, x)
    assert len({tuple(row) for row in found.tolist()}) == 5
    assert max(abs(stats.spearmanr(row, x[0]).statistic) for row in found) < 0.4
    assert torch.equal(found, shuffled_pixels(x, 0))


def test_grey_crops_are_the_middle_of_the_luma():
    x = torch.from_numpy(np.random.default_rng(0).random((3, 3 * 8 * 8)))
    found = grey_crops(x, 4)
    planes = x.numpy().reshape(3, 3, 8, 8)
    for image in range(3):
        for row in range(4):
            for column in range(4):
                red, green, blue = planes[image, :, row + 2, column + 2]
                assert float(found[image, 4 * row + column]) == pytest.approx(
                    0.299 * red + 0.587 * green + 0.114 * blue
                )
    for side, shape in ((9, 192), (0, 192), (4, 190)):
        with pytest.raises(InputError, match=r"low_quality\.side"):
            grey_crops(torch.zeros(2, shape), side)


def test_evasive_labels_are_the_models_own_error_or_second_class():
    p, y = probabilities(300, 6), torch.arange(300) % 6
    found = evasive(p, y)
    for row in range(300):
        ranked = sorted(range(6), key=lambda c: -float(p[row, c]))
        assert int(found[row]) == (ranked[0] if ranked[0] != int(y[row]) else ranked[1])
    with pytest.raises(InputError, match=r"low_quality\.p"):
        evasive(p[:-1], y)


# --- the experiment


def run(out: Path, *arguments: str, code: int = 0) -> str:
    """Run the study, and return what it prints; if it fails as `code` expects, its errors."""
    env = {k: v for k, v in os.environ.items() if k != "MPC_APPRAISAL_DATA"} | {"OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "experiments", "marketplace", "--small", "--seeds", "1", "--out", str(out)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=600, env=env, cwd=out)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr if code else done.stdout


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "marketplace.jsonl").read_text().splitlines()]


def rewrite(folder: Path, rows: list[dict]) -> None:
    (folder / "marketplace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Validation alone, then selection in the same work folder; costs and leaks have tests of their own."""
    out, work = tmp_path_factory.mktemp("marketplace"), tmp_path_factory.mktemp("work")
    first = run(out, "--work", str(work), "--only", "validation")
    part = lines(out)
    return out, first, part, run(out, "--work", str(work), "--only", "selection")


def test_what_is_missing_is_named_and_the_next_run_goes_on(tiny):
    out, first, part, second = tiny
    assert part[0]["missing"][:2] == ["selection-150-seed0", "selection-1000-seed0"]
    assert not any(name.startswith("validation") for name in part[0]["missing"])
    assert "selection against random; the cost of encryption" in " ".join(first.split())
    assert {row["part"] for row in part[1:]} == {"validation"}
    assert not any(name.startswith(("selection", "validation")) for name in lines(out)[0]["missing"])
    assert "validation-seed0" not in second
    assert [row for row in lines(out) if row["part"] == "validation"] == part[1:]
    assert "what leaks, by attacks" in second
    assert "/" not in lines(out)[0]["command"]


def test_without_time_nothing_is_run_and_the_page_says_so(tmp_path):
    text = run(tmp_path, "--work", str(tmp_path), "--minutes", "0")
    named = ["selection-150-seed0", "selection-1000-seed0", "validation-seed0"]
    assert lines(tmp_path)[0]["missing"][:3] == named
    assert "validation by granularity" in text and len(lines(tmp_path)) == 1


def test_finished_jobs_are_of_the_same_sizes_only(tmp_path):
    small = Size("marketplace", True, 1).settings("market")

    def rows(settings, own):
        return [{"own": own, "sellers": settings.sellers}]

    done = Job("one", rows, (small, 3))
    assert done.rows(tmp_path) is None
    done.keep(tmp_path)
    assert done.rows(tmp_path) == [{"own": 3, "sellers": 10}]
    assert Job("one", rows, (small, 4)).rows(tmp_path) is None
    assert Job("one", rows, (Size("marketplace", False, 1).settings("market"), 3)).rows(tmp_path) is None


def test_every_strategy_and_budget_is_measured_against_random(tiny):
    chosen = [row for row in lines(tiny[0]) if row["part"] == "selection"]
    once = {(r["own"], r["strategy"], r["budget"]) for r in chosen if r["rounds"] == 1 and r["budget"]}
    bought = {(own, budget) for own, _, budget in once}
    assert bought == {(150, 50), (150, 100), (150, 200), (1000, 50), (1000, 200)}
    assert once == {(own, strategy, budget) for own, budget in bought for strategy in STRATEGIES}
    for row in chosen:
        assert row["test"][1] == {150: 500, 1000: 400}[row["own"]]
        assert (
            row["remaining"][1] == row["control"][1] == 1297 - row["own"] + 100 * (row["own"] == 1000) - row["budget"]
        )
        assert 0 <= row["by_seller"][0] <= row["budget"] / 10 <= row["by_seller"][1]
    by_hand = {
        r["strategy"]: r["remaining"][0] for r in chosen if (r["own"], r["budget"], r["rounds"]) == (150, 100, 1)
    }
    assert Selections(chosen).fewer(150, "margin", 100, "remaining") == [1 - by_hand["margin"] / by_hand["random"]]
    assert by_hand["margin"] < by_hand["random"]


def test_accuracy_of_validation_is_counted_over_both_sides(tiny):
    tried = [row for row in lines(tiny[0]) if row["part"] == "validation"]
    assert {row["kind"] for row in tried} == {"own", "good", "mislabelled", "shuffled", "evasive"}
    found = {row["kind"]: row for row in tried if row["granularity"] == 30}
    before = found["good"]["before"]
    right = sum(w <= before for w in found["good"]["wrong"]) + sum(w > before for w in found["evasive"]["wrong"])
    count = len(found["good"]["wrong"]) + len(found["evasive"]["wrong"])
    interval = stats.binomtest(right, count).proportion_ci(0.95)
    rate = Trials(tried).rightly("evasive", 30)
    assert (rate.rate, rate.low, rate.high) == pytest.approx((right / count, interval.low, interval.high))


def test_the_page_is_made_of_the_records_alone(tiny, tmp_path):
    rewrite(tmp_path, lines(tiny[0]))
    STUDY.render(tmp_path)
    for name in ("marketplace.md", "marketplace-selection.svg", "marketplace-validation.svg"):
        assert (tmp_path / name).read_bytes() == (tiny[0] / name).read_bytes()
    text = (tmp_path / "marketplace.md").read_text()
    assert "about 60%" in text and "35.88 s (E2DM), 2.59 s (theirs)" in text and "not measured yet" in text


def test_costs_and_leaks_are_rendered_where_there_are_rows(tiny, tmp_path):
    leak = {"part": "leak", "strategy": "ife_transform", "who": "cloud", "learns": "an equivalent model",
            "measured": "agrees on 1234 of 2000 rows", "stops": "in ife_shares"}  # fmt: skip
    cost = {"part": "cost", "network": "cnn6", "operation": "feed forward", "system": "ife_shares, LWE", "images": 64,
            "seconds": [3.0, 1.5, 2.0], "bytes": 5_000_000}  # fmt: skip
    about, *rows = lines(tiny[0])
    rewrite(tmp_path, [about | {"missing": []}, *rows, leak, cost])
    STUDY.render(tmp_path)
    text = (tmp_path / "marketplace.md").read_text()
    assert "| ife_transform | cloud | an equivalent model | agrees on 1234 of 2000 rows | in ife_shares |" in text
    (row,) = (line for line in text.splitlines() if line.startswith("| cnn6 | ife_shares, LWE | 64 |"))
    assert " 2.00 |" in row and " 5.00 |" in row  # the median's seconds, and MB
    assert "2.00 s (ife_shares, LWE, images: 64)" in text and "Not measured yet" not in text


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda rows: [], "line 1"),
        (lambda rows: rows[1:], "line 1"),
        (lambda rows: [rows[0], {"part": "guess"}], "line 2"),
        (lambda rows: [*rows[:3], {"part": "leak", "who": "cloud"}], "line 4"),
    ],
    ids=["empty", "no about", "unknown part", "missing keys"],
)
def test_damaged_records_are_refused_by_line(tiny, tmp_path, damage, named):
    rewrite(tmp_path, damage(lines(tiny[0])))
    with pytest.raises(InputError, match=named):
        STUDY.render(tmp_path)


def test_without_records_there_is_no_page(tmp_path):
    assert "marketplace.jsonl" in run(tmp_path, "--render-only", code=1)
