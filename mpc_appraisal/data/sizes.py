"""The sizes that a file must have, because a listing states them; they are compared before the file is unpacked.

A listing is the data owner's public description of a data set. The sizes of a file go in; nothing or an InputError
comes out. The comparison has to stand before the unpacking, so that a file cannot fill the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mpc_appraisal.common.errors import InputError


@dataclass(frozen=True)
class Sizes:
    """Hold the sizes that a listing states of a file.

    Attributes:
        rows, features: the numbers of rows and of features.
        where: the name of the listing, which errors begin with.
    """

    rows: int
    features: int
    where: str

    def check(self, rows: int, features: int, more: bool = False) -> None:
        """Raise InputError where a file has other sizes. more: whether there are more rows, which were not counted."""
        for key, value, stated in (("rows", rows, self.rows), ("features", features, self.features)):
            if value != stated:
                found = f"{value} or more" if more and key == "rows" else value
                raise InputError(f"{self.where}: data.{key}", found, f"{stated}, as the listing says")

    def check_bytes(self, path: Path, most: int) -> None:
        """Raise InputError for a file of more bytes than these rows and features can take, which is `most`."""
        found = path.stat().st_size
        if found > most:
            expected = f"at most {most}, for {self.rows} rows and {self.features} features, as the listing says"
            raise InputError(f"{self.where}: data.rows", f"{path} of {found} bytes", expected)
