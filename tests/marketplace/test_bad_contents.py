"""A signed upload with bad contents ends that seller's part alone: real processes meet by commands, over TLS with
certificates by their own names; the others go on, and shopper and cloud say whose upload it is, and why."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from processes import HERE, Processes, free_port
from small_market import problem
from test_market_edges import PLAN, SHARED, TINY, Script, altered, context_of, stocked

from mpc_appraisal.appraisal.sessions import Plain
from mpc_appraisal.cli.commands.certificates import main as certificates
from mpc_appraisal.common.errors import BoundError, PeerError
from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.marketplace.encryption.labels import label_key
from mpc_appraisal.marketplace.encryption.signed_upload import write_upload
from mpc_appraisal.marketplace.plan import ShopperInput, Validation
from mpc_appraisal.marketplace.plan_file import market_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import quantised_first
from mpc_appraisal.marketplace.protocols.shares_plan import OpenedResults
from mpc_appraisal.marketplace.roles import shares as shares_role
from mpc_appraisal.marketplace.roles.label_check import judge, send_share
from mpc_appraisal.marketplace.roles.pooled import PooledShopper
from mpc_appraisal.marketplace.uploads.enrolment import SUFFIX, enrol, read_keys, registry
from mpc_appraisal.marketplace.uploads.inbox import read_inbox
from mpc_appraisal.marketplace.uploads.labels import NONCE_BYTES, ONE, label_shares, pads
from mpc_appraisal.models.networks import initial

ROWS = 4
STATED = {"image": [1, 8, 8], "selection": "margin", "validation": {
    "granularity": 2, "steps": 2, "lr": 0.05, "batch_size": 16}}  # fmt: skip


def sold(folder, plan, seller, labels=lambda shares: shares, encrypt=lambda key: key) -> None:
    """Enrol a seller, and write its signed upload with label shares and an encryption key that were changed."""
    file = enrol(folder / "state", seller.name, plan.architecture, folder / "homes", plan.protocol.scheme, 0.9)
    keys, inbox = read_keys(file), folder / "inbox"
    inbox.mkdir(exist_ok=True)
    shares = label_shares(seller.y, plan.architecture.classes, keys.label_secret).copy()
    shares[:, NONCE_BYTES:] = labels(shares[:, NONCE_BYTES:].copy().view(np.int64)).view(np.uint8)
    write_upload(
        inbox / f"{seller.name}.upload", seller.name, keys.scheme, encrypt(keys.encryption_key), seller.x, shares,
        keys.image, keys.signing_key, keys.label_secret,
    )  # fmt: skip


def joined(folder, stated, shopper, sellers):
    """Run the three roles as commands. Returns how each ended, and the shopper's result."""
    (folder / "plan.json").write_text(json.dumps(stated))
    shopper.network.save(folder / "network.npz")
    for name in ("own", "validation"):
        x, y = getattr(shopper, name)
        np.savez(folder / f"{name}.npz", x=x, y=y)
    certificates([str(folder / "tls"), "--market", "--sellers", *[seller.name for seller in sellers]])
    words = {
        "shopper": ["--network", "network.npz", "--own", "own.npz", "--validation", "validation.npz"],
        "cloud": [],
        "authority": ["--state", "state"],
    }
    words["shopper" if stated["protocol"] == "ife_shares" else "cloud"] += ["--inbox", "inbox"]
    words["shopper"] += ["--out", "result.json"]
    address = f"tcp://127.0.0.1:{free_port()}"
    with Processes(folder / "runs") as processes:
        started = {}
        for role, files in words.items():
            files = [each if each.startswith("--") else str(folder / each) for each in files]
            command = [sys.executable, str(HERE / "market_party.py"), "join", role, address, str(folder / "plan.json")]
            started[role] = processes.start(role, [*command, *files, "--tls", str(folder / "tls" / role)])
        ended = {role: process.wait(120) for role, process in started.items()}
    assert {role: one.code for role, one in ended.items()} == dict.fromkeys(words, 0), ended
    return ended, json.loads((folder / "result.json").read_text())


def other_secret(key):
    """Return the key with another secret under the old name, so that the ciphertexts are of nothing."""
    return type(key)(key.scheme, key.dimension, bytes(len(key.material)), key.key_id)


def two_classes(shares):
    """Return shares of labels, whose first row is a one in another class too."""
    shares[0, :2] += ONE
    return shares


def five_times(shares):
    """Return shares of labels that count five times, as 5 y = y + 4 y."""
    shares[-1] *= 5
    return shares


def compared(result, plan, shopper, sellers) -> None:
    """Compare with the plaintext run of the sellers that are left, whose rows were all selected."""
    left = {name for name, _ in result["selected"]}
    assert left == {seller.name for seller in sellers} and len(result["selected"]) == len(left) * ROWS
    plain = run_market(plan, shopper, sellers, Plain())
    assert [tuple(pair) for pair in result["selected"]] == list(plain.selected)
    assert [verdict["wrong"] for verdict in result["verdicts"]] == [verdict.wrong for verdict in plain.verdicts]


def test_masked_layers_leave_out_the_seller_alone_and_the_cloud_says_why(tmp_path):
    stated = STATED | {"protocol": "ife_transform", "budget": 2 * ROWS}
    plan = market_of(stated)
    shopper, (good, garbage, none) = problem(plan.architecture, rows=ROWS)
    sold(tmp_path, plan, good)
    sold(tmp_path, plan, garbage, encrypt=other_secret)
    sold(tmp_path, plan, none, labels=two_classes)
    (tmp_path / "inbox" / f"{'x' * 240}.upload").write_bytes(b"a stray file")
    ended, result = joined(tmp_path, stated, shopper, (good, garbage, none))
    for role in ("shopper", "cloud"):
        assert f"refused: {garbage.name}: upload of seller {garbage.name}: ciphertext: got a product" in ended[role].out
        assert f"refused: {none.name}: labels of {none.name}: got a row that is no label" in ended[role].out
        assert f"refused: {'x' * 199}…: upload of x" in ended[role].out
    assert {name for name, _ in result["refused"]} == {garbage.name, none.name, "x" * 199 + "…"}
    compared(result, market_of(stated | {"budget": ROWS}), shopper, [good])


@pytest.mark.parametrize("spoil", [two_classes, five_times])
def test_shares_of_what_is_no_label_are_left_out_although_nobody_opens_them(tmp_path, spoil):
    stated = STATED | {"protocol": "ife_shares", "budget": 2 * ROWS}
    plan = market_of(stated)
    shopper, (good, bad) = problem(plan.architecture, sellers=2, rows=ROWS)
    sold(tmp_path, plan, good)
    sold(tmp_path, plan, bad, labels=spoil)
    ended, result = joined(tmp_path, stated, shopper, (good, bad))
    row = 0 if spoil is two_classes else ROWS - 1
    for role in ("shopper", "cloud"):
        assert f"refused: {bad.name}: labels of {bad.name}: got no label in row {row}; expected" in ended[role].out
    compared(result, market_of(stated | {"budget": ROWS}), shopper, [good])


def test_what_the_authority_sees_of_a_label_says_nothing_of_its_class():
    """The sum that the authority sees has its one at each place alike, whatever the class; and pads that it knows do
    not help, because shares and pads are masked."""
    classes, rows, secret = 4, 4000, bytes(range(32))
    keys = [label_key(secret, bytes(16), row, "pad") for row in range(rows)]
    own = pads(keys, classes)
    onehot = torch.nn.functional.one_hot(torch.full((rows,), 2), classes) * ONE
    seen = {}

    class Sent:
        def __init__(self, role):
            self.role = role

        def announce(self, to, message):
            assert message == {"labels": rows}

        def send(self, to, values):
            seen[self.role] = values

        def hear(self, source):
            return {"no_labels": []}

    selected = [("ann", row) for row in range(rows)]
    for role, share, sign in (("shopper", onehot - own, 1), ("cloud", own, -1)):
        context = SimpleNamespace(messages=Sent(role))
        assert send_share(context, bytes(range(32, 64)), share, selected, {}, sign) == {}
    total = seen["shopper"] + seen["cloud"]
    assert bool(((total == ONE).sum(1) == 1).all()) and bool(((total == 0).sum(1) == classes - 1).all())
    counts = (total == ONE).sum(0).double()
    expected, error = rows / classes, (rows / classes * (1 - 1 / classes)) ** 0.5
    assert bool(((counts - expected).abs() < 7 * error).all())
    for known in (own, onehot - own):  # neither share stands in what was sent, in any order of a row
        for sent in seen.values():
            assert not bool((sent[:, :, None] == known[:, None, :]).any())


def test_the_reason_of_a_refusal_is_short_whatever_a_seller_signs(tmp_path):
    stocked(tmp_path, "ann", "bob")
    key = read_keys(tmp_path / "homes" / f"ann{SUFFIX}").signing_key
    altered(tmp_path / "inbox" / "ann.upload", key, {"image": [10**4000, 1, 1]})
    uploads, refused = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), PLAN)
    assert list(uploads) == ["bob"] and len(refused["ann"]) <= 500 and refused["ann"].startswith("upload of ann: got ")


def test_ciphertexts_of_nothing_do_not_keep_the_other_sellers_from_being_served_on_shares(tmp_path):
    """Nobody sees the products on shares. The other seller's rows are predicted as ever, and whatever a training with
    rows of garbage gives, it has a verdict, and the run ends in good order."""
    stated = STATED | {"protocol": "ife_shares", "budget": 2 * ROWS}
    plan = market_of(stated)
    shopper, (good, garbage) = problem(plan.architecture, sellers=2, rows=ROWS)
    sold(tmp_path, plan, good)
    sold(tmp_path, plan, garbage, encrypt=other_secret)
    _, result = joined(tmp_path, stated, shopper, (good, garbage))
    plain = run_market(market_of(stated | {"budget": ROWS, "validation": None}), shopper, [good], Plain())
    assert [tuple(pair) for pair in result["selected"] if pair[0] == good.name] == list(plain.selected)
    assert len(result["selected"]) == 2 * ROWS and len(result["verdicts"]) == ROWS
    assert all(0 <= verdict["wrong"] <= verdict["of"] for verdict in result["verdicts"])


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([{"labels": 0}], "model_owner"),
        ([{"labels": PLAN.budget + 1}], "model_owner"),
        ([{"labels": "1"}], "model_owner"),
        ([{}], "model_owner"),
        ([{"labels": 2}, {"labels": 1}], "data_owner"),
        ([{"labels": 1}, {"labels": 2}], "data_owner"),
    ],
)
def test_a_number_of_labels_that_is_none_is_the_fault_of_whoever_states_it(messages, named):
    script = Script(*messages)
    script.receive = lambda source, shape, dtype: torch.zeros(shape, dtype=dtype)
    with pytest.raises(PeerError, match=f"^{named} sent a message that cannot be read"):
        judge(context_of(script))
    assert not script.sent


@pytest.mark.parametrize("answer", [{}, {"no_labels": [2]}, {"no_labels": [-1]}, {"no_labels": "0"}, {"no_labels": 0}])
def test_a_judgement_that_is_none_is_the_authority_s_fault(answer):
    context = context_of(Script(answer))
    with pytest.raises(PeerError, match="^dealer sent a message that cannot be read"):
        send_share(context, bytes(32), torch.zeros((2, 4), dtype=torch.int64), [("ann", 0), ("ann", 1)], {}, 1)
    context = context_of(Script({"no_labels": [0]}))  # its place counts among the rows that are judged
    share = torch.zeros((2, 4), dtype=torch.int64)
    found = send_share(context, bytes(32), share, [("ann", 0), ("bob", 1)], {"ann": "why"}, 1)
    assert found == {"bob": "labels of bob: got no label in row 1; expected one class of each row"}


@pytest.mark.parametrize("errors", [(-5, 0), (0, 99), (-5, 99)])
def test_a_trial_that_left_the_range_of_shares_is_refused_and_the_next_one_is_made(monkeypatch, errors):
    """Errors of -5 or 99 on three rows are none; where no trial has a number of errors, the plan is at fault."""
    plan = replace(SHARED, validation=Validation(1, steps=1, lr=0.1, batch_size=2))
    rows = np.zeros((3, 8), np.uint8), np.arange(3)
    network, found = initial(TINY, 0).to(torch.float64), list(errors)
    side = PooledShopper(network, quantised_first(network), torch.zeros(0))
    monkeypatch.setattr(shares_role, "_compute", lambda *_, **__: (OpenedResults(errors=found.pop(0)), []))
    monkeypatch.setattr(shares_role, "wrong_predictions", lambda *_: 1)

    def validated():
        context = context_of(Script(*[{"ready": True}] * 2), plan)
        own = ShopperInput(network, rows, rows)
        return shares_role._validate(context, own, side, torch.zeros(2, 4), torch.zeros(2, 3), [], [0, 1])

    if 0 not in errors:
        with pytest.raises(BoundError, match="training has left the range .* lower validation.lr"):
            validated()
        return
    verdicts = validated()
    assert [verdict.wrong for verdict in verdicts] == [error if error == 0 else 3 for error in errors]
    assert [verdict.accepted for verdict in verdicts] == [error == 0 for error in errors]
