"""The derivative of the summed loss along a direction: values, ranges, requests, and what is opened for it.

Oracles: float64 formulas, and integers of any size.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from three import private, run

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import Resolution
from mpc_appraisal.methods import Facts, Influence
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.grid import GridTensor, grid_of
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, row_products
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.protocols.slopes import LEAST_SCALE, ROOM, ROW_RING, SUM_BITS, V_BITS, V_TOP, slope_plan
from mpc_appraisal.mpc.protocols.softmax_plan import HIGH, P_SCALE, X_DROP
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, Context
from mpc_appraisal.release.accuracy import error_bound

torch.set_num_threads(1)
PIXELS = Resolution(255, 8)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    """Private matrices of both owners, whose logits are within a bound, and the facts that follow from them."""

    def __init__(self, classes: int, bound: float, size: float, pixels: bool, rows: int = 40, width: int = 7):
        generator = torch.Generator().manual_seed(rows)
        self.whole = torch.randint(0, 256, (rows, width), generator=generator)
        self.whole[:, -1] = 255
        self.x = self.whole / 255.0 if pixels else normal(rows, width, seed=1)
        self.x = self.x.to(torch.float64)
        self.y = torch.nn.functional.one_hot(torch.arange(rows) % classes, classes).to(torch.float64)
        longest = 1.001 * float(self.x.norm(dim=1).max())
        w, v = normal(width, classes, seed=2), normal(width, classes, seed=3)
        w, v = w - w.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
        self.w = w / float(w.norm(dim=0).max()) * bound / longest * 0.999
        self.v = v / float(v.norm(dim=0).max()) * size
        spread = 1.001 * float(torch.cdist(self.v.t(), self.v.t()).max())
        ratio = 255 / 256 if pixels else 1.0
        sizes = (width - 1, classes, 0, 0, rows, 0.01, longest, longest, bound, spread)
        self.facts = Facts(*sizes, resolution=PIXELS if pixels else None)
        self.w, self.v, self.pixels = self.w / ratio, self.v / ratio, pixels

    def score(self, engine):
        bound, f = self.facts.logit_bound, self.facts
        context = Context(engine, bound)
        owned = {}
        for name, matrix in (("weights", self.w), ("direction", self.v)):
            owned[name] = private(engine, 0, matrix, bound)
        y = private(engine, 1, self.y, bound)
        x = private(engine, 1, self.x, bound)
        for one in (*owned.values(), x, y):
            one.context = context
        if self.pixels:
            whole = None if engine.me == 0 and not engine.dry else self.whole.to(torch.uint8)
            whole = whole.to("meta") if engine.dry else whole
            grid = grid_of(255, 8, f.rows, f.classes, bound)
            x = GridTensor(context, 1, whole if engine.me == 1 else None, self.x.shape, "x", grid)
        return Influence().score(owned, x, y, f)

    def oracle(self) -> float:
        ratio = self.facts.ratio
        z, s = self.x @ self.w * ratio, self.x @ self.v * ratio
        return float(((z.softmax(1) - self.y) * s).sum())


CASES = [(2, 2.0), (3, 16.0), (10, 8.0), (10, 40.0), (30, 16.0)]


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("classes, bound", CASES)
def test_a_slope_is_that_of_float64_whatever_the_size_of_the_direction(classes, bound, pixels):
    scripts = []
    for size in (1e-3, 0.3, 20.0, 900.0):
        case = Case(classes, bound, size, pixels)
        done = run(case.score)
        mine, theirs = done.results
        assert mine.bits == theirs.bits and mine.shape == torch.Size([])
        value = (mine.share + theirs.share).item() / 2.0**mine.bits
        off = abs(value - case.oracle()) / case.facts.rows
        assert off <= error_bound(Influence(), case.facts, "fast").value
        assert off <= 2e-5 * case.facts.row_norm * case.facts.spread + 1e-6
        assert all(engine.failure == 0 for engine in done.engines)  # nothing is truncated in a way that may fail
        scripts.append(done.dry.script)
    assert all(script == scripts[0] for script in scripts)  # so that a forecast needs no spread


def test_a_plain_slope_is_the_formula_and_the_gradient_along_the_direction():
    case = Case(4, 9.0, 2.0, False)
    f, plain = case.facts, {"weights": case.w, "direction": case.v}
    found = ops.slope(case.w, case.v, case.x, case.y, f.rows, f.row_norm, f.spread)
    weights = case.w.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(case.x @ weights, case.y.argmax(1), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, weights)
    assert found.item() == pytest.approx((gradient * case.v).sum().item(), rel=1e-12)
    assert Influence().score(plain, case.x, case.y, f).item() == pytest.approx(found.item(), rel=1e-12)


def test_no_plan_lets_a_value_leave_its_ring():
    bounds, counts, spreads = (0.5, 2.0, 16.0, 256.0), (1, 60, 5940, 10**7), (1e-6, 1.0, 1e4)
    sizes = itertools.product((2, 3, 10, 256), bounds, counts, (1.0, 30.0), spreads)
    found = 0
    for classes, bound, rows, longest, spread in sizes:
        how = slope_plan(bound, (785, classes), rows, longest, spread, FINE_BITS)
        if how is None:
            continue
        found += 1
        largest = longest * (spread * 2.0**how.scale + math.sqrt(785) * 2.0 ** -(FINE_BITS + 1))
        v = largest * 2.0**how.value_bits
        assert v * 1.01 <= 2**V_TOP  # |x . v| is at most the sum of x, roundings counted, times that
        assert (HIGH / 2**X_DROP + 2 * classes) * (v + 1) <= 2 ** (ROW_RING - 2)
        assert (2 ** (ROW_RING - 2) >> how.drop) * 2**20 * min(rows, 2**how.drop) <= 2**62
        assert rows * largest * 2.0 ** (P_SCALE + how.value_bits - how.drop) <= 2**SUM_BITS * ROOM
        assert how.bits >= P_SCALE + how.value_bits - how.drop and how.bits + how.scale <= 44
        for resolution in (Resolution(255, 8), Resolution(16, 5), Resolution(65535, 16)):
            grid = grid_of(resolution.scale, resolution.bits, min(rows, 1 << 13), classes, bound)
            bits = grid.fraction + grid.weight_bits
            assert largest * 2.0**bits <= 2 ** (grid.ring - 2)
            cut = bits - how.value_bits
            assert cut >= 0 and V_TOP + 2 <= V_BITS <= grid.ring - cut  # v + 2^V_TOP is below half of its ring
    assert found > 300


def test_rows_that_are_too_long_have_no_plan_and_take_the_gradient():
    assert slope_plan(1.0, (785, 2), 10, 1e6, 1.0, FINE_BITS) is None
    assert slope_plan(16.0, (785, 10), 10, 1.0, 2.0 ** (5 + 3 - LEAST_SCALE), FINE_BITS) is None
    case, requests = Case(3, 16.0, 1.0, False), []
    for spread in (case.facts.spread, None, 2.0 ** (5 + 3 - LEAST_SCALE)):
        case.facts = replace(case.facts, spread=spread)
        requests.append({request[0] for request in run(case.score).dry.script})
    assert "mul" not in requests[0] and requests[1] == requests[2] and "mul" in requests[1]


def test_the_model_owner_masks_weights_and_direction_together_and_once():
    case = Case(3, 16.0, 1.0, True)

    def twice(engine):
        owned = {name: private(engine, 0, m, 16.0) for name, m in (("weights", case.w), ("direction", case.v))}
        context = owned["weights"].context
        owned["direction"].context = context
        sizes = (case.facts.rows, case.facts.row_norm, case.facts.spread)
        for _ in range(2):
            x, y = (private(engine, 1, m, 16.0) for m in (case.x, case.y))
            x.context = y.context = context
            ops.slope(owned["weights"], owned["direction"], x, y, *sizes)

    done = run(twice)
    masks = [request for request in done.dry.script if request[0] == "mask"]
    assert [m[3] for m in masks if m[2] == 0] == [[7, 6]]
    assert [m[3] for m in masks if m[2] == 1] == [[40, 7], [7, 3]] * 2
    assert [r for r in done.dry.script if r[0] == "free"] != []  # X'Y is dropped after its product


@pytest.mark.parametrize("bits, ring", [((20, 24), 40), ((20, 24), 64), ((40, 40), 40), ((27, 20), 64)])
def test_sums_of_rows_of_products_are_exact(bits, ring):
    generator = torch.Generator().manual_seed(7)
    a, b = (torch.randint(-(2 ** (n - 3)), 2 ** (n - 3), (30, 5), generator=generator) for n in bits)
    r = [torch.randint(-(2**62), 2**62, (30, 5), generator=generator) for _ in range(2)]

    def sums(engine):
        shares = [m if engine.me == 0 else v - m for v, m in zip((a, b), r, strict=True)]
        if engine.dry:
            shares = [each.to("meta") for each in shares]
        wanted = [MaskedOpening(s, 0, n, ring, 1 << (n - 2)) for s, n in zip(shares, bits, strict=True)]
        opened = open_all(engine, *wanted)
        out = row_products(engine, *opened, ring)
        evict(engine, *opened)
        return out

    mine, theirs = run(sums).results
    assert mine.shape == (30, 1)
    for p, q, row_a, row_b in zip(mine[:, 0].tolist(), theirs[:, 0].tolist(), a.tolist(), b.tolist(), strict=True):
        assert (p + q - sum(m * n for m, n in zip(row_a, row_b, strict=True))) % 2**ring == 0


def test_sums_of_rows_are_refused_of_what_has_no_rows():
    script = [["open", 1, [4], 24, 40], ["cross", 1, 1, 40, 1]]
    with pytest.raises(AppraisalError, match=r"sums of the rows of a product \(4,\); expected a matrix"):
        measured(script)
    assert measured([["open", 1, [4, 2], 24, 40], ["cross", 1, 1, 40, 1]]).requests == 2
