"""Private matrices of small integers, which are masked in rings as wide as these need.

    x = k / 2^fraction,  |k| < 2^bits           (X (n, d); fraction and bits are public)

In go integers k and a `Grid`, the width of the ring that public facts have fixed; out come tensors with the methods of
`tensors`. X - A is sent mod 2^ring, for a mask A that is uniform there. Two products of X are computed in that ring.
Each is exact, since its largest number is below 2^(ring - 2):

| product | largest number |
|---|---|
| X W, for logits within B of C classes and W with w fractional bits; C X W is shifted | 2 C B 2^(fraction + w) |
| X' R, for n rows and residuals within 1 with RESIDUAL_BITS fractional bits | n 2^(bits + RESIDUAL_BITS) |

`grid_of` returns the narrowest ring that holds both. In X W a direction may stand beside the weights, scaled so that it
fits (`slopes`). A softmax opens the top bits of C X W, for which no wider ring is
needed. Any other step opens such a product under a mask (`masked.open_all`), and with it cuts the bits that the step
does not need. The masked value is squared or multiplied as it is, and every other step takes its shares mod 2^64. All
bounds are public, and every party computes the same ring from them. The constants belong to the bounds of
docs/protocols/engine.md and of docs/protocols/releases.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, private_product, product
from mpc_appraisal.mpc.protocols.masked_matrices import Masked
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, Context, PrivateTensor, Secret, operand
from mpc_appraisal.mpc.ring.narrow import WIDTHS

RESIDUAL_BITS = 16  # The other factor of X' R has so many fractional bits, and its entries are within 1.
SHIFTED = 2.0  # A softmax shifts the logits before it opens them, to at most this multiple of their bound.
ROOM = 1.01  # Rounding may exceed a public bound by this factor.
MOST_BITS = 28  # The other factor of X W has at most so many fractional bits, and at least FINE_BITS.
GATHERED = 16  # So many terms of a sum are lifted together at most, which is what a party keeps in memory.


@dataclass(frozen=True)
class Grid:
    """How a private matrix of integers is shared.

    Attributes:
        fraction: the number of fractional bits of the integers.
        ring: the width of the ring that the matrix is masked in.
        bound: a public bound on its products with weights, which are centred over the classes.
        columns: the number of classes; 2 for one column of a sigmoid.
    """

    fraction: int
    ring: int
    bound: float
    columns: int

    @property
    def weight_bits(self) -> int:
        """Return how many fractional bits the other factor of X W has, so that C X W fits the ring."""
        return min(MOST_BITS, product_bits(self.ring, self.columns, self.bound) - self.fraction)


def product_bits(ring: int, columns: int, bound: float) -> int:
    """Return how many fractional bits numbers within `bound` may have, `columns` times which are opened in a ring."""
    return ring - 2 - math.ceil(math.log2(columns * max(bound, 1.0) * SHIFTED))


def grid_of(scale: int, bits: int, rows: int, outputs: int, bound: float) -> Grid:
    """Return the grid of a matrix of integers in the narrowest ring that its products need.

    Args:
        scale: the integer that stands for 1; the fractional bits are those of the next power of two.
        bits: the integers are below 2^bits in size.
        rows: the most rows of a matrix.
        outputs: the number of columns of the weights.
        bound: the public bound on centred logits; for one column, that of both classes' logits (z / 2, -z / 2).
    """
    fraction, columns = max(0, math.ceil(math.log2(scale))), max(outputs, 2)
    largest = bound if outputs > 1 else 2 * bound
    summed = math.log2(rows * ROOM) + bits + RESIDUAL_BITS
    for ring in (*WIDTHS, 64):
        if summed <= ring - 2 and product_bits(ring, columns, largest) - fraction >= FINE_BITS:
            break
    return Grid(fraction, ring, largest, columns)


def lifted(engine: Engine, share: torch.Tensor, ring: int, cut: int = 0) -> torch.Tensor:
    """Return shares mod 2^64 of v / 2^cut, from shares mod 2^ring of v with |v| <= 2^(ring - 2); one round.

    Where bits are cut, the result is within one unit, and right on average.
    """
    (found,) = open_all(engine, _opening(share, ring, cut))
    evict(engine, found)
    return found.share(engine)


def _opening(share: torch.Tensor, ring: int, cut: int) -> MaskedOpening:
    """Return the opening of v / 2^cut for products mod 2^64, from shares mod 2^ring of v with |v| <= 2^(ring - 2)."""
    bits = ring - cut
    return MaskedOpening(share, cut, bits, 64, 1 << (bits - 2))


class GridTensor(PrivateTensor):
    """A private matrix of integers k that stand for k / 2^fraction.

    Args:
        context, owner, shape, name: as for `PrivateTensor`.
        whole: the integers (uint8, int32 or int64) at the owner, None at the other owner.
        grid: how the matrix is shared.
    """

    def __init__(
        self, context: Context, owner: int, whole: torch.Tensor | None, shape: torch.Size, name: str, grid: Grid
    ):
        super().__init__(context, owner, None, shape, name)
        self.whole, self.grid, self.bits = whole, grid, grid.fraction

    @property
    def value(self) -> torch.Tensor | None:
        """Return the real numbers (float64) at the owner, None at the other owner."""
        return None if self.whole is None else self.whole.to(torch.float64) / 2.0**self.grid.fraction

    @value.setter
    def value(self, value: torch.Tensor | None) -> None:
        """Do nothing: the integers are what the tensor holds."""

    def ring(self, bits: int, narrow: bool = False) -> torch.Tensor:
        if bits == self.grid.fraction and narrow:
            return self.whole
        return super().ring(bits)

    def masked(self, bits: int | None = None, ring: int | None = None, along: bool = False) -> Masked:
        if ring not in (None, self.grid.ring):
            raise AppraisalError(f"{self.name}: got a product mod 2^{ring}; expected one mod 2^{self.grid.ring}")
        return super().masked(self.grid.fraction, self.grid.ring)

    def __getitem__(self, index: torch.Tensor) -> GridTensor:
        whole = self.whole[index] if self.mine else None
        shape = torch.Size((len(index), *self.shape[1:]))
        rows = GridTensor(self.context, self.owner, whole, shape, self.name, self.grid)
        rows._rows_of = (self, index)
        return rows

    def _product(self, other: PrivateTensor | Secret, transposed: bool) -> Secret:
        """Return X W for private weights, or X' R for shared residuals, both as a product of this file's table.

        Raises AppraisalError for another product, of which no public bound is known.
        """
        engine, grid = self.context.engine, self.grid
        if isinstance(other, PrivateTensor) and not transposed:
            bits = grid.weight_bits
            share = engine.product(self.masked(), other.masked(bits, grid.ring))
        elif isinstance(other, Secret) and transposed:
            other = other if other.bits <= RESIDUAL_BITS else other.to_bits(RESIDUAL_BITS)
            bits = other.bits
            share = private_product(engine, self.masked(), other.share, True)
        else:
            raise AppraisalError(f"{self.name}: no ring is known to hold this product; expected X W or X' R")
        return narrow_secret(self.context, share, grid.fraction + bits, grid.ring)


def narrow_secret(context: Context, share: torch.Tensor, bits: int, ring: int) -> Secret:
    """Return the shared tensor with shares mod 2^ring."""
    return Secret(context, share, bits) if ring == 64 else NarrowSecret(context, share, bits, ring)


class NarrowSecret(Secret):
    """A shared tensor with shares mod 2^ring, of numbers within 2^(ring - 2).

    It is squared, and multiplied by another tensor, in one round. Added to others of its kind it becomes a `NarrowSum`.
    Whatever else asks for its `share` gets shares mod 2^64, which the first such use makes in one round.

    Args:
        context, bits: as for `Secret`.
        share: this owner's share, int64, right in its low `ring` bits.
        ring: the width of the ring, below 64.
    """

    def __init__(self, context: Context, share: torch.Tensor, bits: int, ring: int):
        self.narrow, self.ring, self._wide = share, ring, None
        super().__init__(context, share, bits)

    @property
    def share(self) -> torch.Tensor:
        """Return this owner's share mod 2^64."""
        if self._wide is None:
            self._wide = lifted(self._engine, self.narrow, self.ring)
        return self._wide

    @share.setter
    def share(self, share: torch.Tensor) -> None:
        """Do nothing: `narrow` is what the tensor holds."""

    @property
    def shape(self) -> torch.Size:
        return self.narrow.shape

    def dim(self) -> int:
        return self.narrow.dim()

    def _moved(self, share: torch.Tensor, bits: int | None = None) -> NarrowSecret:
        return NarrowSecret(self.context, share, self.bits if bits is None else bits, self.ring)

    def t(self) -> NarrowSecret:
        return self._moved(self.narrow.t())

    def __getitem__(self, index) -> NarrowSecret:
        return self._moved(self.narrow[index])

    def reshape(self, *shape: int) -> NarrowSecret:
        return self._moved(self.narrow.reshape(*shape))

    def __truediv__(self, divisor: float) -> Secret:
        power = math.log2(divisor) if divisor > 0 else 0.5
        return self._moved(self.narrow, self.bits + int(power)) if power.is_integer() else super().__truediv__(divisor)

    def to_bits(self, bits: int) -> Secret:
        """Return the value with `bits` fractional bits and shares mod 2^64, in one round."""
        if bits >= self.bits or self._wide is not None:
            return self._with(self.share, self.bits).to_bits(bits)
        return self._with(lifted(self._engine, self.narrow, self.ring, self.bits - bits), bits)

    def __add__(self, other) -> Secret:
        alike = type(other) is NarrowSecret and (other.bits, other.ring) == (self.bits, self.ring)
        if other is self or not alike or self._wide is not None or other._wide is not None:
            return super().__add__(other)
        return NarrowSum(self.context, [self.narrow, other.narrow], self.bits, self.ring)

    def __mul__(self, other) -> Secret:
        if self._wide is not None or isinstance(other, (int, float)):
            return super().__mul__(other)
        other = operand(self, "*", other)
        b = (other.secret() if isinstance(other, PrivateTensor) else other).operand()
        return self._multiplied(MaskedOpening(b.share, 0, 64, 64, 0), b.bits)

    def square(self) -> Secret:
        """Return the square of each element, with twice the operand's fractional bits; one round."""
        return super().square() if self._wide is not None else self._multiplied(None, 0)

    def _multiplied(self, other: MaskedOpening | None, bits: int) -> Secret:
        """Return the value, cut as an operand, times a factor of `bits` fractional bits, or times itself; one round."""
        cut = max(0, self.bits - self.kept)
        wanted = [_opening(self.narrow, self.ring, cut), *([] if other is None else [other])]
        found = open_all(self._engine, *wanted)
        share = product(self._engine, found[0], found[-1])
        evict(self._engine, *found)
        return self._with(share, self.bits - cut + (self.bits - cut if other is None else bits))

    def softmax(self, dim: int) -> Secret:
        """Return the probabilities of each row, of whose logits only the top bits are opened."""
        return self.for_softmax(self.shape[1], self.context.logit_bound).softmax(dim)

    def sigmoid(self) -> Secret:
        return self.for_softmax(2, 2 * self.context.logit_bound).sigmoid()

    def for_softmax(self, columns: int, bound: float) -> Secret:
        """Return what a softmax of numbers within `bound` may take: narrow shares, if the ring holds C times them."""
        bounded = self.context.spread is None and not self._engine.helper
        fits = bounded and self.bits <= product_bits(self.ring, columns, bound)
        return self._with(self.narrow if fits else self.share)


class NarrowSum(Secret):
    """A sum of shared tensors with shares mod 2^ring, such as the gradients of a candidate's blocks of rows.

    A sum may not fit the narrow ring, so that every term is lifted by itself: up to GATHERED terms in one round, which
    the first use of `share` makes at the latest.

    Args:
        context, bits, ring: as for `NarrowSecret`.
        terms: this owner's shares of the terms, int64 of one shape.
    """

    def __init__(self, context: Context, terms: list[torch.Tensor], bits: int, ring: int):
        self.terms, self.ring, self._lifted = terms, ring, None
        super().__init__(context, terms[0], bits)

    @property
    def share(self) -> torch.Tensor:
        """Return this owner's share of the sum mod 2^64."""
        if self.terms:
            found = open_all(self._engine, *(_opening(term, self.ring, 0) for term in self.terms))
            total = sum(x.share(self._engine) for x in found)
            evict(self._engine, *found)
            self._lifted, self.terms = total if self._lifted is None else self._lifted + total, []
        return self._lifted

    @share.setter
    def share(self, share: torch.Tensor) -> None:
        """Do nothing: the terms are what the tensor holds."""

    @property
    def shape(self) -> torch.Size:
        return (self.terms[0] if self.terms else self._lifted).shape

    def dim(self) -> int:
        return len(self.shape)

    def __add__(self, other) -> Secret:
        alike = type(other) is NarrowSecret and (other.bits, other.ring) == (self.bits, self.ring)
        if not alike or other._wide is not None:
            return super().__add__(other)
        found = NarrowSum(self.context, [*self.terms, other.narrow], self.bits, self.ring)
        found._lifted = self._lifted
        if len(found.terms) == GATHERED:
            _ = found.share
        return found
