"""Whether the two sides' rows fit together: what was compared, and what looks wrong.

In go the parties' messages on names, classes and norms (bounds on the lengths of rows), and at the model owner a
listing, which is the public description of a data set. Out comes one list of `Finding`s for every output. A finding is
a fact, which only the request states, or a warning, which request, record, report, card and standard error state. Four
topics are compared:

names       `names.match` compares the names of columns and classes.
classes     The data owner and the model owner announce how many of the model's classes they have no row of. The counts
            of rows by class stay with their owner. Under release=dp the data owner announces nothing of its labels.
scale       A warning says that one side's longest row is RATIO times as long as the other's, which is no accident of
            sampling. RATIO is below the factors by which units and encodings differ (10, 12, 16, 100, 255, 1000), and
            above the factor by which the longest rows of two samples of one source differ. The constant feature 1 is
            taken off. Announced norms are rounded up to four bits, so that rows much shorter than 1 cannot be
            distinguished. Under release=dp the data owner announces the public norm that its rows are clipped to, and
            nothing is compared.
statistics  The model owner compares a listing's statistics with its training rows in its own process. A column is far
            off where the means are DEVIATIONS pooled deviations apart, or where one deviation is SPREADS times the
            other. Two samples of 20 and 600 rows of the digits are less than 1 deviation apart in every pixel, one
            class and all classes are less than 3 apart, and transposed images are 4 or more apart.

A topic may be added. All findings but those of `statistics_findings` have to be made of public messages alone, so that
every party makes the same request of them. Their sentences and RATIO may change only at all parties at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from mpc_appraisal.appraisal.names import Match, Names
from mpc_appraisal.common.errors import DisagreementError, InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.common.text import shown
from mpc_appraisal.data import Dataset, StoredDataset
from mpc_appraisal.governance.catalogue import Listing, statistics
from mpc_appraisal.governance.catalogue.facts import MOST_STATED_CLASSES

RATIO = 4.0
DEVIATIONS, SPREADS = 3.0, 10.0
WARN, REFUSE, IGNORE = "warn", "refuse", "ignore"
POLICIES = (WARN, REFUSE, IGNORE)
BLOCK = 1 << 10  # the number of rows that are read at a time
MOST_SHOWN = 8  # the largest number of columns in a message
NAMES, CLASSES, SCALE, STATISTICS = "names", "classes", "scale", "statistics"
Data = Dataset | StoredDataset


@dataclass(frozen=True)
class Finding:
    """One sentence about one candidate, which is one data set of the data owner.

    Attributes:
        topic: NAMES, CLASSES, SCALE or STATISTICS.
        candidate: The candidate's name.
        text: The sentence.
        warning: Whether something looks wrong; otherwise the sentence states what was compared.
        public: Whether the sentence follows from messages that all parties have read.
    """

    topic: str
    candidate: str
    text: str
    warning: bool
    public: bool = True


@dataclass(frozen=True)
class Source:
    """A candidate before its rows were changed for use.

    Attributes:
        data: The rows as their file holds them.
        prepare: The function that both sides apply to their rows before use.
    """

    data: Data
    prepare: Callable[[Data], Data]


def check_policy(stated: Any, key: str = "party.scale") -> str:
    """Return `stated`. Raises InputError, under `key`, unless it is 'warn', 'refuse' or 'ignore'."""
    if stated not in POLICIES:
        raise InputError(key, shown(repr(stated)), f"one of {', '.join(POLICIES)}")
    return stated


# -- sentences -----------------------------------------------------------------------------------------------------
def sentences(findings: Iterable[Finding], candidates: Collection[str]) -> list[str]:
    """Return each text once. A text starts with the candidates' names where it does not hold for all `candidates`."""
    about: dict[str, list[str]] = {}
    for one in findings:
        about.setdefault(one.text, []).append(one.candidate)
    return [
        text if len(names) == len(candidates) else f"Of {', '.join(quoted(name) for name in names)}: {text}"
        for text, names in about.items()
    ]


def warnings_of(findings: Iterable[Finding], candidate: str) -> tuple[str, ...]:
    """Return the warnings of one candidate for its record. Slashes are encoded, since a record refuses paths."""
    texts = (one.text for one in findings if one.warning and one.candidate == candidate)
    return tuple(dict.fromkeys(text.replace("/", "%2F").replace("\\", "%5C") for text in texts))


def quoted(name: str) -> str:
    """Return a name in quotes for a message, shortened and without control characters."""
    return f"'{shown(name, 60)}'"


# -- names ---------------------------------------------------------------------------------------------------------
def names_findings(matches: Mapping[str, Match], trained: bool) -> list[Finding]:
    """Return the sentences that `names.match` made, as findings.

    Args:
        matches: How each candidate's names fit the model owner's, by candidate's name.
        trained: Whether the model owner brings training rows, so that their names are those of its model.
    """
    weights = "A trained model has no names: its weights are taken to be in the order of the model owner's test rows."
    found = [Finding(NAMES, name, weights, False) for name, one in matches.items() if one.order and not trained]
    return found + [
        Finding(NAMES, name, text, warning)
        for name, match in matches.items()
        for warning, texts in ((True, match.warnings), (False, match.facts))
        for text in texts
    ]


def fitted(data: Data, source: Source | None, match: Match, classes: int) -> Data:
    """Return a candidate with its columns in the model owner's order and its labels in the model owner's numbers.

    Args:
        data: The candidate's rows as they will be shared.
        source: The same rows as their file holds them; None where they were not changed.
        match: The order of columns and the numbers of classes.
        classes: The model's number of classes.
    """
    moved = match.order is not None and match.order != tuple(range(len(match.order)))
    if moved:
        raw = data if source is None else source.data
        raw = raw.arranged([raw.columns[place] for place in match.order])
        data = raw.renamed(data.name) if source is None else source.prepare(raw).renamed(data.name)
    if match.recode is not None and match.recode != tuple(range(len(match.recode))):
        step = partial(_recoded, recode=match.recode, classes=classes)
        if isinstance(data, StoredDataset):
            facts = {"classes": classes, "class_names": None, "_largest": max(match.recode)}
            data = data.changed(step, **facts)
        else:
            data = step(data)
    return data


def _recoded(data: Dataset, recode: Sequence[int], classes: int) -> Dataset:
    return replace(data, y=torch.tensor(recode, dtype=torch.int64)[data.y], classes=classes, class_names=None)


# -- classes without rows ------------------------------------------------------------------------------------------
def rows_by_class(data: Data, classes: int) -> list[int]:
    """Return the number of rows of each class of the model. Rows with larger labels are not counted."""
    counts = torch.zeros(classes, dtype=torch.int64)
    for block in data.blocks(BLOCK):
        counts += torch.bincount(block.y, minlength=classes)[:classes]
    return counts.tolist()


def classes_findings(published: Mapping[str, Any], names: Iterable[str], classes: int) -> list[Finding]:
    """Return sentences on classes without rows.

    Args:
        published: By role, the message with 'without_rows'. The model owner states a number, and the data owner a
            number by candidate's name; an owner that announces nothing of its labels states None.
        names: The candidates' names.
        classes: The model's number of classes.

    Raises:
        PeerError: The data owner names other candidates, or an owner states more classes than there are.
    """
    own, theirs = published[MODEL_OWNER].get("without_rows"), published[DATA_OWNER].get("without_rows")
    names, found = list(names), []
    if theirs is not None and set(theirs) != set(names):
        announced = ", ".join(map(quoted, list(theirs)[:MOST_SHOWN])) or "none"
        raise PeerError(
            f"{DATA_OWNER} announced classes without rows for the candidates {announced}; expected them for "
            f"{', '.join(map(quoted, names[:MOST_SHOWN]))}"
        )
    for role, most in ((MODEL_OWNER, own or 0), (DATA_OWNER, max((theirs or {}).values(), default=0))):
        if most > classes:
            raise PeerError(f"{role} announced {most} classes without rows; expected at most {classes}")
    for name in names:
        if own:
            found.append(
                Finding(
                    CLASSES,
                    name,
                    f"{_lacking(own, classes)} no row in the model owner's training rows; labels count from 0, and "
                    "each class takes part in the model.",
                    True,
                )
            )
        elif own is not None:
            text = f"The model owner's training rows have each of the model's {classes} classes."
            found.append(Finding(CLASSES, name, text, False))
        if theirs is None:
            text = "The data owner announces nothing of its labels, not even how many of the classes it has no row of."
            found.append(Finding(CLASSES, name, text, False))
        elif theirs[name]:
            found.append(
                Finding(
                    CLASSES,
                    name,
                    f"{_lacking(theirs[name], classes)} no row at the data owner; labels count from 0, and both sides "
                    "must mean the same by each.",
                    True,
                )
            )
        else:
            text = f"The data owner has rows of each of the model's {classes} classes."
            found.append(Finding(CLASSES, name, text, False))
    return found


def _lacking(count: int, classes: int) -> str:
    return f"{count} of the model's {classes} classes {'has' if count == 1 else 'have'}"


def counted(counts: Sequence[int], key: str) -> str:
    """Return a line on the rows of each class, for their owner alone. key: how the owner calls the rows."""
    rows = ", ".join(f"{label}: {count}" for label, count in enumerate(counts[:20])) + ", ..." * (len(counts) > 20)
    return f"{key} has these rows by class, which are not sent to anybody else: {rows}"


# -- lengths of rows -----------------------------------------------------------------------------------------------
def scale_findings(
    published: Mapping[str, Mapping[str, float]], names: Iterable[str], hidden: bool, rows: int
) -> list[Finding]:
    """Return sentences on the scale of the rows.

    Args:
        published: The norms that each owner has announced, by role.
        names: The candidates' names.
        hidden: Whether the data owner's norm is the public one to which rows are clipped.
        rows: The number of the model owner's rows.
    """
    names = list(names)
    if hidden:
        text = (
            "The lengths of the two sides' rows were not compared: under release=dp the data owner announces the "
            "public norm that its rows are clipped to."
        )
        return [Finding(SCALE, name, text, False) for name in names]
    if not rows:
        text = "The lengths of rows were not compared, for the model owner brings a model and no rows."
        return [Finding(SCALE, name, text, False) for name in names]
    ours, theirs = (math.sqrt(max(published[role]["row_norm"] ** 2 - 1.0, 0.0)) for role in (MODEL_OWNER, DATA_OWNER))
    longer, shorter = max(ours, theirs), min(ours, theirs)
    if longer < RATIO * shorter or longer == 0:
        return []
    ratio = f"about {longer / shorter:.2g}" if shorter else "many"
    one, other = ("data", "model") if theirs > ours else ("model", "data")
    text = (
        f"The {one} owner's longest row is {ratio} times as long as the {other} owner's: are both in the same units, "
        "and prepared in the same way?"
    )
    return [Finding(SCALE, name, text, True) for name in names]


def refuse_scale(findings: Iterable[Finding], policy: str) -> None:
    """Raise DisagreementError where a finding warns of the scale and this side's policy is 'refuse'."""
    found = [one.text for one in findings if one.topic == SCALE and one.warning]
    if found and policy == REFUSE:
        raise DisagreementError(f"{found[0]} This is refused, as party.scale=refuse says")


def kept(findings: Iterable[Finding], policy: str) -> list[Finding]:
    """Return the findings, without those that warn of the scale where this side's policy is 'ignore'."""
    return [one for one in findings if not (policy == IGNORE and one.topic == SCALE and one.warning)]


# -- statistics of a listing ---------------------------------------------------------------------------------------
def statistics_findings(
    name: str, listing: Listing | None, train: Data | None, match: Match, names: Names
) -> list[Finding]:
    """Return a warning of columns whose listed statistics are far from the model owner's training rows, or nothing.

    The warning stays with the model owner. Nothing is compared without a listing's statistics or without training rows.

    Args:
        name: The candidate's name.
        listing: The candidate's listing.
        train: The training rows as their file holds them.
        match: How the candidate's columns fit the model owner's.
        names: The names of the model owner's columns.
    """
    if listing is None or listing.statistics is None or train is None or train.classes > MOST_STATED_CLASSES:
        return []
    listed = [column for column, _ in listing.columns]
    order = match.order
    if listed and names.columns and set(listed) == set(names.columns):
        order = tuple(listed.index(column) for column in names.columns)
    if listing.features != train.features:
        return []
    order = tuple(range(train.features)) if order is None else order
    mine, theirs = statistics(train), [listing.statistics.of_column(place) for place in order]
    both = [k for k, moments in enumerate(theirs) if moments is not None]
    stated = np.array([theirs[k] for k in both])
    off = far(np.array(mine.mean)[both], np.array(mine.deviation)[both], stated[:, 0], stated[:, 1])
    if not off:
        return []
    places = [order[both[k]] for k in off]
    shown_columns = ", ".join(
        quoted(listed[place]) if listed else f"number {place + 1}" for place in places[:MOST_SHOWN]
    )
    more = f" and {len(off) - MOST_SHOWN} more" if len(off) > MOST_SHOWN else ""
    text = (
        f"The listing's statistics are far from the model owner's training rows in {len(off)} of {len(both)} "
        f"columns: {shown_columns}{more}; are order, units and preparation the same?"
    )
    return [Finding(STATISTICS, name, text, True, public=False)]


def far(mean: np.ndarray, deviation: np.ndarray, mean2: np.ndarray, deviation2: np.ndarray) -> list[int]:
    """Return the numbers of the columns whose means or deviations are far apart. All arrays have shape (d,)."""
    pooled = np.sqrt((deviation**2 + deviation2**2) / 2)
    size = np.maximum(np.abs(mean), np.abs(mean2))
    apart = np.abs(mean - mean2)
    shifted = apart >= DEVIATIONS * pooled
    shifted &= apart > 0.011 * size  # both have three digits, so that each is off by half a percent at most
    small, large = np.minimum(deviation, deviation2), np.maximum(deviation, deviation2)
    spread = (small > 0) & (large >= SPREADS * small)
    return np.flatnonzero(shifted | spread).tolist()
