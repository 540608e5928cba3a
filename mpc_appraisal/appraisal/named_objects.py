"""The release and the session that a caller of `appraise` states by a name or as an object.

Names or objects go in, objects come out. A name may be added to a table here.
"""

from __future__ import annotations

from mpc_appraisal.appraisal.sessions import Plain, Session, Spawn
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.release import Bit, Release, Value

SESSIONS = {"plain": Plain, "spawn": Spawn}
RELEASES = {"value": Value, "bit": Bit}


def as_release(stated: str | Release) -> Release:
    """Return the release object, or the one that the name stands for. Raises InputError for an unknown name."""
    if isinstance(stated, str):
        if stated not in RELEASES:
            raise InputError("release", repr(stated), f"one of {', '.join(RELEASES)}, or a release object")
        return RELEASES[stated]()
    return stated


def as_session(stated: str | Session) -> Session:
    """Return the session object, or the one that the name stands for. Raises InputError for an unknown name."""
    if isinstance(stated, str):
        if stated not in SESSIONS:
            raise InputError("session", repr(stated), f"one of {', '.join(SESSIONS)}, or a session object")
        return SESSIONS[stated]()
    return stated
