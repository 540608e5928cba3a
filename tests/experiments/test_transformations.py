"""The report on random transformations: appraisals by every engine, what is taken from other records, its picture, and
what it says of missing and damaged records. Rows of other parts are made here; attacks are real."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.harness.jobs import Job, run_all
from experiments.harness.plots import blank
from experiments.harness.records import write_rows
from experiments.harness.run import main
from experiments.harness.size import Size, source_of
from experiments.studies.appraisal import sweeps
from experiments.studies.transformations import cheating, picture, protocols
from experiments.studies.transformations import generators as twisters
from experiments.studies.transformations import study as report
from experiments.studies.transformations.attacks import measure as measure_attacks
from experiments.studies.transformations.protocols import Attack, Cost, Protocol
from experiments.studies.transformations.study import STUDY
from mpc_appraisal.common.errors import AppraisalError, InputError

COMMITTED = Path(__file__).resolve().parents[2] / "results" / "transformations"
FILE = "transformations.jsonl"
SMALL = Size("transformations", True, 1)
ENGINES = {"fast": 1e-3, "stock": 0.05, "rtas": 1e-3}  # off by so much: CrypTen's softmax is an iteration
ABOUT = {"part": "about", "size": "small", "sizes": {}, "missing": [], "machine": "m", "versions": {}, "revision": "r",
         "command": "c"}  # fmt: skip

CHEAT = {"part": "cheat", "protocol": "fast", "checked": False, "rows": 300, "truth": 0.5, "gained": 55.25,
         "refusal": None, "revision": "abc"}  # fmt: skip


# -- rows of other parts -------------------------------------------------------------------------------------------
def attack(protocol: str, name: str, recovered: float, chance: float) -> dict:
    return {"part": "attack", "protocol": protocol, "attack": name, "setting": "somewhere", "recovered": recovered,
            "chance": chance, "meaning": "share of something", "stops": "elsewhere"}  # fmt: skip


def cost(model: str, system: str, seconds: list[float], sent: dict[str, int]) -> dict:
    return {"part": "table", "kind": "cost", "model": model, "operation": "train", "system": system, "batch": 32,
            "seconds": seconds, "bytes": sent, "rounds": 7}  # fmt: skip


def trained(data: str, k: int | None, seconds: float) -> dict:
    return {"part": "instahide-training", "data": data, "k": k, "images": 100, "steps": 40, "seconds": seconds,
            "mixing": k and "cross", "clear": 0.9, "hidden": k and 0.8, "encrypting": 0.1, "epochs": 2}  # fmt: skip


def grouped(seed: int, identified: float, chance: float, epochs: int = 50) -> dict:
    return {"part": "instahide-grouping", "data": "digits", "images": 20, "epochs": epochs, "k": 4, "seed": seed,
            "identified": identified, "chance_identified": chance, "correlation": 0.5, "chance_correlation": 0.1,
            "decoys": 10, "seconds": 1.0}  # fmt: skip


def ranked(first: float) -> dict:
    return {"part": "instahide-ranking", "data": "digits", "k": 4, "encodings": 1, "encoding": "inference",
            "candidates": 100, "first": first, "ten": 0.9}  # fmt: skip


TABLE = [
    cost("CNN", "in the clear", [0.01, 0.02, 0.03], {}),
    cost("CNN", "RTAS-fast", [0.5, 0.1, 0.2], {"model_owner": 1_500_000, "data_owner": 500_000}),
    cost("logistic regression", "in the clear", [0.001], {}),
    cost("logistic regression", "RTAS, float shares", [0.03], {"data_owner": 250_000}),
]
HIDE = [
    trained("digits", None, 1.0), trained("digits", 4, 1.5), trained("mnist", None, 8.0), trained("mnist", 4, 10.0),
    trained("mnist", 6, 30.0), grouped(0, 0.8, 0.1), grouped(1, 0.6, 0.3), grouped(0, 0.2, 0.1, epochs=1), ranked(0.1),
    {"part": "instahide-seed", "data": "digits", "found": True, "tried": 10, "rate": 1.0, "rate_cpu": 1.0,
     "all_seconds": 60.0, "all_cpu": 60.0, "error": None},
]  # fmt: skip
MARKET = [
    {"part": "about"},
    {"part": "cost", "network": "cnn6", "operation": "feed forward", "system": "ife_transform, LWE", "images": 1,
     "seconds": [0.1], "bytes": None},
    {"part": "cost", "network": "cnn6", "operation": "feed forward", "system": "ife_transform, LWE", "images": 4,
     "seconds": [0.4, 0.5], "bytes": 3_000_000},
    {"part": "leak", "kind": "pixels", "strategy": "ife_transform", "setting": "dense 100", "whole": 0.5},
    {"part": "leak", "kind": "pixels", "strategy": "ife_transform", "setting": "dense 400", "whole": 0.9},
    {"part": "leak", "kind": "labels", "strategy": "ife_transform"},
    {"part": "leak", "kind": "pixels", "strategy": "ife_shares", "setting": "outputs are shares", "whole": 0.0},
]  # fmt: skip


@pytest.fixture(scope="module")
def turn():
    """Appraise one candidate by every engine through the installed app: rows, and the app's records by engine."""
    kept, appraised = {}, protocols.run_engines

    def listen(*arguments):
        kept.update(appraised(*arguments))
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "run_engines", listen)
        return protocols.appraisals(SMALL.settings("protocol"), 0), kept


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    path = tmp_path_factory.mktemp("market") / "marketplace.jsonl"
    write_rows(path, MARKET)
    return protocols.market(0, path)


@pytest.fixture(scope="module")
def generators():
    return twisters.measure()


@pytest.fixture(scope="module")
def attacks():
    return measure_attacks(SMALL.settings("attacks"))


def by_key(rows: list[dict]) -> dict[str, Protocol]:
    return {p.key: p for p in protocols.protocols(rows)}


# -- measured here -------------------------------------------------------------------------------------------------
def test_every_engine_appraises_one_candidate_and_agrees_with_plaintext(turn):
    rows, kept = turn
    assert sorted((r["protocol"], r["method"]) for r in rows) == sorted(
        (protocol, method) for protocol in ("plain", *ENGINES) for method in ("influence", "gradient_norm")
    )
    assert {r["n"] for r in rows} == {SMALL.settings("protocol").rows} and all(r["seconds"] > 0 for r in rows)
    for engine in ENGINES:
        records = kept[engine]
        assert {r.engine for r in records} == {engine}
        for record in records:
            assert record.value == pytest.approx(record.plaintext_value, rel=ENGINES[engine])
            (row,) = (r for r in rows if (r["protocol"], r["method"]) == (engine, record.method))
            assert row["mb"] == pytest.approx(sum(record.bytes_sent.values()) / 1e6)


def test_the_helper_saves_rounds_and_traffic_of_the_engine_and_the_engine_of_stock(turn):
    every = by_key(turn[0])
    assert 0 < every["rtas"].cost.rounds < every["fast"].cost.rounds < every["stock"].cost.rounds
    assert 0 < every["rtas"].cost.mb < every["fast"].cost.mb < every["stock"].cost.mb
    assert every["plain"].cost.ratio == 1 and every["plain"].cost.rounds == 0


def test_the_clear_gives_the_formula_of_the_app(turn):
    """Of the same market: the app's own plaintext value, by this file's way to the candidate."""
    from mpc_appraisal.data.scenarios import LabelNoise
    from mpc_appraisal.methods import Influence
    from mpc_appraisal.methods.base import plaintext
    from mpc_appraisal.models.training import fit

    size = SMALL.settings("protocol")
    scenario = LabelNoise(candidates=1, train_size=size.own, size=size.rows, test_size=size.tested)
    market = scenario.build(*source_of(size.data).load(), 0)
    value, _ = plaintext(Influence(), fit(market.train, size.l2), market.train, market.test, market.candidates[0].data)
    assert value == pytest.approx(next(r.plaintext_value for r in turn[1]["fast"] if r.method == "influence"), rel=1e-6)


def test_an_app_that_fails_is_named_with_its_words(tmp_path, monkeypatch):
    failing = tmp_path / "app"
    failing.write_text("#!/bin/sh\necho first >&2\necho 'no such data' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sweeps, "APP", failing)
    with pytest.raises(AppraisalError, match="turn 3: no such data"):
        protocols.appraisals(SMALL.settings("protocol"), 3)


# -- taken from other records --------------------------------------------------------------------------------------
def test_costs_of_other_parts_are_of_the_same_operation_in_the_clear():
    every = by_key(TABLE + HIDE)
    assert every["rtas-fast"].cost == Cost("CNN, one training batch of 32", 0.2, 0.02, 2.0, 7)
    assert every["rtas, float shares"].cost.ratio == pytest.approx(30)
    assert every["instahide"].cost.ratio == pytest.approx(1.25) and "mnist" in every["instahide"].cost.operation
    assert every["fast"].cost is None and every["ife_shares"].cost is None and every["rtas"].attack is None


def test_of_the_marketplace_the_largest_batch_and_the_most_that_was_recovered(market, tmp_path):
    (row,) = market  # ife_shares has no cost there
    assert row["protocol"] == "ife_transform" and row["seconds"] == [0.4, 0.5] and row["mb"] == 3.0
    assert (row["recovered"], row["setting"]) == (0.9, "dense 400") and min(row["plain"]) > 0
    assert by_key(market)["ife_transform"].cost.seconds == pytest.approx(0.45)
    assert protocols.market(0, tmp_path / "none.jsonl") == []


def test_the_best_attack_is_within_the_assumptions_and_above_chance():
    rows = [attack("rtas", "collusion", 1.0, 0.0), attack("rtas", "mix", 0.9, 0.8), attack("rtas", "member", 0.8, 0.5)]
    best = by_key(rows)["rtas"].attack
    assert best.name == "member" and best.above == pytest.approx(0.6)
    assert Attack("a", "", 0.3, 0.4, "").above == 0 and Attack("a", "", 1.0, 1.0, "").above == 0
    assert by_key(rows)["plain"].attack.above == 1 and by_key(rows)["fast"].attack is None


def test_crypten_as_shipped_gives_the_model_away_and_the_engine_does_not(generators):
    every = by_key(generators)
    assert every["stock"].attack.recovered == 1.0 and every["fast"].attack.recovered == 0.0


def test_instahide_is_judged_by_means_over_seeds_and_not_by_a_planted_seed():
    best = by_key(HIDE)["instahide"].attack
    assert (best.name, best.recovered, best.chance) == ("grouping", pytest.approx(0.7), pytest.approx(0.2))
    assert by_key([*HIDE, ranked(0.95)])["instahide"].attack.name == "ranking"


def test_real_attacks_have_a_best_one_for_each_protocol(attacks):
    every = by_key(attacks)
    for key in ("rtas", "rtas-fast", "rtas, float shares"):
        assert every[key].attack.above > 0.5 and every[key].attack.name != "collusion"


# -- the picture ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(4))
def test_labels_cover_neither_each_other_nor_points(seed):
    """As many points as protocols, in the same corner of the picture."""
    generator = np.random.default_rng(seed)
    shown = [
        Protocol(key, Cost("o", 10 ** generator.uniform(0, 1.5), 1.0), Attack("an attack", "", high, 0.0, "m"))
        for key, high in zip(protocols.NAMES, generator.uniform(0.85, 1, len(protocols.NAMES)), strict=True)
    ]
    figure = blank(10, 5.6)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0.09, 0.12, 0.88, 0.83))
    axis.set(xscale="log", xlim=(0.1, 1e4), ylim=(-0.3, 1.45))
    renderer = figure.canvas.get_renderer()
    boxes = [picture.text_box(label, renderer) for label in picture.place_labels(axis, shown)]
    points = [axis.transData.transform((p.cost.ratio, p.attack.above)) for p in shown]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert not any(box.contains(*point) for point in points)


def test_the_picture_has_a_point_for_each_protocol_that_is_measured(turn, market, generators, attacks):
    rows = [*turn[0], *market, *generators, *attacks, *TABLE, *HIDE]
    page, figures = report.page_and_figures(ABOUT, rows)
    texts = [text.get_text().split("\n")[0] for text in figures["transformations-protocols"].axes[0].texts]
    assert sorted(texts) == sorted(name for key, name in protocols.NAMES.items() if key != "ife_shares")
    name, caption = page.figures[0]
    assert name == "transformations-protocols" and "different quantities" in caption
    assert caption.endswith("Not measured: ife_shares.") and picture.drawing(protocols.protocols([])) is None


# -- the page ------------------------------------------------------------------------------------------------------
def test_the_page_shows_all_parts_and_names_what_is_missing(turn, market, generators, attacks, tmp_path):
    write_rows(tmp_path / FILE, [ABOUT, *turn[0], *market, *generators, *attacks, *TABLE, *HIDE, CHEAT])
    (shown,) = STUDY.render(tmp_path)
    text = (tmp_path / "transformations.md").read_text()
    first = text.split("\n## ")[1]
    assert "For private data: the engine" in first and "Not measured: of ife_shares its cost and attack." in first
    titles = [table.title for table in shown.main + shown.details]
    assert titles[:3] == ["In short", "What each protocol hides, costs and leaks",
                          "One candidate of 200 rows and 64 features"]  # fmt: skip
    assert titles[3].startswith("What a data owner gains")
    assert titles[4].startswith("Table 1") and titles[7].startswith("Table 4")
    assert "Attacks on RTAS" in titles and "InstaHide: search of a weak generator's seeds" in titles
    assert len(shown.figures) == 6 and shown.figures[0][0] == "transformations-protocols"
    for name, _ in shown.figures:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text() and f"{name}.png" in text


def test_a_shifted_value_is_opened_without_the_check_and_not_with_it():
    helper, refused = (cheating.shift("rtas", checked) for checked in (False, True))
    assert abs(helper["gained"] - helper["truth"]) > 1 and helper["refusal"] is None
    assert refused["gained"] is None and "session.engine=rtas" in refused["refusal"]
    checked = cheating.shift("fast", True)
    assert checked["gained"] is None and "data_owner" in checked["refusal"] and abs(checked["truth"]) < 10


def test_the_page_names_each_engine_with_what_its_owner_gains(tmp_path):
    refused = CHEAT | {
        "protocol": "rtas",
        "checked": True,
        "truth": None,
        "gained": None,
        "refusal": "no; expected off",
    }
    write_rows(tmp_path / FILE, [ABOUT, CHEAT, refused])
    STUDY.render(tmp_path)
    text = (tmp_path / "transformations.md").read_text()
    assert "| the engine (fast) | off | 0.500 | 55.2 | none |" in text and "| RTAS | on | – | none | no |" in text
    assert "revision abc" in text


def test_a_page_of_nothing_is_a_page_that_says_so():
    shown, figures = report.page_and_figures(ABOUT | {"missing": ["table"]}, [])
    said = "\n".join(shown.main[0].notes)
    for absent in ("cost of an appraisal", "tables 1 to 4", "attacks on RTAS", "InstaHide: training", "jobs table"):
        assert absent in said
    assert shown.figures == [] and figures == {} and [table.title for table in shown.details] == ["Run"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no JSON", "line 2"),
        ('{"part": "other"}', "line 2"),
        ("[1]", "line 2"),
        ('{"part": "attack", "protocol": "rtas"}', "no attack, chance"),
    ],
)
def test_damaged_records_are_named_by_line(tmp_path, line, words):
    (tmp_path / FILE).write_text(json.dumps(ABOUT) + "\n" + line + "\n")
    with pytest.raises(InputError, match=words):
        STUDY.render(tmp_path)


def test_records_without_a_first_line_or_a_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        STUDY.render(tmp_path)
    write_rows(tmp_path / FILE, TABLE)
    with pytest.raises(InputError, match="line 1"):
        STUDY.render(tmp_path)


def test_the_committed_report_is_of_its_records(tmp_path):
    (tmp_path / FILE).write_bytes((COMMITTED / FILE).read_bytes())
    STUDY.render(tmp_path)
    assert (tmp_path / "transformations.md").read_text() == (COMMITTED / "transformations.md").read_text()


# -- jobs and the command ------------------------------------------------------------------------------------------
def test_a_finished_job_is_not_repeated_unless_it_is_of_other_sizes(tmp_path):
    calls = []

    def run(number: int) -> list[dict]:
        calls.append(number)
        return [{"number": number}]

    for number in (1, 1, 2):
        job = Job("one", run, (number,))
        run_all([job], tmp_path, None)
        assert job.rows(tmp_path) == [{"number": number}]
    assert calls == [1, 2] and Job("one", run, (1,)).rows(tmp_path) is None
    run_all([Job("late", run, (3,))], tmp_path, time.monotonic() - 1)
    assert calls == [1, 2] and not list(tmp_path.glob("late*"))


def test_the_command_keeps_what_there_is_and_names_the_rest(turn, tmp_path, capsys):
    kept = Job("protocol-turn0", lambda size, number: turn[0], (SMALL.settings("protocol"), 0))
    kept.keep(tmp_path / "work")
    out = tmp_path / "out"
    arguments = ["--small", "--out", str(out), "--work", str(tmp_path / "work"), "--minutes", "0"]
    main([STUDY], ["transformations", *arguments])
    about, *rows = [json.loads(line) for line in (out / FILE).read_text().splitlines()]
    missing = {"protocol-generators", "protocol-market", "attack", "table-cost", "table-training", "table-rivals"}
    missing |= {"cheat"} | {f"instahide-{part}" for part in ("attacks", "challenge", "seed", "training")}
    assert rows == turn[0] and set(about["missing"]) == missing
    assert about["command"] == "OMP_NUM_THREADS=1 python -m experiments transformations --small"
    assert str(tmp_path) not in (out / FILE).read_text() and "Not measured" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code"), [(["--seeds", "0"], 2), (["--render-only"], 1)])
def test_the_command_refuses(arguments, code, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main([STUDY], ["transformations", "--out", str(tmp_path), *arguments])
    assert stopped.value.code == code
