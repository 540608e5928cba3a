"""What a waiting request would cost in the data owner's ledgers, and how often it could still be asked.

In go a request, its counterparty and the ledgers of a folder; out comes one `Preview` for each ledger that would be
charged, or two where noised and plain values are asked for. An appraisal is charged one question for each method and
candidate, and a count of shared items one plain value for each candidate. A request does not name its ledger: a
candidate belongs to the ledger of its name, or to the one beside whose data file the salt of its listing lies
(FILE.NAME.salt). Where neither is found, all ledgers are previewed.

The noise of a question is taken from the request, which states it to four digits; hence epsilon is right to about as
many. A question that is answered already will cost nothing, which the request does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.overlap_words import METHOD as OVERLAP
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.budget.accounting import Mechanism, epsilon
from mpc_appraisal.governance.budget.calendar import next_start
from mpc_appraisal.governance.budget.hash_chain import ENDING
from mpc_appraisal.governance.budget.ledger import TOGETHER
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.governance.budget.state import Account, State, check_allowed, verify
from mpc_appraisal.release.dp.release import ACCOUNTED_BITS

MOST = 1000  # repetitions that are counted; beyond it the page says "or more"
SALT = ".salt"


@dataclass(frozen=True)
class Preview:
    """What one request would cost in one ledger.

    Attributes:
        ledger: the name of the ledger's file.
        data: the name of the data set that the ledger is of.
        candidates: the candidates that are charged to it.
        sure: whether the ledger is known to be theirs.
        values: the number of values that are charged.
        noised: whether they are noised.
        spent, after: what the counterparty has spent in the period, and would have spent after the request: epsilon, or
            plain values.
        limit: the limit of the policy in force on the same.
        delta: the delta of the policy.
        times: how many requests like this one the budget still allows in the period, at most MOST.
        period: the name of the period; '' for a budget that never renews.
        renews_at: the start of the next period; None for a budget that never renews.
        total: what would be spent over all periods after the request.
        lifetime: the limit on that; None where there is none.
        refusal: why the ledger would refuse the request; empty if it would not.
    """

    ledger: str
    data: str
    candidates: tuple[str, ...]
    sure: bool
    values: int
    noised: bool
    spent: float
    after: float
    limit: float
    delta: float
    times: int
    refusal: str
    period: str
    renews_at: datetime | None
    total: float
    lifetime: float | None


def previews(request: Request, counterparty: str, files: Iterable[Path]) -> tuple[list[Preview], list[str]]:
    """Return what the request would cost in each ledger, and a sentence on each ledger that is not whole."""
    states, bad = states_of(files)
    found = []
    for file, state, candidates, sure in _charged(request, states):
        asked = _questions(request, counterparty, candidates)
        for noised in sorted({not question.mechanism.plain for question in asked}, reverse=True):
            found.append(_preview(request, file, state, (tuple(candidates), sure), asked, noised))
    return found, bad


def states_of(files: Iterable[Path], now: datetime | None = None) -> tuple[dict[Path, State], list[str]]:
    """Return what the whole ledgers say at the time `now`, and a sentence on each that is not whole.

    now: None takes the clock.
    """
    now = now or datetime.now(timezone.utc)
    states: dict[Path, State] = {}
    bad: list[str] = []
    for file in files:
        try:
            states[file] = verify(file).at(now)
        except InputError as error:
            bad.append(f"{file.name}: {error}")
    return states, bad


def _charged(request: Request, states: dict[Path, State]) -> list[tuple[Path, State, list[str], bool]]:
    """Return the ledgers that the candidates belong to, or all ledgers for candidates that belong to none."""
    charged: dict[Path, list[str]] = {}
    unknown = []
    for candidate in request.content["candidates"]:
        names = {candidate["name"], (candidate["listing"] or candidate)["name"]}
        own = [file for file, state in states.items() if _is_of(file, state, names)]
        if len(own) != 1:
            unknown.append(candidate["name"])
        else:
            charged.setdefault(own[0], []).append(candidate["name"])
    found = [(file, states[file], names, True) for file, names in charged.items()]
    return found + [(file, state, unknown, False) for file, state in states.items() if unknown]


def _is_of(file: Path, state: State, names: set[str]) -> bool:
    data = file.name.removesuffix(ENDING)
    salted = any(file.with_name(f"{data}.{name}{SALT}").is_file() for name in names if "/" not in name)
    return salted or bool(names & set(state.data.split(TOGETHER)))


def _preview(
    request: Request,
    file: Path,
    state: State,
    of: tuple[tuple[str, ...], bool],
    asked: Sequence[Question],
    noised: bool,
) -> Preview:
    """Return what the noised or the plain ones among `asked` would cost. of: the candidates, and whether it is sure."""
    account = state.account(asked[0].counterparty, request.content.get("keys", {}).get("model_owner"))
    policy = state.policy
    every, kept = (
        tuple(q.mechanism for q in account.counted(since) if q.mechanism.plain != noised) for since in (0, state.since)
    )
    more = tuple(question.mechanism for question in asked if question.mechanism.plain != noised)
    spend = (lambda mechanisms: _epsilon(mechanisms, policy.delta)) if noised else len
    limit = policy.epsilon if noised else policy.plain_values
    lifetime = policy.lifetime_epsilon if noised else policy.lifetime_plain_values
    limits = [(kept, limit)] + [(every, lifetime)] * (lifetime is not None)
    times = [
        _times(before, more, policy.delta, most) if noised else (most - len(before)) // len(more)
        for before, most in limits
    ]
    return Preview(
        ledger=file.name,
        data=state.data,
        candidates=of[0],
        sure=of[1],
        values=len(more),
        noised=noised,
        spent=spend(kept),
        after=spend(kept + more),
        limit=limit,
        delta=policy.delta,
        times=min(times),
        refusal=_refusal(state, account, asked),
        period=state.period,
        renews_at=next_start(policy.renews, state.time),
        total=spend(every + more),
        lifetime=lifetime,
    )


def _questions(request: Request, counterparty: str, candidates: Sequence[str]) -> list[Question]:
    """Return the questions that these candidates are charged with. Their subjects stand for none that was asked."""
    asked, privacy = [], request.content["privacy"]
    for candidate in request.content["candidates"]:
        if candidate["name"] in candidates:
            for method in request.methods:
                noise = Mechanism() if method == OVERLAP else _mechanism(privacy, method, candidate["name"])
                asked.append(Question(counterparty, method, candidate["rows"], "preview", noise))
    return asked


def _mechanism(privacy: dict | None, method: str, candidate: str) -> Mechanism:
    if privacy is None:
        return Mechanism()
    kind, sigma = privacy["mechanism"], privacy["sigma"]
    if kind != "discrete_gaussian":
        return Mechanism(kind, sigma=sigma)
    sensitivity = privacy["sensitivity"].get(f"{method}, {candidate}") or min(privacy["sensitivity"].values())
    return Mechanism(kind, sigma=sigma, step=2.0**-ACCOUNTED_BITS / sensitivity)


def _refusal(state: State, account: Account, asked: Sequence[Question]) -> str:
    for k, question in enumerate(asked):
        try:
            check_allowed(state.policy, account, question, asked[:k], since=state.since)
        except InputError as error:
            return str(error)
    return ""


@lru_cache(maxsize=256)
def _epsilon(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    try:
        return epsilon(mechanisms, delta)
    except ArithmeticError:  # noise of next to nothing
        return float("inf")


@lru_cache(maxsize=256)
def _times(before: tuple[Mechanism, ...], asked: tuple[Mechanism, ...], delta: float, limit: float) -> int:
    """Return the greatest k up to MOST for which `before` and k times `asked` cost at most `limit`."""
    low, high = 0, MOST + 1  # k = low is allowed, and k = high is not or is not counted
    while high - low > 1:
        middle = min(2 * low + 1, (low + high) // 2)  # most budgets allow few
        low, high = (middle, high) if _epsilon(before + middle * asked, delta) <= limit else (low, middle)
    return low
