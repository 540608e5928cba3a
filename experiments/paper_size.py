"""What a full run of `paper.py` appraises, and a small one: the overrides, and for the small one its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Overrides as Hydra writes them back, for a finished job is known by what it was asked.
L2, MISMATCH_L2, MISSING_L2, TEST_ROWS = "0.003", "0.001", "0.01", 2000
TWO_DIGITS = (0, 8)  # stand in for planes and cars in a small run


@dataclass(frozen=True)
class Size:
    """digits, two_classes: overrides that choose data. seeds; grid_seeds: of figure 4; table_seeds: of table 1's
    fine-tuning. rates, steps: figure 4's axes, in order; table_rates: of table 1."""

    digits: tuple[str, ...]
    two_classes: tuple[str, ...]
    seeds: tuple[int, ...] = tuple(range(5))
    grid_seeds: tuple[int, ...] = (0,)
    table_seeds: tuple[int, ...] = tuple(range(5))
    rates: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    table_rates: tuple[float, ...] = (0.001, 0.1, 10.0)


def full() -> Size:
    return Size(("data=mnist", f"scenario.test_size={TEST_ROWS}"), ("data=cifar10",))


def small(
    work: Path, seeds: int = 2, rates: Sequence[float] = (0.001, 0.1, 10.0), steps: Sequence[int] = (1, 4)
) -> Size:
    """Digits for MNIST; two of them, in CIFAR-10's format, for planes and cars. Nothing is downloaded.

    Each job starts three processes, so one seed of table 1's fine-tuning, and five candidates: minutes in all.
    """
    folder = work / "two-digits"
    write_two_digits(folder)
    two = ("data=cifar10", f"data.root={folder}", "data.train_size=[20,2]", "scenario.candidates=5", "scenario.size=20")
    digits = ("data=digits", "scenario.candidates=5")
    return Size(digits, two, tuple(range(seeds)), (0,), (0,), tuple(rates), tuple(steps), tuple(rates))


def write_two_digits(folder: Path) -> None:
    """Two of scikit-learn's digits as classes 0 and 1 of CIFAR-10's binary files: 8 x 8 pixels made 32 x 32 x 3."""
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    kept = np.isin(labels, TWO_DIGITS)
    pixels = (images[kept] / 16 * 255).astype(np.uint8).reshape(-1, 1, 8, 8)
    pixels = pixels.repeat(3, axis=1).repeat(4, axis=2).repeat(4, axis=3)
    rows = np.concatenate(
        [(labels[kept] == TWO_DIGITS[1])[:, None].astype(np.uint8), pixels.reshape(len(pixels), -1)], 1
    )
    parts = np.array_split(rows, 6)
    for name, part in zip([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"], parts, strict=True):
        (folder / name).write_bytes(part.tobytes())
