"""Readers of certificates and keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_registry import READERS, Reader

from mpc_appraisal.mpc.net.certificates import CertificateFiles, make_trial


def certificate(ending: str) -> tuple[Callable[[Path], list[bytes]], Callable[[bytes, Path], Any]]:
    def make(folder: Path) -> list[bytes]:
        make_trial(folder / "trial")
        return [(folder / "trial" / "dealer" / ending).read_bytes()]

    def read_one(data: bytes, folder: Path) -> Any:
        (folder / "trial" / "dealer" / ending).write_bytes(data)
        return CertificateFiles.of(folder / "trial", "dealer").context(server=False)

    return make, read_one


for one in ("ca.pem", "dealer.pem", "dealer.key"):
    READERS.append(Reader(one, *certificate(one)))
