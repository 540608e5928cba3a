"""The files of a challenge on InstaHide: what is published, what its maker keeps, and an attacker's answer.

    challenge.npz   z (n T, d), labels (n T, C), public (m, d), counts (C), k, bound, least, epochs, commitment
    secret.npz      images (n, d), salt (32 bytes), decoys (r, d)
    an answer       images (any number, d), in any order

In go a challenge and its secret, or a folder; out come the files, or what they hold. Nothing in a file is unpickled.
The maker publishes challenge.npz alone, and secret.npz once answers are scored. The names of the arrays have to stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.attacks.instahide.challenge import SALT_BYTES, Challenge, ChallengeSecret
from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.transformations.instahide import Encoding, InstaHide

CHALLENGE, SECRET = "challenge.npz", "secret.npz"
ANSWER = "a .npz file with the array 'images', (rows, pixels) of finite numbers"


@dataclass(frozen=True, eq=False)
class StoredChallenge:
    """What a folder holds.

    Attributes:
        given: What is published.
        public: The public images (m, d), published with it.
        secret: What the maker keeps.
        decoys: The images (r, d) that recovered ones are told from, which the maker keeps too.
    """

    given: Challenge
    public: Tensor
    secret: ChallengeSecret
    decoys: Tensor


def write(folder: Path, stored: StoredChallenge) -> None:
    """Write challenge.npz and secret.npz into `folder`, which is made. Raises InputError where one of them is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CHALLENGE, SECRET):
        if (folder / name).exists():
            raise InputError("folder", f"{folder} with a {name}", "a folder without a challenge")
    given = stored.given
    _save(
        folder / CHALLENGE, z=given.encoding.z, labels=given.encoding.labels, public=stored.public,
        counts=given.counts, k=given.hide.k, bound=given.hide.bound, least=given.hide.least, epochs=given.epochs,
        commitment=given.commitment,
    )  # fmt: skip
    salt = np.frombuffer(stored.secret.salt, np.uint8)
    _save(folder / SECRET, images=stored.secret.images, salt=salt, decoys=stored.decoys)


def read(folder: Path) -> StoredChallenge:
    """Read the files that `write` wrote. Raises InputError for a folder that does not hold them."""
    expected = f"a folder with {CHALLENGE} and {SECRET}, which attack=challenge attack.folder=FOLDER makes"
    told, kept = (read_arrays(folder / name, "folder", expected) for name in (CHALLENGE, SECRET))
    try:
        hide = InstaHide(int(told["k"]), "cross", float(told["bound"]), float(told["least"]))
        encoding = Encoding(torch.from_numpy(told["z"]), torch.from_numpy(told["labels"]))
        counts = tuple(int(each) for each in told["counts"])
        given = Challenge(encoding, counts, hide, int(told["epochs"]), str(told["commitment"]))
        secret = ChallengeSecret(torch.from_numpy(kept["images"]), kept["salt"].tobytes())
        found = StoredChallenge(given, torch.from_numpy(told["public"]), secret, torch.from_numpy(kept["decoys"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("folder", f"{folder} ({type(error).__name__})", expected) from error
    if len(secret.salt) != SALT_BYTES or secret.images.dim() != 2 or found.decoys.dim() != 2:
        raise InputError("folder", str(folder), expected)
    return found


def read_answer(path: Path) -> Tensor:
    """Read an attacker's images (rows, d). Raises InputError for a file that holds no such array."""
    images = read_arrays(path, "answer", ANSWER).get("images")
    if images is None or images.ndim != 2 or images.dtype.kind != "f" or not np.isfinite(images).all():
        raise InputError("answer", str(path), ANSWER)
    return torch.from_numpy(images.astype(np.float32))


def _save(path: Path, **arrays: object) -> None:
    with open(path, "xb") as file:
        np.savez(file, **{name: np.asarray(values) for name, values in arrays.items()})
