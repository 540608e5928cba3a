"""What every protocol of private learning has in common when the app runs it: its data, its outcome, and what it shows.

    data     training rows and test rows of one data set, drawn from a seed
    outcome  accuracy by the protocol and in the clear, cost, what was opened, and views
    view     what a party of the protocol is shown, from which an attack begins; its name is one of VIEWS

In go a `LearningData`, a session of one machine and a function that takes progress; out comes a `LearningOutcome`. A
protocol is a frozen dataclass that derives from `LearningProtocol`, with a file in conf/protocol. It states in `shows`
which views it leaves, and an attack states in `reads` which view it begins from, so that the two are matched by name. A
view may be added to VIEWS. The names of protocols and of views stand in records and have to stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.mpc.backends.settings import refuse_integrity

Emit = Callable[[dict[str, Any]], None]

# The views that attacks begin from, each with what it is.
VIEWS = {
    "helper": "values of functions, in an order that the helper does not know",
    "helper_training": "the same for each row in each epoch of a training",
    "first_layer": "outputs of the first layer, row by row",
    "float_shares": "shares and masked values in floating point",
    "cloud": "first-layer outputs of sellers' images, and the masked layers of a shopper's network",
    "encodings": "mixed images with random signs",
    "cross_encodings": "mixed images with random signs, of two private images and public ones, and their labels",
    "answers": "what an appraisal opens of rows that the data owner chooses",
    "offers": "the values of rows that sellers choose to offer",
    "masked_product": "messages of a product on shares, whose masks torch's generator draws",
}
# For each view, the runs that leave it.
LEFT_BY = {
    "helper": "protocol=rtas, rtas_training or float_shares",
    "helper_training": "protocol=rtas_training or float_shares with protocol.epochs of 2 or more",
    "first_layer": "protocol=rtas_fast",
    "float_shares": "protocol=float_shares",
    "cloud": "protocol=ife_transform",
    "encodings": "protocol=instahide or instahide_inside",
    "cross_encodings": "protocol=instahide",
    "answers": "an appraisal (protocol=shares or rtas) by gradient_norm with model=softmax_regression, of which "
    "release=value, bit or dp tells the data owner",
    "offers": "an appraisal (protocol=shares or rtas) of two candidates or more with class labels, by gradient_norm, "
    "influence or finetuning",
    "masked_product": "an appraisal with session.engine=stock by a method that reads the model",
}
PLAIN, SPAWN = "plain", "spawn"


@dataclass(frozen=True, eq=False)
class LearningData:
    """What is learned from.

    Attributes:
        train: The training rows, which are private.
        test: The test rows, which no training uses; an attacker may have them too.
        seed: The seed of all that is drawn.
    """

    train: Dataset
    test: Dataset
    seed: int

    def drawn(self, rows: int | None, tested: int | None) -> LearningData:
        """Return the data with so many training and test rows, which are drawn from the seed; None takes all.

        Raises InputError for a number that is no integer of 2 or more. A number above what there is takes all rows.
        """
        draw = torch.Generator().manual_seed(self.seed)
        parts = []
        for name, part, count in (("rows", self.train, rows), ("tested", self.test, tested)):
            if count is not None:
                integer(name, count, 2, expected="null, or an integer of 2 or more")
            parts.append(part.subset(torch.randperm(part.rows, generator=draw)[:count]))
        return replace(self, train=parts[0], test=parts[1])


@dataclass(frozen=True)
class LearningCost:
    """What an operation cost.

    Attributes:
        seconds: The seconds of the slowest party, from the start of the session to its end.
        bytes_sent: What each role sent.
        rounds: The messages that an owner waited for.
    """

    seconds: float
    bytes_sent: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 0


@dataclass(frozen=True, eq=False)
class LearningOutcome:
    """What a run found.

    Attributes:
        accuracy: The share of test rows that the protocol predicts rightly; None where the session is plain.
        plain_accuracy: The same in the clear, with the same beginning, rows and steps.
        always: The share of the test rows that are of the commonest class, which needs no training.
        trained, tested: The numbers of rows.
        steps: The number of training steps.
        cost: What the protocol cost; None where the session is plain.
        plain_seconds: The seconds of the same in the clear.
        openings: What was opened: dictionaries with the keys to, what, numbers and why.
        views: By name, what the protocol shows; see `VIEWS`. Views hold private rows, and no record may hold a view.
        more: Other facts for the record: JSON values by name.
    """

    accuracy: float | None
    plain_accuracy: float
    always: float
    trained: int
    tested: int
    steps: int
    cost: LearningCost | None
    plain_seconds: float
    openings: tuple[Mapping[str, Any], ...]
    views: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)


class LearningProtocol(ABC):
    """The base of the protocols of private learning, each a frozen dataclass whose fields are keys of conf/protocol.

    Attributes:
        name: The name in records and of the file in conf/protocol.
        label: The name in words.
        engine: The engine of a session that it needs; None where it needs none of them.
        shows: The names of the views that it leaves.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    engine: ClassVar[str | None]
    shows: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def leakage(self) -> tuple[str, ...]:
        """Return sentences that state what the protocol leaks, and to whom."""

    @property
    @abstractmethod
    def trust(self) -> str:
        """Return what must be trusted."""

    @abstractmethod
    def check(self, data: LearningData) -> None:
        """Raise InputError for data that do not fit, before anything is computed."""

    @abstractmethod
    def run(self, data: LearningData, session: Any, emit: Emit) -> LearningOutcome:
        """Train and predict.

        Args:
            data: The data, which `check` has admitted.
            session: `PlainSettings` or `SpawnSettings`, which `check_session` has admitted.
            emit: A function that takes progress events.
        """

    def check_session(self, session: Any) -> None:
        """Raise InputError for a session between organisations, and for one whose engine or transport is another.

        A session that asks for the check of messages is refused too.
        """
        if session.name not in (PLAIN, SPAWN):
            raise InputError("session", session.name, f"{PLAIN} or {SPAWN}: {self.name} runs on one machine")
        if session.name == PLAIN:
            return
        fitting = ("fast",) if self.engine in (None, "fast") else ("fast", self.engine)
        if session.engine not in fitting:
            expected = f"{' or '.join(fitting)}: {self.name} brings the engine that it needs"
            raise InputError("engine", session.engine, expected)
        if session.transport != "tcp":
            raise InputError("transport", session.transport, f"tcp: {self.name} runs on one machine")
        refuse_integrity(session, f"protocol={self.name}")


def check_classes(data: LearningData, name: str) -> None:
    """Raise InputError unless both parts have class labels and features alike."""
    for key, part in (("train", data.train), ("test", data.test)):
        if part.numeric or not part.labelled:
            raise InputError(key, part.name, f"rows with class labels, because {name} learns classes")
    if data.train.features != data.test.features:
        raise InputError("test", f"{data.test.features} features", f"{data.train.features}, as in train")
