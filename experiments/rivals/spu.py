"""SPU (pip package `spu`), protocol SEMI2K between two processes, on the gradient of `gradient_parties`.

This file is run by the interpreter that has `spu`, once a rank, for its jax and numpy may differ from those here; so it
imports nothing of the package. Inputs are shared beforehand, by rank 0, and the opening is not timed: SPU's figures are
those of a later gradient.

    python spu_rival.py RANK PORT,PORT FOLDER      reads a line from standard input for each run
"""

from __future__ import annotations

import json
import pickle
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

READY_SECONDS = 90.0
TRAFFIC = re.compile(r"total send bytes (\d+), recv bytes \d+, send actions (\d+)")


class Spu:
    """Two SPU parties, ready to run. Raises ImportError where `python` cannot import spu."""

    def __init__(self, python: str, folder: Path):
        """folder: holds x, w and y as one file, inputs.npz."""
        probe = subprocess.run([python, "-c", "import spu"], capture_output=True, text=True, timeout=60)
        if probe.returncode:
            raise ImportError((probe.stderr.strip().splitlines() or ["cannot import spu"])[-1])
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        ports = ",".join(str(s.getsockname()[1]) for s in sockets)
        for s in sockets:
            s.close()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self._parties = [
            subprocess.Popen([python, __file__, str(rank), ports, str(folder)], **pipes) for rank in range(2)
        ]
        self._folder = folder
        self._answers()

    def _answers(self) -> tuple[float, int, int]:
        """The next answer of both: seconds at rank 0, bytes of both, rounds."""
        seconds, total, rounds = 0.0, 0, 0
        for rank, party in enumerate(self._parties):
            sent = actions = 0
            for line in party.stdout:
                if found := TRAFFIC.search(line):
                    sent, actions = int(found[1]), int(found[2])
                if line.startswith("{"):
                    seconds = json.loads(line)["seconds"] if rank == 0 else seconds
                    break
            else:
                raise ImportError(f"spu's party {rank} ended without an answer")
            total, rounds = total + sent, max(rounds, actions)
        return seconds, total, rounds

    def run(self) -> tuple[float, int, int]:
        """One gradient: seconds, bytes of both parties, messages sent by one."""
        for party in self._parties:
            party.stdin.write("run\n")
            party.stdin.flush()
        return self._answers()

    def close(self):
        """End both. Returns G (d, C) as the last run gave it, or None."""
        for party in self._parties:
            party.stdin.close()
        for party in self._parties:
            try:
                party.wait(30)
            except subprocess.TimeoutExpired:
                party.kill()
                party.wait()
            party.stdout.close()
        path = self._folder / "gradient.pkl"
        return pickle.loads(path.read_bytes()) if path.exists() else None


def _shared(path: Path):
    deadline = time.monotonic() + READY_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path.name)
        time.sleep(0.02)
    return pickle.loads(path.read_bytes())


def _put(path: Path, value) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(value))
    part.rename(path)


def main(rank: int, ports: list[str], folder: Path) -> None:
    import jax
    import numpy as np
    import spu
    from spu.utils import frontend

    with np.load(folder / "inputs.npz") as f:
        inputs = {name: f[name].astype(np.float32) for name in ("x", "w", "y")}
    desc = spu.link.Desc()
    for k, port in enumerate(ports):
        desc.add_party(f"party{k}", f"127.0.0.1:{port}")
    link = spu.link.create_brpc(desc, rank)
    config = spu.RuntimeConfig(protocol=spu.ProtocolKind.SEMI2K, field=spu.FieldType.FM64)
    config.enable_pphlo_profile = True  # prints the traffic

    def work(x, w, y):
        g = ((jax.nn.softmax(x @ w, axis=1) - y).T @ x).T / len(x)
        return (g * g).sum(), g

    names, secret = list(inputs), spu.Visibility.VIS_SECRET
    program, _ = frontend.compile(
        frontend.Kind.JAX, work, tuple(inputs.values()), {}, names, [secret] * 3, lambda out: ["norm", "gradient"]
    )
    io, runtime = spu.Io(2, config), spu.Runtime(link, config)
    if rank == 0:
        shares = {name: io.make_shares(value, secret) for name, value in inputs.items()}
        _put(folder / "shares.pkl", {name: pair[1] for name, pair in shares.items()})
        mine = {name: pair[0] for name, pair in shares.items()}
    else:
        mine = _shared(folder / "shares.pkl")
    for name, share in mine.items():
        runtime.set_var(name, share)
    print(json.dumps({"seconds": 0.0}), flush=True)
    for _ in sys.stdin:
        link.barrier()
        start = time.perf_counter()
        runtime.run(program)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    opened = runtime.get_var("gradient")
    if rank == 1:
        _put(folder / "opened.pkl", opened)
    else:
        _put(folder / "gradient.pkl", np.asarray(io.reconstruct([opened, _shared(folder / "opened.pkl")])))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3]))
