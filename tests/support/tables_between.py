"""Small tables of two organisations, and their influence by numpy alone: Newton and the full Hessian."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from processes import DATA_OWNER, DEALER, MODEL_OWNER, Ended, Processes, free_port

NAMES = ("age", "income", "tenure", "balance", "visits")
L2 = 1e-2


def table(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x (n, 5), labels 0..2 of a noisy linear rule: features and labels of one source, in the order of NAMES."""
    r = np.random.default_rng(seed)
    x = np.round(r.normal(size=(n, 5)), 3)
    return x, (x @ np.random.default_rng(99).normal(size=(5, 3)) + 0.5 * r.normal(size=(n, 3))).argmax(1)


def write_table(path: Path, x: np.ndarray, y: np.ndarray, names=NAMES, order=None) -> Path:
    """A CSV of the columns in `order`, by name, the label last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = tuple(names) if order is None else order
    places = [list(names).index(name) for name in order]
    rows = [",".join([*(repr(float(row[k])) for k in places), str(label)]) for row, label in zip(x, y, strict=True)]
    path.write_text("\n".join([",".join([*order, "label"]), *rows]) + "\n")
    return path


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def gradient(x, y, w):
    a = np.c_[x, np.ones(len(x))]
    return a.T @ (softmax(a @ w) - np.eye(w.shape[1])[y])


def hessian(x, w, l2):
    a, c = np.c_[x, np.ones(len(x))], w.shape[1]
    p, h = softmax(a @ w), np.zeros((w.size, w.size))
    for i in range(c):
        for j in range(c):
            h[i::c, j::c] = (a.T * (p[:, i] * ((i == j) - p[:, j]))) @ a / len(a)
    return h + 2 * l2 * np.eye(w.size)


def influence(train, test, seller, classes: int = 3, l2: float = L2) -> float:
    """The value of the seller's rows: their mean gradient against the test rows', through the inverse Hessian."""
    w = np.zeros((train[0].shape[1] + 1, classes))
    for _ in range(100):
        slope = gradient(*train, w) / len(train[0]) + 2 * l2 * w
        w = w - 0.7 * np.linalg.solve(hessian(train[0], w, l2), slope.ravel()).reshape(w.shape)
    of_test = gradient(*test, w).ravel() / len(test[0])
    return float(gradient(*seller, w).ravel() @ np.linalg.solve(hessian(train[0], w, l2), of_test)) / len(seller[0])


def join(processes: Processes, buyer: list[str], seller: list[str], public: list[str] = ()) -> dict[str, Ended]:
    """One session of three processes; how each of them ended."""
    shared = ["session=join", f"session.rendezvous=tcp://127.0.0.1:{free_port()}", "session.join_timeout=90"]
    shared += ["appraisal=influence", f"model.l2={L2}", "party.preflight=no", *public]
    own = {MODEL_OWNER: buyer, DATA_OWNER: seller, DEALER: []}
    started = {role: processes.app(role, *shared, f"session.role={role}", *stated) for role, stated in own.items()}
    return {role: process.wait(240) for role, process in started.items()}
