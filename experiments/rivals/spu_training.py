"""SPU (pip package `spu`), protocol SEMI2K between two processes, on one batch of RTAS's models: a step, a prediction.

    a_l = relu or sigmoid of a_{l-1} W_l + b_l,   W <- W - lr d/dW mean over rows of sum over outputs (a_L - y)^2

This file is run by the interpreter that has `spu`, whose jax and numpy may differ from those here, so it imports
nothing of the package. Ring of 64 bits, SPU's own fixed point and functions. Its first party is trusted to make the
triples, which are never sent. All inputs are secret and are shared beforehand: that, and the opening, is not timed.
Pixels are random, for SPU's cost does not depend on them. Results are compared with numpy's.

    python spu_training.py '{"side": 28, "hidden": 100, "batch": 32, "inferred": 1024, "turns": 3, "lr": 0.1}'

prints a JSON line for each model and operation: seconds of every turn at the slower party, bytes by party and messages
of the busier one, both null where SPU does not tell.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

LOGISTIC, CNN = "logistic regression", "CNN"
FILTERS, KERNEL, STRIDE, CLASSES, SEED = 4, 4, 2, 10, 0
TRAFFIC = re.compile(rb"total send bytes (\d+), recv bytes \d+, send actions (\d+)")
PRECISION = 0.01  # of a prediction, and of a step relative to its largest entry; SPU approximates the sigmoid
ANSWER_SECONDS = 600.0


# -- in the clear --------------------------------------------------------------------------------------------------
def initial(model: str, side: int, hidden: int, draw: np.random.Generator) -> list[np.ndarray]:
    """Weight, bias, weight, bias, ...; Glorot's uniform weights. A convolution's is (k k, filters)."""
    after = FILTERS * ((side - KERNEL) // STRIDE + 1) ** 2
    shapes = [(side * side, 1)]
    if model == CNN:
        shapes = [(KERNEL * KERNEL, FILTERS), (after, hidden), (hidden, CLASSES)]
    found = []
    for shape in shapes:
        limit = np.sqrt(6 / sum(shape))
        found += [draw.uniform(-limit, limit, shape), np.zeros(shape[1])]
    return [p.astype(np.float32) for p in found]


def patches(x: np.ndarray, side: int) -> np.ndarray:
    """(n, positions, k k) of x (n, side side)."""
    images = x.reshape(-1, side, side)
    windows = np.lib.stride_tricks.sliding_window_view(images, (KERNEL, KERNEL), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
    return windows.reshape(len(x), -1, KERNEL * KERNEL)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def predicted(weights: list[np.ndarray], x: np.ndarray, side: int) -> list[np.ndarray]:
    """Every layer's input, then the output; float64. The first of the CNN's are patches."""
    if len(weights) == 2:
        return [x, sigmoid(x @ weights[0] + weights[1])]
    first = patches(x, side)
    a = np.maximum(first @ weights[0] + weights[1], 0).reshape(len(x), -1)
    b = sigmoid(a @ weights[2] + weights[3])
    return [first, a, b, sigmoid(b @ weights[4] + weights[5])]


def stepped(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, lr: float, side: int) -> list[np.ndarray]:
    *inputs, output = predicted(weights, x, side)
    g, gradients = 2 / len(x) * (output - y) * output * (1 - output), []
    for place in range(len(inputs) - 1, 0, -1):
        a = inputs[place]
        gradients = [a.T @ g, g.sum(0), *gradients]
        g = (g @ weights[2 * place].T) * (a * (1 - a) if place > 1 else a > 0)
    first = inputs[0].reshape(-1, inputs[0].shape[-1])
    g = g.reshape(len(first), -1)
    return [p - lr * d for p, d in zip(weights, [first.T @ g, g.sum(0), *gradients], strict=True)]


# -- on shares -----------------------------------------------------------------------------------------------------
def program(model: str, side: int, lr: float | None) -> Any:
    """For SPU: what predicts, or with lr what does a step."""
    import jax
    from jax import numpy as jnp

    def output(weights: list[Any], x: Any) -> Any:
        a, places = x, range(0, len(weights), 2)
        for k in places:
            if model == CNN and not k:
                # by patches: SPU's own convolution takes several times as long to derive
                images, reach = x.reshape(-1, side, side), side - KERNEL + 1
                shifts = [(i, j) for i in range(KERNEL) for j in range(KERNEL)]
                windows = [
                    jax.lax.slice(images, (0, i, j), (len(x), i + reach, j + reach), (1, STRIDE, STRIDE))
                    for i, j in shifts
                ]
                # a step image by image: in one product it has half the messages, and takes SPU several times as long
                w = jnp.broadcast_to(weights[0], (len(x), *weights[0].shape)) if lr else weights[0]
                z = jnp.stack(windows, 3).reshape(len(x), -1, len(shifts)) @ w + weights[1]
                a = jax.nn.relu(z).reshape(len(x), -1)
            else:
                a = jax.nn.sigmoid(a @ weights[k] + weights[k + 1])
        return a

    def step(x: Any, y: Any, *weights: Any) -> tuple:
        gradients = jax.grad(lambda w: ((output(w, x) - y) ** 2).sum() / len(x))(list(weights))
        return tuple(p - lr * g for p, g in zip(weights, gradients, strict=True))

    return step if lr else lambda x, *weights: (output(list(weights), x),)


def party(rank: int, ports: list[int], pipe: Connection, blank: dict[str, Any], stated: tuple, turns: int) -> None:
    """Sends (seconds, bytes, messages) of every turn, then its shares of the results."""
    import spu
    from spu.utils import frontend

    log = tempfile.TemporaryFile()  # noqa: SIM115, kept to the end
    os.dup2(log.fileno(), 1)  # SPU prints its traffic
    desc = spu.link.Desc()
    for k, port in enumerate(ports):
        desc.add_party(f"party{k}", f"127.0.0.1:{port}")
    link = spu.link.create_brpc(desc, rank)
    config = spu.RuntimeConfig(protocol=spu.ProtocolKind.SEMI2K, field=spu.FieldType.FM64)
    config.enable_pphlo_profile = True
    secret = spu.Visibility.VIS_SECRET
    made, _ = frontend.compile(
        frontend.Kind.JAX, program(*stated), tuple(blank.values()), {}, list(blank), [secret] * len(blank),
        lambda out: [f"out{k}" for k in range(len(out))],
    )  # fmt: skip
    runtime = spu.Runtime(link, config)
    for name, share in pipe.recv().items():
        runtime.set_var(name, share)
    for _ in range(turns):
        at = os.fstat(log.fileno()).st_size
        link.barrier()
        start = time.perf_counter()
        runtime.run(made)
        seconds = time.perf_counter() - start
        found = TRAFFIC.findall(os.pread(log.fileno(), 1 << 24, at))
        pipe.send((seconds, *map(int, found[-1] if found else (-1, -1))))
    pipe.send([runtime.get_var(name) for name in made.output_names])
    pipe.recv()


def run(inputs: dict[str, np.ndarray], stated: tuple, turns: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The row's figures, after a turn that warms up, and results. RuntimeError where a party ends early."""
    import spu

    config = spu.RuntimeConfig(protocol=spu.ProtocolKind.SEMI2K, field=spu.FieldType.FM64)
    io = spu.Io(2, config)
    shares = {name: io.make_shares(value, spu.Visibility.VIS_SECRET) for name, value in inputs.items()}
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    blank = {name: np.zeros_like(value) for name, value in inputs.items()}  # to compile with
    context, pipes, parties = multiprocessing.get_context("spawn"), [], []
    try:
        for rank in range(2):
            here, there = context.Pipe()
            work = (rank, ports, there, blank, stated, turns + 1)
            parties.append(context.Process(target=party, args=work, daemon=True))
            parties[-1].start()
            there.close()
            pipes.append(here)
        for rank, pipe in enumerate(pipes):
            pipe.send({name: pair[rank] for name, pair in shares.items()})
        told = [[_next(pipe) for pipe in pipes] for _ in range(turns + 1)][1:]
        opened = [np.asarray(io.reconstruct(list(pair))) for pair in zip(*map(_next, pipes), strict=True)]
        for pipe in pipes:
            pipe.send(None)
    finally:
        for one in parties:
            one.join(5)
            one.kill()
    sent, messages = [of[1] for of in told[-1]], max(of[2] for of in told[-1])
    silent = min(sent) < 0
    row = {"seconds": [round(max(of[0] for of in turn), 6) for turn in told]}
    return row | {"bytes": None if silent else sent, "rounds": None if silent else messages}, opened


def _next(pipe: Connection) -> Any:
    if not pipe.poll(ANSWER_SECONDS):
        raise RuntimeError(f"a party of SPU is silent for {ANSWER_SECONDS:g} s")
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError("a party of SPU ended without an answer") from None


def main(side: int, hidden: int, batch: int, inferred: int, turns: int, lr: float) -> None:
    draw = np.random.default_rng(SEED)
    for model in (LOGISTIC, CNN):
        weights, outputs = initial(model, side, hidden, draw), 1 if model == LOGISTIC else CLASSES
        named = {f"w{k}": p for k, p in enumerate(weights)}
        exact = [p.astype(np.float64) for p in weights]
        for operation, rows in (("train", batch), ("infer", batch if model == LOGISTIC else inferred)):
            x = draw.uniform(0, 1, (rows, side * side)).astype(np.float32)
            y = np.eye(outputs + 1, dtype=np.float32)[draw.integers(0, outputs + 1, rows), :outputs]
            given = {"x": x} | ({"y": y} if operation == "train" else {}) | named
            row, opened = run(given, (model, side, lr if operation == "train" else None), turns)
            if operation == "train":
                true = stepped(exact, x, y, lr, side)
                scale = max(np.abs(t - p).max() for t, p in zip(true, exact, strict=True))
            else:
                true, scale = predicted(exact, x, side)[-1:], 1.0
            error = max(float(np.abs(o.reshape(t.shape) - t).max()) for o, t in zip(opened, true, strict=True)) / scale
            if not error < PRECISION:
                raise AssertionError(f"SPU's {model}, {operation}, is off by {error:.1%}")
            print(f"{model}, {operation}: off by {error:.2%}", file=sys.stderr)
            print(json.dumps({"model": model, "operation": operation, "batch": rows, **row}), flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
