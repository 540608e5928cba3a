"""Readers of models, networks and records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from fuzz_registry import of_file, saved

from mpc_appraisal.data import Layers
from mpc_appraisal.marketplace.record import MarketRecord
from mpc_appraisal.models.networks import Architecture, Dense, Network, initial
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.reporting.record import Record, read

SMALL = Architecture("small", (1, 4, 4), (Dense(3), Dense(2)))
RECORD = Record("influence", "a", 0.5, n=3, seconds={"fit": 1.0}, bytes_sent={"dealer": 3}, versions={"python": "3"})
MODEL = SoftmaxRegression(torch.arange(8, dtype=torch.float64).reshape(4, 2) / 8, 0.1)
LAYERS = {"w0": np.ones((3, 2)), "b0": np.zeros(2)}


def market_record(folder: Path) -> list[bytes]:
    facts = dict.fromkeys(record_keys(), 0) | {"kind": record_kind()}
    return [json.dumps(facts).encode() + b"\n"]


def record_keys() -> set[str]:
    from mpc_appraisal.marketplace.record import KEYS

    return KEYS


def record_kind() -> str:
    from mpc_appraisal.marketplace.record import KIND

    return KIND


of_file("model", ".npz", saved(MODEL.save, ".npz"), SoftmaxRegression.load)
of_file("network", ".npz", saved(initial(SMALL, 0).save, ".npz"), Network.load)
of_file("extractor", ".npz", saved(lambda p: np.savez(p, **LAYERS), ".npz"), lambda path: Layers(str(path)).digest)
of_file("record", ".jsonl", lambda folder: [(RECORD.to_json() + "\n").encode(), RECORD.to_json().encode()[:0]], read)
of_file("market record", ".jsonl", market_record, MarketRecord.read)
