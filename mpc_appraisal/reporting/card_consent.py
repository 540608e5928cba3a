"""What a card says of consent: the budget that an answer was charged to, who approved it, and who signed it.

A record goes in, or the part of a record that a function names; rows of a card's section come out, each a label and a
text. Names and texts of other parties are foreign, and `shown` makes them safe to read. Rows may be reworded.
"""

from __future__ import annotations

from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.card_steps import NAME, TEXT
from mpc_appraisal.reporting.record import Record

HOW = {
    "command": "by a person, with a command",
    "policy": "by the data owner's standing policy",
    "stated": "stated beforehand, with the configuration",
    "offer": "by the data owner's standing offer",
}


def budget_facts(budget: dict | None) -> list[tuple[str, str]]:
    """Return what the ledger of a record says after the answer: what was spent, what is left, and of whom."""
    if budget is None:
        return []
    parts = {"epsilon": "epsilon {} spent", "epsilon_left": "epsilon {} left"}
    spent = [words.format(f"{budget[key]:.4g}") for key, words in parts.items() if budget[key] is not None]
    delta = "" if budget["delta"] is None or not spent else f" at delta {budget['delta']:g}"
    line = "" if budget["line"] is None else f", line {budget['line']}"
    facts = [("ledger", f"{shown(budget['ledger'], NAME)}{line}"), ("its last hash", budget["head"])]
    facts.append(("counterparty", shown(budget["counterparty"], NAME)))
    key = budget.get("counterparty_key")
    facts.append(("its key's SHA-256", key) if key else ("its certificate", "none was shown: the name binds nobody"))
    facts += [("budget", ", ".join(spent) + delta)] * bool(spent)
    return facts if budget.get("renews") is None else facts + _period(budget)


def _period(budget: dict) -> list[tuple[str, str]]:
    """Return the period of a budget that renews, and what was spent over all periods."""
    total = [] if budget["epsilon_total"] is None else [f"epsilon {budget['epsilon_total']:.4g}"]
    total += [] if budget["plain_total"] is None else [f"{budget['plain_total']} plain values"]
    period = f"{shown(budget['period'], NAME)} in UTC; the budget renews ({shown(budget['renews'], NAME)})"
    return [
        ("period", f"{period} at {budget['renews_at']}"),
        ("over all periods", f"{' and '.join(total)}: privacy loss adds up over periods"),
    ]


def approval_facts(record: Record) -> list[tuple[str, str]]:
    """Return which request was approved, how, under which offer, and for which purpose."""
    if record.request is None:
        return []
    request = record.request
    return [
        ("request", shown(request["id"], NAME)),
        ("its SHA-256", request["digest"]),
        ("approved", f"{HOW[request['how']]}, {shown(request['time'], NAME)}"),
        *_offer(request.get("offer"), request["how"]),
        *_purpose(request.get("purpose")),
    ]


def _offer(offer: dict | None, how: str) -> list[tuple[str, str]]:
    if offer is None:
        return []
    label, price = "under the offer" if how == "offer" else "offer that gave no yes", offer.get("price")
    facts = [(label, shown(offer["name"], NAME)), ("the offer's SHA-256", offer["digest"])]
    return facts + [("price of one answer", f"{price['amount']:g} {price['currency']}")] if price else facts


def _purpose(purpose: dict[str, str] | None) -> list[tuple[str, str]]:
    if purpose is None:
        return []
    own = f": {shown(purpose['text'], 2 * TEXT)}" if purpose["text"] else ""
    return [("purpose, as the model owner stated it", f"{shown(purpose['kind'], NAME).replace('_', ' ')}{own}")]


def receipt_facts(record: Record) -> list[tuple[str, str]]:
    """Return who signed this answer, and when."""
    if record.receipt is None:
        return []
    signed = record.receipt["signatures"]
    facts = [("signed", "by both owners, with the keys of their certificates")]
    for role, one in signed.items():
        owner = role.replace("_", " ")
        facts.append((f"by the {owner}", one["time"]))
        facts.append((f"the {owner}'s key's SHA-256", record.receipt["content"]["keys"][role]))
    return facts
