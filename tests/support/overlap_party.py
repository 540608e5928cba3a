"""One owner of several sessions of `mpc-appraisal overlap`: `overlap_party.py ROLE FOLDER`, in a process of its own.

FOLDER/sessions.json lists the sessions: each has a name, and by role the arguments of the command. What a session ends
with is appended to FOLDER/ROLE.jsonl: the name, the error in words or null, and what was printed. One process serves
all sessions, because its start takes seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from mpc_appraisal.cli.commands.overlap import main
from mpc_appraisal.common.errors import AppraisalError

role, folder = sys.argv[1], Path(sys.argv[2])
for session in json.loads((folder / "sessions.json").read_text()):
    out, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(out):
            main([f"role={role}", *session[role]])
    except AppraisalError as raised:
        error = f"{type(raised).__name__}: {raised}"
    with open(folder / f"{role}.jsonl", "a") as file:
        file.write(json.dumps({"name": session["name"], "error": error, "out": out.getvalue()}) + "\n")
