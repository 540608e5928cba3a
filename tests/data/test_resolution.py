"""What a data set's resolution is, and that a wrong statement of it is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Resolution, resolution_of, rounding_of
from mpc_appraisal.data.resolution import SCALES, rounded

RANDOM = np.random.default_rng(3)


def rows(x) -> Dataset:
    return Dataset.of(np.asarray(x), np.arange(len(x)) % 2, 2, "rows")


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_integers_of_every_scale_are_found_again(kind):
    for scale in SCALES:
        for most in (1, scale, 255, 65535):
            k = RANDOM.integers(-most, most + 1, (700, 5))
            k[-1, -1], k[0] = most, 1
            for x in (k.astype(kind) / kind(scale), k.astype(kind) * (kind(1) / kind(scale))):
                found = resolution_of([rows(x)])
                assert found == Resolution(scale, max(most, scale).bit_length())
                integers = found.integers(torch.from_numpy(x), "rows")
                assert integers.tolist() == [[*row, scale] for row in k.tolist()]
                assert integers.dtype == (torch.uint8 if k.min() >= 0 and max(most, scale) < 256 else torch.int32)


@pytest.mark.parametrize("late", [-1, -255])
def test_integers_that_fit_a_byte_in_the_first_rows_alone(late):
    k = RANDOM.integers(0, 256, (1500, 3))
    k[1400, 1] = late
    integers = Resolution(255, 8).integers(torch.from_numpy(k / 255), "rows")
    assert integers.dtype == torch.int32 and integers.tolist() == [[*row, 255] for row in k.tolist()]


def test_one_resolution_for_several_sets():
    pixels, bits, floats = RANDOM.integers(0, 256, (9, 3)) / 255, np.eye(3), RANDOM.normal(size=(9, 3))
    pixels[0, 0] = 1 / 255
    assert resolution_of([rows(pixels)]) == Resolution(255, 8)
    assert resolution_of([rows(bits), rows(pixels)]) == Resolution(255, 8)
    assert resolution_of([rows(bits)]) == Resolution(1, 1)
    assert resolution_of([rows(bits), rows(floats)]) is None
    for off in ("off", None, False):
        assert resolution_of([rows(bits)], off) is None
    assert resolution_of([rows(np.full((4, 2), 65536.0))]) is None  # more than 16 bits


def test_a_number_off_the_grid_hides_nowhere():
    x = RANDOM.integers(0, 256, (2000, 4)) / 255
    x[1999, 3] += 1e-6
    assert resolution_of([rows(x)]) is None
    with pytest.raises(InputError, match="party.resolution: got the number 0?.*expected k / 255"):
        resolution_of([rows(x)], 255)
    whole = RANDOM.integers(0, 2**15, (50, 4)).astype(np.float64)
    whole[3, 1] = 40000.004  # near a whole number, as a float32 might be; but those are exact
    assert resolution_of([rows(whole)]) != Resolution(1, 16)


def test_numbers_are_rounded_to_bits_of_a_range():
    x = RANDOM.uniform(-4, 4, (900, 3))
    stated = {"bits": 8, "range": 4.0}
    found = rounding_of(stated)
    assert found == Resolution(63, 8) == resolution_of([rows(x)], stated)
    near = rounded(torch.from_numpy(x), found, "rows")
    assert float((near - torch.from_numpy(x)).abs().max()) <= 0.5 / 63 * (1 + 1e-9)
    assert torch.equal(rounded(near, found, "rows"), near)
    assert int(found.integers(near, "rows").abs().max()) < 2**8
    x[7, 1] = 4.2
    with pytest.raises(InputError, match="rows: party.resolution: got a number of 4.2; expected"):
        resolution_of([rows(x)], stated)


@pytest.mark.parametrize("stated", [
    "on", 0.5, -1, 2**16, True, [255], {"bits": 8}, {"bits": 0, "range": 1}, {"bits": 17, "range": 1},
    {"bits": 8, "range": 0}, {"bits": 8, "range": 256}, {"bits": 8, "range": float("nan")}, {"bits": 8, "range": True},
])  # fmt: skip
def test_other_statements_are_refused(stated):
    with pytest.raises(InputError, match="party.resolution"):
        resolution_of([rows(np.eye(2))], stated)


def test_the_facts_of_a_resolution():
    assert Resolution(255, 8).ratio == 255 / 256 and Resolution(16, 5).ratio == 1 and Resolution(1, 1).ratio == 1
    assert Resolution(255, 8).words == "every number of the data is k / 255 for an integer k of at most 8 bits"
    for scale, bits in ((0, 8), (256, 8), (1, 0), (1, 17), (True, 8)):
        with pytest.raises(InputError, match="party.resolution"):
            Resolution(scale, bits)
