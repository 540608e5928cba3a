"""Scenarios: one data set becomes a buyer's market, with a ground truth for every candidate set.

A scenario splits `train` into D_tr, which the model owner holds, and candidate sets that data owners offer, then
corrupts candidate p by a known `level`, 0 for none. D_te is the model owner's test set. A training and a test set go
in, and a `MarketData` comes out. The experiments are those of data appraisal (Xu, van der Maaten, Hannun, "Data
Appraisal Without Data Sharing", section 4); sizes that the paper leaves out are parameters.

All scenarios share these parameters:

- `train_size` is the size of D_tr: rows, a fraction in (0, 1) of train, or a list of rows of each class. The rows are
  drawn at random.
- `candidates` is the number of candidate sets, one more where a clean set is included.
- `size` is the most rows that a candidate set has; None takes all there are.
- `test_size` is the most rows of the test set, drawn at random and kept in their order; None takes all.
- `seed` of `build` fixes the market. Global generators are neither read nor moved. Each purpose has a stream of its
  own, so that a smaller `test_size` leaves D_tr and the candidates as they were.

A new scenario is a subclass of `Scenario` and an entry in the configuration. The purposes, the order of drawing and the
candidates' names have to stay, so that a seed gives the market of earlier records.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.checks import as_list, boolean, integer, is_integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, TrainSize

SPLIT, TEST, CORRUPT = 0, 1, 2  # the purposes of random numbers


@dataclass(frozen=True, eq=False)
class Candidate:
    """Hold a data set on offer.

    Attributes:
        name: the name of the candidate.
        data: the rows.
        level: the ground truth: how far the rows are corrupted, 0 for not at all.
    """

    name: str
    data: Dataset
    level: float


@dataclass(frozen=True, eq=False)
class MarketData:
    """Hold a market.

    Attributes:
        train, test: D_tr and D_te, which the model owner holds.
        candidates: the data sets of the data owners, one each. No row of them is in D_tr.
    """

    train: Dataset
    test: Dataset
    candidates: tuple[Candidate, ...]


class Scenario(ABC):
    """Split and corrupt a data set; every scenario derives from this class.

    The head of this file describes the parameters. Raises InputError, under the parameter's name, for one out of range.
    """

    def __init__(
        self, train_size: TrainSize = 600, candidates: int = 10, size: int | None = None, test_size: int | None = None
    ) -> None:
        self.train_size = _train_size(train_size)
        self.candidates = _count("candidates", candidates)
        self.size = None if size is None else _count("size", size)
        self.test_size = None if test_size is None else _count("test_size", test_size)

    @abstractmethod
    def build(self, train: Dataset, test: Dataset, seed: int) -> MarketData:
        """Make the market of `seed`. Raises InputError where the data cannot give what the parameters ask for."""


class Clean(Scenario):
    """Make equal disjoint candidate sets that are not corrupted; the level of all is 0."""

    def build(self, train: Dataset, test: Dataset, seed: int) -> MarketData:
        own, parts = _split(self, train, self.candidates, seed)
        return MarketData(
            own,
            _test(self, test, seed),
            tuple(_candidate(f"clean_{p}", part, 0.0) for p, part in enumerate(parts, start=1)),
        )


class LabelNoise(Scenario):
    """Turn each label of two classes into the other one with probability p / candidates, p = 1 .. candidates.

    labels: the two classes, by default 1 and 7 of MNIST, which look alike; None takes these where there are as many
    classes, and else 0 and 1. include_clean: whether there is one more candidate set, with p = 0. The level is
    p / candidates. The rows that D_tr leaves are shared out equally (MNIST: 5,940 each), and a remainder is left over.
    """

    def __init__(
        self,
        train_size: TrainSize = 600,
        candidates: int = 10,
        labels: Sequence[int] | None = (1, 7),
        include_clean: bool = False,
        size: int | None = None,
        test_size: int | None = None,
    ) -> None:
        super().__init__(train_size, candidates, size, test_size)
        self.include_clean = boolean("include_clean", include_clean)
        self.labels = None if labels is None else as_list("labels", labels, "two different labels")
        if labels is not None and (len(self.labels) != 2 or self.labels[0] == self.labels[1]):
            raise InputError("labels", list(self.labels), "two different labels")

    def build(self, train: Dataset, test: Dataset, seed: int) -> MarketData:
        _refuse_numbers("label_noise", train)
        labels = self.labels or ((1, 7) if train.classes > 7 else (0, 1))
        if any(not is_integer(label, numbers.Integral) or not 0 <= label < train.classes for label in labels):
            raise InputError(
                "labels",
                list(labels),
                f"two different labels in 0 .. {train.classes - 1}, for {train.name} has {train.classes} classes",
            )
        own, levels, parts = _levels(self, train, self.include_clean, seed)
        one, other = labels
        candidates = []
        for p, (level, part) in enumerate(zip(levels, parts, strict=True)):
            flip = torch.from_numpy(_stream(seed, CORRUPT, p).random(part.rows) < level)
            y = torch.where(flip & (part.y == one), other, torch.where(flip & (part.y == other), one, part.y))
            candidates.append(_candidate(f"label_noise={level:g}", Dataset(part.x, y, part.classes), level))
        return MarketData(own, _test(self, test, seed), tuple(candidates))


class MissingData(Scenario):
    """Set each feature of each row to 0 with probability p / candidates, p = 1 .. candidates.

    include_clean: whether there is one more candidate set, with p = 0. The level is p / candidates, so that the last
    set is all zeros. Rows are shared out as in LabelNoise.
    """

    def __init__(
        self,
        train_size: TrainSize = 600,
        candidates: int = 10,
        include_clean: bool = False,
        size: int | None = None,
        test_size: int | None = None,
    ) -> None:
        super().__init__(train_size, candidates, size, test_size)
        self.include_clean = boolean("include_clean", include_clean)

    def build(self, train: Dataset, test: Dataset, seed: int) -> MarketData:
        own, levels, parts = _levels(self, train, self.include_clean, seed)
        candidates = []
        for p, (level, part) in enumerate(zip(levels, parts, strict=True)):
            missing = torch.from_numpy(_stream(seed, CORRUPT, p).random(tuple(part.x.shape)) < level)
            x = part.x.masked_fill(missing, 0.0)
            candidates.append(_candidate(f"missing_data={level:g}", Dataset(x, part.y, part.classes), level))
        return MarketData(own, _test(self, test, seed), tuple(candidates))


class TargetNoise(Scenario):
    """Add normal noise to a numeric target, of a deviation of level * `deviations` * s.

    s is the deviation of the training data's target, and level = p / candidates, p = 1 .. candidates. include_clean:
    whether there is one more candidate set, with p = 0. Rows are shared out as in LabelNoise.
    """

    name = "target_noise"

    def __init__(
        self,
        train_size: TrainSize = 60,
        candidates: int = 10,
        deviations: float = 2.0,
        include_clean: bool = False,
        size: int | None = None,
        test_size: int | None = None,
    ) -> None:
        super().__init__(train_size, candidates, size, test_size)
        self.deviations = number("deviations", deviations, above=0)
        self.include_clean = boolean("include_clean", include_clean)

    def changed(self, y: torch.Tensor, scale: float, stream: np.random.Generator) -> torch.Tensor:
        """Return the targets (n,) with a change of the size `scale`."""
        return y + scale * torch.from_numpy(stream.standard_normal(len(y)))

    def build(self, train: Dataset, test: Dataset, seed: int) -> MarketData:
        if not train.numeric:
            found = f"{self.name} on {train.name} with {train.classes} classes"
            raise InputError("scenario", found, "data with a numeric target, as diabetes")
        own, levels, parts = _levels(self, train, self.include_clean, seed)
        unit, candidates = self.deviations * train.y.std(correction=0).item(), []
        for p, (level, part) in enumerate(zip(levels, parts, strict=True)):
            y = self.changed(part.y, level * unit, _stream(seed, CORRUPT, p))
            candidates.append(_candidate(f"{self.name}={level:g}", Dataset(part.x, y, 1), level))
        return MarketData(own, _test(self, test, seed), tuple(candidates))


class TargetShift(TargetNoise):
    """Raise a numeric target by level * `deviations` * s. The parameters are those of TargetNoise."""

    name = "target_shift"

    def changed(self, y: torch.Tensor, scale: float, stream: np.random.Generator) -> torch.Tensor:
        return y + scale


class DistributionMismatch(Scenario):
    """Offer two classes in other proportions than in the test set: candidate p has p / candidates of class 0.

    With 20 candidates the share is 5p%, p = 1 .. 20, exactly, because `size` is a multiple of `candidates`; where
    `size` is None, it is the largest multiple that the data allow. D_tr has train_size[0] rows of class 0 and
    train_size[1] rows of class 1 (planes and cars, 10:1). The test set is cut to 1:1. No row is in two sets, neither in
    D_tr and a candidate nor in two candidates. The level is the distance of the share of class 0 from 1/2, which is the
    test set's share; the candidate's name gives the share itself.
    """

    def __init__(
        self,
        train_size: TrainSize = (200, 20),
        candidates: int = 20,
        size: int | None = 440,
        test_size: int | None = None,
    ) -> None:
        super().__init__(train_size, candidates, size, test_size)
        if self.size is not None and self.size % self.candidates:
            raise InputError(
                "size",
                self.size,
                f"a multiple of the {self.candidates} candidates, so that every share is exact",
            )
        if self.test_size is not None and self.test_size % 2:
            raise InputError("test_size", self.test_size, "an even number, half of each class")

    def build(self, train: Dataset, test: Dataset, seed: int) -> MarketData:
        _refuse_numbers("distribution_mismatch", train)
        if train.classes != 2:
            raise InputError(
                "scenario", f"distribution_mismatch on {train.name} with {train.classes} classes", "data of two classes"
            )
        own, rest = _draw(train, self.train_size, seed)
        count = self.candidates
        pools = [rest[train.y[rest].numpy() == label] for label in (0, 1)]
        # The rows of each class that all candidates need together, for `count` rows of one candidate.
        zeros, ones = count * (count + 1) // 2, count * (count - 1) // 2
        if self.size is None:
            unit = max(1, min(len(pools[0]) // zeros, len(pools[1]) // ones if ones else train.rows))
        else:
            unit = self.size // count
        for label, need in ((0, zeros * unit), (1, ones * unit)):
            if need > len(pools[label]):
                raise InputError(
                    "size",
                    f"{unit * count} rows for each of {count} candidates",
                    f"sizes for which class {label} lasts: {need} rows needed, {len(pools[label])} left "
                    f"beside D_tr in {train.name}",
                )
        order, taken, candidates = _stream(seed, CORRUPT), [0, 0], []
        for p in range(1, count + 1):
            index = []
            for label, need in ((0, p * unit), (1, (count - p) * unit)):
                index.append(pools[label][taken[label] : taken[label] + need])
                taken[label] += need
            share = p / count
            candidates.append(
                _candidate(
                    f"distribution_mismatch={share:g}",
                    train.subset(order.permutation(np.concatenate(index))),
                    abs(share - 0.5),
                )
            )
        return MarketData(train.subset(own), self._balanced(test, seed), tuple(candidates))

    def _balanced(self, test: Dataset, seed: int) -> Dataset:
        """Return the rows of `test`, in their order, with as many of class 0 as of class 1."""
        classes = [np.flatnonzero(test.y.numpy() == label) for label in (0, 1)]
        half = min(len(rows) for rows in classes)
        if half == 0:
            raise InputError(
                test.name,
                f"{len(classes[0])} rows of class 0 and {len(classes[1])} of class 1",
                "a test set with rows of both classes",
            )
        half = half if self.test_size is None else min(half, self.test_size // 2)
        stream = _stream(seed, TEST)
        return test.subset(np.sort(np.concatenate([stream.permutation(rows)[:half] for rows in classes])))


def _refuse_numbers(name: str, train: Dataset) -> None:
    if train.numeric:
        expected = "data with labels; target_noise, target_shift, missing_data and clean serve numbers"
        raise InputError("scenario", f"{name} on {train.name}, which has a numeric target", expected)


def _stream(seed: int, *purpose: int) -> np.random.Generator:
    """Return an independent generator for each seed and purpose."""
    integer("seed", seed, 0, kind=numbers.Integral)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=purpose)))


def _draw(train: Dataset, size: int | float | tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of D_tr and of the rest, both in random order."""
    order = _stream(seed, SPLIT).permutation(train.rows)
    if isinstance(size, tuple):
        if len(size) != train.classes:
            raise InputError(
                "train_size",
                list(size),
                f"one number of rows for each of the {train.classes} classes of {train.name}",
            )
        labels = train.y.numpy()[order]
        own = np.zeros(train.rows, dtype=bool)
        for label, need in enumerate(size):
            here = np.flatnonzero(labels == label)
            if need > len(here):
                raise InputError(
                    "train_size", list(size), f"at most the {len(here)} rows of class {label} in {train.name}"
                )
            own[here[:need]] = True
        return order[own], order[~own]
    rows = size if isinstance(size, int) else round(size * train.rows)
    if not 1 <= rows < train.rows:
        raise InputError("train_size", size, f"1 .. {train.rows - 1} rows, for {train.name} has {train.rows}")
    return order[:rows], order[rows:]


def _split(scenario: Scenario, train: Dataset, sets: int, seed: int) -> tuple[Dataset, list[Dataset]]:
    """Return D_tr, and `sets` disjoint sets of equal size from the rest."""
    own, rest = _draw(train, scenario.train_size, seed)
    rows = len(rest) // sets
    if rows == 0:
        raise InputError(
            "candidates",
            f"{sets} candidate sets",
            f"at most {len(rest)}, the rows of {train.name} left beside D_tr",
        )
    kept = rows if scenario.size is None else min(rows, scenario.size)
    return train.subset(own), [train.subset(rest[i * rows : i * rows + kept]) for i in range(sets)]


def _levels(
    scenario: Scenario, train: Dataset, include_clean: bool, seed: int
) -> tuple[Dataset, list[float], list[Dataset]]:
    """Return D_tr, the levels p / candidates, and a set of rows for each level."""
    levels = [p / scenario.candidates for p in range(0 if include_clean else 1, scenario.candidates + 1)]
    own, parts = _split(scenario, train, len(levels), seed)
    return own, levels, parts


def _test(scenario: Scenario, test: Dataset, seed: int) -> Dataset:
    if scenario.test_size is None or scenario.test_size >= test.rows:
        return test
    return test.subset(np.sort(_stream(seed, TEST).permutation(test.rows)[: scenario.test_size]))


def _candidate(name: str, data: Dataset, level: float) -> Candidate:
    return Candidate(name, data.renamed(name), level)


def _count(name: str, value: Any) -> int:
    return int(integer(name, value, 1, kind=numbers.Integral))


def _train_size(value: Any) -> int | float | tuple[int, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_count("train_size", rows) for rows in value)
    if isinstance(value, float) and 0 < value < 1:
        return value
    if is_integer(value, numbers.Integral) and value >= 1:
        return int(value)
    raise InputError("train_size", repr(value), "a number of rows, a fraction in (0, 1), or the rows of each class")
