"""One party of several appraisals with `overlap=`: `counted_party.py ROLE FOLDER`, in a process of its own.

FOLDER/sessions.json lists the sessions: each has a name, and by role the overrides of the app. The files of a run go to
FOLDER/ROLE/NAME. What a session ends with is appended to FOLDER/ROLE.jsonl: the name, the error in words or null, what
was written to standard error, and whether the package that counts was imported. One process serves all sessions,
because its start takes seconds.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.run import _compute
from mpc_appraisal.common.errors import AppraisalError

role, folder = sys.argv[1], Path(sys.argv[2])
for session in json.loads((folder / "sessions.json").read_text()):
    said, error, run = io.StringIO(), None, folder / role / session["name"]
    run.mkdir(parents=True)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            _compute(compose([f"session.role={role}", *session[role]]), run)
    except AppraisalError as raised:
        error = f"{type(raised).__name__}: {raised}"
    with open(folder / f"{role}.jsonl", "a") as file:
        end = {"name": session["name"], "error": error, "said": said.getvalue()}
        file.write(json.dumps(end | {"counts": "private_set_intersection" in sys.modules}) + "\n")
