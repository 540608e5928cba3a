"""Three organisations that run appraisals between them (session=join) with the controls that they have by default.

    with Organisations(folder, model) as organisations:
        found = organisations.session(candidates)      # what the data owner learned, or who refused and why

Each organisation is a process of its own, started once, which runs one appraisal after another as the app would: its
configuration is conf/config.yaml with overrides. The model owner states its model's file and nothing of controls, so
that it keeps the default ledger beside it. The data owner is the attacker: it keeps no ledger and says yes to all.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, ROLES
from mpc_appraisal.data import Dataset
from mpc_appraisal.models.softmax_regression import SoftmaxRegression

CLEAR = ("session.transport=tcp", "session.in_the_clear=true")  # all three are on this machine


@dataclass(frozen=True)
class Outcome:
    """What the attacker learned of one appraisal.

    `values` has one for each candidate, None if it was not told, and is empty if somebody refused. `refusal` has the
    model owner's own words. `computed` tells whether anybody shared anything.
    """

    values: list[float | None]
    decisions: list[bool | None]
    refusal: str | None
    computed: bool


class Organisations:
    """The three organisations, in a new folder or in that of earlier ones, whose ledger is then still there."""

    def __init__(self, folder: Path, model: SoftmaxRegression):
        self.folder, self.model, self.count = folder, folder / "buyer" / "model.npz", 0
        for name in ("buyer", *ROLES):
            (folder / name).mkdir(parents=True, exist_ok=True)
        model.save(self.model)
        self.public = [
            "session=join",
            *CLEAR,
            "session.join_timeout=60",
            "appraisal=gradient_norm",
            f"model.l2={model.l2!r}",
        ]
        self.own = {
            MODEL_OWNER: [f"party.model={self.model}"],
            DATA_OWNER: ["party.approval=yes", "party.ledger=none"],
        }

    @property
    def ledger(self) -> Path:
        return self.model.with_name(f"{self.model.name}.ledger")

    def __enter__(self) -> Organisations:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command, pipes = [sys.executable, "-m", __name__], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.parties = {}
        for role in ROLES:
            place = self.folder / role
            with open(place / "stderr.txt", "w") as errors:
                self.parties[role] = subprocess.Popen(command, stderr=errors, text=True, env=env, cwd=place, **pipes)
        return self

    def __exit__(self, *_) -> None:
        for process in self.parties.values():
            process.kill()
            process.communicate()

    def session(
        self,
        candidates: Sequence[Dataset],
        *public: str,
        buyer: Sequence[str] = (),
        seller: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> Outcome:
        """Run one appraisal of all candidates.

        `public`, `buyer` and `seller` are more overrides, of all or of one. `names` are those of the attacker's files.
        """
        self.count += 1
        place = self.folder / "seller" / f"{os.getpid()}-{id(self)}-{self.count}"
        place.mkdir(parents=True)
        files = [place / f"{name}.npz" for name in names or [f"candidate-{k}" for k in range(len(candidates))]]
        for file, data in zip(files, candidates, strict=True):
            np.savez(file, x=data.x.numpy(), y=data.y.numpy())
        with socket.create_server(("127.0.0.1", 0)) as free:
            where = f"session.rendezvous=tcp://127.0.0.1:{free.getsockname()[1]}"
        own = {DATA_OWNER: [f"party.data=[{','.join(map(str, files))}]", *seller], MODEL_OWNER: list(buyer)}
        for role, process in self.parties.items():
            stated = [*self.public, where, f"session.role={role}", *self.own.get(role, []), *public, *own.get(role, [])]
            process.stdin.write(json.dumps(stated) + "\n")
            process.stdin.flush()
        found = {role: self._heard(role) for role in ROLES}
        attacker = found[DATA_OWNER]
        computed = any(each["computed"] for each in found.values())
        return Outcome(attacker["values"], attacker["decisions"], found[MODEL_OWNER]["error"], computed)

    def _heard(self, role: str) -> dict[str, Any]:
        line = self.parties[role].stdout.readline()
        if not line:
            words = (self.folder / role / "stderr.txt").read_text(errors="replace")[-2000:]
            raise AppraisalError(f"the process of {role} ended; its last words: {words}")
        return json.loads(line)


def serve() -> None:
    """Be one organisation: for each line of overrides run an appraisal, and print a line of what it learned."""
    import mpc_appraisal.appraisal.party as party
    from mpc_appraisal.cli.config import compose
    from mpc_appraisal.cli.run import appraise_config

    opened, open_session, deal = [], party.open_session, party.deal
    party.open_session = lambda *arguments: opened.append("owner") or open_session(*arguments)
    party.deal = lambda *arguments: opened.append("dealer") or deal(*arguments)
    for line in sys.stdin:
        opened.clear()
        found = {"values": [], "decisions": [], "error": None}
        try:
            records = list(appraise_config(compose(json.loads(line)), lambda event: None, Path.cwd()))
            found["values"] = [record.value for record in records]
            found["decisions"] = [record.release["decision"] for record in records]
        except AppraisalError as error:
            found["error"] = str(error)
        print(json.dumps(found | {"computed": bool(opened)}), flush=True)


if __name__ == "__main__":
    serve()
