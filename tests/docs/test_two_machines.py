"""The walk-through of two machines, line by line as the page has it: each party on a machine of its own.

The commands are those of the page, and so are the files that people send. Where the system permits it, each machine
has a network and files of its own; elsewhere the machines are folders, and the relay's address is one of loopback.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from machines import RELAYED, Machines
from processes import ROOT, Process, free_port, stretched

from mpc_appraisal.reporting.record import read

PAGE = ROOT / "docs" / "tutorials" / "walk_through.md"
BLOCK = re.compile(
    r"^```bash\n# The (?P<who>\w+) types(?P<second> in a second terminal)?(?:,? ?and (?P<runs>lets it run))?:\n"
    r"(?P<script>.*?)^```$|^- \*\*The (?P<sender>\w+) sends\*\* (?P<files>[^\n]*?) to (?P<receivers>[^\n]*)\.$",
    re.DOTALL | re.MULTILINE,
)
SHOWN = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORT = ":7787"
WHO = ("broker", "seller", "buyer")  # the first is the one whom the others reach
RELAY = ("broker", False)  # the terminal in which the relay runs


class Walk:
    """Walks through the page. A terminal's next block waits until its last one has ended, as at a person's desk."""

    def __init__(self, machines: Machines, environment: dict[str, str]):
        self.machines, self.environment, self.port = machines, environment, free_port()
        self.running: dict[tuple[str, bool], Process] = {}
        self.ended: list[tuple[str, str]] = []
        self.listened: dict[str, list[str]] = {}
        self.id = ""

    def walk(self, page: str) -> None:
        for found in BLOCK.finditer(page):
            if found["sender"]:
                for file in re.findall("`(.*?)`", found["files"]):
                    for receiver in re.findall(r"the (\w+)", found["receivers"]):
                        self.machines.send(found["sender"], file, receiver)
            else:
                self.type(found["who"], bool(found["second"]), bool(found["runs"]), found["script"])
        for terminal in [one for one in self.running if one != RELAY]:
            self.end(terminal)
        os.killpg(self.running[RELAY].popen.pid, signal.SIGINT)  # Ctrl-C
        self.end(RELAY)

    def type(self, who: str, second: bool, runs: bool, script: str) -> None:
        if re.search(r"\bID\b", script):
            self.id = self.request()
            self.listened = {name: self.machines.listening(name) for name in WHO}
            script = re.sub(r"\bID\b", self.id, script)
        if not self.machines.apart:
            script = script.replace("0.0.0.0" + PORT, f"127.0.0.1:{self.port}")
            script = script.replace(RELAYED + PORT, f"127.0.0.1:{self.port}")
        self.end((who, second))
        self.running[who, second] = self.machines.start(who, script, self.environment)
        if not runs:
            self.end((who, second))

    def end(self, terminal: tuple[str, bool]) -> None:
        """Wait until what runs in a terminal has ended well."""
        process = self.running.pop(terminal, None)
        if process is not None:
            done = process.wait(120)
            assert done.code == 0, (terminal, done.out[-2000:], done.err[-2000:])
            self.ended.append((terminal[0], done.out + done.err))

    def request(self) -> str:
        """The id that the seller's first terminal names."""
        asked, deadline = self.running["seller", False], time.monotonic() + stretched(60)
        while not (found := re.search(r"approval yes ([0-9a-f]{12})", asked.err)):
            others = [process.err[-1000:] for process in self.running.values()]
            assert asked.popen.poll() is None and time.monotonic() < deadline, others
            time.sleep(0.1)
        return found[1]


@pytest.fixture(scope="module")
def walked(module_processes) -> Walk:
    places = module_processes.folder / "bin"
    places.mkdir()
    (places / "mpc-appraisal").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mpc_appraisal.cli.app "$@"\n')
    (places / "mpc-appraisal").chmod(0o755)
    environment = {
        "PATH": f"{places}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    walk = Walk(Machines(module_processes, WHO), environment)
    walk.walk(PAGE.read_text(encoding="utf-8"))
    return walk


def folder(walked: Walk, who: str) -> Path:
    return walked.machines.folders[who]


def test_every_block_of_the_page_was_typed_by_somebody(walked):
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("```bash\n") == len(walked.ended) == len(re.findall("^```bash$", page, re.MULTILINE)) >= 14
    assert {who for who, _ in walked.ended} == set(WHO)
    assert page.count("sends**") == len([one for one in BLOCK.finditer(page) if one["sender"]]) == 5


def test_what_the_page_says_is_seen_was_seen(walked):
    said = "\n".join(text for _, text in walked.ended)
    if not walked.machines.apart:
        said = said.replace(f"127.0.0.1:{walked.port}", RELAYED + PORT)
    shown = [line for block in SHOWN.findall(PAGE.read_text(encoding="utf-8")) for line in block.splitlines()]
    missing = [part for line in shown for part in line.split("…") if part.strip() not in said]
    assert len(shown) > 20 and not missing


def test_both_owners_hold_the_same_signed_value_which_is_that_in_the_clear(walked):
    (buyer,), (seller,) = (read(folder(walked, who) / "out" / "records.jsonl") for who in ("buyer", "seller"))
    assert buyer.value == seller.value and buyer.receipt == seller.receipt
    assert buyer.request["id"] == walked.id and buyer.request["how"] == "command" and buyer.n == 500
    assert buyer.settings["session.relay"] == buyer.settings["session.integrity"] == "on"
    (said,) = (text for who, text in walked.ended if who == "buyer" and "agrees with" in text)
    clear = float(re.search(r"agrees with ([\d.]+), computed in the clear", said)[1])
    assert abs(buyer.value - clear) <= buyer.error_bound


def test_no_key_no_row_and_no_salt_was_sent_before_the_deal(walked):
    keys = {who: next((folder(walked, who) / "keys").glob("*.key")).read_text() for who in WHO}
    row = (folder(walked, "seller") / "seller.csv").read_text().splitlines()[1]
    assert row in (folder(walked, "buyer") / "seller.csv").read_text()  # after the deal
    for who in WHO:
        texts = {
            path.name: path.read_text(errors="replace") for path in folder(walked, who).rglob("*") if path.is_file()
        }
        assert not [name for name, text in texts.items() for other in WHO if other != who and keys[other] in text]
        holds = {name for name, text in texts.items() if row in text}
        assert holds == ({"seller.csv"} if who != "broker" else set())


def test_only_the_broker_listens_and_the_owners_reach_nobody_else(walked):
    if not walked.machines.apart:
        pytest.skip("this machine permits no network namespaces, so that all parties share one network")
    assert walked.listened["seller"] == walked.listened["buyer"] == []
    assert {address.rpartition(":")[2] for address in walked.listened["broker"]} == {f"{7787:04X}"}
    for who, other in (("seller", "10.77.2.2"), ("buyer", "10.77.1.2")):
        assert walked.machines.reaches(who, RELAYED) and not walked.machines.reaches(who, other)
