"""The folders that the desk reads, and the check that no path leads out of them.

In go paths; out comes a file within its folder, or InputError. A folder may be added as a field with a default. What
a page asks for by name has to pass `inside`, because a link or a name may lead elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.queue import FOLDER as REQUESTS
from mpc_appraisal.governance.budget.hash_chain import ENDING
from mpc_appraisal.governance.offers.book import FOLDER as OFFERS


@dataclass(frozen=True)
class Places:
    """The folders of one owner.

    Attributes:
        requests: the folder of the request queue.
        ledgers: the folder with the ledgers, which lie beside the data files by default.
        runs: the folder of the runs, with their records and cards in it or below it.
        catalogue: the folder of the listings.
        offers: the folder of the standing offers, whose answers are counted in the folder of the ledgers.
    """

    requests: Path = Path(REQUESTS)
    ledgers: Path = Path()
    runs: Path = Path("out")
    catalogue: Path = Path("catalogue")
    offers: Path = Path(OFFERS)

    def ledger_files(self) -> list[Path]:
        """Return the ledgers in their folder, by name. Links that lead out of the folder are left out."""
        found = self.ledgers.glob(f"*{ENDING}") if self.ledgers.is_dir() else []
        return sorted(path for path in found if path.resolve().parent == self.ledgers.resolve())


def inside(folder: Path, *parts: str) -> Path:
    """Return the file that the parts name within the folder. Raises InputError for another place, or no file."""
    try:
        found = folder.joinpath(*parts).resolve()
        if found.is_relative_to(folder.resolve()) and found.is_file():
            return found
    except (OSError, ValueError):  # a name that is too long, or that holds a zero byte
        pass
    raise InputError("file", shown("/".join(parts)), f"a file in {shown(str(folder))}")
