"""The marketplace through the app: every protocol selects as plaintext does, and the report says what leaks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from processes import run_app

from mpc_appraisal.cli.config import CONF, instantiate
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.record import MarketRecord
from mpc_appraisal.marketplace.report import write_market
from mpc_appraisal.marketplace.roles import SPOKEN
from mpc_appraisal.marketplace.simulation import Sellers, by_seller, errors

SMALL = ["market.sellers=3", "market.own_rows=100", "market.rows=60", "market.budget=8", "market.validation_rows=20",
         "market.validation.granularity=4", "market.validation.steps=4", "market.epochs=15"]  # fmt: skip
MARKETS = sorted(path.stem for path in (CONF / "protocol").glob("ife_*.yaml"))
TRAIN, TEST = Digits().load()


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess:
    return run_app(*overrides, f"hydra.run.dir={folder}", folder=folder.with_name(f"{folder.name}-process"))


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> dict[tuple[str, str], tuple[MarketRecord, subprocess.CompletedProcess, Path]]:
    """Records by protocol and session, each of a run of the app."""
    found = {}
    for protocol in MARKETS:
        for session in ("plain", "spawn"):
            folder = tmp_path_factory.mktemp("market") / f"{protocol}-{session}"
            ended = run(folder, f"protocol={protocol}", f"session={session}", *SMALL)
            assert ended.returncode == 0, ended.stderr
            found[protocol, session] = MarketRecord.read(folder / "records.jsonl"), ended, folder
    return found


def test_there_are_two_protocols_of_the_marketplace():
    assert MARKETS == ["ife_shares", "ife_transform"]


@pytest.mark.parametrize("protocol", MARKETS)
def test_a_protocol_selects_and_judges_as_plaintext_does(protocol, done):
    plain, private = done[protocol, "plain"][0], done[protocol, "spawn"][0]
    assert private["selected"] == plain["selected"] and len(plain["selected"]) == 8
    assert [v["accepted"] for v in private["verdicts"]] == [v["accepted"] for v in plain["verdicts"]]
    assert len(private["verdicts"]) == 2 and all(v["of"] == 20 for v in private["verdicts"])
    assert private["errors"] == plain["errors"]


def test_both_protocols_select_alike(done):
    first, second = (done[protocol, "plain"][0]["selected"] for protocol in MARKETS)
    assert first == second


@pytest.mark.parametrize("protocol", MARKETS)
def test_every_output_says_what_leaks_and_what_it_cost(protocol, done):
    record, ended, folder = done[protocol, "spawn"]
    texts = [ended.stdout, (folder / "report.md").read_text(), (folder / "report.html").read_text()]
    for text in texts:
        words = " ".join(text.split())
        assert record["label"].split(",")[0] in words and ("What leaks" in words or "Leaks " in words)
        assert "Trust" in words or "and trust" in words
    lines = ended.stdout.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 80 and lines[-1].startswith("Report: ")
    assert " ".join(record["leakage"][0].split())[:60] in " ".join(ended.stdout.split())
    for sentence in record["leakage"]:
        assert " ".join(sentence.split()) in " ".join(texts[1].split())
    assert {"predict", "retrain"} <= set(record["costs"])
    assert all(c["seconds"] >= 0 for roles in record["costs"].values() for c in roles.values())
    sent = sum(c["bytes"] for roles in record["costs"].values() for c in roles.values())
    assert sent > 60 * 64 * 8  # more than the ciphertexts of the rows on offer
    assert record["openings"] and {to for o in record["openings"] for to in o["to"]} <= {*SPOKEN}


def test_the_obfuscation_is_called_one(done):
    assert "obfuscation" in done["ife_transform", "spawn"][0]["label"]
    assert "obfuscation" not in done["ife_shares", "spawn"][0]["label"]
    logits = "first-layer products of all records"
    assert any(o["what"] == logits for o in done["ife_transform", "spawn"][0]["openings"])
    assert not any(o["what"] == logits for o in done["ife_shares", "spawn"][0]["openings"])


def test_a_finished_job_is_not_run_again(done):
    folder = done["ife_transform", "plain"][2]
    again = run(folder, "protocol=ife_transform", "session=plain", *SMALL, "resume=true")
    assert again.returncode == 0 and "finished before" in again.stdout


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["market.budget=61"], "market.budget"),
        (["market.network=lenet"], "market.network"),
        (["market.key_cap=0.1"], "whose first layer has 36 independent rows; expected at most 6, the cap"),
        (["market.sellers=0"], "market.sellers"),
        (["market.validation_rows=25"], "validation.size"),
        (["market.low_quality=rotten"], "market.low_quality"),
        (["market.own_rows=2000"], "market.own_rows"),
        (["session=join"], "session"),
        (["ife=als16", "protocol=ife_shares"], "protocol.scheme"),
        (["protocol.update=sometimes"], "protocol.update"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(overrides, words, tmp_path):
    stated = ["protocol=ife_transform", *SMALL, *overrides]
    ended = run(tmp_path / "run", *stated)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert words in ended.stderr.splitlines()[-1]


# ---- the scenario ----


def sellers(**changes) -> Sellers:
    kept = {"sellers": 4, "own_rows": 100, "rows": 200, "validation_rows": 50, "budget": 10, "epochs": 3}
    return Sellers(**(kept | changes))


PROTOCOL = IfeTransform(LWE())


def test_sellers_and_shopper_have_rows_of_their_own():
    simulated = sellers().build(TRAIN, TEST, PROTOCOL, 0)
    parts = [torch.as_tensor(s.x) for s in simulated.sellers] + [
        (simulated.shopper.own[0] * 255).round().to(torch.uint8)
    ]
    rows = [tuple(row.tolist()) for part in parts for row in part]
    whole = [tuple((row * 255).round().to(torch.uint8).tolist()) for row in TRAIN.x]
    assert len(rows) == 300 and all(rows.count(row) <= whole.count(row) for row in set(rows))
    assert torch.bincount(simulated.shopper.validation[1]).tolist() == [5] * 10
    assert simulated.test.rows == TEST.rows - 50
    again = sellers().build(TRAIN, TEST, PROTOCOL, 0)
    assert all((a.x == b.x).all() and (a.y == b.y).all() for a, b in zip(simulated.sellers, again.sellers, strict=True))
    other = sellers().build(TRAIN, TEST, PROTOCOL, 1)
    assert any((a.x != b.x).any() for a, b in zip(simulated.sellers, other.sellers, strict=True))


@pytest.mark.parametrize("kind", ["mislabelled", "evasive"])
def test_low_quality_is_of_the_first_sellers_alone(kind):
    good, bad = (sellers(low_quality=k, low_share=0.5).build(TRAIN, TEST, PROTOCOL, 0) for k in (None, kind))
    assert bad.low == ("seller-001", "seller-002") and good.low == ()
    wrong = [(a.y != b.y).mean() for a, b in zip(good.sellers, bad.sellers, strict=True)]
    assert wrong == [1.0, 1.0, 0.0, 0.0]


def test_errors_are_counted_on_independent_rows():
    simulated = sellers().build(TRAIN, TEST, PROTOCOL, 0)
    x = (simulated.test.x * 255).round() / 255
    found = (simulated.shopper.network.probabilities(x).argmax(1) != simulated.test.y).sum()
    assert errors(simulated.shopper.network, simulated.test) == int(found)


def test_counts_by_seller():
    assert by_seller([("b", 1), ("a", 3), ("b", 2)]) == {"b": 2, "a": 1}


def test_a_damaged_record_is_refused_by_name(done, tmp_path):
    record, _, folder = done["ife_shares", "plain"]
    facts = json.loads((folder / "records.jsonl").read_text())
    for name, text in {"cut": "{", "short": "{}", "none": None, "missing": json.dumps(facts | {"kind": "x"})}.items():
        path = tmp_path / f"{name}.jsonl"
        if text is not None:
            path.write_text(text)
        with pytest.raises(InputError, match="one line of a marketplace run"):
            MarketRecord.read(path)
    assert {path.name for path in write_market(record, tmp_path)} == {
        "report.md", "report.html", "market.png", "market.svg"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "market").glob("*.yaml")))
def test_a_market_builds(name):
    with initialize_config_dir(str(CONF), version_base=None):
        built = instantiate(compose("config", ["protocol=ife_transform", f"market={name}"]).market)
    assert isinstance(built, Sellers) and built.validation.granularity <= built.budget
