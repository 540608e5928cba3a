"""What a file is measured against before it is unpacked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mpc_appraisal.common.errors import InputError


@dataclass(frozen=True)
class Sizes:
    """The rows and features that somebody has stated of a file. where: who stated them, as errors begin."""

    rows: int
    features: int
    where: str

    def check(self, rows: int, features: int, more: bool = False) -> None:
        """Raises InputError where a file says that it holds anything else; more: there are more rows, uncounted."""
        for key, value, stated in (("rows", rows, self.rows), ("features", features, self.features)):
            if value != stated:
                found = f"{value} or more" if more and key == "rows" else value
                raise InputError(f"{self.where}: data.{key}", found, f"{stated}, as the listing says")

    def check_bytes(self, path: Path, most: int) -> None:
        """Raises InputError for a file of more bytes than so many rows and features can take."""
        found = path.stat().st_size
        if found > most:
            expected = f"at most {most}, for {self.rows} rows and {self.features} features, as the listing says"
            raise InputError(f"{self.where}: data.rows", f"{path} of {found} bytes", expected)
