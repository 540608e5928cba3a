"""Tables of a run's records: the one source of every report, on the console, in markdown and in HTML.

The records of one run go in. Tables come out whose cells are texts, with the sentences under them. Numbers have four
significant digits, seconds have three, MB are the bytes sent by all parties / 10^6, and a dash stands for what is
unknown. Words may be changed and tables added. A table has to state what its numbers do not cover, and may compute
nothing that is not in the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mpc_appraisal.reporting.advice import Advice, Recommendation
from mpc_appraisal.reporting.agreement_table import correlations_table, measured
from mpc_appraisal.reporting.record import ERRORS, Record
from mpc_appraisal.reporting.run_records import RunRecords
from mpc_appraisal.reporting.table import DASH, Table, lines_of, number, whole, without_empty_columns

INTERVAL = "95% interval by the bootstrap over the candidate's rows:"
COVERS = (
    "it covers that these rows are a sample of their source, not what the model owner's own rows add, nor that "
    "influence is a first-order estimate."
)
MOST_SENTENCES = 6  # decisions whose sentences stand at the top of a report
SECRET = "A decision names the model owner's secret threshold: this page is for the model owner alone."
COSTS_TITLE = "Costs by phase and party"


def values_table(result: RunRecords, full: bool = False) -> Table:
    """Return the main table, with a row for each record.

    full: whether it has the equation's own number and the bound on the error too. The table has a column "answer" if
    something else than a value was released of any record, and no column in which nothing is known.
    """
    if not len(result):
        return Table("Values", (), "", [], ("No records: this party received no results.",))
    answers = any(released_otherwise(record) for record in result)
    clear = any(record.session != "join" for record in result)
    sent = any(record.bytes_sent for record in result)
    header = ("method", "candidate", *("answer",) * answers, "private value")
    header += ("plaintext value", "difference") * clear + ("seconds",) + ("MB sent", "rounds") * sent
    among = finalists(result)
    rows = []
    for record in result:
        plain = record.session == "plain"
        in_the_clear = record.plaintext_value if record.plaintext_value is not None or not plain else record.value
        compared = with_margin(result, record) if plain and record.value == in_the_clear else number(in_the_clear)
        cost = (number(record.megabytes), whole(record.rounds)) if record.bytes_sent else (DASH, DASH)
        row = (
            record.method,
            record.candidate,
            *(answer(record, among[record.method]),) * answers,
            DASH if plain else with_margin(result, record),
            *(compared, number(record.difference)) * clear,
            number(record.total_seconds or None, 3),
            *cost * sent,
        )
        rows.append(row + (number(record.paper_value), number(record.error_bound)) * full)
    names = 2 + answers
    header += ("paper's value", "error bound") * full
    align = "l" * names + "r" * (len(header) - names)
    return without_empty_columns(Table("Values", header, align, rows, tuple(_values_notes(result, full, clear))))


def _values_notes(result: RunRecords, full: bool, clear: bool) -> list[str]:
    """Return the sentences under the main table, as `values_table` makes it.

    clear: whether it has the values in the clear.
    """
    notes = ["Value: higher is better data for this buyer. Values of different methods have different scales."]
    notes += measured(result)
    if full:
        notes.append("The paper's value is the raw number of the method's equation, in the equation's own orientation.")
    if any(record.session == "plain" for record in result):
        clear = ", ".join(dict.fromkeys(record.method for record in result if record.session == "plain"))
        notes.append(f"Computed in the clear, with all data in one place, so that there is no private value: {clear}.")
    if not clear:
        notes.append(
            "Between organisations nobody may know the plaintext value, nor the true utility, because they would take "
            "the data of one organisation and the model of the other in one place."
        )
    if any(result.margin(record) is not None for record in result):
        notes.append(f"± is a {INTERVAL} {COVERS}")
    if any(record.error for record in result):
        known = ", ".join(f"{error} is minus the standard error of {of}" for error, of in ERRORS.items())
        notes.append(f"{known}: it is no value of data, and it is not ranked.")
    return [*notes, *_release_notes(result)]


def decision_tables(advice: Advice) -> tuple[list[Table], list[Table]]:
    """Return what the model owner's pre-flight says: tables for the top of a report, and tables for its end.

    The sentences of more than MOST_SENTENCES answers stand at the end, and the verdicts alone at the top.
    """
    header = ("candidate", "method", "verdict", "threshold", "decision")
    rows = [
        (candidate, method, one.word, number(one.threshold, 3), one.sentence)
        for (method, candidate), one in advice.verdicts.items()
    ]
    found = [*advice.trust.items(), *([("features", advice.scale)] if advice.scale else [])]
    trust = Table("What the pre-flight says", ("method", "on this model"), "ll", found, advice.caveats)
    if len(rows) <= MOST_SENTENCES:
        return [Table("Decision", header, "lllrl", rows, (SECRET,)), trust], list(advice.tables)
    methods = list(dict.fromkeys(method for method, _ in advice.verdicts))
    limits = {m: {one.threshold for (method, _), one in advice.verdicts.items() if method == m} for m in methods}
    names = [f"{m}, buy from {number(*limits[m], 3)}" if len(limits[m]) == 1 else m for m in methods]

    def cell(method: str, one: Recommendation | None) -> str:
        own = one is not None and len(limits[method]) > 1  # thresholds differ where candidates have other sizes
        return DASH if one is None else one.word + own * f" (buy from {number(one.threshold, 3)})"

    short = [
        (candidate, *(cell(m, advice.of(candidate).get(m)) for m in methods))
        for candidate in dict.fromkeys(name for _, name in advice.verdicts)
    ]
    top = Table("Decision", ("candidate", *names), "l" * (1 + len(methods)), short, (SECRET,))
    return [top, trust], [Table("Decisions in full", header, "lllrl", rows, (SECRET,)), *advice.tables]


def with_margin(result: RunRecords, record: Record) -> str:
    """Return the value as a text, with half its 95% interval if its standard error is known too."""
    margin = result.margin(record)
    return number(record.value) if margin is None else f"{number(record.value)} ± {number(margin, 2)}"


def released_otherwise(record: Record) -> bool:
    """Return whether something else than the value was released: a decision, a winner or an interval.

    This also holds where the value went to the other side alone.
    """
    return record.release is not None and (record.interval is not None or record.value is None)


def yes_or_no(records: Iterable[Record]) -> bool:
    """Return whether decisions or winners were released, and no values."""
    return any(r.decision is not None or r.winner is not None for r in records) and all(
        r.value is None for r in records
    )


def finalists(result: RunRecords) -> dict[str, int]:
    """Return, for each method, how many candidates competed to be among the best."""
    return {m: sum(r.winner is not None for r in result.of(m)) for m in result.methods}


def answer(record: Record, among: int) -> str:
    """Return what was released, as a cell. among: how many candidates competed to be among the best."""
    if record.decision is None and record.winner:
        return f"winner {record.rank} of {among}" if record.rank else f"a winner of {among}"
    if record.decision is None and record.winner is None and record.interval:
        return "{} to {} (95%)".format(*map(number, record.interval))
    if record.session == "plain" or (record.release is None and record.value is None):
        return DASH
    if record.answer is None:
        return "not opened"
    return record.answer if record.value is None else number(record.value)


def _release_notes(result: RunRecords) -> list[str]:
    """Return what a reader must know of answers that are no plain values."""
    notes = []
    if any(record.decision is not None for record in result):
        notes.append(
            "Yes: the value reached the model owner's secret threshold; no: it did not. No value was released."
        )
    if any(record.winner is not None for record in result):
        notes.append(
            "Winner: the candidate is among the best, and nothing was released of the others. Number 1 is the best."
        )
    if any(record.interval for record in result):
        notes.append(
            "Interval: noise was added to the value on purpose, and with 95% certainty the value without noise lies in "
            "the interval. Sampling error of the data is not in it."
        )
    notes += doubts(result)
    hidden: dict[str, list[str]] = {}
    for record in result:
        if record.release and record.answer is None:
            hidden.setdefault(parties(record.release["to"]), []).append(f"{record.method} of {record.candidate}")
    for who, what in hidden.items():
        notes.append(f"Not opened to this party, but to the {who} alone: {joined(what)}.")
    if answered := [f"{record.method} of {record.candidate}" for record in result if record.answered]:
        notes.append(
            f"From the ledger's record of an earlier answer, so that nothing was computed: {joined(answered)}."
        )
    return notes


def doubts(result: RunRecords) -> list[str]:
    """Return what fixed point leaves uncertain of decisions and of an order, in a sentence for each method."""
    notes = []
    for method in result.methods:
        records = [record for record in result.of(method) if record.uncertain_within]
        within = max((record.uncertain_within for record in records), default=None)
        if within is None:
            continue
        if any(record.decision is not None for record in records):
            far = number(within, 2)
            notes.append(f"{method}: a decision is certain only for a value farther than {far} from the threshold.")
        if any(record.winner is not None for record in records):
            far = number(2 * within, 2)
            notes.append(f"{method}: the order is certain only of values farther apart than {far}.")
        if tied := ties(records):
            notes.append(f"{method}: within that error these are tied: {joined(tied)}.")
    return notes


def ties(records: Sequence[Record]) -> list[str]:
    """Return the pairs of winners whose values differ by less than the error that fixed point may add to both."""
    ranked = sorted((r for r in records if r.winner and r.value is not None), key=lambda r: -r.value)
    return [
        f"{a.candidate} and {b.candidate}"
        for a, b in zip(ranked, ranked[1:], strict=False)
        if a.value - b.value <= a.uncertain_within + b.uncertain_within
    ]


def joined(names: Sequence[str], most: int = 6) -> str:
    """Join names to a text, which names a few of a long list and counts the rest."""
    return ", ".join(names if len(names) <= most else [*names[:most], f"and {len(names) - most} more"])


def parties(roles: Iterable[str]) -> str:
    """Join roles to a text, as in "model owner and data owner"."""
    return " and ".join(role.replace("_", " ") for role in roles)


def openings_table(result: RunRecords) -> Table:
    """Return who learned what. Equal openings of one method are one row, which names its candidates."""
    groups: dict[tuple, list[str]] = {}
    for record in result:
        counts = Counter((tuple(o["to"]), o["what"], o["numbers"], o["why"]) for o in record.openings)
        for opening, times in counts.items():
            groups.setdefault((record.method, *opening, times), []).append(record.candidate)
    rows = []
    for (method, to, what, numbers, why, times), candidates in groups.items():
        everyone = len(candidates) > 1 and len(candidates) == len(result.of(method))
        rows.append(
            (
                parties(to) or "nobody",
                what,
                f"{times} x {numbers}" if times > 1 else str(numbers),
                why,
                method,
                "each" if everyone else ", ".join(candidates),
            )
        )
    notes = ["Numbers: how many numbers the appraisal of one candidate opened."]
    if not rows:
        notes = ["Nothing was opened by a protocol."]
    if any(record.session == "plain" and not record.baseline for record in result):
        notes.append("Methods computed in the clear open nothing, because nothing was hidden.")
    return Table(
        "What was opened",
        ("who learned", "what", "numbers", "why", "method", "candidate"),
        "llrlll",
        rows,
        tuple(notes),
    )


def trust(result: RunRecords) -> list[str]:
    """Return the trust models that the records state, one sentence each, with their methods if there are several."""
    stated: dict[str, list[str]] = {} if len(result) else {"No trust model is stated.": []}
    for record in result:
        methods = stated.setdefault(record.trust or "No trust model is stated.", [])
        if record.method not in methods:
            methods.append(record.method)
    if len(stated) == 1:
        return list(stated)
    return [f"{', '.join(methods)}: {sentence}" for sentence, methods in stated.items()]


def candidates_table(result: RunRecords) -> Table:
    """Return the sizes of the candidates and, as far as they are known, their level and utility."""
    known = [key for key in ("level", "utility") if any(getattr(record, key) is not None for record in result)]
    rows = dict.fromkeys(
        (r.candidate, whole(r.n), whole(r.features), whole(r.classes), *(number(getattr(r, key)) for key in known))
        for r in result
    )
    header = ("candidate", "rows", "features", "classes", *known)
    return Table("Candidates", header, "l" + "r" * (len(header) - 1), list(rows))


def costs_table(result: RunRecords) -> Table:
    """Return seconds by phase and megabytes by party, and beside them what a dry run estimated."""
    result = [record for record in result if record.seconds or record.bytes_sent]
    phases = list(dict.fromkeys(phase for record in result for phase in record.seconds))
    parties = list(dict.fromkeys(party for record in result for party in record.bytes_sent))
    estimated = any(record.estimate for record in result)
    rows = [
        (
            r.method,
            r.candidate,
            *(number(r.seconds.get(phase), 3) for phase in phases),
            *(number(None if party not in r.bytes_sent else r.bytes_sent[party] / 1e6) for party in parties),
            *_estimates(r, parties) * estimated,
        )
        for r in result
    ]
    header = (
        "method",
        "candidate",
        *(f"{phase}, s" for phase in phases),
        *(f"{party.replace('_', ' ')}, MB" for party in parties),
        *(f"estimated {party.replace('_', ' ')}, MB" for party in parties if estimated),
        *("rounds", "estimated rounds", "share and private, s", "estimated on a LAN, s") * estimated,
    )
    notes = (
        "Estimates come from sizes alone, by a dry run of the same program; bytes and rounds are exact. Seconds on a "
        "LAN follow a model: rounds times its latency, bytes over its bandwidth, and the products at a rate that is "
        "measured here.",
    ) * estimated
    return Table(COSTS_TITLE, header, "ll" + "r" * (len(header) - 2), rows, notes)


def _estimates(record: Record, parties: list[str]) -> tuple[str, ...]:
    """Return the cells of the estimate, with what was measured beside them."""
    found = record.estimate or {}
    sent = [found.get(f"bytes_sent.{party}") for party in parties]
    together = sum(record.seconds.get(phase, 0.0) for phase in ("share", "private"))
    return (
        *(number(None if count is None else count / 1e6) for count in sent),
        whole(record.rounds),
        whole(found.get("rounds")),
        number(together or None, 3),
        number(found.get("lan_seconds"), 3),
    )


def run_table(result: RunRecords) -> Table:
    """Return the facts of the run. A fact in which records differ has all its values."""
    facts: dict[str, dict[str, None]] = {}
    for record in result:
        pairs = {
            "session": record.session,
            "engine": record.engine,
            "role": record.role.replace("_", " "),
            "seed": whole(record.seed),
            "config hash": record.config_hash,
            "revision": record.revision,
        }
        for key, value in (pairs | record.versions).items():
            facts.setdefault(key, {})[value or DASH] = None
    return Table("Run", ("fact", "value"), "ll", [(key, ", ".join(values)) for key, values in facts.items()])


def warnings_table(result: RunRecords) -> Table:
    """Return the warnings of the records, each sentence once with its candidates. There may be no rows."""
    about: dict[str, dict[str, None]] = {}
    for record in result:
        for text in record.warnings:
            about.setdefault(text, {})[record.candidate] = None
    everyone = len(result.candidates)
    rows = [("each" if 1 < len(names) == everyone else joined(list(names)), text) for text, names in about.items()]
    return Table("Warnings", ("candidate", "warning"), "ll", rows)


def plain_text(result: RunRecords) -> str:
    """Return values, warnings, correlations, openings and trust as text for a plain terminal."""
    result = result.without_random()
    tables = [values_table(result), warnings_table(result), correlations_table(result), openings_table(result)]
    blocks = [lines_of(table) for table in tables if table.rows or table.notes]
    return "\n\n".join(["\n".join(block) for block in blocks] + ["Trust\n" + "\n".join(trust(result))])
