"""Frames and pages of sweeps: what `load` reads, and figures that are computed again by hand from the records."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy import stats

import mpc_appraisal
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.record import Record, append
from mpc_appraisal.reporting.sweep_compare import compared, side_by_side, write_comparison
from mpc_appraisal.reporting.sweep_data import read_sweeps
from mpc_appraisal.reporting.sweep_report import in_short, write_sweep_report

NAMES = ["a", "b", "c", "d", "e", "f"]
OPENING = {"what": "score", "to": ["model_owner", "data_owner"], "numbers": 1, "why": "it is the result"}
SEEDS, LEVELS = (0, 1, 2), {"0.01": 0.01, "0.1": 0.1}


def numbers(*key: object) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16))


def records(method: str, seed: int, l2: float, engine: str = "fast", **settings) -> list[Record]:
    """One method's records of a private run, with a utility that depends on seed and l2, and values that follow it."""
    utility = numbers("utility", seed, l2).normal(size=len(NAMES))
    noise = {"influence": 0.3, "gradient_norm": 1.5}.get(method, 9.0)
    plain = utility + noise * numbers(method, seed, l2).normal(size=len(NAMES))
    values = plain + 1e-3 * numbers(engine, method, seed, l2).normal(size=len(NAMES))
    private = method != "random"
    stated = {"data": "digits", "model.l2": l2, "session.engine": engine, "seed": seed, "data.train_size": 150}
    return [
        Record(
            method,
            name,
            float(values[k] if private else plain[k]),
            plaintext_value=float(plain[k]),
            difference=float(values[k] - plain[k]) if private else None,
            level=k / len(NAMES),
            utility=float(utility[k]),
            seconds={"private": 0.5 + seed} if private else {},
            bytes_sent={"dealer": 1_000_000 * (2 if engine == "stock" else 1)} if private else {},
            rounds=7 if private else 0,
            seed=seed,
            openings=(OPENING,) if private else (),
            session="spawn" if private else "plain",
            engine=engine,
            trust="Semi-honest parties.",
            versions={"mpc_appraisal": "0.1.0"},
            settings=stated | {"appraisal": [method], "scenario.labels": [1, 7]} | settings,
        )
        for k, name in enumerate(NAMES)
    ]


def job(folder: Path, rows: list[Record], *overrides: str, marked: bool = True) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    for record in rows:
        append(folder / "records.jsonl", record)
    if marked:
        digest = hashlib.sha256((folder / "records.jsonl").read_bytes()).hexdigest()
        (folder / "finished.json").write_text(json.dumps({"config": "0" * 16, "records": digest}))
    return folder


def sweep(root: Path, engine: str = "fast", seeds: tuple[int, ...] = SEEDS) -> Path:
    """Two methods, two values of l2, three seeds; each method has jobs of its own beside the same random baseline."""
    number = 0
    for method in ("gradient_norm", "influence"):
        for l2 in LEVELS.values():
            for seed in seeds:
                rows = [*records(method, seed, l2, engine), *records("random", seed, l2, engine)]
                job(root / str(number), rows, f"appraisal={method}", f"model.l2={l2}", f"seed={seed}")
                number += 1
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    found = sweep(tmp_path_factory.mktemp("sweeps") / "one")
    job(found / "12", records("influence", 3, 0.01), marked=False)
    (found / "13" / ".hydra").mkdir(parents=True)
    (found / "13" / ".hydra" / "overrides.yaml").write_text('["model.l2=-1", "party.data=/home/somebody/a.npz"]')
    (found / "13" / "failure.json").write_text('{"error": "model.l2: got -1; expected 0 or more"}')
    (found / "14" / ".hydra").mkdir(parents=True)
    (found / "14" / ".hydra" / "overrides.yaml").write_text("[]")
    whole = job(found / "15", records("influence", 4, 0.01)) / "records.jsonl"
    whole.write_bytes(whole.read_bytes()[:-20])
    (found / "16").mkdir()
    (found / "16" / "records.jsonl").write_text('{"kind": "marketplace"}\n')
    return found


def spearman(rows: list[Record], key: str = "value") -> float:
    """Spearman's correlation with utility as Pearson's of the ranks."""
    a, b = (stats.rankdata([getattr(r, each) for r in rows]) for each in (key, "utility"))
    return float(np.corrcoef(a, b)[0, 1])


# ---- load


def test_load_has_a_row_for_each_result_and_its_settings(root):
    frame = mpc_appraisal.load(root)
    assert len(frame) == 12 * 2 * len(NAMES) + len(NAMES)
    expected = records("influence", 1, 0.1)[2]
    row = frame[(frame.method == "influence") & (frame.seed == 1) & (frame["settings.model.l2"] == 0.1)].iloc[2]
    assert (row["value"], row["candidate"], row["utility"]) == (expected.value, "c", expected.utility)
    assert (row["sweep"], row["folder"], row["finished"]) == (str(root), "10", True)
    assert row["bytes_sent.dealer"] == 1_000_000 and row["total_seconds"] == 1.5 and row["openings"] == 1
    assert (row["settings.scenario.labels"], row["settings.appraisal"]) == ("1,7", "influence")
    assert list(frame[~frame["finished"]]["folder"].unique()) == ["12"]
    assert frame["settings.model.l2"].dtype == float and list(dict.fromkeys(frame["folder"]))[2:4] == ["2", "3"]


def test_load_lists_what_has_no_records_and_no_place_of_it(root):
    left = {each["folder"]: each for each in mpc_appraisal.load(root).attrs["left_out"]}
    assert {name: each["state"] for name, each in left.items()} == {
        "13": "failed", "14": "no records", "15": "damaged records", "16": "no appraisal",
    }  # fmt: skip
    assert left["13"]["reason"] == "model.l2: got -1; expected 0 or more" and left["13"]["overrides"] == ["model.l2=-1"]
    assert "a whole line" in left["15"]["reason"]


def test_load_says_that_no_run_has_records(root):
    with pytest.warns(UserWarning, match=r"no run has readable records \(1 failed\), so the frame is empty"):
        frame = mpc_appraisal.load(root / "13")
    assert not len(frame) and frame.attrs["left_out"][0]["reason"] == "model.l2: got -1; expected 0 or more"


def test_records_of_before_have_the_settings_of_their_command_line(tmp_path):
    line = json.loads(records("influence", 5, 0.1)[0].to_json())
    del line["settings"]
    job(tmp_path / "old", [Record.of(line)], "model.l2=0.1", "data=wine", "hydra.sweep.dir=x", "resume=true")
    row = mpc_appraisal.load(tmp_path).iloc[0]
    settings = {key: row[key] for key in row.index if key.startswith("settings.")}
    assert settings == {"settings.model.l2": 0.1, "settings.data": "wine"} and row["seed"] == 5


def test_several_folders_and_bad_ones(root, tmp_path):
    other = sweep(tmp_path / "two", seeds=(7,))
    frame = mpc_appraisal.load(root, str(other))
    assert set(frame["sweep"]) == {str(root), str(other)} and len(frame) == 150 + 4 * 2 * len(NAMES)
    for folders, words in (
        ((), "one or more folders"),
        ((root, root / "."), "each folder once"),
        ((tmp_path / "none",), "a folder of runs"),
        ((root / "0" / ".hydra",), "records.jsonl"),
        ((root, root / "0" / ".hydra"), r"\.hydra; expected a folder with records.jsonl"),
    ):
        with pytest.raises(InputError, match=words):
            mpc_appraisal.load(*folders)


# ---- the figures of a sweep, by hand


@pytest.fixture(scope="module")
def data(root):
    return read_sweeps([root])


def test_mean_and_deviation_over_seeds(data):
    assert data.names == ["model.l2"] and data.methods == ["influence", "gradient_norm"]
    for text, l2 in LEVELS.items():
        for method in ("influence", "gradient_norm"):
            seeds = (*SEEDS, 3) if (method, l2) == ("influence", 0.01) else SEEDS
            found = [spearman(records(method, seed, l2)) for seed in seeds]
            table = data.summary
            row = table[(table["model.l2"] == text) & (table["method"] == method)].iloc[0]
            assert row["agreement_mean"] == pytest.approx(np.mean(found), abs=1e-12)
            assert row["agreement_sd"] == pytest.approx(np.std(found, ddof=1), abs=1e-12)
            assert row["seeds"] == len(seeds)
            assert row["seconds_mean"] == pytest.approx(len(NAMES) * np.mean([0.5 + seed for seed in seeds]))
            assert row["megabytes_mean"] == len(NAMES) and row["rounds_mean"] == 7 * len(NAMES)
    assert data.per_run.attrs["repeated"] == 0


def test_random_is_a_band_of_many_draws_in_the_table_of_agreement_alone(data, page, root):
    draws, generator = 20_000, np.random.default_rng(1)
    for text, seeds in (("0.01", (*SEEDS, 3)), ("0.1", SEEDS)):
        # Spearman's correlation of two orders of n without ties is 1 - 6 sum d^2 / (n (n^2 - 1)).
        n, orders = len(NAMES), generator.permuted(np.tile(np.arange(len(NAMES)), (draws, len(seeds), 1)), axis=2)
        found = (1 - 6 * ((orders - np.arange(n)) ** 2).sum(2) / (n * (n * n - 1))).mean(1)
        rows = data.summary[data.summary["model.l2"] == text]
        assert len(rows) == 2 and rows[["random_low", "random_high"]].drop_duplicates().shape[0] == 1
        for end, share in (("random_low", 0.025), ("random_high", 0.975)):
            # At most this share of other draws lies beyond the end, within seven standard errors of 1,000 draws.
            beyond = np.mean(found <= rows[end].iloc[0])
            off = 7 * np.sqrt(0.025 * 0.975 / 1000) + np.mean(np.abs(found - rows[end].iloc[0]) < 1e-9)
            assert abs(beyond - share) < off < 0.1
    assert "random" in set(data.results["method"]) and "random" not in set(data.per_run["kind"])
    assert "random" not in {*data.paired["method"], *data.paired["compared_with"], *data.levels["method"]}
    text, html = ((page / f"report.{form}").read_text() for form in ("md", "html"))
    assert text.count("random, 95%") == 1 and text.lower().count("random") == 2  # the header, and the note
    assert "random, 95%" in html and ">random<" not in html


def test_random_records_alone_make_a_page(tmp_path):
    job(tmp_path / "0", records("random", 0, 0.1))
    write_sweep_report([tmp_path], tmp_path)
    assert "1 run" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("against", ["gradient_norm", "the same in plaintext"])
def test_paired_differences_are_those_of_scipys_paired_t(data, against):
    for text, l2 in LEVELS.items():
        # The run of seed 3 has no partner among the other methods' runs, but it has its own plaintext values.
        seeds = (*SEEDS, 3) if against == "the same in plaintext" and l2 == 0.01 else SEEDS
        own = [records("influence", seed, l2) for seed in seeds]
        left = [spearman(rows) for rows in own]
        if against == "the same in plaintext":
            right = [spearman(rows, "plaintext_value") for rows in own]
        else:
            right = [spearman(records(against, seed, l2)) for seed in seeds]
        table = data.paired
        row = table[
            (table["model.l2"] == text) & (table["method"] == "influence") & (table["compared_with"] == against)
        ]
        assert len(row) == 1 and row.iloc[0]["pairs"] == len(seeds)
        assert row.iloc[0]["difference"] == pytest.approx(np.mean(left) - np.mean(right), abs=1e-12)
        if np.ptp(np.subtract(left, right)) > 0:
            ends = stats.ttest_rel(left, right).confidence_interval(0.95)
            assert tuple(row.iloc[0][["low", "high"]]) == pytest.approx(tuple(ends), abs=1e-9)


def test_values_by_level(data):
    row = data.levels[(data.levels["method"] == "influence") & (data.levels["model.l2"] == "0.1")].iloc[4]
    values = [records("influence", seed, 0.1)[4].value for seed in SEEDS]
    assert row["level"] == pytest.approx(4 / 6) and row["seeds"] == 3
    assert (row["value_mean"], row["value_sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_without_a_utility_the_level_is_the_truth_and_own_settings_name_the_method(tmp_path):
    for seed in SEEDS:
        for damping in (0.0, 0.5):
            rows = records("influence", seed, 0.1, **{"appraisal.influence.damping": damping})
            lines = [json.loads(r.to_json()) | {"utility": None} for r in rows]
            job(tmp_path / f"{seed}-{damping}", [Record.of(line) for line in lines])
    found = read_sweeps([tmp_path])
    assert found.names == [] and set(found.methods) == {"influence damping=0", "influence damping=0.5"}
    expected = [-stats.spearmanr([r.value for r in records("influence", s, 0.1)], range(6)).statistic for s in SEEDS]
    row = found.summary[found.summary["method"] == "influence damping=0.5"].iloc[0]
    assert row["truth"] == "level" and row["agreement_mean"] == pytest.approx(np.mean(expected), abs=1e-12)


# ---- pages and files


@pytest.fixture(scope="module")
def page(root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report"
    write_sweep_report([root], out)
    return out


def test_the_page_shows_the_figures_and_every_run(page, data):
    for form in ("html", "md"):
        text = (page / f"report.{form}").read_text()
        means = data.summary.set_index(["model.l2", "method"])["agreement_mean"]
        assert all(f"{means[key]:.2f}" in text for key in means.dropna().index)
        for words in ("In short", "Paired comparisons", "What was opened", "it is the result", "Semi-honest parties."):
            assert words in text
        assert "model.l2: got -1; expected 0 or more" in text and "/home/somebody" not in text
    html = (page / "report.html").read_text()
    assert html.count("data:image/svg+xml;base64,") == 2 and not re.search(r'(src|href)="(https?:)?//', html)
    assert html.count("<tr><td", html.index('<h2 id="runs">')) == 17
    assert (page / "agreement.png").stat().st_size > 1000 and (page / "levels.svg").exists()


def test_in_short_is_three_to_five_sentences_with_figures(data):
    said = in_short(data)
    assert 3 <= len(said) <= 5 and all(re.search(r"\d", sentence) for sentence in said)
    assert (
        said[0] == "13 runs, 2 methods, 2 conditions and 4 seeds. Without results: 4 of 17 runs, failed or unfinished."
    )
    runs = [(*SEEDS, 3), SEEDS]
    found = [spearman(records("influence", s, l2)) for l2, of in zip(LEVELS.values(), runs, strict=True) for s in of]
    mean = f"{np.mean(found):.2f} ± {np.std(found, ddof=1):.2f}"
    assert said[1] == f"influence has the highest mean agreement with the truth: {mean} over 7 runs."
    left, right = ([spearman(records(m, s, l2)) for l2 in LEVELS.values() for s in SEEDS]
                   for m in ("influence", "gradient_norm"))  # fmt: skip
    low, high = stats.ttest_rel(left, right).confidence_interval(0.95)
    assert f"{np.mean(left) - np.mean(right):.2f} (95% interval {low:.2f} to {high:.2f}; 6 pairs" in said[2]
    assert said[2].endswith("which may be chance.") == (low <= 0)


def test_files_hold_the_same_tables(page, data):
    tables = page / "tables"
    for name in ("results", "runs", "summary", "paired", "openings", "folders"):
        csv, parquet = pandas.read_csv(tables / f"{name}.csv"), pandas.read_parquet(tables / f"{name}.parquet")
        assert list(csv.columns) == list(parquet.columns) and len(csv) == len(parquet) > 0
    paired = pandas.read_parquet(tables / "paired.parquet")
    assert paired["difference"].tolist() == data.paired["difference"].tolist()
    latex = (tables / "paired.tex").read_text()
    assert "gradient\\_norm" in latex and f"{data.paired['difference'].iloc[0]:.4g}" in latex
    results = pandas.read_parquet(tables / "results.parquet")
    assert results["settings.model.l2"].tolist() == mpc_appraisal.load(data.runs[0].sweep)["settings.model.l2"].tolist()


def test_a_sweep_without_results_has_a_page_that_says_so(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "failure.json").write_text('{"error": "no file at /home/somebody/a.npz"}')
    write_sweep_report([tmp_path], tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "No run has records" in text and "/home/somebody" not in text and "names a place" in text


# ---- two sweeps


def test_two_sweeps_side_by_side(root, tmp_path):
    other = sweep(tmp_path / "stock", "stock", seeds=(1, 2))
    pair, differing = compared(root, other)
    assert ("session.engine", "fast", "stock") in differing.rows
    rows = side_by_side(*pair)
    assert len(rows) == 4
    for l2 in LEVELS.values():
        row = rows[(rows["model.l2"] == f"{l2:g}") & (rows["method"] == "influence")].iloc[0]
        seeds = (*SEEDS, 3) if l2 == 0.01 else SEEDS
        a = np.mean([spearman(records("influence", seed, l2)) for seed in seeds])
        b = np.mean([spearman(records("influence", seed, l2, "stock")) for seed in (1, 2)])
        assert row["agreement_difference"] == pytest.approx(b - a, abs=1e-12) and row["megabytes_ratio"] == 2
        assert row["seconds_ratio"] == pytest.approx(2.0 / (0.5 + np.mean(seeds)))
        both = [(records("influence", s, l2), records("influence", s, l2, "stock")) for s in (1, 2)]
        largest = max(abs(x.value - y.value) for one, two in both for x, y in zip(one, two, strict=True))
        assert row["value_difference"] == pytest.approx(largest, rel=1e-9) and not math.isnan(largest)


def test_the_comparison_is_a_page_with_its_table(root, tmp_path):
    other = sweep(tmp_path / "stock", "stock", seeds=(1,))
    paths, page = write_comparison(root, other, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert paths[0].name == "report.html" and "| session.engine | fast | stock |" in text
    assert len(page.short) == 5 and page.short[1].startswith("4 of 4 rows") and page.short[0] in text.replace("\\", "")
    assert len(pandas.read_csv(tmp_path / "out" / "tables" / "comparison.csv")) == 4
