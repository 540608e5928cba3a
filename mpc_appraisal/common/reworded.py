"""Errors in the words of their reader: what an error names is replaced by the name that its reader has stated.

The code names one thing by one name, such as the key session.engine. Whoever calls it from Python has stated an
argument instead, and whoever runs the app perhaps a longer key. In goes a function of texts; an error that leaves the
block has its texts replaced, and keeps its class, its notes and its cause. An error whose texts stay as they are is
raised as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mpc_appraisal.common.errors import AppraisalError, BoundError, DisagreementError, InputError, PeerError

OF_A_MESSAGE = (AppraisalError, BoundError, DisagreementError, PeerError)  # errors that are made of a message alone


@contextmanager
def reworded(words: Callable[[str], str]) -> Iterator[None]:
    """Raise an error of the block with `words` of its name, of what was found and of what was expected."""
    try:
        yield
    except InputError as error:
        texts = (error.name, error.value, error.expected)
        found = [words(text) if isinstance(text, str) else text for text in texts]
        if found == list(texts):
            raise
        raise renamed(error, *found) from error
    except AppraisalError as error:
        message = words(str(error))
        if message == str(error) or type(error) not in OF_A_MESSAGE:
            raise
        raise _with_notes(type(error)(message), error) from error


def renamed(error: InputError, name: str, value: Any, expected: str) -> InputError:
    """Return an error of other texts with the notes of `error`."""
    return _with_notes(InputError(name, value, expected), error)


def _with_notes(error: AppraisalError, first: AppraisalError) -> Any:
    error.__notes__ = list(getattr(first, "__notes__", ()))
    return error
