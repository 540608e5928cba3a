"""Between organisations the decision sentence stands at the model owner, and nowhere at the others."""

from __future__ import annotations

import json

import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, Processes, free_port, write_npz

from mpc_appraisal.data import Digits
from mpc_appraisal.methods.preflight.calibration import Calibration
from mpc_appraisal.reporting.record import read


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of three processes: folders by role, each with all that the run left there."""
    root = tmp_path_factory.mktemp("decision")
    train, test = Digits().load()
    own = {"train": train.subset(range(150)), "test": test, "seller": train.subset(range(400, 700))}
    files = {name: write_npz(root / "files" / f"{name}.npz", d.x.numpy(), d.y.numpy()) for name, d in own.items()}
    where = {
        MODEL_OWNER: [f"party.train={files['train']}", f"party.test={files['test']}", "party.preflight=quick"],
        DATA_OWNER: [f"party.data={files['seller']}", "party.preflight=quick"],
        DEALER: ["party.preflight=quick"],
    }
    public = [
        "session=join",
        f"session.rendezvous=tcp://127.0.0.1:{free_port()}",
        "appraisal=influence",
        "model.l2=1e-2",
    ]
    with Processes(root) as processes:
        started = {role: processes.app(role, *public, f"session.role={role}", *where[role]) for role in ROLES}
        done = {role: process.wait(180) for role, process in started.items()}
    assert {role: each.code for role, each in done.items()} == dict.fromkeys(ROLES, 0), done[MODEL_OWNER].err[-2000:]
    return {role: root / role for role in ROLES}


def left(folder) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_model_owner_reads_it_first_and_it_is_what_the_calibration_says(ended):
    run = ended[MODEL_OWNER] / "run"
    (check,) = json.loads((run / "preflight.json").read_text())["checks"]
    (row,) = read(run / "records.jsonl")
    meaning, size = Calibration.of(check["calibration"]), check["threshold"]["size"]
    limit = check["threshold"]["value"]
    limit += size["clean"] / 2 * (150 / (150 + row.n) - 150 / (150 + size["rows"]))
    told = meaning.expected(row.value, row.n)
    begin = f"{'above' if row.value >= limit else 'below'} your calibrated threshold "
    figures = f"expected {told.gain:+.2g} points of accuracy ({told.low:+.2g} to {told.high:+.2g})"
    for path in (
        run / "report.md",
        run / "card-seller.md",
        run / "card-seller.html",
        ended[MODEL_OWNER] / "stdout.txt",
    ):
        text = " ".join(path.read_text(encoding="utf-8").replace("\\", "").split())
        assert "calibrated threshold" in text, path
        if path.name != "stdout.txt":  # a terminal's table breaks lines within a cell
            assert begin in text and figures in text.replace("&#43;", "+"), path
            assert text.index(begin) < text.index("Values" if path.name == "report.md" else "The answer")


def test_nothing_of_it_is_at_the_other_parties_or_in_a_record(ended):
    (check,) = json.loads((ended[MODEL_OWNER] / "run" / "preflight.json").read_text())["checks"]
    for role in (DATA_OWNER, DEALER):
        found = left(ended[role])
        assert b"calibrat" not in found and b"your own rows" not in found and b"expected +" not in found
        assert repr(check["threshold"]["value"]).encode() not in found and not list(ended[role].rglob("preflight.json"))
    record = (ended[MODEL_OWNER] / "run" / "records.jsonl").read_text()
    assert repr(check["threshold"]["value"]) not in record and "calibrat" not in record
