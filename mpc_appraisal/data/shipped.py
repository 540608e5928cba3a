"""Three tables that scikit-learn ships: diabetes (a number to predict), breast cancer (two classes), wine (three).

    x <- (x - mean) / deviation / sqrt(d)

mean and deviation are those of the training rows, and d is the number of features: a row is then about 1 long, so that
learning rates and bounds on logits need not change with d. The diabetes target is centred and scaled by the training
rows' mean and deviation, so that values are parts of their variance. Nothing goes in and nothing is downloaded; out
comes a pair of `Dataset` with names of columns and classes. The split and the scaling have to stay, because seeds and
published results rest on them. A further table of scikit-learn is a class here and an entry in the configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpc_appraisal.data.dataset import Dataset
from mpc_appraisal.data.public import DataSource, TrainSize
from mpc_appraisal.data.targets import CLASSES, NUMBER


class ShippedTable(DataSource):
    """Load one of scikit-learn's tables, standardised; every such table derives from this class.

    The split is fixed: one permutation by numpy's RandomState(0) gives `rows` training rows, and the rest are the test.

    Attributes:
        rows: the number of training rows.
        target: what the target holds, one of `targets.KINDS`.
    """

    rows: int
    target: str = CLASSES

    def load(self) -> tuple[Dataset, Dataset]:
        from sklearn import datasets

        table = getattr(datasets, f"load_{self.name}")(**({"scaled": False} if self.name == "diabetes" else {}))
        order = np.random.RandomState(0).permutation(len(table.data))
        train, test = order[: self.rows], order[self.rows :]
        x = (table.data - table.data[train].mean(0)) / table.data[train].std(0) / np.sqrt(table.data.shape[1])
        y, names = table.target, None
        if self.target == NUMBER:
            y = (y - y[train].mean()) / y[train].std()
        else:
            names = [str(each) for each in table.target_names]
        columns = [str(each) for each in table.feature_names]
        parts = [
            Dataset.of(x[rows], y[rows], self.classes, f"{self.name} {part}", columns, names, self.target)
            for part, rows in (("train", train), ("test", test))
        ]
        return parts[0], parts[1]


class Diabetes(ShippedTable):
    """Load 442 patients with ten features and the progression of the disease after a year: 332 and 110 rows."""

    name, classes, rows, target = "diabetes", 1, 332, NUMBER

    def __init__(self, train_size: TrainSize = 60) -> None:
        self.train_size = train_size


class BreastCancer(ShippedTable):
    """Load 569 tumours with thirty features, malignant (0) or benign (1): 419 and 150 rows."""

    name, classes, rows = "breast_cancer", 2, 419

    def __init__(self, train_size: TrainSize = 60, alike: Sequence[int] = (0, 1)) -> None:
        self.train_size, self.alike = train_size, alike


class Wine(ShippedTable):
    """Load 178 wines with thirteen features, of three growers: 128 and 50 rows."""

    name, classes, rows = "wine", 3, 128

    def __init__(self, train_size: TrainSize = 40, alike: Sequence[int] = (0, 1)) -> None:
        self.train_size, self.alike = train_size, alike
