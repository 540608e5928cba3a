"""What the actions of `mpc-appraisal market` share: some arguments, and how images are read.

In go a parser or the path of a .npz file; out come the parser's new arguments, or images and labels as arrays. LARGEST
may change: it limits the memory that a party's own file may take.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.marketplace.cap import CAP_SHARE
from mpc_appraisal.marketplace.plan_file import architecture_of
from mpc_appraisal.marketplace.uploads.enrolment import SCHEMES
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture

LARGEST = 1 << 34  # bytes that a party's own images may take when they are unpacked
ARRAYS = "a .npz file with x (rows, pixels) uint8 and y (rows,) integers"


def add_cap_share(parser: argparse.ArgumentParser) -> None:
    """Add --cap-share, which enrolment and the run both state."""
    parser.add_argument(
        "--cap-share",
        type=float,
        default=CAP_SHARE,
        help="authority: the most independent rows that it issues keys for, as a share of the pixels; the lower one of "
        "enrolment's and the run's counts (default: %(default)s)",
    )


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that describe the network and the encryption; one that is not stated is None."""
    parser.add_argument("--network", choices=sorted(ARCHITECTURES), help="the network (default: cnn)")
    parser.add_argument(
        "--image", type=int, nargs=3, metavar=("CHANNELS", "HEIGHT", "WIDTH"), help="the size of an image in pixels"
    )
    parser.add_argument("--classes", type=int, help="the number of classes")
    parser.add_argument("--scheme", choices=sorted(SCHEMES), help="the functional encryption (default: lwe)")


def network_of(stated: argparse.Namespace) -> Architecture:
    """Return the architecture that these arguments describe. Raises InputError for one that does not fit."""
    return architecture_of(stated.network or "cnn", stated.image, stated.classes)


def read_images(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read images and labels. Raises InputError under `name` if the file lacks one of them."""
    arrays = read_arrays(path, name, ARRAYS, LARGEST)
    if not {"x", "y"} <= set(arrays):
        raise InputError(name, f"{path} with {shown(', '.join(arrays)) or 'no arrays'}", ARRAYS)
    return arrays["x"], arrays["y"]
