"""Appraisal cards: one page for each candidate of a private run, for a manager to read and an auditor to check.

What goes in are the records of a run and nothing else; what comes out is, for each candidate, one page in Markdown and
one in HTML, from templates/card.md.jinja and card.html.jinja. A candidate is a data set on offer. A card states the
answer first, then what binds the answer to the data, what was opened to whom, what was spent, who allowed it, and how
to verify each of these. To open a number is to make it known to a party.

The functions here compose the sentences, which may be reworded; the templates set the layout. Names of candidates,
listings and approvals are foreign text, which both templates escape. A command to copy may hold no foreign text but
hashes and the name of a listing, whose forms are checked: somebody will paste the command into a shell.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mpc_appraisal.common.text import shown
from mpc_appraisal.data import Resolution
from mpc_appraisal.reporting.advice import NO_ADVICE, Advice
from mpc_appraisal.reporting.card_consent import approval_facts, budget_facts, receipt_facts
from mpc_appraisal.reporting.card_steps import NAME, TEXT, steps_of
from mpc_appraisal.reporting.metric_names import in_words
from mpc_appraisal.reporting.overlap_record import count_in_words
from mpc_appraisal.reporting.page import render
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import COVERS, INTERVAL, SECRET, finalists, parties
from mpc_appraisal.reporting.table import number

LONG = 4 * TEXT  # the longest sentence that this program wrote and that is shown whole: a note, a warning
FAILURE = "Fixed-point arithmetic failed somewhere with a probability of at most {}."
SAMPLING = (
    "Sampling error of the data itself is not in this: another sample from the same source would give another answer."
)
SIDES = {
    "spawn": "a trial with both sides on one machine",
    "join": "an appraisal between organisations, each in its own process",
}


@dataclass(frozen=True)
class Section:
    """Hold one section of a card.

    Attributes:
        title: the heading.
        answers: each is a headline with the sentences under it.
        facts: each is a label with its text.
        steps: each is a sentence that says what to check, with the command for the check, or "" where there is none.
    """

    title: str
    answers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    steps: tuple[tuple[str, str], ...] = ()


def write_cards(result: Result, folder: str | Path, advice: Advice = NO_ADVICE) -> list[Path]:
    """Write card-<slug>.md and card-<slug>.html for each candidate of a private session, and return their paths.

    advice: what the model owner's pre-flight says, which stands first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    private = _private(result)
    among, written = finalists(private), []
    for candidate, stem in card_stems(result).items():
        records = [record for record in private if record.candidate == candidate]
        for form in ("md", "html"):
            written.append(folder / f"{stem}.{form}")
            written[-1].write_text(page_of(records, among, _decided(records, advice), form), encoding="utf-8")
    return written


def page_of(records: list[Record], among: dict[str, int], decided: list[Section], form: str) -> str:
    """Return the card of one candidate as a page.

    A page of records with a receipt holds them once more as JSON, from which `card_check` makes the same page again.

    Args:
        records: the candidate's records.
        among: by method, how many candidates were compared.
        decided: the sections that stand first, which are this party's own.
        form: "md" or "html".
    """
    title = f"Appraisal card: {shown(records[0].candidate, NAME)}"
    found, data = [*decided, *sections(records, among)], ""
    if any(record.receipt for record in records):
        whole = {"records": [json.loads(r.to_json()) for r in records], "among": among}
        data = script_safe(json.dumps(whole | {"decided": [asdict(one) for one in decided]}))
    return render(f"card.{form}.jinja", title=title, subtitle=_subtitle(records), sections=found, data=data)


def script_safe(text: str) -> str:
    """Return JSON that ends neither a script of HTML nor a comment, and that says the same."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("--", "-\\u002d")


def card_stems(result: Result) -> dict[str, str]:
    """Return, by candidate, the name of its card's file without the ending; nothing for a run in the clear."""
    taken: dict[str, str] = {}
    for candidate in _private(result).candidates:
        taken[candidate] = slug(candidate, taken.values())
    return {candidate: f"card-{place}" for candidate, place in taken.items()}


def _private(result: Result) -> Result:
    return Result(record for record in result if record.session in SIDES and not record.baseline)


def slug(name: str, taken: Iterable[str] = ()) -> str:
    """Make a part of a file name from `name`: of a-z, 0-9 and '-', at most 48 characters, and not among `taken`."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub("[^a-z0-9]+", "-", ascii_name).strip("-")[:40].strip("-") or "candidate"
    found, count = base, 1
    while found in taken:
        count += 1
        found = f"{base}-{count}"
    return found


def sections(records: list[Record], among: dict[str, int]) -> list[Section]:
    """Compose the card of one candidate.

    Args:
        records: the candidate's records, one for each method.
        among: by method, how many candidates were compared, as `result_tables.finalists` counts them.

    Returns the sections that have any content.
    """
    result = Result(records)
    margins = {record.method: result.margin(record) for record in records}
    shown_with = any(margin is not None for margin in margins.values())  # then the error stands beside its value
    answers = [_answer(r, among[r.method], margins[r.method]) for r in records if not (r.error and shown_with)]
    found = [
        Section("The answer", answers=tuple(answers)),
        Section("What the model owner has already", facts=_facts(records, _overlap)),
        Section("Warnings", facts=_facts(records, _warnings)),
        Section("The data", facts=_facts(records, _data)),
        Section("What was opened to whom", facts=_facts(records, _openings)),
        Section("Privacy spent", facts=_facts(records, _privacy)),
        Section("Approval", facts=_facts(records, approval_facts)),
        Section("Receipt", facts=_facts(records, receipt_facts)),
        Section("Cost", facts=_facts(records, _cost)),
        Section("Trust", facts=_facts(records, _trust)),
        Section("How to verify", steps=tuple(steps_of(records))),
    ]
    return [section for section in found if section.answers or section.facts or section.steps]


def _decided(records: list[Record], advice: Advice) -> list[Section]:
    """Return the section with the candidate's decisions, or nothing where there is none."""
    verdicts = advice.of(records[0].candidate)
    last = list(verdicts)[-1:]
    answers = [
        (f"{shown(method, NAME)}: {one.word}", (f"The value is {one.sentence}", *(SECRET,) * ([method] == last)))
        for method, one in verdicts.items()
    ]
    facts = [
        (
            f"{shown(method, NAME)}",
            f"threshold {number(one.threshold, 3)}; {advice.trust[method]} on this model",
        )
        for method, one in verdicts.items()
    ]
    facts += [("caveat", shown(text, 4 * TEXT)) for text in (advice.scale, *advice.caveats) if text]
    return [Section("The decision", tuple(answers), tuple(facts))] if answers or advice.scale else []


def _subtitle(records: list[Record]) -> str:
    first = records[0]
    by = f" As recorded by the {first.role.replace('_', ' ')}." if first.role else ""
    return f"From {SIDES[first.session]}.{by} Value: higher is better data for this buyer."


def _facts(records: list[Record], of: Callable[[Record], list[tuple[str, str]]]) -> tuple[tuple[str, str], ...]:
    """Return what `of` finds in each record: a fact that all methods share once, any other with its method's name."""
    by_method = {record.method: of(record) for record in records}
    common = [fact for fact in next(iter(by_method.values())) if all(fact in facts for facts in by_method.values())]
    own = [
        (f"{shown(method, NAME)}: {key}", text)
        for method, facts in by_method.items()
        for key, text in facts
        if (key, text) not in common
    ]
    return (*common, *own)


def _answer(record: Record, among: int, margin: float | None) -> tuple[str, tuple[str, ...]]:
    """Return the headline of one method and, in words, how certain it is. margin: see `Result.margin`."""
    release = record.release or {}
    method, notes = shown(record.method, NAME), []
    noised = any(release.get(key) is not None for key in ("epsilon", "deviation", "low"))
    if record.decision is not None:
        headline = "Yes" if record.decision else "No"
        what = "reached" if record.decision else "did not reach"
        notes.append(f"The value {what} the model owner's secret threshold. That is all that was opened: no value.")
        if noised:
            notes.append("Noise was added before the comparison: a value near the threshold may fall on either side.")
    elif record.winner is not None:
        place = f"rank {record.rank} " if record.rank else ""
        headline = f"Winner: {place}among {among} candidates" if record.winner else f"Not a winner among {among}"
        rest = "" if record.winner else ": nothing else about this one was opened"
        notes.append(f"All candidates were compared in secret, and only the winners were opened{rest}.")
        if record.value is not None:
            notes.append(f"Its value: {number(record.value)}.")
    elif record.value is not None:
        headline = f"{number(record.value)}" + " with noise" * noised
        if margin is not None:
            low, high = number(record.value - margin), number(record.value + margin)
            headline += f" ± {number(margin, 2)}"
            notes.append(f"Between {low} and {high}, a {INTERVAL} {COVERS}")
    else:
        headline = "Not opened to this party"
        if release:
            notes.append(f"The answer went to the {parties(release['to'])} alone.")
    if record.interval and record.value is not None:
        low, high = map(number, record.interval)
        notes.append(
            f"Noise was added on purpose: without it the value is between {low} and {high}, with 95% certainty."
        )
    if record.answered:
        notes.append("Taken from the ledger's record of an earlier answer to the same question: nothing was computed.")
    if record.failure_probability is not None and not record.answered:
        notes.append(FAILURE.format(number(record.failure_probability, 2)))
    notes += _doubt(record)
    if record.metric is not None and not record.error:
        metric = in_words(record.metric, record.classes == 1)
        notes.append(f"The value estimates the fall of the {metric} of the model owner's test rows.")
    if record.error:
        notes.append("Minus the standard error of the value of another method: it is no value of data.")
    elif margin is None:
        notes.append(SAMPLING)
    return f"{method}: {headline}", (" ".join(notes),)


def _doubt(record: Record) -> list[str]:
    """Return sentences on how far fixed-point arithmetic may have moved the answer where it did not fail."""
    notes, within = [], record.uncertain_within
    if record.decision is not None and within:
        notes.append(f"The decision is certain only for a value farther than {number(within, 2)} from the threshold.")
    if record.winner is not None and within:
        notes.append(f"The order is certain only of values farther apart than {number(2 * within, 2)}.")
    if record.error_bound and record.value is not None:
        notes.append(f"Where it did not fail, it changed the value by at most {number(record.error_bound, 2)}.")
    if record.error_note is not None:
        notes.append(shown(record.error_note, LONG))
    return notes


def _data(record: Record) -> list[tuple[str, str]]:
    sizes = [(record.n, "rows"), (record.features, "features"), (record.classes, "classes")]
    facts = [("size", ", ".join(f"{count} {what}" for count, what in sizes if count is not None))]
    if record.recipe is not None:
        facts.append(("recipe", record.recipe))
    if record.resolution is not None:
        facts.append(("resolution", f"{Resolution(**record.resolution).words}, which was announced"))
    listing = record.listing
    if listing is None:
        return [*facts, ("listing", "not listed: nothing binds the data to what was offered")]
    price = None if listing["price"] is None else f"{listing['price']:.15g} {listing['currency'] or ''}".strip()
    facts += [
        ("listing", listing["name"]),
        ("its SHA-256", listing["digest"]),
        ("commitment", listing["commitment"]),
        ("price asked", price or ""),
    ]
    return [(key, text) for key, text in facts if text]


def _overlap(record: Record) -> list[tuple[str, str]]:
    """Return what was counted before the appraisal, and what that revealed to whom."""
    one = record.overlap
    if one is None:
        return []
    column = "" if one["column"] is None else f" of the column {shown(one['column'], NAME)}"
    sizes = f"{one['items']['model_owner']} at the model owner, {one['items']['data_owner']} in this candidate"
    facts = [(f"different {one['what']}{column}", sizes), ("in both sets", count_in_words(one))]
    if one["columns"] == "position":
        facts.append(("columns", "compared by position, because a side has no names of them"))
    if record.role == "data_owner" and one["fewer_than"] is not None:
        facts.append(("in both sets, shown to the data owner alone", str(one["count"])))
    facts += [("revealed", shown(text, LONG)) for text in one["revealed"] or ()]
    return facts + [("assumed", shown(one["trust"], LONG))] * (one["trust"] is not None)


def _warnings(record: Record) -> list[tuple[str, str]]:
    return [("warning", shown(text, LONG)) for text in record.warnings]


def _openings(record: Record) -> list[tuple[str, str]]:
    facts: dict[str, list[str]] = {}
    for one in record.openings:
        count = f"{one['numbers']} number" + "s" * (one["numbers"] != 1)
        text = f"{shown(one['what'], TEXT)} ({count}; {shown(one['why'], TEXT)})"
        facts.setdefault(shown(parties(one["to"]) or "nobody", NAME), []).append(text)
    found = [(who, "; ".join(dict.fromkeys(what))) for who, what in facts.items()]
    nothing = "nothing in this run: the answer is an earlier one" if record.answered else "nothing by a protocol"
    return found or [("opened", nothing)]


def _privacy(record: Record) -> list[tuple[str, str]]:
    release, budget = record.release or {}, record.budget
    if release.get("epsilon") is not None:
        delta = "" if release["delta"] is None else f" at delta {release['delta']:g}"
        facts = [("this answer", f"epsilon {release['epsilon']:.4g}{delta}")]
        parts = {
            "deviation": "standard deviation {} in the opened number",
            "sigma": "{} times the sensitivity is counted",
            "sensitivity": "sensitivity {}",
        }
        known = [words.format(f"{release[key]:.4g}") for key, words in parts.items() if release[key] is not None]
        facts += [("noise", "; ".join(known))] * bool(known)
    else:
        left = budget and budget["plain_left"]
        counted = "" if left is None else f"; {left} plain value{'s' * (left != 1)} left"
        facts = [("this answer", f"no noise: no differential privacy{counted}")]
    if release.get("epsilon") is not None:
        facts.append(("adds up", "rows that are in other candidates or files too spend there as well"))
    if record.answered:
        facts.append(("charged", "when this answer was first given; now nothing"))
    if release.get("protects"):
        facts.append(("protects", shown(release["protects"], LONG)))
    return facts + budget_facts(budget)


def _cost(record: Record) -> list[tuple[str, str]]:
    if record.answered:
        return [("spent", "nothing: the answer is an earlier one")]
    sent = f"{number(record.megabytes)} MB sent by all parties, {record.rounds} rounds"
    return [("spent", f"{number(record.total_seconds, 3)} seconds, {sent}")]


def _trust(record: Record) -> list[tuple[str, str]]:
    return [("assumed", shown(record.trust, 10 * TEXT) if record.trust else "no trust model is stated")]
