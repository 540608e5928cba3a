"""How a party's own error comes back from its process: with the traceback, on this machine alone."""

from __future__ import annotations

import inspect
import sys
import threading
from pathlib import Path

import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.lifecycle import attend
from mpc_appraisal.mpc.net.transport import Transport
from mpc_appraisal.mpc.ring import kernels
from mpc_appraisal.mpc.ring.kernels import COMPILED, WORTH

PRIVATE = "row 17 of the seller"


class Unpicklable(Exception):
    """An error that cannot be pickled."""

    def __init__(self, text: str):
        super().__init__(text)
        self.lock = threading.Lock()


def formula(error: type[Exception]) -> None:
    raise error(PRIVATE)


def meet(role, address, emit, folder, heard: Path) -> None:
    """Fail in the formula at the model owner, and write down what the others are told of it."""

    def run(rendezvous, own):
        if role == MODEL_OWNER:
            formula(ValueError)
        rendezvous.exchange("result", {})

    try:
        attend(role, Transport("tcp"), address, 60.0, lambda: None, run, hosted=True)
    except PeerError as error:
        (heard / role).write_text(f"{error} {error.public} {getattr(error, '__notes__', '')}")
        raise


def alone(role, address, emit, folder, error: type[Exception]) -> None:
    formula(error) if error is not InputError else formula(lambda text: InputError("x", text, "another"))


def line_of(function, text: str) -> str:
    lines, first = inspect.getsourcelines(function)
    return f'File "{__file__}", line {first + next(k for k, line in enumerate(lines) if text in line)}'


def found_at_start(role, address, emit, folder) -> tuple[bool, int]:
    return COMPILED in sys.modules, threading.active_count()


def test_parties_with_much_work_find_the_compiled_loops_imported_and_others_do_not(monkeypatch):
    if kernels.load() is None or sys.platform != "linux":
        pytest.skip("without numba there are no compiled loops, and without Linux no fork server")
    monkeypatch.setenv("STATED", "for a server of its own")
    small, large = (
        launch(found_at_start, {MODEL_OWNER: {}}, lambda event: None, work=work)[MODEL_OWNER]
        for work in (WORTH - 1, WORTH)
    )
    assert not small[0] and large[0] and small[1] == large[1]


def test_the_line_of_the_authors_file_reaches_the_author_and_no_other_party(tmp_path, capfd):
    with pytest.raises(ValueError, match=PRIVATE) as raised:
        launch(meet, {role: {"heard": tmp_path} for role in ROLES}, lambda event: None)
    (said,) = raised.value.__notes__
    assert said.startswith("In the process of the model_owner:\nTraceback (most recent call last):\n")
    assert line_of(formula, "raise error") in said and line_of(meet, "formula(ValueError)") in said
    by_itself = sys.version_info < (3, 11)  # later versions of Python print it with the error
    assert capfd.readouterr().err.count(said) == by_itself
    for role in (DATA_OWNER, DEALER):
        heard = (tmp_path / role).read_text()
        assert "model_owner" in heard
        assert not any(word in heard for word in (PRIVATE, "ValueError", "Traceback", __file__, "formula"))


@pytest.mark.parametrize(
    ("error", "kind", "traced"),
    [(Unpicklable, RuntimeError, True), (InputError, InputError, False), (KeyError, KeyError, True)],
)
def test_an_error_that_was_raised_on_purpose_stays_one_line(error, kind, traced):
    with pytest.raises(kind, match=PRIVATE) as raised:
        launch(alone, {MODEL_OWNER: {"error": error}}, lambda event: None)
    notes = getattr(raised.value, "__notes__", [])
    assert len(notes) == traced and all(line_of(formula, "raise error") in text for text in notes)
