"""SPU (pip package `spu`), protocol SEMI2K between two processes: a gradient, and one batch of RTAS's models.

The interpreter that has `spu` runs this file, because its jax and numpy may differ from those here; so the file imports
nothing of the package. SPU computes in a ring of 64 bits, by its own fixed point and functions. Its first party is
trusted to make the triples, which are never sent. All inputs are secret and are shared beforehand: neither that nor the
opening is timed.

    python spu_rival.py '{"folder": DIR}'  computes the gradient of the inputs in DIR once for each line that it reads
    python spu_rival.py '{"side": 28, "hidden": 100, "batch": 32, "inferred": 1024, "turns": 3, "lr": 0.1}'
                                           trains on one batch, and infers one, by each model of RTAS

It prints a line of JSON for each gradient, or for each model and operation: the seconds at the slower party (a list
over turns for a model), the bytes by party, and the messages of the busier one; of a gradient also the CPU seconds by
party. If SPU does not tell bytes and messages, both are null. The models' pixels are random, for SPU's cost does not
depend on them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

LOGISTIC, CNN = "logistic regression", "CNN"
FILTERS, KERNEL, STRIDE, CLASSES, SEED = 4, 4, 2, 10, 0
TRAFFIC = re.compile(rb"total send bytes (\d+), recv bytes \d+, send actions (\d+)")
PRECISION = 0.01  # of a prediction, and of a step relative to its largest entry; SPU approximates the sigmoid
ANSWER_SECONDS = 600.0


class Spu:
    """Two SPU parties that are ready to compute gradients. `folder` holds x, w and y as one file, inputs.npz."""

    def __init__(self, python: str, folder: Path):
        """Start them. ImportError tells that `python` cannot import spu."""
        probe = subprocess.run([python, "-c", "import spu"], capture_output=True, text=True, timeout=60)
        if probe.returncode:
            raise ImportError((probe.stderr.strip().splitlines() or ["cannot import spu"])[-1])
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        self._process = subprocess.Popen([python, __file__, json.dumps({"folder": str(folder)})], **pipes)
        self._folder = folder

    def run(self) -> dict[str, Any]:
        """Compute one gradient, and return its cost as `any_build.cost` does; rounds are the messages of one party."""
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ImportError("spu's parties ended without an answer")
        told = json.loads(answer)
        cpu = {f"party {rank}": seconds for rank, seconds in enumerate(told["cpu_seconds"])}
        return {"seconds": told["seconds"], "bytes": sum(told["bytes"] or ()), "rounds": told["rounds"] or 0,
                "cpu_seconds": cpu, "peak_bytes": None}  # fmt: skip

    def close(self) -> np.ndarray | None:
        """End the parties, and return G (d, C) as the last run gave it, or None."""
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        path = self._folder / "gradient.npy"
        return np.load(path) if path.exists() else None


# -- what is computed ----------------------------------------------------------------------------------------------
def gradient(x: Any, w: Any, y: Any) -> tuple:
    """Return the gradient of a softmax regression, and its squared norm."""
    import jax

    g = ((jax.nn.softmax(x @ w, axis=1) - y).T @ x).T / len(x)
    return (g * g).sum(), g


def output(weights: tuple[Any, ...], x: Any, side: int, training: bool) -> Any:
    """Return a_L, where a_l is relu or sigmoid of a_{l-1} W_l + b_l. `weights` are weight, bias, weight and so on.

    The first layer of the CNN is a convolution by patches, for SPU takes several times as long to derive its own one.
    """
    import jax
    from jax import numpy as jnp

    a = x
    if len(weights) > 2:
        images, reach = x.reshape(-1, side, side), side - KERNEL + 1
        shifts = [(i, j) for i in range(KERNEL) for j in range(KERNEL)]
        windows = [
            jax.lax.slice(images, (0, i, j), (len(x), i + reach, j + reach), (1, STRIDE, STRIDE)) for i, j in shifts
        ]
        # A step goes image by image: in one product it has half the messages, and takes SPU several times as long.
        w = jnp.broadcast_to(weights[0], (len(x), *weights[0].shape)) if training else weights[0]
        z = jnp.stack(windows, 3).reshape(len(x), -1, len(shifts)) @ w + weights[1]
        a, weights = jax.nn.relu(z).reshape(len(x), -1), weights[2:]
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        a = jax.nn.sigmoid(a @ w + b)
    return a


def predicted(x: Any, *weights: Any, side: int) -> tuple:
    return (output(weights, x, side, False),)


def stepped(x: Any, y: Any, *weights: Any, side: int, lr: float) -> tuple:
    """Return W - lr d/dW of the mean over rows of the sum over outputs of (a_L - y)^2."""
    import jax

    def loss(w: tuple[Any, ...]) -> Any:
        return ((output(w, x, side, True) - y) ** 2).sum() / len(x)

    return tuple(p - lr * g for p, g in zip(weights, jax.grad(loss)(weights), strict=True))


def initial(model: str, side: int, hidden: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Draw weight, bias, weight and so on. Weights are Glorot's uniform ones; a convolution's is (k k, filters)."""
    after = FILTERS * ((side - KERNEL) // STRIDE + 1) ** 2
    shapes = [(side * side, 1)]
    if model == CNN:
        shapes = [(KERNEL * KERNEL, FILTERS), (after, hidden), (hidden, CLASSES)]
    limits = [np.sqrt(6 / sum(shape)) for shape in shapes]
    pairs = [
        (draw.uniform(-limit, limit, shape), np.zeros(shape[1])) for limit, shape in zip(limits, shapes, strict=True)
    ]
    return [p.astype(np.float32) for pair in pairs for p in pair]


# -- on shares -----------------------------------------------------------------------------------------------------
def runtime_config() -> Any:
    import spu

    config = spu.RuntimeConfig(protocol=spu.ProtocolKind.SEMI2K, field=spu.FieldType.FM64)
    config.enable_pphlo_profile = True  # SPU prints its traffic
    return config


def party(rank: int, ports: list[int], pipe: Connection, work: Callable, blank: dict[str, np.ndarray]) -> None:
    """Send seconds, CPU seconds, bytes and messages of every turn, and at the end the shares of the results."""
    import spu
    from spu.utils import frontend

    log = tempfile.TemporaryFile()  # noqa: SIM115, kept to the end
    os.dup2(log.fileno(), 1)
    desc = spu.link.Desc()
    for k, port in enumerate(ports):
        desc.add_party(f"party{k}", f"127.0.0.1:{port}")
    link = spu.link.create_brpc(desc, rank)
    made, _ = frontend.compile(
        frontend.Kind.JAX, work, tuple(blank.values()), {}, list(blank), [spu.Visibility.VIS_SECRET] * len(blank),
        lambda out: [f"out{k}" for k in range(len(out))],
    )  # fmt: skip
    runtime = spu.Runtime(link, runtime_config())
    for name, share in pipe.recv().items():
        runtime.set_var(name, share)
    while pipe.recv():
        at = os.fstat(log.fileno()).st_size
        link.barrier()
        start, used = time.perf_counter(), time.process_time()
        runtime.run(made)
        seconds, cpu = time.perf_counter() - start, time.process_time() - used
        found = TRAFFIC.findall(os.pread(log.fileno(), 1 << 24, at))
        pipe.send((seconds, cpu, *map(int, found[-1] if found else (-1, -1))))
    pipe.send([runtime.get_var(name) for name in made.output_names])
    pipe.recv()


class Parties:
    """Two processes that hold shares of the inputs of `work`. RuntimeError tells that a party ended early."""

    def __init__(self, pipes: list[Connection], io: Any):
        self._pipes, self._io = pipes, io

    def send(self, *messages: Any) -> None:
        for pipe, message in zip(self._pipes, messages, strict=True):
            pipe.send(message)

    def heard(self) -> list[Any]:
        try:
            if all(pipe.poll(ANSWER_SECONDS) for pipe in self._pipes):
                return [pipe.recv() for pipe in self._pipes]
        except EOFError:
            raise RuntimeError("a party of SPU ended without an answer") from None
        raise RuntimeError(f"a party of SPU is silent for {ANSWER_SECONDS:g} s")

    def turn(self) -> dict[str, Any]:
        """Compute once, and return what it cost."""
        self.send(True, True)
        seconds, cpu, sent, messages = zip(*self.heard(), strict=True)
        silent = min(sent) < 0
        told = {"bytes": None if silent else list(sent), "rounds": None if silent else max(messages)}
        return {"seconds": round(max(seconds), 6), "cpu_seconds": list(cpu)} | told

    def opened(self) -> list[np.ndarray]:
        """Return the results of the last turn; after it there is no other."""
        self.send(False, False)
        return [np.asarray(self._io.reconstruct(list(pair))) for pair in zip(*self.heard(), strict=True)]


@contextmanager
def parties(work: Callable, inputs: dict[str, np.ndarray]) -> Iterator[Parties]:
    """Start both processes, give each its shares, and end them."""
    import spu

    io = spu.Io(2, runtime_config())
    shares = {name: io.make_shares(value, spu.Visibility.VIS_SECRET) for name, value in inputs.items()}
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    blank = {name: np.zeros_like(value) for name, value in inputs.items()}  # what the program is compiled with
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in range(2)]
    started = [
        context.Process(target=party, args=(rank, ports, there, work, blank), daemon=True)
        for rank, (_, there) in enumerate(ends)
    ]
    try:
        for process, (_, there) in zip(started, ends, strict=True):
            process.start()
            there.close()
        found = Parties([here for here, _ in ends], io)
        found.send(*({name: pair[rank] for name, pair in shares.items()} for rank in range(2)))
        yield found
        found.send(None, None)
    finally:
        for process in started:
            process.join(5)
            process.kill()


def gradients(folder: str) -> None:
    """Compute one gradient for each line of standard input, and keep the last one in gradient.npy."""
    with np.load(Path(folder, "inputs.npz")) as file:
        inputs = {name: file[name].astype(np.float32) for name in ("x", "w", "y")}
    with parties(gradient, inputs) as both:
        for _ in sys.stdin:
            print(json.dumps(both.turn()), flush=True)
        np.save(Path(folder, "gradient.npy"), both.opened()[1])


def batches(side: int, hidden: int, batch: int, inferred: int, turns: int, lr: float) -> None:
    """Train on a batch and infer one by each model, after a turn that warms up, and compare the results with jax's."""
    draw = np.random.default_rng(SEED)
    for model in (LOGISTIC, CNN):
        weights, outputs = initial(model, side, hidden, draw), 1 if model == LOGISTIC else CLASSES
        for operation, rows in (("train", batch), ("infer", batch if model == LOGISTIC else inferred)):
            x = draw.uniform(0, 1, (rows, side * side)).astype(np.float32)
            y = np.eye(outputs + 1, dtype=np.float32)[draw.integers(0, outputs + 1, rows), :outputs]
            inputs, work = {"x": x}, partial(predicted, side=side)
            if operation == "train":
                inputs, work = {"x": x, "y": y}, partial(stepped, side=side, lr=lr)
            inputs |= {f"w{k}": p for k, p in enumerate(weights)}
            with parties(work, inputs) as both:
                told = [both.turn() for _ in range(turns + 1)][1:]
                opened = both.opened()
            exact = [np.asarray(p, dtype=np.float64) for p in work(*inputs.values())]
            before = weights if operation == "train" else [p - 1 for p in exact]
            scale = max(np.abs(t - p).max() for t, p in zip(exact, before, strict=True))
            error = max(float(np.abs(o - t).max()) for o, t in zip(opened, exact, strict=True)) / scale
            if not error < PRECISION:
                raise AssertionError(f"SPU's {model}, {operation}, is off by {error:.1%}")
            print(f"{model}, {operation}: off by {error:.2%}", file=sys.stderr)
            last = {key: value for key, value in told[-1].items() if key != "cpu_seconds"}
            row = {"model": model, "operation": operation, "batch": rows, **last}
            print(json.dumps(row | {"seconds": [turn["seconds"] for turn in told]}), flush=True)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    (gradients if "folder" in asked else batches)(**asked)
