"""Folders of runs: the names of a run's files, its mark, and what state each folder below some others is in.

In go folders of runs or of sweeps, in any depth. Out comes one `RunFolder` for each run, with its records as far as
they can be read, and its state in a word. A run is known by its records or by the `.hydra` folder that the app writes
before it computes. The names of the files and what a mark says have to stay, because a run that finished in an earlier
version is not computed again; `cli.finished` writes what is read here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import PLACE
from mpc_appraisal.reporting.attacked import Attacked
from mpc_appraisal.reporting.learning_record import KIND, LearningRecord
from mpc_appraisal.reporting.measured import read_measured
from mpc_appraisal.reporting.record import read
from mpc_appraisal.reporting.result import Result

FINISHED, RECORDS, SUPERSEDED, FAILURE = (
    "finished.json",
    "records.jsonl",
    "records.superseded.jsonl",
    "failure.json",
)
HYDRA = ".hydra"
MARKET = "marketplace"  # the kind of a marketplace's record
# What a marketplace's record has to state to be read here; the marketplace itself reads more of it.
OF_MARKET = {"protocol", "label", "seed", "session", "costs", "errors", "offered", "selected", "verdicts", "versions"}
DONE, UNMARKED, FAILED, DAMAGED, OTHER, EMPTY = (
    "finished",
    "records without a mark",
    "failed",
    "damaged records",
    "no appraisal",
    "no records",
)
WHOLE = (DONE, UNMARKED)  # the states in which a folder has records that count


@dataclass(frozen=True)
class RunFolder:
    """One run's folder.

    Attributes:
        sweep: The folder that was asked for, as it was stated.
        folder: The run's folder relative to it; '.' for the same one.
        state: 'finished', 'records without a mark' (a session between organisations leaves no mark), 'failed',
            'damaged records', 'no appraisal' (a marketplace's record) or 'no records'.
        result: The records of an appraisal; None where the state has none that count, and for another kind of run.
        learning: The record of a run of private learning; None for another kind of run.
        attacked: What attacks on the protocol of an appraisal or a marketplace recovered; None where none was chosen.
        reason: The error in words, where one is known.
        overrides: The words of the command line that described the run.
        market: The facts of a marketplace's record; None for another kind of run.
    """

    sweep: str
    folder: str
    state: str
    result: Result | None = None
    reason: str = ""
    overrides: tuple[str, ...] = ()
    learning: LearningRecord | None = None
    attacked: Attacked | None = None
    market: Mapping[str, Any] | None = None

    @property
    def whole(self) -> bool:
        """Whether the run's records are read."""
        return self.result is not None or self.learning is not None

    @property
    def lost(self) -> bool:
        """Whether the run failed or is unfinished, so that nothing of it can be shown."""
        return not self.whole and self.attacked is None and self.market is None


def sha256_of(path: Path) -> str | None:
    """Return the SHA-256 of a file in hexadecimal digits; None where it cannot be read."""
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    except OSError:
        return None
    return found.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one if the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def mark(folder: Path) -> dict[str, Any]:
    """Return what `finished.json` says, or an empty mapping if the records are not those that it hashes."""
    found = read_json(folder / FINISHED)
    return found if found and found.get("records") == (sha256_of(folder / RECORDS) or "") else {}


def run_folders(folders: Sequence[str | Path]) -> list[RunFolder]:
    """Return all runs in `folders`, each folder's in the order of their names, with numbers by size.

    Raises InputError for a folder that is none, for the same folder twice, and for one without a run.
    """
    if not folders:
        raise InputError("folders", "nothing", "one or more folders of runs or sweeps")
    found: list[RunFolder] = []
    for k, stated in enumerate(folders):
        root = Path(stated)
        if not root.is_dir():
            raise InputError("folder", str(stated), "a folder of runs or of sweeps")
        if any(root.resolve() == Path(earlier).resolve() for earlier in folders[:k]):
            raise InputError("folder", str(stated), "each folder once")
        places = {path.parent for path in (*root.rglob(RECORDS), *root.rglob(FAILURE))}
        places |= {path.parent.parent for path in root.rglob(f"{HYDRA}/overrides.yaml")}
        if not places:
            raise InputError("folder", str(stated), f"a folder with {RECORDS} in it or below it")
        found += [_run_folder(str(stated), root, place) for place in sorted(places, key=lambda p: _order(root, p))]
    return found


def run_folder(place: str | Path) -> RunFolder:
    """Return the run in one folder, whose records are there."""
    return _run_folder(str(place), Path(place), Path(place))


def _order(root: Path, place: Path) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in place.relative_to(root).parts]


def _run_folder(sweep: str, root: Path, place: Path) -> RunFolder:
    overrides = _overrides(place)
    named = {"sweep": sweep, "folder": place.relative_to(root).as_posix(), "overrides": overrides}
    if not (place / RECORDS).exists():
        failure = read_json(place / FAILURE).get("error")
        if failure is None:
            return RunFolder(**named, state=EMPTY)
        shown = "the error names a place; failure.json has it" if PLACE.search(str(failure)) else str(failure)
        return RunFolder(**named, state=FAILED, reason=shown)
    done = DONE if mark(place) else UNMARKED
    try:
        if _first_object(place / RECORDS).get("kind") == KIND:
            return RunFolder(**named, state=done, learning=LearningRecord.read(place / RECORDS))
        result = Result(read(place / RECORDS)).with_measured(read_measured(place))
    except InputError as error:
        other = _first_object(place / RECORDS).get("kind", KIND) != KIND
        reason = "" if other else f"{error.value}; expected {error.expected}"
        if not other:
            return RunFolder(**named, state=DAMAGED, reason=reason)
        facts = _first_object(place / RECORDS)
        market = facts if facts.get("kind") == MARKET and set(facts) >= OF_MARKET else None
        return RunFolder(**named, state=OTHER, attacked=_attacked(place), market=market)
    if not len(result):
        return RunFolder(**named, state=EMPTY)
    return RunFolder(**named, state=done, result=result, attacked=_attacked(place))


def _attacked(place: Path) -> Attacked | None:
    """Return what attacks recovered; None where no attack was chosen, or where the file is damaged."""
    try:
        return Attacked.read(place)
    except InputError:
        return None


def _overrides(place: Path) -> tuple[str, ...]:
    """Return the words that described the run, without those that name places and what is one party's own."""
    import yaml

    try:
        stated = yaml.safe_load((place / HYDRA / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ()
    words = [str(each) for each in stated] if isinstance(stated, list) else []
    return tuple(word for word in words if not PLACE.search(word) and not word.startswith("party."))


def _first_object(path: Path) -> dict[str, Any]:
    """Return the object in the first line of a file of records; an empty one where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.loads(file.readline())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
