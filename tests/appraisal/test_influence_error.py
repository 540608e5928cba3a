"""The influence's standard error: autograd for each example, bootstraps that are run, shares, and what is told."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import numpy as np
import oracles
import pytest
import three
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, free_port, problem, write_csv, write_npz
from rich.console import Console
from scipy import stats

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.cli.front import CONF
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits, with_bias
from mpc_appraisal.methods import METHODS, Facts, Influence, InfluenceError, as_methods, plaintext
from mpc_appraisal.methods.preflight.check import glance, preflight
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.ops import RowBlocks
from mpc_appraisal.release import Best, Bit, NoisedRelease
from mpc_appraisal.reporting.brief import matrix_table
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.record import ERRORS, read
from mpc_appraisal.reporting.report import print_result, write_report
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import COVERS
from mpc_appraisal.reporting.table import number

D, C, L2 = 4, 3, 1e-2
BOTH = ["influence", "influence_error"]


def data(n: int, seed: int, noise: float = 0.1) -> Dataset:
    return Dataset(*oracles.problem(n, D, C, seed, noise), C, f"seed {seed}")


TRAIN, TEST, CANDIDATE = data(40, 1), data(30, 2, 0.0), data(200, 3)
MODEL = fit(TRAIN, L2)


def row_influences(candidate: Dataset, damping: float = 0.0) -> np.ndarray:
    """(n,): of each row by itself, with autograd's gradients and Hessian and a dense solve; their mean is the value."""
    h = oracles.hessian(MODEL.theta, TRAIN.x, TRAIN.y, L2) + damping * np.eye((D + 1) * C)
    test = oracles.example_gradients(MODEL.theta, TEST.x, TEST.y).mean(0).reshape(-1).numpy()
    rows = oracles.example_gradients(MODEL.theta, candidate.x, candidate.y).reshape(candidate.rows, -1).numpy()
    return rows @ np.linalg.solve(h, test)


def of(method, candidate: Dataset) -> float:
    return plaintext(method, MODEL, TRAIN, TEST, candidate)[0]


# ---- the formula


@pytest.mark.parametrize("damping", [0.0, 0.5])
@pytest.mark.parametrize("rows", [2, 7, 200])
def test_it_is_the_standard_error_of_the_rows_influences(rows, damping):
    candidate = data(rows, 4)
    scores = row_influences(candidate, damping)
    value, paper = plaintext(InfluenceError(damping), MODEL, TRAIN, TEST, candidate)
    assert paper == pytest.approx(scores.std(ddof=0) / math.sqrt(rows), rel=1e-7) and value == -paper
    assert of(Influence(damping), candidate) == pytest.approx(scores.mean(), rel=1e-7)


def test_rows_that_are_all_alike_have_no_error():
    alike = CANDIDATE.subset([0] * 50)
    assert of(InfluenceError(), alike) == pytest.approx(0.0, abs=1e-12)
    assert InfluenceError().paper_value(-(2.0**-30), Facts(D, C, 40, 30, 50, L2)) == 0.0  # rounded below zero


@pytest.mark.parametrize("method", ["percentile", "basic"])
def test_it_is_what_an_actual_bootstrap_finds(method):
    """With B resamples the found error is off by 1 / sqrt(2 B) of itself, 0.7%, in one of three; an end of the interval
    by sqrt(0.025 0.975 / B) / 0.058 = 0.03 errors, beside the skewness of 200 rows."""
    scores, error = row_influences(CANDIDATE), -of(InfluenceError(), CANDIDATE)
    found = stats.bootstrap(
        (scores,), np.mean, n_resamples=9_999, method=method, vectorized=True, rng=np.random.default_rng(1)
    )
    assert found.standard_error == pytest.approx(error, rel=0.03)
    value, interval = of(Influence(), CANDIDATE), found.confidence_interval
    for end, sign in ((interval.low, -1), (interval.high, 1)):
        assert end == pytest.approx(value + sign * 1.96 * error, abs=0.2 * error)


def test_it_is_what_influence_of_resampled_data_sets_varies_by():
    """The method itself on 1,500 resampled data sets; their standard deviation is off by 1.8% in one of three."""
    method, facts = Influence(), Facts.of(MODEL, TRAIN, TEST, CANDIDATE)
    owned, x, y = method.prepare(MODEL, TRAIN, TEST), with_bias(CANDIDATE.x), CANDIDATE.one_hot()
    draws = np.random.default_rng(2).integers(CANDIDATE.rows, size=(1_500, CANDIDATE.rows))
    values = [method.value(method.score(owned, x[d], y[d], facts).item(), facts) for d in map(torch.from_numpy, draws)]
    assert np.std(values) == pytest.approx(-of(InfluenceError(), CANDIDATE), rel=0.08)


def test_the_interval_covers_the_influence_of_the_source_that_rows_are_drawn_from():
    """2,000 samples of 300 rows. Half of the interval, and that of twice the rows, are to be found wrong."""
    pool = data(20_000, 5, 0.2)
    source = of(Influence(), pool)
    value, error = Influence(), InfluenceError()
    facts = Facts.of(MODEL, TRAIN, TEST, pool.subset(range(300)))
    owned, x, y = value.prepare(MODEL, TRAIN, TEST), with_bias(pool.x), pool.one_hot()
    off = []
    for draw in map(torch.from_numpy, np.random.default_rng(3).integers(pool.rows, size=(2_000, 300))):
        found, spread = (m.value(m.score(owned, x[draw], y[draw], facts).item(), facts) for m in (value, error))
        off.append(abs(found - source) / -spread)

    def covers(reach: float) -> bool:
        inside = int((np.array(off) <= reach).sum())
        bounds = stats.binomtest(inside, len(off)).proportion_ci(0.999)
        return bounds.low <= 0.95 <= bounds.high

    assert covers(1.96) and not covers(0.98) and not covers(1.96 / math.sqrt(2)) and not covers(1.96 * math.sqrt(2))


@pytest.mark.parametrize("rows", [1, 8, 9, 33, 600, 5_940, 1_000_000])
def test_the_scale_is_a_power_of_two_that_keeps_the_opened_number_near_the_mean_square(rows):
    scale = InfluenceError.scale(Facts(D, C, 0, 0, rows, L2))
    assert math.log2(scale).is_integer()
    assert scale == 1.0 if rows <= 8 else rows / 8 <= scale**2 < rows / 2
    assert rows / scale**2 * 256**2 <= 2.0**19  # a root mean square of 256, with 36 bits below what is refused


# ---- on shares


def cut(x: torch.Tensor, y: torch.Tensor, sizes, put=lambda tensor: tensor) -> RowBlocks:
    return RowBlocks(lambda: iter([(put(a), put(b)) for a, b in zip(x.split(sizes), y.split(sizes), strict=True)]))


@pytest.mark.parametrize("sizes", [[200], [64, 64, 64, 8], [1, 199]])
def test_blocks_of_rows_give_the_same_in_the_clear_and_on_shares(sizes):
    # The last 64 rows are moved up, so that the blocks' means differ by more than rows within a block do.
    shifted = Dataset(CANDIDATE.x + 2.0 * (torch.arange(200) >= 136).double()[:, None], CANDIDATE.y, C)
    method, facts = InfluenceError(), Facts.of(MODEL, TRAIN, TEST, shifted)
    owned, x, y = method.prepare(MODEL, TRAIN, TEST), with_bias(shifted.x), shifted.one_hot()
    whole = method.score(owned, x, y, facts).item()
    assert method.score(owned, cut(x, y, sizes), None, facts).item() == pytest.approx(whole, rel=1e-12)
    bound, bits = float((x @ MODEL.theta).abs().max()) * 2, []

    def shared(engine):
        put = {key: three.private(engine, 0, value, bound) for key, value in owned.items()}
        score = method.score(put, cut(x, y, sizes, lambda part: three.private(engine, 1, part, bound)), None, facts)
        bits.append(score.bits)
        return score.share

    assert three.run(shared).value(bits[0]).item() == pytest.approx(whole, rel=2e-3)


LEARN, JUDGE = Digits().load()
GOOD = LEARN.subset(range(300, 900)).renamed("good")
WRONG = Dataset(GOOD.x, (GOOD.y + 1) % 10, 10, "wrong")
SIDES = {"train": LEARN.subset(range(300)), "test": JUDGE.subset(range(200))}


@pytest.fixture(scope="module")
def spawned() -> Result:
    """By three real processes; with the level of corruption, so that there is something to correlate with."""
    result = appraise([GOOD, WRONG], **SIDES, method=BOTH, l2=L2)
    return Result(replace(r, level=float(r.candidate == "wrong")) for r in result)


def test_the_private_error_is_that_in_plaintext(spawned):
    """Row scores off by e at most move se by at most e / sqrt(n), by the triangle inequality. e: ten probabilities off
    by 2^-15 each times what they multiply, that rounded at 2^-18, and the rounding of the divided deviation."""
    model = fit(SIDES["train"], L2)
    direction = Influence().prepare(model, SIDES["train"], SIDES["test"])["direction"]
    for candidate in (GOOD, WRONG):
        record = spawned["influence_error", candidate.name]
        moved = with_bias(candidate.x.double()) @ direction
        scale = InfluenceError.scale(Facts.of(model, SIDES["train"], SIDES["test"], candidate))
        e = 10 * 2.0**-15 * float(moved.abs().max()) + 2 * 2.0**-18 + scale * 2.0**-18
        assert abs(record.difference) <= e / math.sqrt(candidate.rows) < 0.01 * abs(record.plaintext_value)
        assert record.value < 0


def test_two_numbers_are_opened_and_no_more_and_the_dry_run_knew_the_cost(spawned):
    for record in spawned:
        (opening,) = record.openings
        assert opening["numbers"] == 1 and opening["what"] == METHODS[record.method].opens
        assert record.estimate["rounds"] == record.rounds
        assert all(record.estimate[f"bytes_sent.{party}"] == sent for party, sent in record.bytes_sent.items())


# ---- what is shown


def interval(result: Result, name: str) -> str:
    value, error = (result[method, name].value for method in BOTH)
    return f"{number(value)} ± {number(1.96 * -error, 2)}"


def test_the_interval_stands_in_the_report_on_the_console_and_on_the_card(spawned, tmp_path):
    console = Console(file=io.StringIO(), width=200)
    print_result(spawned, console)
    report = write_report(spawned, tmp_path)[0].read_text()
    cards = [path.read_text() for path in write_cards(spawned, tmp_path) if path.suffix == ".md"]
    for shown in (console.file.getvalue(), report, str(spawned), "".join(cards)):
        assert all(interval(spawned, name) in shown for name in ("good", "wrong"))
    for shown in (report, str(spawned), *cards):  # the console has no room for the sentence
        assert COVERS in " ".join(shown.split())
    for name, card in zip(("good", "wrong"), cards, strict=True):
        assert f"**influence: {interval(spawned, name)}**" in card.replace("\\", "")
        assert "Sampling error of the data itself is not in this" not in card
        assert "**influence_error" not in card.replace("\\", "")  # beside its value, and no answer of its own
    assert "Bars: the 95% interval by the bootstrap" in report


def test_the_error_is_not_ranked_and_a_value_alone_has_no_interval(spawned, tmp_path):
    assert set(ERRORS) <= set(METHODS) and set(ERRORS.values()) <= set(METHODS)
    assert set(spawned.correlations()) == {"influence"} == set(matrix_table(spawned).header[1:]) - {"true utility"}
    assert spawned.correlations()["influence"]["level"]["spearman"] == pytest.approx(-1.0)
    with pytest.raises(InputError, match="^method: got influence_error"):
        spawned.best("influence_error")
    assert spawned.best("influence").candidate == "good"
    alone = {method: spawned.of(method) for method in BOTH}
    assert all(result.margin(record) is None for result in alone.values() for record in result)
    assert spawned.margin(spawned["influence_error", "good"]) is None
    one_row = Result(replace(r, value=-0.0) if r.error else r for r in spawned)
    assert all(one_row.margin(record) is None for record in one_row)
    assert "±" not in write_report(alone["influence"], tmp_path)[0].read_text()
    values, errors = (write_cards(alone[method], tmp_path / method)[0].read_text() for method in BOTH)
    assert "±" not in values and "Sampling error of the data itself is not in this" in values
    assert "it is no value of data" in errors


def test_in_the_clear_the_interval_is_beside_the_plaintext_value():
    result = appraise({"c": CANDIDATE}, train=TRAIN, test=TEST, method=BOTH, session="plain", l2=L2)
    assert interval(result, "c") in str(result)
    scores = row_influences(CANDIDATE)
    assert result.margin(result["influence", "c"]) == pytest.approx(1.96 * scores.std() / math.sqrt(200), rel=1e-7)


# ---- refusals, settings and the pre-flight


@pytest.mark.parametrize(
    ("session", "release"),
    [
        ("plain", Bit()),
        ("spawn", Bit()),
        ("plain", Best(1)),
        ("plain", NoisedRelease(row_norm=5.0)),
        ("plain", NoisedRelease(row_norm=5.0, ceiling=1.0)),
    ],
)
def test_only_its_value_can_be_released(session, release):
    release.fitted([Influence()])
    threshold = 0.0 if release.description.threshold else None
    with pytest.raises(InputError, match="^release: got .* of influence_error; expected release=value: it is the"):
        appraise(CANDIDATE, train=TRAIN, test=TEST, method=BOTH, session=session, release=release, threshold=threshold)


def test_the_damping_is_that_of_the_influence():
    with pytest.raises(InputError, match=r"^appraisal\.influence_error\.damping: got 0\.0; expected 0\.1"):
        as_methods([Influence(0.1), InfluenceError()])
    with pytest.raises(InputError, match=r"^damping"):
        InfluenceError(-1.0)
    with initialize_config_dir(str(CONF), version_base=None):
        both = compose(overrides=["+appraisal=influence_interval", "appraisal.influence.damping=0.1"])
    assert as_methods(instantiate(both.appraisal)) == (Influence(0.1), InfluenceError(0.1))


def test_the_pre_flight_leaves_it_out():
    train, test = data(120, 6), data(60, 7)
    found, _ = glance(train, test, as_methods(BOTH), L2)
    assert [check.method for check in found.checks] == ["influence"] and not found.skipped
    assert glance(train, test, [InfluenceError()], L2) == (None, [])
    with pytest.raises(InputError, match="^methods: got .*influence_error"):
        preflight(train, test, "influence_error")


# ---- between organisations, with ledgers


def test_between_organisations_it_is_asked_charged_and_opened_as_one_number_more(processes):
    train, test, seller = problem(60, seed=1), problem(40, seed=2), problem(120, seed=11)
    own = {
        MODEL_OWNER: [
            f"party.train={write_npz(processes.folder / 'buyer' / 'train.npz', *train)}",
            f"party.test={write_npz(processes.folder / 'buyer' / 'test.npz', *test)}",
            "party.salt=null",
        ],
        DATA_OWNER: [f"party.data={write_csv(processes.folder / 'seller' / 'seller.csv', *seller)}"],
        DEALER: [],
    }
    public = ("session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "appraisal=influence_interval")
    started = [processes.app(role, *public, f"session.role={role}", "party.ledger=null", *own[role]) for role in ROLES]
    ended = [process.wait(120) for process in started]
    assert all(each.code == 0 for each in ended), [each.err[-1500:] for each in ended]
    for ledger in ("buyer/train.npz.ledger", "seller/seller.csv.ledger"):
        lines = map(json.loads, (processes.folder / ledger).read_text().splitlines())
        assert [line["method"] for line in lines if line["kind"] == "charge"] == BOTH
    run = processes.folder / MODEL_OWNER / "run"
    result = Result(read(run / "records.jsonl"))
    assert [(r.method, [o["numbers"] for o in r.openings]) for r in result] == [(method, [1]) for method in BOTH]
    sets = [Dataset.of(*xy, classes=3, name="set") for xy in (train, test, seller)]
    expected, _ = plaintext(InfluenceError(), fit(sets[0], 1e-2), *sets)
    assert result["influence_error", "seller"].value == pytest.approx(expected, rel=1e-3)
    for page in ("report.md", "card-seller.md"):
        (found,) = run.rglob(page)
        assert interval(result, "seller") in found.read_text()
    assert InfluenceError.opens in " ".join((run / "request.md").read_text().split())
