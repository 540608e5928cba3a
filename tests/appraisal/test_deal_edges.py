"""Edges of a deal: what happens between asking a ledger and charging it, what is refused before anybody is asked, what
may not be told. Sessions between threads meet at `Meeting`; where something is computed, processes are real.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from processes import DATA_OWNER, DEALER, HERE, MODEL_OWNER, ROLES, free_port, problem, stretched, write_npz
from test_deal import Market, close, value_of
from test_release import Asked, launched

import mpc_appraisal
from mpc_appraisal import Dataset, DisclosureControls, Join, appraise
from mpc_appraisal.appraisal import cost, party
from mpc_appraisal.appraisal.agreement import Agreed, consent, make_request, rounded_up, settle
from mpc_appraisal.appraisal.norms import check_norms, with_norms
from mpc_appraisal.appraisal.plan import BLOCK_ROWS, DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.cli.app import main
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.data import StoredDataset, transformed
from mpc_appraisal.governance.approval.decide import RequestQueue
from mpc_appraisal.governance.budget.hash_chain import bad_line
from mpc_appraisal.governance.budget.ledger import spent
from mpc_appraisal.governance.budget.ledgers import EVERY
from mpc_appraisal.governance.catalogue import read_listing
from mpc_appraisal.methods import Appraiser, Facts, Finetuning, GradientNorm, Influence, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import (
    Best,
    Bit,
    LedgerSet,
    Mechanism,
    NoisedRelease,
    Outcome,
    Policy,
    Release,
    Value,
    epsilon,
    verify,
)
from mpc_appraisal.release.dp import release as private
from mpc_appraisal.release.dp.release import smallest_sigma
from mpc_appraisal.release.dp.rounding import opened_error, softmax_error

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
        transport = SimpleNamespace(kind="tcp", connect=lambda role, *_: seats[role])
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


# ---- labels that the model has no class for


def beyond(rows: int = 120, seed: int = 5, most: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Rows, some of them long, of which every third has a label from 3 to `most`."""
    x, y = problem(rows, seed=seed)
    far = np.random.default_rng(seed).integers(CLASSES, most + 1, rows)
    return 1.5 * x, np.where(np.arange(rows) % 3 == 0, far, y)


def ordinary(data: Dataset) -> Dataset:
    """What release=dp makes of them, written anew."""
    norm = math.sqrt(R**2 - 1)
    return Dataset(
        data.x * (norm / data.x.norm(dim=1, keepdim=True)).clamp(max=1.0),
        torch.where(data.y > CLASSES - 1, CLASSES - 1, data.y),
        CLASSES,
        data.name,
    )


@pytest.fixture
def stored(tmp_path) -> StoredDataset:
    return StoredDataset(write_npz(tmp_path / "seller.npz", *beyond()), "label", None, "seller")


def test_labels_beyond_the_classes_become_the_last_class(stored):
    held = Dataset.of(*beyond(), None, "seller")
    assert held.classes == stored.classes == 10
    for data in (held, stored):
        changed = transformed(data, lambda x: 2 * x, CLASSES)
        assert (changed.rows, changed.features, changed.classes, changed.name) == (120, 4, CLASSES, "seller")
        assert changed.with_classes(CLASSES).classes == CLASSES and changed.renamed("a").classes == CLASSES
        for size in (1000, 50, 1):
            blocks = list(changed.blocks(size))
            assert sum(block.rows for block in blocks) == 120 and {block.classes for block in blocks} == {CLASSES}
            assert torch.equal(torch.cat([block.y for block in blocks]), held.y.clamp(max=2))
            assert torch.equal(torch.cat([block.x for block in blocks]), 2 * held.x)
        assert data.classes == 10 and max(int(block.y.max()) for block in data.blocks(50)) == 9  # not changed itself


@pytest.mark.parametrize("kind", ["held", "stored"])
def test_only_without_noise_are_they_refused(stored, kind):
    data = stored if kind == "stored" else Dataset.of(*beyond(), None, "seller")
    facts = {"seller": Facts(4, CLASSES, 60, 40, data.rows, L2)}
    for release in (VALUE, Bit(), Best()):
        plan = replace(Deal(Path(), release).plan(), release=release)
        with pytest.raises(InputError) as error:
            party._prepare(DATA_OWNER, party._transformed(DataOwnerInput((data,)), plan, facts), plan, facts)
        assert str(error.value).startswith("party.data (seller): got a label 9; expected labels from 0 to 2")
        assert error.value.public == "bad input in party.data (seller)"
    plan = Deal(Path(), NOISED).plan()
    own = party._transformed(DataOwnerInput((data,)), plan, facts)
    party._prepare(DATA_OWNER, own, plan, facts)
    expected = ordinary(Dataset.of(*beyond(), None, "seller"))
    (whole,) = own.candidates[0].blocks(1000)
    assert torch.equal(whole.y, expected.y) and torch.allclose(whole.x, expected.x, atol=1e-4)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """One launch: the same rows with labels within and beyond the classes, in memory and in a file."""
    folder = tmp_path_factory.mktemp("labelled")
    held = Dataset.of(*beyond(), None, "seller")
    in_file = StoredDataset(write_npz(folder / "seller.npz", *beyond()), "label", None, "seller")
    release, buyer = NoisedRelease(sigma=1e-4, row_norm=R), ModelOwnerInput(TRAIN, TEST)
    methods = (GradientNorm(), Influence())
    sets = {"within": replace(held, y=held.y.clamp(max=2), classes=CLASSES), "held": held, "stored": in_file}
    return launched({key: Asked(release, methods, None, (data,), buyer, L2) for key, data in sets.items()})


@pytest.mark.parametrize("key", ["held", "stored"])
def test_with_noise_labels_beyond_the_classes_abort_nothing_and_tell_nothing(labelled, key):
    clear, model = ordinary(Dataset.of(*beyond(), None, "seller")), fit(TRAIN, L2)
    for role in OWNERS:
        for method in (GradientNorm(), Influence()):
            record, other = (labelled[each][role][method.name, "seller"] for each in (key, "within"))
            value, _ = plaintext(method, model, TRAIN, TEST, clear)
            four = record.release["high"] - record.release["low"]  # deviations of the noise
            assert abs(record.value - value) < 2 * four + 1e-3 * abs(value) + 2e-4
            assert abs(value) > 10 * four
            assert record.request["digest"] == other.request["digest"]
            assert record.classes == CLASSES


# ---- sensitivities, norms, sigma


INFLUENCE_FACTS = Facts(4, CLASSES, 60, 40, 1 << 20, L2, row_norm=64.0, longest=64.0, logit_bound=16.0)


def wide(ceiling: float | None, spread: float = 1.0) -> NoisedRelease:
    return NoisedRelease(sigma=1e-3, row_norm=64.0, ceiling=ceiling, spread=spread)


def held_rows(spread: float) -> int:
    """The most rows whose sum surely fits 2^26, and hence the ring."""
    error = softmax_error(CLASSES, 16.0)
    off = opened_error(Influence(), INFLUENCE_FACTS, 0.0, spread)
    return math.ceil((2.0**26 - off) / (64.0 * spread * (1 + error))) - 1


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_sensitivity_of_a_sum_that_may_wrap_is_the_whole_range(spread):
    most = held_rows(spread)
    assert 0.99 * 2**20 / spread < most < 2**20 / spread
    for rows, whole in ((most - 1, False), (most + 2, True), (2 * most, True), (most // 4, False)):
        facts = replace(INFLUENCE_FACTS, rows=rows)
        derived = wide(None, spread).sensitivity(Influence(), facts)
        assert 2 * 64 * spread < derived < 1.02 * 2 * 64 * spread  # without a ceiling, whatever the number of rows
        ceiling = 2.0**23 / rows
        released = wide(ceiling, spread)
        low, high = released.range_of(Influence(), facts)
        assert (low, high) == pytest.approx((-(2.0**23), 2.0**23), rel=1e-12)
        assert released.sensitivity(Influence(), facts) == (high - low if whole else derived)


def test_a_range_below_the_derived_sensitivity_counts_in_any_case():
    for rows in (1000, 1 << 21):
        facts = replace(INFLUENCE_FACTS, rows=rows)
        assert wide(1 / rows).sensitivity(Influence(), facts) == pytest.approx(2.0, rel=1e-12)


def norms_of(rows: int, features: int = 784, norm: float = 100.0, train_rows: int = 600) -> float:
    notes = {MODEL_OWNER: {"row_norm": 1.0, "weight_norm": 0.01}, DATA_OWNER: {"row_norm": norm}}
    plan, facts = Plan((Influence(),), L2, 0, "", fit=None), Facts(features, 10, train_rows, 40, rows, L2)
    return check_norms(notes, plan, {"seller": facts})


def test_a_short_last_block_counts_as_small():
    whole = 610 * BLOCK_ROWS  # five million rows: 2^29 would hold the sum of them, 2^25 would not
    largest_small = 2**17 // 785
    for rows in (whole, whole + largest_small + 1, whole + BLOCK_ROWS - 1, 5_000_100):
        assert norms_of(rows) == 1.0
    for rows in (whole + 1, whole + largest_small):
        with pytest.raises(InputError, match=r"at most 3.35544e\+07: standardise") as error:
            norms_of(rows)
        assert error.value.name == "party.data (seller)"
    assert norms_of(whole + 1, norm=2.0**25 / (whole + 1)) > 0  # what 2^25 holds is not refused
    with pytest.raises(InputError, match="5.36871e"):
        norms_of(whole, norm=110.0)


def test_few_training_rows_count_as_small_too():
    rows = 610 * BLOCK_ROWS
    with pytest.raises(InputError, match=r"3.35544e\+07"):
        norms_of(rows, train_rows=20)
    assert norms_of(rows, train_rows=0) == 1.0  # none at all


@pytest.mark.parametrize("target", [1e-5, 1e-3, 0.7, 700.0])
def test_the_smallest_sigma_is_found_within_a_second_for_any_epsilon(monkeypatch, target):
    smallest_sigma.__wrapped__(1.0, 1e-6)  # what it imports takes longer
    asked = []
    monkeypatch.setattr(private, "epsilon", lambda *stated: asked.append(stated) or epsilon(*stated))
    start = time.thread_time()
    sigma = smallest_sigma.__wrapped__(target, 1e-6)
    assert time.thread_time() - start < stretched(1.0) and len(asked) < 40  # was thousands
    assert epsilon([Mechanism("gaussian", sigma=sigma)], 1e-6) <= target
    assert epsilon([Mechanism("gaussian", sigma=sigma * 0.99)], 1e-6) > target
    assert float(f"{sigma:.4g}") == sigma


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


# ---- prices


def listing(name: str, price: float | None, currency: str | None) -> Any:
    return SimpleNamespace(
        name=name, file_digest=name * 8, digest=name * 8, terms=SimpleNamespace(price=price, currency=currency)
    )


def test_prices_in_two_currencies_are_no_budget(tmp_path):
    sets = tuple(SELLER.renamed(name) for name in ("dear", "cheap"))
    listings = (listing("dear", 250, "EUR"), listing("cheap", 100, "USD"))
    shown = []
    deal = Deal(tmp_path, Best(1, budget=300), candidates=sets, listings=listings, controls={"show": shown.append})
    found, _ = deal.play()
    for role in ROLES:
        assert isinstance(found[role], InputError) and found[role].name == "release.budget", found
        assert found[role].value == "prices in EUR, USD"
    assert not shown and set(deal.counts().values()) == {(0, 0)}
    stated = Best(1, budget=300, prices={"dear": 250, "cheap": 100})  # of which listings say nothing
    known = {each.name: {"price": each.terms.price, "currency": each.terms.currency} for each in listings}
    for release in (stated, Best(1)):
        assert party._fitted(replace(deal.plan(), release=release), list(known), known) is release
    same = {name: one | {"currency": "EUR"} for name, one in known.items()}
    assert party._fitted(deal.plan(), list(known), same).prices == {"dear": 250, "cheap": 100}


def test_prices_stand_in_the_words_of_the_request(tmp_path):
    prices = {"dear": 12345678.25, "cheap": 0.1}
    sets = tuple(SELLER.renamed(name) for name in prices)
    deal = Deal(tmp_path, Best(1, budget=12345678.75, prices=prices), candidates=sets)
    facts, published = deal.published()
    request = make_request(deal.plan(), facts, published, dict.fromkeys(facts))
    text = " ".join(request.text().split())
    assert "that 12345678.75 can pay at their prices (dear: 12345678.25, cheap: 0.1)" in text
    other = replace(deal.release, prices=prices | {"cheap": 0.2})
    assert make_request(deal.plan(release=other), facts, published, dict.fromkeys(facts)).digest != request.digest


# ---- who is charged


TUNING = (Finetuning(steps=2),)


@pytest.mark.parametrize(
    ("methods", "release", "charged"),
    [
        ((Influence(),), Value(MODEL_OWNER), {DATA_OWNER}),
        ((Influence(),), Value(DATA_OWNER), {MODEL_OWNER}),
        (TUNING, Value(MODEL_OWNER), set(OWNERS)),
        (TUNING, Value(DATA_OWNER), set(OWNERS)),
        (TUNING, Bit(MODEL_OWNER), set(OWNERS)),
        (TUNING, NoisedRelease(row_norm=R, ceiling=1.0, to=MODEL_OWNER), {DATA_OWNER}),  # opens no such bit
    ],
)
def test_the_bit_on_the_bound_is_charged_to_both(tmp_path, methods, release, charged):
    deal = Deal(tmp_path, release, methods)
    agreed = deal.agree()
    assert {role for role in OWNERS if agreed[role].granted} == charged, agreed
    counts = {DATA_OWNER: deal.counts()["seller"][0], MODEL_OWNER: deal.counts()["model"][0]}
    assert counts == {role: int(role in charged) for role in OWNERS}
    published = {role for opening in agreed[DATA_OWNER].openings for role in opening.to}
    assert {MODEL_OWNER: DATA_OWNER, DATA_OWNER: MODEL_OWNER}.keys() - published <= charged


# ---- cost


def test_the_cost_of_all_methods_with_noise(monkeypatch, capsys):
    stated = "cost rows=500 features=20 appraisal=all release=dp release.row_norm=5 release.ceiling=1"
    monkeypatch.setattr("sys.argv", ["mpc-appraisal", *stated.split()])
    main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for method in ("gradient_norm", "finetuning", "influence"):
        (row,) = [row for row in rows if row[:1] == [method]]
        assert int(row[1].replace(",", "")) > 0
    facts = Facts(20, 10, 600, 10_000, 500, L2)
    plain, noised = (
        cost.estimate([Influence()], facts, 2, 10.0, r) for r in (VALUE, NoisedRelease(row_norm=5, ceiling=1.0))
    )
    assert noised.rounds > plain.rounds


# ---- what may be told


@pytest.mark.parametrize(
    "name",
    [
        "party.data (a)",
        "party.data (Digits-2026.v1)",
        "budget.plain_values",
        "the bound on logits",
        "release",
        "release.prices.cheap",
        "classes",
        "ledger",
        "listing sales-2026: commitment.digest",
        "session.logit_bound",
        "the question of influence (seller)",
    ],
)
def test_keys_and_plain_words_are_told(name):
    error = InputError(name, "secret-value", "something")
    assert error.public == f"bad input in {name}" and "secret" not in error.public


@pytest.mark.parametrize(
    "error",
    [
        bad_line(Path("/home/jo/seller.csv.ledger"), 3, "epsilon 3", "at most 1"),
        InputError("/home/jo/seller.csv", 1, "2"),
        InputError("seller.json", 1, "2"),
        InputError("seller.csv.ledger", 1, "2"),
        InputError("seller.json: terms.price", 1, "2"),
        InputError("Seller.csv", 1, "2"),
        InputError("model.json", 1, "2"),
        InputError("listing x.json: terms", 1, "2"),
    ],
    ids=lambda error: error.name,
)
def test_the_name_of_a_file_is_not(error):
    assert error.public == "bad input, which its own error names"


@pytest.mark.parametrize("content", ["no listing", "{}", "[" * 100_000, "{"], ids=["text", "empty", "deep", "cut"])
def test_the_name_of_a_damaged_listing_stays_with_its_owner(tmp_path, content):
    (tmp_path / "seller.json").write_text(content)
    with pytest.raises(InputError, match="seller.json") as error:
        read_listing(tmp_path / "seller.json")
    assert "seller" not in error.value.public


def test_a_damaged_ledger_tells_the_others_nothing_of_its_name(tmp_path):
    deal = Deal(tmp_path, controls={"approval": "ask", "requests": str(tmp_path / "desk"), "patience": 60.0})

    def spoil():
        (tmp_path / "seller.ledger").write_text('{"kind": "open"}\n')

    before = {DATA_OWNER: {"request": spoil}}
    found = deal.agree(before)
    assert "seller.ledger" in str(found[DATA_OWNER]), found
    for role in (MODEL_OWNER, DEALER):
        assert "seller" not in str(found[role]) and "bad input" in str(found[role])
    assert not RequestQueue(tmp_path / "desk").folder.exists()


# ---- numbers in a request


@pytest.mark.parametrize("sign", range(-12, 13, 3))
def test_numbers_are_rounded_up_to_four_digits(sign):
    for number in (1.0, 1.0004, 1.23449, 9.9991, 9.9999999, 3.0000000001, math.pi, 5.555):
        number *= 10.0**sign
        found = rounded_up(number)
        assert float(f"{found:.4g}") == found  # at most four digits
        assert number * (1 - 1e-15) <= found <= number * (1 + 1.1e-3)
    assert rounded_up(0.0) == 0.0


@pytest.mark.parametrize("methods", [(Influence(),), (GradientNorm(),), (Influence(), GradientNorm())])
def test_epsilon_and_sensitivities_in_a_request_have_four_digits(tmp_path, methods):
    release = NoisedRelease(epsilon=0.7654321, row_norm=R)
    deal = Deal(tmp_path, release, methods, candidates=(SELLER, OTHER))
    facts, published = deal.published()
    privacy = make_request(deal.plan(), facts, published, dict.fromkeys(facts)).content["privacy"]
    exact = {(m.name, name): release.privacy(m, f) for m in methods for name, f in facts.items()}
    worst = max(each["epsilon"] for each in exact.values())
    numbers = [(privacy["epsilon"], worst)]
    numbers += [(privacy["sensitivity"][", ".join(key)], each["sensitivity"]) for key, each in exact.items()]
    for stated, number in numbers:
        assert float(f"{stated:.4g}") == stated and number <= stated < number * 1.001
    assert any(stated != number for stated, number in numbers)
