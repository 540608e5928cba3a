"""The registry of readers that `fuzz` mutates the inputs of, and how a file of tests enters one.

A `Reader` has a name, valid inputs, and a function that reads an input. `of_file` enters a reader of one file and
`of_bytes` a reader of bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).round(3), np.arange(12) % 3
HASH = "a1" * 32


@dataclass(frozen=True)
class Reader:
    """One reader, and inputs for it.

    Attributes:
        name: The reader's name.
        seeds: It makes valid inputs, in a folder that `read` gets too.
        read: It reads an input.
        few: The number of mutants that continuous integration tries. With 0 it tries a few, and none may be refused.
    """

    name: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], Any]
    few: int = 12


READERS: list[Reader] = []


def of_file(name: str, suffix: str, make: Callable[[Path], list[bytes]], read_file: Callable[[Path], Any], few=12):
    """Enter a reader of one file."""

    def read_bytes(data: bytes, folder: Path) -> Any:
        path = folder / f"mutant{suffix}"
        path.write_bytes(data)
        return read_file(path)

    READERS.append(Reader(name, make, read_bytes, few))


def of_bytes(name: str, make: Callable[[Path], list[bytes]], read_bytes: Callable[[bytes], Any], few=12) -> None:
    """Enter a reader of bytes."""
    READERS.append(Reader(name, make, lambda data, folder: read_bytes(data), few))


def saved(save: Callable[[Path], Any], *suffixes: str) -> Callable[[Path], list[bytes]]:
    """Return a maker of inputs that a function writes to a path."""

    def make(folder: Path) -> list[bytes]:
        found = []
        for suffix in suffixes:
            path = folder / f"seed{suffix}"
            save(path)
            found.append(path.read_bytes())
        return found

    return make


def as_json(*values: Any) -> Callable[[Path], list[bytes]]:
    return lambda folder: [json.dumps(value).encode() for value in values]
