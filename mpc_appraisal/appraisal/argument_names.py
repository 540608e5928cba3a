"""Errors by the name that the user has stated: an argument in Python, and a key of the configuration in the app.

An error of a run names a key, such as party.train or session.engine. Whoever calls `appraise` from Python has stated no
such key but an argument of `appraise`, or of the object that is its session, its release or its method. `by_argument`
gives errors the argument's name, as `engine` of Spawn(engine="stock"). An object that is made in Python too, such as a
method, a release or a scenario, names its own arguments, and `by_key` gives its errors the key of the configuration. A
key may be added; one that no argument states has to stay as it is.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields

from mpc_appraisal.appraisal.plan import DisclosureControls
from mpc_appraisal.appraisal.sessions import Join, Plain, Spawn
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.reworded import renamed, reworded
from mpc_appraisal.methods.setting_names import OF_METHODS
from mpc_appraisal.release import Best, Bit, NoisedRelease, Value


def _fields(*kinds: type) -> str:
    """Return a pattern of the names of all fields of dataclasses."""
    return "|".join(sorted({each.name for kind in kinds for each in fields(kind)}))


ARGUMENTS = (
    (re.compile(r"\bparty\.(train|test|data|model|threshold|resolution)\b"), r"\1"),
    (re.compile(rf"\bparty\.({_fields(DisclosureControls)})\b"), r"controls.\1"),
    (re.compile(rf"\bsession\.({_fields(Plain, Spawn, Join)})\b"), r"\1"),
    (re.compile(rf"\brelease\.({_fields(Value, Bit, Best, NoisedRelease)})\b"), r"\1"),
    OF_METHODS,
    (re.compile(r"\bmodel\.l2\b"), "l2"),
    (re.compile(r"^appraisal\b"), "method"),
    (re.compile(r"^evaluate\.measures\b"), "evaluate"),
)


def by_argument() -> AbstractContextManager[None]:
    """Raise an error of the block by the name of the argument that the caller of `appraise` has stated."""
    return reworded(in_words_of_arguments)


@contextmanager
def by_key(group: str, settings: Container[str]) -> Iterator[None]:
    """Raise an InputError of the block that names one of a group's settings by its key, GROUP.SETTING.

    A name may go on after the setting, as in "prices.seller_a".
    """
    try:
        yield
    except InputError as error:
        if error.name.partition(".")[0] not in settings:
            raise
        raise renamed(error, f"{group}.{error.name}", error.value, error.expected) from error


def in_words_of_arguments(text: str) -> str:
    """Return a text with arguments' names in place of keys."""
    for key, argument in ARGUMENTS:
        text = key.sub(argument, text)
    return text
