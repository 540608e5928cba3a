"""Private matrices in narrow rings: products are those of big integers, and what is sent of them is uniform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from three import private, run

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols.dealer import Dealer
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.ring.narrow import WIDTHS

RANDOM = np.random.default_rng(11)


def uniform(*shape: int) -> torch.Tensor:
    values = torch.from_numpy(RANDOM.integers(-(2**63), 2**63, shape, dtype=np.int64))
    extremes = torch.tensor([2**63 - 1, -(2**63), -1, 2**47, 2**39 - 1, 2**31])
    values.view(-1)[: len(extremes)] = extremes[: values.numel()]
    return values


def exact(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    """The product in Python's integers."""
    return np.array(left.tolist(), dtype=object).dot(np.array(right.tolist(), dtype=object))


def known(engine, owner: int, values: torch.Tensor) -> torch.Tensor | None:
    if engine.me != owner:
        return None
    return torch.empty(values.shape, dtype=values.dtype, device="meta") if engine.dry else values


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("owner", [0, 1])
def test_products_are_those_of_big_integers(bits, owner):
    pixels = torch.from_numpy(RANDOM.integers(0, 256, (23, 9), dtype=np.uint8))
    signed = torch.from_numpy(RANDOM.integers(-(2**16), 2**16, (23, 9), dtype=np.int32))
    pixels[0] = 255
    w, r, index = uniform(9, 6), uniform(23, 6), torch.tensor([22, 0, 0, 5])
    halves = uniform(23, 6)

    def program(engine):
        out = []
        right = engine.mask(1 - owner, known(engine, 1 - owner, w), w.shape, bits)
        wide = engine.mask(1 - owner, known(engine, 1 - owner, w), w.shape)
        tall = engine.mask(1 - owner, known(engine, 1 - owner, r), r.shape, bits)
        for x in (pixels, signed):
            left = engine.mask(owner, known(engine, owner, x), x.shape, bits)
            out += [engine.product(left, right), engine.product(left, wide), engine.product(left, tall, True)]
            out.append(engine.product(engine.rows(left, index), right))
            share = (halves if engine.me == 0 else r - halves) if not engine.dry else halves.to("meta")
            out.append(engine.product_with_shared(left, share, True))
            engine.free(left)
        return out

    done = run(program)
    wanted = []
    for x in (pixels, signed):
        wanted += [exact(x, w), exact(x, w), exact(x.t(), r), exact(x[index], w), exact(x.t(), r)]
    for a, b, right in zip(*done.results, wanted, strict=True):
        assert ((np.array((a + b).tolist(), dtype=object) - right) % 2**bits == 0).all()


@pytest.mark.parametrize("bits", WIDTHS)
def test_what_is_sent_is_uniform_and_as_short_as_stated(bits):
    """Two matrices that differ wildly give messages whose bytes are uniform, and independent of the matrix."""
    size, messages = bits // 8, []
    for fill in (0, 255):
        x = torch.full((300, 40), fill, dtype=torch.uint8)
        done = run(lambda engine, x=x: engine.mask(1, known(engine, 1, x), x.shape, bits))
        (message,) = done.seen[0]
        assert message.dtype == torch.uint8 and message.numel() == size * x.numel()
        messages.append(message.numpy())
        assert chisquare(np.bincount(messages[-1], minlength=256)).pvalue > 1e-6
    assert chisquare(np.bincount(messages[0] ^ messages[1], minlength=256)).pvalue > 1e-6


def test_the_dealer_refuses_other_widths():
    for bits in (0, 8, 33, 56, 72, True, "40", None):
        with pytest.raises(AppraisalError, match="expected one of"):
            measured([["mask", 1, 1, [4, 3], bits]])
        with pytest.raises(AppraisalError, match="expected one of"):
            Dealer([bytes(32)] * 2, lambda tensor: None).run([["mask", 1, 1, [4, 3], bits]], lambda: None)


def test_a_matrix_of_64_bits_is_asked_for_as_before():
    values = torch.zeros(3, 2, dtype=torch.float64)
    done = run(lambda engine: private(engine, 1, values).masked())
    assert done.dry.script == [["mask", 1, 1, [3, 2]]]
