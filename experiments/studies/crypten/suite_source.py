"""CrypTen's own tests, which its source distribution has and its wheel has not.

In goes nothing, or a folder that the user has unpacked; out comes the folder that holds `test/`. The archive comes from
the package index that pip is told to use, and its SHA-256 is pinned. pip itself cannot fetch it: `pip download` asks
the archive's own build for its requirements, and the build fails because their list is not in the archive. No file of
CrypTen may be copied into this repository.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

import pooch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.mpc.protocols.crypten_compat import CRYPTEN_VERSION

ARCHIVE = f"crypten-{CRYPTEN_VERSION}.tar.gz"
SHA256 = "8c106ecc1547f892b488c560a27acd6787e216cb77bf7659a3d4e8271a1d4fb7"
INDEX = "https://pypi.org/simple"
SECONDS = 60.0
LINK = re.compile(rf'href="([^"#]*/{re.escape(ARCHIVE)})[#"]')


class NoIndexError(AppraisalError):
    """This error says that no package index gives CrypTen's source distribution."""


def source_folder(stated: Path | None, work: Path) -> Path:
    """Return the folder of CrypTen's source distribution.

    Args:
        stated: A folder in which the distribution is unpacked already. None fetches it.
        work: The folder that keeps what is fetched.

    Raises:
        InputError: The stated folder has no tests of CrypTen in it.
        NoIndexError: The archive cannot be fetched, or it is not the one whose SHA-256 is pinned.
    """
    folder = fetched(work) if stated is None else stated.resolve()
    if not (folder / "test" / "multiprocess_test_case.py").is_file():
        raise InputError("--crypten-source", folder.name, f"the unpacked {ARCHIVE}, with test/ in it")
    return folder


def fetched(work: Path) -> Path:
    """Return the folder in `work` into which the archive is unpacked; it is fetched once."""
    folder = work / ARCHIVE.removesuffix(".tar.gz")
    if folder.is_dir():
        return folder
    try:
        archive = pooch.retrieve(archive_address(), f"sha256:{SHA256}", ARCHIVE, work)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors, and a wrong hash is a ValueError
        raise NoIndexError(f"{ARCHIVE} cannot be fetched from {index()}: {error}") from error
    with tarfile.open(archive) as packed:
        packed.extractall(work, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder


def index() -> str:
    """Return the address of the package index, which PIP_INDEX_URL may state, as it does for pip."""
    return os.environ.get("PIP_INDEX_URL", INDEX).rstrip("/")


def archive_address() -> str:
    """Return where the index says that the archive is. Raises NoIndexError where the index does not name it."""
    page = f"{index()}/crypten/"
    with urlopen(page, timeout=SECONDS) as answer:
        found = LINK.search(answer.read().decode("utf-8", "replace"))
    if found is None:
        raise NoIndexError(f"{page} names no {ARCHIVE}")
    return urljoin(page, found[1])
