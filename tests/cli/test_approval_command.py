"""The command mpc-appraisal approval."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from test_request import (
    ID,
    REQUEST,
    numbered,
    queue,  # noqa: F401  a fixture
)

from mpc_appraisal.cli.commands.approval import main
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import RequestQueue

# The command


def command(*arguments) -> str:
    out = io.StringIO()
    main(arguments, Console(file=out, width=200))
    return out.getvalue()


def test_the_command(queue, capsys):
    place = f"in={queue.folder}"
    queue.put(REQUEST, "acme\x1b[2J")
    queue.put(numbered(1), "acme")
    table = command("list", place)
    assert "2 requests, 2 pending" in table and "digits-a, digits-b" in table and "\x1b" not in table
    command("show", ID, place)
    shown = capsys.readouterr().out
    assert shown.endswith(REQUEST.text()) and "acme\\x1b[2J" in shown.splitlines()[0]
    command("yes", ID, place)
    line = capsys.readouterr().out
    assert line.startswith(f"approved, for one appraisal: request {ID} ") and line.count("\n") == 1
    assert "influence of digits-a, digits-b, release dp, released to model owner and data owner" in line
    command("no", place, numbered(1).id, "reason=a=b")
    assert capsys.readouterr().out.startswith(f"refused: request {numbered(1).id}")
    assert queue.read(numbered(1).id).reason == "a=b"
    states = {line.split()[0]: line.split()[1] for line in command("list", place).splitlines() if " dp " in line}
    assert states == {ID: "yes", numbered(1).id: "no"}
    assert queue.take(REQUEST, "acme\x1b[2J")
    assert re.search(f"{ID} +used ", command("list", place))


def test_a_note_of_this_owner_stands_before_the_request(queue, capsys):
    queue.put(REQUEST, "acme", "Terms differ from\x1b[2J the last ones.")
    command("show", ID, f"in={queue.folder}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Terms differ from\\x1b[2J the last ones." and lines[2].startswith("# Request")
    assert "Terms differ" not in queue.read(ID).request.text()


def test_a_damaged_request_is_named_and_the_others_are_listed(queue):
    queue.put(REQUEST, "acme")
    queue.put(numbered(1), "acme")
    (queue.folder / f"{ID}.json").write_text("{")
    out = io.StringIO()
    with pytest.raises(SystemExit) as caught:
        main(["list", f"in={queue.folder}"], Console(file=out, width=200))
    assert caught.value.code == 1
    assert re.search(f"{ID} +damaged", out.getvalue()) and re.search(f"{numbered(1).id} +pending", out.getvalue())
    assert "no readable JSON" in out.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        ["maybe"],
        ["\x1b[2J"],
        ["yes"],
        ["yes", ID, ID],
        ["yes", "../x"],
        ["yes", ID, "reason=x"],
        ["yes", ID, "in="],
        ["yes", ID, "in=a", "in=b"],
        ["yes", "f" * 12],
        ["no", ID, "why=x"],
        ["show"],
        ["list", ID],
        ["list", "in=none"],
    ],
)
def test_a_bad_command(queue, arguments, monkeypatch):
    queue.put(REQUEST, "acme")
    monkeypatch.chdir(queue.folder.parent)
    queue.folder.rename("requests")
    with pytest.raises(InputError) as caught:
        command(*arguments)
    assert str(caught.value).isprintable()
    assert [asked.state for asked in RequestQueue().all()] == ["pending"]


def test_help(capsys):
    for arguments in ([], ["--help"], ["yes", "-h"]):
        command(*arguments)
        assert "approval yes ID" in capsys.readouterr().out
