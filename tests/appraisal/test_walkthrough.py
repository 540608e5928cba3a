"""The README's walk-through from a listing to a deal, line by line as it stands there, with real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ROOT, Processes, free_port, stretched

from mpc_appraisal.reporting.record import read

README = (ROOT / "README.md").read_text()
HEADING = "### Two organisations: from a listing to a deal"
APP = f"{sys.executable} -m mpc_appraisal.cli.app"


def lines() -> list[str]:
    """The commands of the first block under the heading."""
    block = re.search(r"```bash\n(.*?)```", README[README.index(HEADING) :], re.DOTALL).group(1)
    return [line for line in block.splitlines() if not line.startswith("#")]


class Shell:
    """Runs one line after the other in one folder: those that end in & go on beside the others."""

    def __init__(self, folder: Path, processes: Processes):
        self.folder, self.processes, self.variables = folder, processes, ""
        self.background, self.said = [], {}
        self.environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(self, line: str) -> None:
        command = line.replace("mpc-appraisal ", f"{APP} ").replace("29511", str(self.port))
        if line.startswith("PUBLIC="):
            self.variables = command
        elif line.endswith(" &"):
            name = f"background {len(self.background)}"
            words = ["bash", "-c", f"cd {self.folder}; {self.variables}; exec {command.removesuffix(' &')}"]
            self.background.append(self.processes.start(name, words))
        elif line == "wait":
            ended = [process.wait(120) for process in self.background]
            assert [each.code for each in ended] == [0, 0, 0], [each.err[-2000:] for each in ended]
        else:
            if "approval list" in line:
                self.id = self.request()
            if " ID" in line:
                command = command.replace(" ID", f" {self.id}")
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, (line, done.stderr[-2000:])
            self.said[line] = done.stdout

    port = property(lambda self: self.__dict__.setdefault("_port", free_port()))

    def request(self) -> str:
        """What the data owner's terminal names: the id of the request that waits."""
        deadline = time.monotonic() + stretched(60)
        while not (found := re.findall(r"approval yes ([0-9a-f]{12})", "".join(p.err for p in self.background))):
            assert time.monotonic() < deadline, [p.err for p in self.background]
            time.sleep(0.1)
        return found[0]


@pytest.fixture(scope="module")
def walked(module_processes):
    folder = module_processes.folder / "walk"
    made = subprocess.run([*APP.split(), "example", str(folder)], capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    shell = Shell(folder, module_processes)
    for line in lines():
        shell.run(line)
    return shell


def said(shell: Shell, part: str) -> str:
    (found,) = (text for line, text in shell.said.items() if part in line)
    return found


def test_the_block_is_the_whole_way(walked):
    text = "\n".join(lines())
    for step in (
        "publish",
        "search",
        "session.role=dealer",
        "approval yes",
        "card-",
        "budget verify",
        "catalogue check",
    ):
        assert step in text
    assert "digits-a" in said(walked, "catalogue search")


def test_both_owners_have_the_same_value_and_request(walked):
    (buyer,), (seller,) = (read(walked.folder / "out" / who / "records.jsonl") for who in ("buyer", "seller"))
    assert buyer.value == seller.value and buyer.candidate == "digits-a" and buyer.n == 500
    assert buyer.request == seller.request and buyer.request["how"] == "command" and buyer.request["id"] == walked.id
    assert buyer.listing["price"] == 100 and buyer.listing["commitment"] in said(walked, "catalogue check")
    texts = {(walked.folder / "out" / who / "request.md").read_text() for who in ("buyer", "seller")}
    assert len(texts) == 1 and texts.pop() == said(walked, "approval show").partition("\n")[2]


def test_the_card_and_the_ledger_say_what_happened(walked):
    card, budget = said(walked, "cat out/buyer/card"), said(walked, "budget show")
    (record,) = read(walked.folder / "out" / "buyer" / "records.jsonl")
    assert f"{record.value:.4f}" in card and walked.id in card and record.budget["head"] in card
    assert re.search(r"model_owner +1 +1 +0", budget) and "whole" in said(walked, "budget verify")


def test_the_seller_keeps_its_data_and_its_salt(walked):
    published = "".join(path.read_text() for path in (walked.folder / "catalogue").iterdir())
    salt = next(walked.folder.glob("seller.csv.*.salt")).read_text().strip()
    first_row = (walked.folder / "seller.csv").read_text().splitlines()[1]
    out = [p.read_text(errors="replace") for p in (walked.folder / "out").rglob("*") if p.is_file()]
    assert salt not in published and not any(salt in text or first_row in text for text in out)
