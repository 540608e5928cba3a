"""Relevance and diversity: how a candidate's rows lie along the principal directions of the buyer's, without labels.

    relevance = -|| v - lambda ||_2,        v_j = (1/n) sum_i ((x_i - mu)' u_j)^2,   j = 1 .. k
    diversity = (1/n) sum_i || x_i - mu ||^2  -  sum_j v_j

x_i (d,) are the n rows of the candidate. mu is the mean of the model owner's (buyer's) training rows, and u_j are their
first k principal directions with the variances lambda_j: the eigenvectors of the covariance of those rows with the
largest eigenvalues. v_j is the candidate's second moment about mu along u_j. Relevance is 0 where it equals the buyer's
variance along every direction, and below 0 elsewhere. Diversity is the mean squared distance of the rows from the plane
through mu along the u_j. Both are in squared units of the features. No model and no label is used.

The measures are those of Amiri, Berdoz and Raskar, "Fundamentals of task-agnostic data valuation" (AAAI 2023), and of
Lu, Amiri and Raskar, "Data measurements for decentralized data markets" (2024), in a form of one opened number each:

- They have l_j = norm(S u_j), S the candidate's covariance, and relevance prod_j (min / max of l_j, lambda_j)^(1/k).
  Here v_j = u_j' S u_j plus the squared shift of the mean, and the distance of v from lambda takes the place of the
  geometric mean of ratios, which has a division for every direction.
- Their diversity prod_j (abs(l_j - lambda_j) / max)^(1/k) is the opposite of that relevance along the same directions,
  and the volume of the second paper is a determinant. Here diversity is what lies outside the directions, and the trace
  of the covariance there takes the place of the determinant.

Each opens one number times a public power of two. Each costs one product of the rows with a private matrix and squares
of it. The measured errors against float64 are at most 1.5e-6 for 150 to 300 rows of the digits. The powers of two may
change if all sums keep inside the ring; the formulas have to stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods.base import Appraiser, Facts, scaled
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.mpc.ops import blocks

NEGLIGIBLE = 1e-12  # a direction with so small a part of the largest variance is rounding and no direction
FINE = 64.0  # the model owner's variances are shared times this, for a private number has 16 fractional bits in a sum
NO_NOISE = "no sensitivity of it on shares is derived"


@dataclass(frozen=True)
class AlongDirections(Appraiser):
    """Hold what both methods share: the number of directions, and that no model and no label is read.

    Attributes:
        directions: k, the number of principal directions, 1 or more; all of them where there are fewer features.

    Raises InputError for another number.
    """

    directions: int = 10

    needs: ClassVar[frozenset[str]] = frozenset({"train"})
    uses_model: ClassVar[bool] = False
    uses_labels: ClassVar[bool] = False
    without_noise: ClassVar[str] = NO_NOISE

    def __post_init__(self) -> None:
        integer("directions", self.directions, 1, 2**31, "an integer of 1 or more")


@dataclass(frozen=True)
class Relevance(AlongDirections):
    """The value is minus the distance of the candidate's variances from the buyer's.

    The attribute and the error are those of `AlongDirections`.
    """

    name: ClassVar[str] = "relevance"
    opens: ClassVar[str] = (
        "squared distance of the candidate's variances along the model owner's principal directions from its own, "
        "times a public power of two"
    )

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        k = min(self.directions, facts.features)
        return {"directions": (facts.features + 1, k), "variances": (k,)}

    def prepare(
        self, model: LinearModel | None, train: Dataset | None, test: Dataset | None = None
    ) -> dict[str, torch.Tensor]:
        self.require(train, test)
        mean, directions, variances = principal_directions(train, self.directions, self.name)
        return {"directions": about(mean, directions), "variances": variances}

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        row, variance = self.scales(facts)
        total = None
        for rows, _ in blocks(x, y):
            part = summed_squares(rows, owned["directions"], row)
            total = part if total is None else total + part
        moments = scaled(total, FINE * variance / (facts.rows * row**2))
        return ((moments - scaled(owned["variances"], FINE * variance)) / FINE).square().sum()

    def opened_at(self, value: float, facts: Facts) -> float:
        return (value * self.scales(facts)[1]) ** 2 if value <= 0 else -1.0  # no distance has a value above 0

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        return score  # the scale is the same for candidates of one data owner, whatever their sizes

    def paper_value(self, opened: float, facts: Facts) -> float:
        # Rounding may leave a distance of zero slightly below zero.
        return math.sqrt(max(opened, 0.0)) / self.scales(facts)[1]

    @staticmethod
    def scales(facts: Facts) -> tuple[float, float]:
        """Return the public powers of two by which coordinates (x - mu)' u and variances are multiplied.

        With R the bound on the rows of both owners, the norm of x - mu is at most 2 R. The first scale is at most 2^8 /
        (sqrt(n) R), so that the squares of all coordinates sum to at most 2^18. A variance along a direction and the
        sum of them are at most 4 R^2 at the data owner and R^2 at the model owner. The second scale is at most 2^6.9 /
        R^2, so that the opened number is at most 17 (2^6.9)^2 < 2^18, which is inside the ring with 36 fractional bits.
        """
        length = math.log2(facts.longest)
        return 2.0 ** math.floor(8.0 - math.log2(facts.rows) / 2 - length), 2.0 ** math.floor(6.9 - 2 * length)


@dataclass(frozen=True)
class Diversity(AlongDirections):
    """The value is the candidate's mean squared distance from the plane of the buyer's principal directions.

    Where the rows are noise, the value is high too: it says that the rows are different, and not that they are good. It
    is 0 where k is the number of features.

    The attribute and the error are those of `AlongDirections`.
    """

    name: ClassVar[str] = "diversity"
    rising: ClassVar[bool] = True
    opens: ClassVar[str] = (
        "squared distances of the candidate's rows from the plane of the model owner's principal directions, summed "
        "over the rows, times a public power of two"
    )

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        return {"directions": (facts.features + 1, min(self.directions, facts.features) + 2)}

    def prepare(
        self, model: LinearModel | None, train: Dataset | None, test: Dataset | None = None
    ) -> dict[str, torch.Tensor]:
        """Compute k columns that give (x - mu)' u_j, and two that give a = x' m / s and a - s.

        m is mu, and s is its norm. In the last two columns, the constant feature belongs to x and to m. The squared
        norm of x - m is that of x, less a^2, plus (a - s)^2, so that no sum needs more than squares of bounded numbers.
        """
        self.require(train, test)
        mean, directions, _ = principal_directions(train, self.directions, self.name)
        whole = torch.cat([mean, mean.new_ones(1)])
        along = whole / whole.norm()
        less = along.clone()
        less[-1] -= whole.norm()
        return {"directions": torch.cat([about(mean, directions), along[:, None], less[:, None]], dim=1)}

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        scale, total = self.scale(facts), None
        inside = min(self.directions, facts.features) + 1  # the columns whose squares are taken off
        for rows, _ in blocks(x, y):
            squares = summed_squares(rows, owned["directions"], scale)
            part = squares[inside:].sum() - squares[:inside].sum() + scaled(rows.square().sum(), scale**2)
            total = part if total is None else total + part
        return total

    def opened_at(self, value: float, facts: Facts) -> float:
        return value * self.scale(facts) ** 2 * facts.rows

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        one = 2.0 ** math.floor(7.0 - math.log2(facts.longest))  # the scale of a single row: the same for all sizes
        return scaled(score, one**2 / (self.scale(facts) ** 2 * facts.rows))

    def paper_value(self, opened: float, facts: Facts) -> float:
        return opened / (self.scale(facts) ** 2 * facts.rows)

    def value(self, opened: float, facts: Facts) -> float:
        return self.paper_value(opened, facts)

    @staticmethod
    def scale(facts: Facts) -> float:
        """Return the public power of two by which coordinates are multiplied before they are squared.

        It is at most 2^7 / (sqrt(n) R), with R the bound on the rows of both owners. The squared lengths of n rows then
        sum to at most 2^14, the squares of (x - mu)' u_j and of a - s to at most 2^16 each, and the opened number is
        at most 2^16.
        """
        return 2.0 ** math.floor(7.0 - math.log2(facts.rows) / 2 - math.log2(facts.longest))


def principal_directions(
    train: Dataset, count: int, method: str = "relevance"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mean (d,) of the training rows, their first principal directions (d, k), and the variances (k,).

    k is `count`, or d where that is smaller. The variances are means of squares about the mean, in float64. A
    direction's sign is arbitrary, and no value depends on it. Raises InputError, which names the setting of
    `method`, where the rows vary in fewer than k directions.
    """
    count = min(count, train.features)
    x = train.x.to(torch.float64)
    mean = x.mean(0)
    _, sizes, rows = torch.linalg.svd(x - mean, full_matrices=False)
    variances = sizes.square() / train.rows
    known = int((variances > NEGLIGIBLE * variances[0]).sum()) if variances[0] > 0 else 0
    if count > known:
        found = f"at most {known}, the number of directions in which the rows of {train.name} vary"
        raise InputError(f"appraisal.{method}.directions", count, found)
    return mean, rows[:count].t().contiguous(), variances[:count]


def about(mean: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Return (d + 1, k) whose product with rows and their constant feature is (x - mean)' u for each direction u."""
    return torch.cat([directions, -(mean @ directions)[None]])


def summed_squares(rows: torch.Tensor, directions: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the sums over the rows of the squares of scale * rows @ directions, of shape (k,)."""
    return scaled(rows.matmul(directions), scale).square().t().sum(1)
