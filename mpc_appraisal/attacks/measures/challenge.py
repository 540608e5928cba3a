"""A challenge on InstaHide as a choice of the app: it is made with a committed answer, and answers are scored.

The formulas are those of `instahide.challenge`. In goes an `EncodingsView`; out comes the share of private images that
an answer identifies. Without a folder, or for a new one, a challenge is made, and the answer is that of
`instahide.cluster`. With a folder that holds a challenge and the file of somebody's answer, that answer is scored, and
the answer of the app beside it. A score is refused where the secret is not the one that the challenge commits to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from mpc_appraisal.attacks.instahide import challenge, challenge_files, cluster, rank
from mpc_appraisal.attacks.instahide.challenge_files import CHALLENGE, StoredChallenge
from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.attacks.measures.image_recovery import MEANING, apart
from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide_images import EncodingsView

STOPS = "for an answer of other images of the same kind"


@dataclass(frozen=True)
class InstaHideChallenge(Attack):
    """The settings of the challenge. Raises InputError for a setting that does not fit.

    Attributes:
        images: About how many private images are in it, equally many of each class and at least one.
        epochs: The number of encodings of each of them; None for as many as training hands out.
        decoys: The largest number of other images that an image is told from.
        restarts: The number of starts of the grouping.
        learned: The number of encodings that the attacker makes of public images, or a few more.
        folder: The folder of the challenge's files; None keeps none.
        answer: The file of an answer to the challenge in `folder`; None for the answer of the app alone.
    """

    images: int = 20
    epochs: int | None = None
    decoys: int = 1000
    restarts: int = 6
    learned: int = 3500
    folder: str | None = None
    answer: str | None = None

    name: ClassVar[str] = "challenge"
    reads: ClassVar[str] = "cross_encodings"

    def __post_init__(self) -> None:
        for name in ("images", "decoys", "restarts", "learned"):
            integer(name, getattr(self, name), 1)
        if self.epochs is not None:
            integer("epochs", self.epochs, 1, expected="null, or an integer of 1 or more")
        for name in ("folder", "answer"):
            stated = getattr(self, name)
            if stated is not None and (not isinstance(stated, str) or not stated):
                raise InputError(name, repr(stated), "a path, or null")
        if self.answer is not None and self.folder is None:
            raise InputError("folder", None, "the folder of the challenge that is answered")

    def check(self) -> None:
        if self.answer is None:
            return
        width = challenge_files.read(Path(self.folder)).secret.images.shape[1]
        answer = challenge_files.read_answer(Path(self.answer))
        if answer.shape[1] != width:
            raise InputError("answer", f"images of {answer.shape[1]} pixels", f"{width}, as in the challenge")

    def measure(self, view: EncodingsView, seed: int) -> list[Finding]:
        stored, guesses = self._stored(view)
        given = stored.given
        squares = rank.learn(given.hide, stored.public, self.learned)
        own = cluster.recover(given.encoding, given.counts, squares, restarts=self.restarts, seed=seed).images
        answers = {"the app's answer": own}
        if self.answer is not None:
            answers = {"an answer from a file": challenge_files.read_answer(Path(self.answer))} | answers
        chance = challenge.score(given, stored.secret, guesses, stored.decoys)
        found = []
        for words, answer in answers.items():
            score = challenge.score(given, stored.secret, answer, stored.decoys)
            count = len(stored.secret.images)
            found.append(Finding(
                "challenge", f"{words}: {count} images, {given.epochs} encodings of each, "
                f"told from {len(stored.decoys)} decoys", score.identified, chance.identified, MEANING, STOPS,
                chance.identified,
                points=({"commitment": given.commitment, "correlation": score.correlation,
                         "chance_correlation": chance.correlation},),
            ))  # fmt: skip
        return found

    def _stored(self, view: EncodingsView) -> tuple[StoredChallenge, Tensor]:
        """Return the challenge of the folder, or a new one, and images for a guess."""
        folder = None if self.folder is None else Path(self.folder)
        if self.answer is not None or (folder is not None and (folder / CHALLENGE).exists()):
            stored = challenge_files.read(folder)
            return stored, apart(view.images, len(stored.secret.images), 1)[0]
        private, labels = view.images.few(self.images)
        guesses, decoys = apart(view.images, len(private), self.decoys)
        given, secret = challenge.make(view.hide, private, labels, view.images.public, self.epochs or view.epochs)
        stored = StoredChallenge(given, view.images.public, secret, decoys)
        if folder is not None:
            challenge_files.write(folder, stored)
        return stored, guesses
