"""Private matrices in narrow rings: products are those of big integers, and what is sent of them is uniform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from three import private, run

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols.dealer import Dealer
from mpc_appraisal.mpc.protocols.grid import GATHERED, Grid, GridTensor, NarrowSecret, NarrowSum, grid_of, lifted
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.protocols.softmax_plan import Z_BITS, exponent_step, plan
from mpc_appraisal.mpc.protocols.tensors import Context
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
        assert chisquare(np.bincount(messages[-1], minlength=256)).pvalue > 1e-10
    assert chisquare(np.bincount(messages[0] ^ messages[1], minlength=256)).pvalue > 1e-10


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


def gridded(engine, owner: int, whole: torch.Tensor, grid: Grid, bound: float) -> GridTensor:
    return GridTensor(Context(engine, bound), owner, known(engine, owner, whole), whole.shape, "x", grid)


@pytest.mark.parametrize("ring", WIDTHS)
def test_lifted_shares_are_exact_to_the_edges(ring):
    edge = 2 ** (ring - 2)
    v = torch.tensor([edge - 1, -edge, 0, -1, 1, edge // 3] * 50)
    r = uniform(len(v))
    share = lambda engine: r.to("meta") if engine.dry else (r if engine.me == 0 else v - r)  # noqa: E731
    for cut in (0, 5, ring - 20):
        done = run(lambda engine, cut=cut: lifted(engine, share(engine), ring, cut))
        error = done.results[0] + done.results[1] - (v >> cut)
        assert set(error.tolist()) <= ({0} if cut == 0 else {0, 1})
        rounds = done.engines[1].channel.meter.rounds
        assert rounds == 1


@pytest.mark.parametrize("scale, bits, rows, outputs, bound, ring", [
    (255, 8, 5940, 10, 16.0, 40),
    (255, 8, 8192, 10, 16.0, 40),
    (255, 8, 1 << 15, 10, 16.0, 48),
    (16, 5, 100, 10, 16.0, 40),
    (1, 1, 1000, 10, 16.0, 32),
    (1, 1, 1000, 1, 16.0, 32),
    (1000, 16, 8192, 10, 16.0, 48),
    (255, 8, 5940, 10, 256.0, 48),
    (255, 16, 1 << 20, 10, 256.0, 64),
])  # fmt: skip
def test_the_ring_holds_the_largest_products(scale, bits, rows, outputs, bound, ring):
    grid = grid_of(scale, bits, rows, outputs, bound)
    assert grid.ring == ring and 2**grid.fraction >= scale
    classes, largest = max(outputs, 2), bound * (2 if outputs == 1 else 1)
    assert 2 * classes * largest * 2.0 ** (grid.fraction + grid.weight_bits) <= 2.0 ** (ring - 2)
    how = plan(classes, bound)
    unit = 2.0 ** -(how.doublings + how.roots + grid.fraction + grid.weight_bits) / classes
    drop, _ = exponent_step(unit, how.reach)
    assert outputs == 1 or drop + Z_BITS <= ring
    assert rows * (2**bits - 1) * 2**16 < 2 ** (ring - 2) and grid.weight_bits >= 20


@pytest.mark.parametrize("outputs", [1, 2, 10, 23])
def test_a_gradient_in_a_narrow_ring_is_that_of_float64(outputs):
    """The largest pixels, logits at the bound and residuals of size 1: the sums that the ring has to hold."""
    n, d, bound = 600, 30, 8.0
    pixels = torch.from_numpy(RANDOM.integers(0, 256, (n, d), dtype=np.uint8))
    pixels[: n // 2] = 255
    x = pixels.double() / 256
    w = torch.from_numpy(RANDOM.normal(0, 1, (d, outputs)))
    w = w - w.mean(1, keepdim=True) if outputs > 1 else w
    reach = bound if outputs > 1 else 2 * bound
    w *= reach / float((x @ w).abs().max())
    y = torch.zeros(n, outputs, dtype=torch.float64)
    y[:, 0] = 1
    grid = grid_of(255, 8, n, outputs, bound)

    def program(engine):
        left = gridded(engine, 1, pixels, grid, bound)
        right, labels = private(engine, 0, w, bound), private(engine, 1, y, bound)
        z = left.matmul(right)
        p = z.softmax(1) if outputs > 1 else z.sigmoid()
        residual = p - labels
        gradient = residual.t().matmul(left).t()
        assert isinstance(z, NarrowSecret) and isinstance(gradient, NarrowSecret)
        few = left[torch.tensor([5, 0])].matmul(right)
        return z.share, few.share, residual.share, gradient.share, (gradient / 1024.0).to_bits(18).share

    done = run(program)
    z, few, residual, gradient, cut = (a + b for a, b in zip(*done.results, strict=True))
    rounded = torch.round(w * 2.0**grid.weight_bits).to(torch.int64)
    assert torch.equal(z, pixels.long() @ rounded)  # both mod 2^64: nothing has wrapped
    assert torch.equal(few, pixels[[5, 0]].long() @ rounded)
    assert torch.equal(gradient, pixels.long().t() @ residual)
    plain = (x @ w).softmax(1) if outputs > 1 else (x @ w).sigmoid()
    assert torch.allclose(residual.double() / 2**16, plain - y, atol=4e-4)
    exact_cut = gradient.double() / 2.0 ** (24 + 10) * 2.0**18
    assert float((cut.double() - exact_cut).abs().max()) <= 1


@pytest.mark.parametrize("ring", WIDTHS)
@pytest.mark.parametrize("bits", [18, 25])
def test_a_narrow_tensor_is_multiplied_and_squared_in_one_round(ring, bits):
    """Numbers to the edges of the ring; where bits are cut, the factor is one of the two integers beside v / 2^cut."""
    edge, cut = 2 ** (ring - 2), bits - 18
    v = torch.tensor([edge - 1, -edge, 0, -1, 1, edge // 3] * 50)
    r, factor = uniform(len(v)), torch.from_numpy(RANDOM.normal(0, 300, len(v)))
    other = [int(k) for k in torch.round(factor * 2.0**16)]

    def program(engine, form):
        share = r.to("meta") if engine.dry else (r if engine.me == 0 else v - r)
        x, w = NarrowSecret(Context(engine, 1.0), share, bits, ring), private(engine, 0, factor)
        found = {"private": lambda: x * w, "shared": lambda: x * w.secret(), "square": lambda: x.square()}[form]()
        assert found.bits == 18 + (18 if form == "square" else 16)
        return found.share

    for form in ("private", "shared", "square"):
        done = run(lambda engine, form=form: program(engine, form))
        assert done.engines[1].channel.meter.rounds == done.dry.channel.meter.rounds == 1
        found = (done.results[0] + done.results[1]).tolist()
        for got, exact_v, w in zip(found, v.tolist(), other, strict=True):
            near = [(exact_v >> cut) + k for k in ((0,) if cut == 0 else (0, 1))]
            assert any((got - k * (k if form == "square" else w)) % 2**64 == 0 for k in near)


def test_a_narrow_tensor_whose_shares_are_lifted_is_not_opened_again_for_a_sum():
    share = torch.arange(4)

    def program(engine):
        x = NarrowSecret(Context(engine, 1.0), share.to("meta") if engine.dry else share, 16, 40)
        return (x + x).share, (x * private(engine, 0, torch.ones(4, dtype=torch.float64))).share, x.square().share

    done = run(program)
    total, product, square = (a + b for a, b in zip(*done.results, strict=True))
    assert [name for name, *_ in done.dry.script].count("open") == 1
    assert torch.equal(total, 4 * share) and torch.equal(product, 2 * share << 16)
    assert torch.equal(square, (2 * share) ** 2)


@pytest.mark.parametrize("count, rounds", [(2, 1), (GATHERED, 1), (GATHERED + 4, 2), (2 * GATHERED, 2)])
def test_a_sum_of_narrow_tensors_is_exact_beyond_their_ring_and_lifts_many_terms_in_a_round(count, rounds):
    """Terms at both edges of 40 bits, whose sum has more bits; another summand, and a use before the last term."""
    edge = 2**38
    v = [torch.tensor([edge - 1, -edge, k, -k, edge // 3]) for k in range(count)]
    r = [uniform(6)[:5] for _ in v]

    def program(engine, early):
        at, total = Context(engine, 1.0), None
        for value, mask in zip(v, r, strict=True):
            share = mask.to("meta") if engine.dry else (mask if engine.me == 0 else value - mask)
            term = NarrowSecret(at, share, 24, 40)
            total = term if total is None else total + term
            if early and total is not term:
                assert total.share.shape == total.shape == term.shape
        assert isinstance(total, NarrowSum) and (total.bits, total.dim()) == (24, 1)
        return total.share, (total + total).share, (total - NarrowSecret(at, share, 24, 40)).share

    for early in (False, True):
        done = run(lambda engine, early=early: program(engine, early))
        total, twice, less = (a + b for a, b in zip(*done.results, strict=True))
        assert torch.equal(total, sum(v)) and torch.equal(twice, 2 * sum(v)) and torch.equal(less, sum(v[:-1]))
        assert early or done.engines[0].channel.meter.rounds == done.dry.channel.meter.rounds == rounds + 1
        kept = [r[1] for r in done.dry.script if r[0] == "open"]
        assert sorted(kept) == sorted(key for r in done.dry.script if r[0] == "forget" for key in r[1])


def test_what_no_public_bound_holds_is_refused():
    pixels = torch.zeros(6, 3, dtype=torch.uint8)
    grid = grid_of(255, 8, 6, 2, 4.0)

    def program(engine, transposed):
        left = gridded(engine, 1, pixels, grid, 4.0)
        right = private(engine, 0, torch.zeros(6 if transposed else 3, 2, dtype=torch.float64), 4.0)
        return left.t().matmul(right) if transposed else left.matmul(right.secret())

    for transposed in (True, False):
        with pytest.raises(AppraisalError, match="no ring is known"):
            run(lambda engine, transposed=transposed: program(engine, transposed))
