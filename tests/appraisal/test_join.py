"""Two organisations and a dealer: three processes with files of their own, started in any order, or by torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import (
    CLEAR,
    DATA_OWNER,
    DEALER,
    HERE,
    MODEL_OWNER,
    ROLES,
    UNGUARDED,
    Processes,
    free_port,
    problem,
    write_csv,
    write_npz,
)

from mpc_appraisal import Dataset
from mpc_appraisal.methods import GradientNorm, Influence, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.record import Record, read

# Largest |value - plaintext| that the engine may leave, in parts of |plaintext|, and absolutely.
TOLERANCE = {"fast": (1e-3, 2e-4), "stock": (2e-2, 2e-3)}
FOLDERS = {MODEL_OWNER: "buyer", DATA_OWNER: "seller", DEALER: "dealer"}
TRAIN, TEST, SELLER, SECOND = (problem(n, seed=k) for k, n in enumerate((60, 40, 50, 30), start=1))
CLASSES = 3


def dataset(xy, name="seller") -> Dataset:
    return Dataset.of(*xy, classes=CLASSES, name=name)


def expected(method, candidate=SELLER) -> float:
    return plaintext(method, fit(dataset(TRAIN), 1e-2), dataset(TRAIN), dataset(TEST), dataset(candidate))[0]


def close(record: Record, value: float) -> bool:
    relative, absolute = TOLERANCE[record.engine]
    return abs(record.value - value) <= relative * abs(value) + absolute


class Organisations:
    """Each organisation's folder with its own files in it, and one finished session of them."""

    def __init__(self, processes: Processes, order: tuple[str, ...], audited: bool = True):
        self.root = processes.folder
        files = self.write()
        public = [
            "session=join",
            f"session.rendezvous=tcp://127.0.0.1:{free_port()}",
            "session.join_timeout=60",
            "appraisal=influence",
            "model.l2=1e-2",
        ]
        own = {
            MODEL_OWNER: [f"party.train={files['train']}", f"party.test={files['test']}"],
            DATA_OWNER: [f"party.data={files['seller']}"],
            DEALER: [],
        }
        started = {
            role: processes.app(FOLDERS[role], *public, f"session.role={role}", *own[role], audited=audited)
            for role in order
        }
        self.ended = {role: process.wait(120) for role, process in started.items()}

    def write(self) -> dict[str, Path]:
        return {
            "train": write_npz(self.root / "buyer" / "train.npz", *TRAIN),
            "test": write_npz(self.root / "buyer" / "test.npz", *TEST),
            "seller": write_csv(self.root / "seller" / "seller.csv", *SELLER),
        }

    def records(self, role: str) -> list[Record]:
        return read(self.root / FOLDERS[role] / "run" / "records.jsonl")

    def opened(self, role: str) -> set[str]:
        return set((self.root / FOLDERS[role] / "opened.txt").read_text().splitlines())

    def run_folder(self, role: str) -> bytes:
        """The bytes of everything that the run left with this party, its console included."""
        root = self.root / FOLDERS[role]
        files = [*(p for p in (root / "run").rglob("*") if p.is_file()), root / "stdout.txt", root / "stderr.txt"]
        return b"\n".join(path.read_bytes() for path in files)


@pytest.fixture(scope="module", params=[ROLES, (DEALER, DATA_OWNER, MODEL_OWNER)], ids=["buyer first", "dealer first"])
def organisations(request, tmp_path_factory):
    with Processes(tmp_path_factory.mktemp("join")) as processes:
        yield Organisations(processes, request.param)


def test_all_end_well(organisations):
    assert {role: ended.code for role, ended in organisations.ended.items()} == dict.fromkeys(ROLES, 0), {
        role: ended.err[-2000:] for role, ended in organisations.ended.items()
    }


def test_both_owners_hold_the_same_value_and_it_is_the_plaintext_one(organisations):
    (at_buyer,), (at_seller,) = organisations.records(MODEL_OWNER), organisations.records(DATA_OWNER)
    assert at_buyer.value == at_seller.value and at_buyer.paper_value == at_seller.paper_value
    assert close(at_buyer, expected(Influence()))
    assert (at_buyer.candidate, at_buyer.n, at_buyer.features, at_buyer.classes) == ("seller", 50, 4, 3)
    assert at_buyer.config_hash == at_seller.config_hash
    assert (at_buyer.role, at_seller.role) == (MODEL_OWNER, DATA_OWNER)
    settings = at_buyer.settings
    assert settings == at_seller.settings and settings["session"] == "join" and settings["session.engine"] == "fast"
    assert (settings["model.l2"], settings["appraisal"], settings["release"]) == (0.01, ["influence"], "value")
    groups = {key.split(".")[0] for key in settings}
    assert not groups & {"data", "scenario", "baselines", "party"} and "session.rendezvous" not in settings


def test_a_record_says_what_it_cost_and_what_was_opened(organisations):
    for role in (MODEL_OWNER, DATA_OWNER):
        (record,) = organisations.records(role)
        assert record.session == "join" and record.rounds > 0
        assert set(record.bytes_sent) == set(ROLES) and min(record.bytes_sent.values()) > 0
        (opening,) = record.openings
        assert opening["numbers"] == 1 and set(opening["to"]) == {MODEL_OWNER, DATA_OWNER}
        assert record.seconds["private"] > 0 and ("plaintext" in record.seconds) == (role == MODEL_OWNER)


def test_nobody_records_what_nobody_may_know(organisations):
    for role in (MODEL_OWNER, DATA_OWNER):
        line = json.loads((organisations.root / FOLDERS[role] / "run" / "records.jsonl").read_text())
        assert [line[key] for key in ("plaintext_value", "difference", "level", "utility")] == [None] * 4


def test_the_dealer_keeps_no_record(organisations):
    assert not (organisations.root / "dealer" / "run" / "records.jsonl").exists()
    (record,) = organisations.records(MODEL_OWNER)
    assert repr(record.value).encode() not in organisations.run_folder(DEALER)
    assert "keeps no record" in organisations.ended[DEALER].out


def test_run_folders_hold_nothing_of_the_other_side(organisations):
    of_buyer = [b"train.npz", b"test.npz", bytes(organisations.root / "buyer")]
    of_seller = [b"seller.csv", bytes(organisations.root / "seller")]
    buyer, seller, dealer = (organisations.run_folder(role) for role in ROLES)
    for place in of_seller:
        assert place in seller and place not in buyer and place not in dealer
    for place in of_buyer:
        assert place in buyer and place not in seller and place not in dealer
    model = fit(dataset(TRAIN), 1e-2)
    direction = Influence().prepare(model, dataset(TRAIN), dataset(TEST))["direction"]
    private = {
        MODEL_OWNER: [*TRAIN[0].flat, *TEST[0].flat, *model.theta.flatten().tolist(), *direction.flatten().tolist()],
        DATA_OWNER: [*SELLER[0].flat],
    }
    for owner, numbers in private.items():
        for role in set(ROLES) - {owner}:
            found = organisations.run_folder(role)
            for number in map(float, numbers):
                for form in (f"{number:.8f}".encode()[:9], np.float64(number).tobytes()):  # as text, as bytes
                    assert form not in found, (owner, role, number)


def test_each_party_opens_its_own_files_alone(organisations):
    opened = {role: organisations.opened(role) for role in ROLES}
    own = {MODEL_OWNER: {"buyer/train.npz", "buyer/test.npz"}, DATA_OWNER: {"seller/seller.csv"}, DEALER: set()}
    for role in ROLES:
        files = {file for paths in own.values() for file in paths}
        assert {file for file in files if str(organisations.root / file) in opened[role]} == own[role]
        others = [str(organisations.root / FOLDERS[r]) for r in ROLES if r != role]
        assert not [path for path in opened[role] for other in others if path.startswith(other + "/")]


def test_several_files_and_a_trained_model(processes):
    theta = processes.folder / "buyer" / "theta.npz"
    theta.parent.mkdir()
    model = fit(dataset(TRAIN), 1e-2)
    model.save(theta)
    first = write_csv(processes.folder / "seller" / "first.csv", *SELLER)
    second = write_npz(processes.folder / "seller" / "second.npz", *SECOND)
    public = ["session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "appraisal=gradient_norm"]
    started = [
        processes.app("buyer", *public, "session.role=model_owner", f"party.model={theta}"),
        processes.app("seller", *public, "session.role=data_owner", f"party.data=[{first},{second}]"),
        processes.app("dealer", *public, "session.role=dealer"),
    ]
    assert [process.wait(120).code for process in started] == [0, 0, 0], [process.err[-2000:] for process in started]
    for folder in ("buyer", "seller"):
        records = read(processes.folder / folder / "run" / "records.jsonl")
        assert [record.candidate for record in records] == ["first", "second"]
        for record, candidate in zip(records, (SELLER, SECOND), strict=True):
            value, _ = plaintext(GradientNorm(), model, None, None, dataset(candidate))
            assert close(record, value)


def test_torchrun_takes_roles_by_rank(processes):
    root = processes.folder
    train, test = write_npz(root / "train.npz", *TRAIN), write_npz(root / "test.npz", *TEST)
    seller = write_csv(root / "seller.csv", *SELLER)
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=3",
        "--master-addr=127.0.0.1",
        f"--master-port={free_port()}",
    ]
    own = [f"party.train={train}", f"party.test={test}", f"party.data={seller}"]
    public = ["session=join", "appraisal=influence", "model.l2=1e-2", f"hydra.run.dir={root / 'run'}"]
    job = [str(HERE / "audited.py"), str(root / "opened.txt"), *public, *own, *UNGUARDED, *CLEAR]
    ended = processes.start("torchrun", [*launcher, *job]).wait(150)
    assert ended.code == 0, ended.err[-3000:]
    (at_buyer,), (at_seller,) = (read(root / "run" / role / "records.jsonl") for role in (MODEL_OWNER, DATA_OWNER))
    assert at_buyer.value == at_seller.value and close(at_buyer, expected(Influence()))
    assert not (root / "run" / DEALER / "records.jsonl").exists()
    opened = [set((root / f"opened.txt.{rank}").read_text().splitlines()) for rank in range(3)]
    files = {str(train), str(test), str(seller)}
    assert [files & paths for paths in opened] == [{str(train), str(test)}, {str(seller)}, set()]
