"""Edges of a deal: what happens between asking a ledger and charging it, what is refused before anybody is asked, what
may not be told. Sessions between threads meet at `Meeting`; where something is computed, processes are real.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deals import Market, close, value_of
from processes import DATA_OWNER, DEALER, HERE, MODEL_OWNER, ROLES, free_port, problem, write_npz

import mpc_appraisal
from mpc_appraisal import Dataset, DisclosureControls, Join, appraise
from mpc_appraisal.appraisal import party
from mpc_appraisal.appraisal.agreement import Agreed, consent, settle
from mpc_appraisal.appraisal.norms import with_norms
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.governance.budget.ledgers import EVERY
from mpc_appraisal.governance.budget.state import spent
from mpc_appraisal.methods import Appraiser, Facts, GradientNorm, Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import (
    Best,
    Bit,
    LedgerSet,
    NoisedRelease,
    Outcome,
    Policy,
    Release,
    Value,
    verify,
)

L2, R, CLASSES = 1e-2, 4.0, 3
TRAIN, TEST = (Dataset.of(*problem(n, seed=n), CLASSES, name) for n, name in ((60, "train"), (40, "test")))
SELLER, OTHER = (Dataset.of(*problem(n, seed=n), CLASSES, name) for n, name in ((120, "seller"), (130, "other")))
NOISED, VALUE = NoisedRelease(epsilon=1.0, row_norm=R), Value()
SALT = bytes(range(32))


# ---- three parties in threads: notes are those of a rendezvous, and nothing is computed


class Meeting:
    """Where three threads leave notes; who fails tells the others."""

    def __init__(self):
        self.notes, self.ended, self.changed = {}, None, threading.Condition()


class Seat:
    """One party's view. before: by topic, what happens to this party before it leaves that note."""

    def __init__(self, meeting: Meeting, role: str, before: dict[str, Callable[[], None]]):
        self.meeting, self.role, self.before = meeting, role, before

    def exchange(self, topic: str, note: dict) -> dict[str, dict]:
        self.before.get(topic, lambda: None)()
        with self.meeting.changed:
            notes = self.meeting.notes.setdefault(topic, {})
            notes[self.role] = json.dumps(note)
            self.meeting.changed.notify_all()
            self.meeting.changed.wait_for(lambda: self.meeting.ended or len(notes) == len(ROLES), 60)
            if len(notes) < len(ROLES):
                raise PeerError(self.meeting.ended or f"nobody came to {topic}")
            return {role: json.loads(notes[role]) for role in ROLES}

    def check(self) -> None:
        if self.meeting.ended:
            raise PeerError(self.meeting.ended)

    def abort(self, message: str) -> None:
        with self.meeting.changed:
            self.meeting.ended = self.meeting.ended or f"{self.role} stopped: {message}"
            self.meeting.changed.notify_all()

    def certified(self, role: str) -> None:
        return None

    def interrupting(self):
        return nullcontext()

    def announce(self) -> None:
        pass

    def close(self, linger: float = 0.0) -> None:
        pass


def meet(part: Callable[[str, Seat], Any], before: dict[str, dict[str, Callable[[], None]]] | None = None):
    """What `part` returns or raises at each of the three, and the meeting. before: by role, see `Seat`."""
    meeting, found = Meeting(), {}

    def play(role: str) -> None:
        seat = Seat(meeting, role, (before or {}).get(role, {}))
        try:
            found[role] = part(role, seat)
        except BaseException as error:  # noqa: BLE001  looked at in the test's own thread
            found[role] = error
            seat.abort(error.public if isinstance(error, AppraisalError) else "it was interrupted")

    threads = [threading.Thread(target=play, args=(role,)) for role in ROLES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert set(found) == set(ROLES)
    return found, meeting


@dataclass
class Deal:
    """Two owners with their ledgers under `folder`, made anew for each session as a process would."""

    folder: Path
    release: Release = VALUE
    methods: tuple[Appraiser, ...] = (Influence(),)
    candidates: tuple[Dataset, ...] = (SELLER,)
    controls: dict[str, Any] | None = None
    buyer: ModelOwnerInput = ModelOwnerInput(TRAIN, TEST)
    listings: tuple[Any, ...] = ()

    def plan(self, **changes) -> Plan:
        public = {"methods": [repr(m) for m in self.methods], "release": repr(self.release)}
        fitted = partial(fit, l2=L2)
        return replace(Plan(self.methods, L2, 0, config_hash(public), fitted, public, release=self.release), **changes)

    def own(self, role: str) -> Any:
        places = {EVERY: (self.folder / "model.ledger", "model")}
        if role == DATA_OWNER:
            places = {c.name: (self.folder / f"{c.name}.ledger", c.name) for c in self.candidates}
        other = {MODEL_OWNER: DATA_OWNER, DATA_OWNER: MODEL_OWNER}.get(role)
        if other is None:
            return None
        controls = DisclosureControls(
            other, LedgerSet.open(other, places, Policy(epsilon=100.0)), salt=SALT, **(self.controls or {})
        )
        if role == DATA_OWNER:
            return DataOwnerInput(self.candidates, replace(controls, listings=self.listings))
        return replace(self.buyer, controls=controls)

    def published(self) -> tuple[dict[str, Facts], dict[str, dict[str, float]]]:
        """Facts and notes as the parties have them when they make a request."""
        published = {MODEL_OWNER: {"row_norm": R, "weight_norm": 1.0, "spread": 1.0}, DATA_OWNER: {"row_norm": R}}
        facts = {c.name: Facts(4, CLASSES, TRAIN.rows, TEST.rows, c.rows, L2) for c in self.candidates}
        return with_norms(facts, published, R), published

    def agree(self, before=None) -> dict[str, Agreed | BaseException]:
        """Each party's part of a session up to where something would be computed."""
        plan, (facts, published), self.owns = self.plan(), self.published(), {role: self.own(role) for role in ROLES}

        def part(role, seat):
            return consent(role, seat, plan, self.owns[role], facts, published, dict.fromkeys(facts))

        return meet(part, before)[0]

    def settle(self, agreed: dict[str, Agreed], opened: float = 1.25) -> None:
        """End that session as if this had been opened."""
        for role in OWNERS:
            settle(self.owns[role], agreed[role], dict.fromkeys(agreed[role].granted, Outcome(opened)))

    def play(self, before=None, **changes):
        """`take_part` at each of the three."""
        seats, owns = {}, {role: self.own(role) for role in ROLES}
        transport = SimpleNamespace(kind="tcp", relay=None, connect=lambda role, *_: seats[role])
        plan = self.plan(transport=transport, **changes)

        def part(role, seat):
            seats[role] = seat
            return party.take_part(role, None, plan, lambda: owns[role], lambda event: None)

        return meet(part, before)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Charges and answers, by ledger."""
        found = {}
        for path in sorted(self.folder.glob("*.ledger")):
            rows = spent(verify(path))
            found[path.stem] = (sum(row.questions for row in rows), sum(row.answers for row in rows))
        return found


class Enough(AppraisalError):
    """The end of a session that a test has seen enough of."""


# ---- a question that another session answers meanwhile


@pytest.mark.parametrize("release", [NOISED, VALUE], ids=["dp", "value"])
def test_a_question_that_another_session_answers_before_the_charge_is_not_opened_again(tmp_path, release):
    deal, other = Deal(tmp_path, release), Deal(tmp_path, release)
    between = []

    def whole_other_session():  # after this one has asked its ledger, and before its yes
        between.append(other.agree())
        other.settle(between[0])

    found = deal.agree({DATA_OWNER: {"approval": whole_other_session}})
    assert all(isinstance(each, Agreed) for each in between[0].values())
    error = found[DATA_OWNER]
    assert isinstance(error, InputError) and error.name == "the question of influence (seller)"
    assert error.value == "one that another session has answered since this one began"
    for role in (MODEL_OWNER, DEALER):
        assert isinstance(found[role], PeerError)
        assert str(found[role]) == "data_owner stopped: bad input in the question of influence (seller)"
    assert deal.counts()["seller"] == (1, 1)  # charged once, answered once
    again = deal.agree()
    assert [again[role].answers["influence", "seller"].opened for role in OWNERS] == [1.25, 1.25]
    assert all(again[role].openings == [] and again[role].granted == {} for role in OWNERS)
    assert deal.counts()["seller"] == (1, 1)


def test_a_joint_release_that_another_session_answers_is_opened_anew(tmp_path):
    deal, other = (Deal(tmp_path, Best(1), candidates=(SELLER, OTHER)) for _ in range(2))

    def whole_other_session():
        other.settle(other.agree())

    found = deal.agree({DATA_OWNER: {"approval": whole_other_session}})
    assert all(isinstance(each, Agreed) for each in found.values())
    assert [len(found[role].openings) for role in OWNERS] == [2, 2]  # the winner's number and value


# ---- refused before anybody is asked


@dataclass(frozen=True)
class Bare(GradientNorm):
    """A method that does not say at what a threshold is compared."""

    def opened_at(self, value: float, facts: Facts) -> float:
        return Appraiser.opened_at(self, value, facts)


@pytest.mark.parametrize("release", [Bit(), NoisedRelease(row_norm=R, ceiling=1.0)], ids=["bit", "dp"])
def test_a_method_that_cannot_be_compared_is_refused_before_anybody_is_asked(tmp_path, release):
    shown, desk = [], tmp_path / "desk"
    controls = {"approval": "ask", "requests": str(desk), "patience": 1.0, "show": shown.append}
    deal = Deal(tmp_path, release, (Bare(),), controls=controls, buyer=ModelOwnerInput(TRAIN, TEST, threshold=-1.0))
    found, _ = deal.play()
    for role in OWNERS:
        assert isinstance(found[role], InputError) and found[role].name == "release", found
        assert "a comparison of gradient_norm" in str(found[role])
    assert isinstance(found[DEALER], AppraisalError) and "release" in str(found[DEALER])
    assert not shown and not desk.exists()
    assert deal.counts() == {"model": (0, 0), "seller": (0, 0)}


def test_a_fine_tuning_with_twelve_classes_is_refused_before_the_data_owner_is_asked(module_processes):
    market = Market(module_processes, "twelve", seller=problem(120, classes=12, seed=3))
    for path, rows in ((market.train, 90), (market.test, 60)):
        write_npz(path, *problem(rows, classes=12, seed=rows))
    session = market.start("appraisal=finetuning", data_owner=["party.patience=5"])
    session.end(2)
    words = {role: session.error(role) for role in ROLES}  # whoever finds it first tells the others
    own = [each for each in words.values() if each.startswith("classes: got 12; expected at most 10 for a loss on")]
    assert own and sum(each.endswith(" stopped: bad input in classes\n") for each in words.values()) == 3 - len(own)
    assert " waits for a yes" not in session[DATA_OWNER].err
    assert not market.desk.exists() and not [*session.root.rglob("request.md")] and session.without_records()
    assert market.charged() == {"train.npz.ledger": 0, "seller.csv.ledger": 0}


# ---- the Python interface between organisations


@pytest.mark.parametrize(
    ("session", "controls"),
    [(Join(MODEL_OWNER, "tcp://127.0.0.1:1"), None), ("spawn", DisclosureControls()), ("plain", DisclosureControls())],
)
def test_a_join_takes_a_guard_and_nothing_else_does(session, controls):
    with pytest.raises(InputError) as error:
        appraise(SELLER, train=TRAIN, test=TEST, session=session, controls=controls)
    assert error.value.name == "controls"


def test_guard_is_part_of_the_package():
    assert mpc_appraisal.DisclosureControls is DisclosureControls and "DisclosureControls" in mpc_appraisal.__all__


PARTY = """
import sys
from mpc_appraisal import DisclosureControls, Join, appraise
from processes import problem

role, port = sys.argv[1:]
own = {
    "model_owner": {"train": problem(60, seed=1), "test": problem(40, seed=2)},
    "data_owner": {"data": {"seller": problem(120, seed=11)}},
    "dealer": {},
}[role]
session = Join(role, f"tcp://127.0.0.1:{port}", join_timeout=60, transport="tcp", in_the_clear=True)
for record in appraise(**own, session=session, controls=DisclosureControls()):
    print(record.method, record.candidate, record.role, repr(record.value), record.request["how"], record.budget)
"""


def test_three_processes_join_through_the_python_interface(processes):
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    port = str(free_port())
    started = {
        role: processes.start(role, [sys.executable, "-c", PARTY, role, port], {"PYTHONPATH": path}) for role in ROLES
    }
    ended = {role: process.wait(120) for role, process in started.items()}
    assert {each.code for each in ended.values()} == {0}, {role: each.err[-1500:] for role, each in ended.items()}
    words = {role: each.out.split() for role, each in ended.items()}
    assert words[DEALER] == []
    for role in OWNERS:
        assert words[role][:3] == ["influence", "seller", role] and words[role][4:] == ["stated", "None"]
        assert close(float(words[role][3]), value_of(problem(120, seed=11)))
    assert words[MODEL_OWNER][3] == words[DATA_OWNER][3]


# ---- the end


@pytest.mark.parametrize("dead", OWNERS)
def test_a_party_keeps_its_results_when_the_other_dies_before_the_goodbye(tmp_path, monkeypatch, dead):
    deal, asked = Deal(tmp_path), []

    def answered(role, rendezvous, plan, own, *rest):  # a first session, ended once its answer is in the ledgers
        agreed = consent(role, rendezvous, plan, own, *rest)
        settle(own, agreed, dict.fromkeys(agreed.granted, Outcome(1.25)))
        asked.append(role)
        raise Enough

    with monkeypatch.context() as patch:
        patch.setattr(party, "consent", answered)
        deal.play()
    assert set(asked) == set(ROLES) and deal.counts() == {"model": (1, 1), "seller": (1, 1)}

    def die():
        raise KeyboardInterrupt

    found, meeting = deal.play({dead: {"done": die}})
    assert isinstance(found[dead], KeyboardInterrupt) and meeting.ended == f"{dead} stopped: it was interrupted"
    (left,) = set(OWNERS) - {dead}
    (record,) = found[left]
    assert record.answered and record.value == 1.25 / SELLER.rows and found[DEALER] == []
