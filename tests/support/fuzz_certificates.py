"""Readers of certificates and keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_registry import READERS, Reader

from mpc_appraisal.marketplace.uploads.seller_certificate import certified_key, private_key
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


def of_seller(ending: str) -> tuple[Callable[[Path], list[bytes]], Callable[[bytes, Path], Any]]:
    def make(folder: Path) -> list[bytes]:
        make_trial(folder / "market", names=("cloud",), sellers=("ann",))
        return [(folder / "market" / "ann" / ending).read_bytes()]

    def read_one(data: bytes, folder: Path) -> Any:
        own = folder / "market" / "ann"
        (own / ending).write_bytes(data)
        return private_key(own / "ann.key"), certified_key(own / "ann.pem", own / "ca.pem", "ann")

    return make, read_one


for one in ("ca.pem", "ann.pem", "ann.key"):
    READERS.append(Reader(f"market {one}", *of_seller(one)))
