"""The marketplace at its edges: files and messages that a peer or a seller made up, caps that were stated twice, and
what is checked before it costs anything."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpc_appraisal.cli.commands import market as command
from mpc_appraisal.cli.commands.market import join
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import DEALER
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.labels import open_label
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.plan import MarketPlan, SellerInput, ShopperInput, Validation
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.protocols.strategy import IfeShares
from mpc_appraisal.marketplace.result import PhaseCosts
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles import authority as authority_role
from mpc_appraisal.marketplace.roles import cloud as cloud_role
from mpc_appraisal.marketplace.roles import shares as shares_role
from mpc_appraisal.marketplace.roles.cloud import run_transform
from mpc_appraisal.marketplace.roles.context import selected_rows
from mpc_appraisal.marketplace.uploads.enrolment import SUFFIX, enrol, read_keys, registry
from mpc_appraisal.marketplace.uploads.inbox import Offers, agree_offers, read_inbox
from mpc_appraisal.marketplace.uploads.labels import joined, label_shares, pads, shares_of
from mpc_appraisal.marketplace.uploads.seller import upload
from mpc_appraisal.models.networks import Architecture, Dense, initial
from mpc_appraisal.mpc.net.meter import Meter

SMALL_LWE = LWE(n=32)  # exact as the default one, and quick; not secure
TINY = Architecture("tiny", (1, 2, 4), (Dense(3), Dense(4)))
PLAN = MarketPlan(TINY, IfeTransform(SMALL_LWE), "margin", 2)
SHARED = MarketPlan(TINY, IfeShares(SMALL_LWE), "margin", 2)
ROWS = 3
ASKED = {"own": 1, "validation": 1, "left_out": {}}


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (ROWS, 8)).astype(np.uint8)


def stocked(folder: Path, *names: str, cap_share: float = 0.9) -> Path:
    """Enrol sellers and upload for them, into the folders state, homes and inbox of `folder`."""
    for name in names:
        file = enrol(folder / "state", name, TINY, folder / "homes", SMALL_LWE, cap_share)
        upload(SellerInput(name, images(), np.arange(ROWS)), file, folder / "inbox")
    return folder


def altered(path: Path, signing_key: bytes, facts: dict | None = None, **arrays) -> None:
    """Write the file with other facts or arrays, signed again by its seller."""
    first, second, _, payload = path.read_bytes().split(b"\n", 3)
    with np.load(io.BytesIO(payload)) as found:
        buffer = io.BytesIO()
        np.savez(buffer, **(dict(found) | arrays))
    packed = (facts or {}).get("payload", buffer.getvalue())
    stated = json.loads(second) | {"digest": hashlib.sha512(packed).hexdigest()} | (facts or {})
    stated.pop("payload", None)
    signed = first + b"\n" + json.dumps(stated).encode() + b"\n"
    signature = Ed25519PrivateKey.from_private_bytes(signing_key).sign(signed).hex().encode()
    path.write_bytes(signed + signature + b"\n" + packed)


class Script:
    """Messages of a test: it hears what `heard` says in turn, and keeps what is sent."""

    def __init__(self, *heard, arrays=()):
        self.heard, self.arrays, self.sent = list(heard), list(arrays), []
        self.meter, self.reasons = Meter(), {}

    def refused(self, seller, why):
        self.reasons[seller] = why

    def hear(self, source):
        return self.heard.pop(0)

    def receive_array(self, source):
        return self.arrays.pop(0)

    def send(self, to, values):
        self.sent.append((to, values))

    def announce(self, to, message):
        self.sent.append((to, message))


def context_of(messages: Script, market: MarketPlan = PLAN, rows: dict | None = None, ids: dict | None = None):
    offers = Offers(rows or {"ann": ROWS}, ids or {}, {})
    return SimpleNamespace(
        market=market, messages=messages, offers=offers, costs=PhaseCosts(Meter()), refusal=messages.refused
    )


# -- files ---------------------------------------------------------------------------------------------------------
def _nested(path: Path, key: bytes) -> None:
    first, _, rest = path.read_bytes().split(b"\n", 2)
    path.write_bytes(first + b"\n" + b"[" * 60_000 + b"\n" + rest)


def _folder(path: Path, key: bytes) -> None:
    path.unlink()
    path.mkdir()


def _encrypted_zip(path: Path, key: bytes) -> None:
    payload = bytearray(path.read_bytes().split(b"\n", 3)[3])
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says so, in both headers
        payload[payload.index(mark) + place] |= 1
    altered(path, key, {"payload": bytes(payload)})


BAD_FILES = {
    "a line of brackets": _nested,
    "a folder": _folder,
    "labels of one dimension": lambda path, key: altered(path, key, labels=np.zeros(ROWS, dtype=np.uint8)),
    "a header of none": lambda path, key: altered(path, key, header=np.uint8(0)),
    "an id that is no hex": lambda path, key: altered(path, key, {"upload_id": "zz"}),
    "an id of another length": lambda path, key: altered(path, key, {"upload_id": "00" * 32}),
    "an id that is no text": lambda path, key: altered(path, key, {"upload_id": 7}),
    "sides that are no numbers": lambda path, key: altered(path, key, {"image": ["a", "b", "c"]}),
    "rows that are none": lambda path, key: altered(path, key, {"rows": [ROWS]}),
    "one array alone": lambda path, key: altered(path, key, {"payload": path.read_bytes().split(b"\n", 3)[3][:90]}),
    "an encrypted zip": _encrypted_zip,
}


@pytest.mark.parametrize("change", BAD_FILES.values(), ids=BAD_FILES)
def test_one_bad_file_does_not_keep_the_others_from_being_served(tmp_path, change):
    stocked(tmp_path, "ann", "bob")
    change(tmp_path / "inbox" / "ann.upload", read_keys(tmp_path / "homes" / f"ann{SUFFIX}").signing_key)
    uploads, refused = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), PLAN)
    assert list(uploads) == ["bob"] and list(refused) == ["ann"]
    assert refused["ann"].startswith("upload of ann: got ")


def test_sellers_are_in_the_order_of_names(tmp_path):
    """The order is that of the baseline; with the suffix of the files, '-' and '.' would decide."""
    stocked(tmp_path, "a-b", "a", "a_b")
    uploads, _ = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), PLAN)
    assert list(uploads) == sorted(uploads) == ["a", "a-b", "a_b"]


# -- keys ----------------------------------------------------------------------------------------------------------
def test_a_pad_is_not_got_as_a_label_s_key(tmp_path):
    """In a second run the shopper states as an upload's id what the pads of a first run were named by."""
    authority = Authority(stocked(tmp_path, "ann") / "state", SMALL_LWE, 0.9)
    uploads, _ = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), PLAN)
    found, places = uploads["ann"], [("ann", row) for row in range(2)]
    first = Script({"nonces": {"ann": "00" * 16}})
    context = context_of(first, ids={"ann": found.upload_id})
    authority_role.label_keys(context, authority, places, CLOUD)
    (to, keys), (pads_to, _) = first.sent
    assert (to, pads_to) == (SHOPPER, CLOUD)
    opened = [open_label("ann", found.labels[row], row, keys[row].numpy().tobytes()) for row in range(2)]
    nonce, shares = shares_of(np.stack(opened), 4, "ann")
    old_name = hashlib.sha256(b"mpc_appraisal label pads" + nonce).digest()
    for stated in (nonce, old_name):
        second = Script({"nonces": {"ann": "00" * 16}})
        authority_role.label_keys(context_of(second, ids={"ann": stated}), authority, places, CLOUD)
        got = [row.numpy().tobytes() for row in second.sent[0][1]]
        with pytest.raises(InputError, match="a row that is no label"):
            joined(shares, pads(got, 4), "ann")
    third = Script({"nonces": {"ann": nonce.hex()}})
    authority_role.label_keys(context_of(third, ids={"ann": found.upload_id}), authority, places, CLOUD)
    right = [row.numpy().tobytes() for row in third.sent[1][1]]
    assert joined(shares, pads(right, 4), "ann").tolist() == [0, 1]


def test_a_pad_and_a_label_of_one_id_are_counted_apart(tmp_path):
    authority = Authority(stocked(tmp_path, "ann") / "state", SMALL_LWE, 0.9)
    label, pad = (authority.label_keys("ann", bytes(16), [0], purpose) for purpose in ("label", "pad"))
    assert label != pad and authority.issued("ann").labels == 2
    with pytest.raises(InputError, match="purpose"):
        authority.label_keys("ann", bytes(16), [0], "other")
    assert authority.issued("ann").labels == 2


def test_accounts_of_other_parameters_are_refused_by_name(tmp_path):
    stocked(tmp_path, "ann")
    with pytest.raises(InputError, match="account of ann: got parameters .*'n': 32"):
        Authority(tmp_path / "state", LWE(n=48), 0.9).function_key("ann", np.eye(8, dtype=np.int64)[:1])
    assert len(Authority(tmp_path / "state", SMALL_LWE).function_key("ann", np.eye(8, dtype=np.int64)[:1])) == 1


def test_the_lower_cap_of_enrolment_and_run_holds(tmp_path):
    command.main(["enrol", str(tmp_path / "state"), "ann", "--out", str(tmp_path), "--image", "1", "4", "4",
                  "--cap-share", "0.25"])  # fmt: skip
    rows = np.eye(16, dtype=np.int64)
    for own, most in ((0.9, 4), (0.125, 2)):
        context = Authority(tmp_path / "state", LWE(), own)
        assert context.issued("ann").cap == most
        with pytest.raises(InputError, match=f"at most {most}"):
            context.function_key("ann", rows[: most + 1])
    Authority(tmp_path / "two", SMALL_LWE, 0.9, label_cap=1).enrol("bob", 8, bytes(32))
    for own in (None, 5):
        with pytest.raises(InputError, match="labels of bob: got 2 .*; expected at most 1"):
            Authority(tmp_path / "two", SMALL_LWE, 0.9, own).label_keys("bob", bytes(16), [0, 1])


def test_join_takes_a_cap_on_labels(tmp_path, monkeypatch):
    brought = []
    monkeypatch.setattr(join, "take_part", lambda *given, refusal: brought.append(given[3]()))
    (tmp_path / "plan.json").write_text('{"protocol": "ife_transform", "selection": "margin", "budget": 2}')
    command.main(["join", "authority", "tcp://127.0.0.1:1", str(tmp_path / "plan.json"), "--state", str(tmp_path),
                  "--label-cap", "7"])  # fmt: skip
    assert brought[0].label_cap == 7


# -- enrolment -----------------------------------------------------------------------------------------------------
def test_an_enrolment_that_fails_leaves_the_name_free(tmp_path, monkeypatch):
    taken = tmp_path / "homes" / f"ann{SUFFIX}"
    taken.parent.mkdir()
    taken.write_text("another's")
    with pytest.raises(InputError, match="enrolment: got .*ann.enrolment"):
        enrol(tmp_path / "state", "ann", TINY, taken.parent, SMALL_LWE, 0.9)
    assert taken.read_text() == "another's"
    taken.unlink()
    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr(Authority, "enrol", lambda *_: (_ for _ in ()).throw(OSError("full")))
        enrol(tmp_path / "state", "ann", TINY, taken.parent, SMALL_LWE, 0.9)
    assert not taken.exists()
    assert enrol(tmp_path / "state", "ann", TINY, taken.parent, SMALL_LWE, 0.9) == taken
    with pytest.raises(InputError, match="not enrolled yet"):
        enrol(tmp_path / "state", "ann", TINY, tmp_path / "elsewhere", SMALL_LWE, 0.9)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert [path.name for path in (tmp_path / "state" / "registry").iterdir()] == ["ann.json"]


# -- messages ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "message",
    [
        {"rows": [["ann", 0], ["ann", 1], ["ann", 1]]},
        {"rows": [["ann", 0], ["ann", 0]]},
        {"rows": [["ann", 0], ["ann", ROWS]]},
        {"rows": [["ann", 0], ["ann", -1]]},
        {"rows": [["ann", 0], ["ann", "1"]]},
        {"rows": [["ann", 0], ["ann"]]},
        {"rows": 3},
        {},
    ],
)
def test_a_selection_that_is_none_is_the_shopper_s_fault(message):
    assert selected_rows(context_of(Script({"rows": [["ann", 2], ["ann", 0]]}))) == [("ann", 2), ("ann", 0)]
    with pytest.raises(PeerError, match=SHOPPER):
        selected_rows(context_of(Script(message)))


@pytest.mark.parametrize("message", [{}, {"nonces": {}}, {"nonces": {"ann": "zz"}}, {"nonces": {"ann": "00" * 32}}])
def test_nonces_that_are_none_are_the_shopper_s_fault(tmp_path, message):
    authority = Authority(stocked(tmp_path, "ann") / "state", SMALL_LWE, 0.9)
    script = Script(message)
    with pytest.raises(PeerError, match=SHOPPER):
        authority_role.label_keys(context_of(script, ids={"ann": bytes(16)}), authority, [("ann", 0)], CLOUD)
    assert [to for to, _ in script.sent] == [SHOPPER] and authority.issued("ann").labels == 1  # no pad's key was sent


@pytest.mark.parametrize(
    "announced",
    [
        {"rows": {"ann": 3}, "ids": {"ann": "00" * 32}, "refused": {}},
        {"rows": {"ann": 3}, "ids": {"ann": "zz"}, "refused": {}},
        {"rows": {"ann": 3}, "ids": {}, "refused": {}},
        {"rows": {"ann": -3}, "ids": {"ann": "00" * 16}, "refused": {}},
        {"rows": {"ann": 3}, "ids": {"ann": "00" * 16}, "refused": 1},
    ],
)
def test_offers_that_are_none_are_the_holder_s_fault(announced):
    def meet(announced):
        messages = {"registry": {DEALER: {"sellers": {}}}, "offers": {SHOPPER: announced}}
        rendezvous = SimpleNamespace(role=AUTHORITY, exchange=lambda what, message: messages[what])
        return agree_offers(rendezvous, SHOPPER, {}, None, SHARED)[0]

    assert meet({"rows": {"ann": 3}, "ids": {"ann": "00" * 16}, "refused": {}}).ids == {"ann": bytes(16)}
    with pytest.raises(PeerError, match=SHOPPER):
        meet(announced)


@pytest.mark.parametrize(
    "messages",
    [
        [{"own": 1}],
        [{"own": 1, "validation": "1", "left_out": {}}],
        [{"own": 1, "validation": 1 << 21, "left_out": {}}],
        [{"own": 1, "validation": 1}],
        [{"own": 1, "validation": 1, "left_out": {"nobody": "why"}}],
        [{"own": 1, "validation": 1, "left_out": ["ann"]}],
        [ASKED, {"train": ["0"]}],
        [ASKED, {"train": [2]}],
        [ASKED, {"train": [1]}],
        [ASKED, {"train": [0, 0]}],
        [ASKED, {"train": None}],
        [ASKED, {"train": None, "deliver": [0]}],
        [ASKED | {"left_out": {"ann": "why"}}, {"train": [0]}],
    ],
)
def test_what_the_cloud_is_asked_for_is_checked(messages):
    validation = Validation(1, steps=1, lr=0.1, batch_size=2, deliver=True)
    context = context_of(Script(*messages), MarketPlan(TINY, IfeTransform(SMALL_LWE), "margin", 2, validation))
    side = SimpleNamespace(receive_products=lambda rows: torch.zeros(rows, 3))
    with pytest.raises(PeerError, match=SHOPPER):
        cloud_role._validate(context, side, torch.zeros(2, 3), [("ann", 0), ("ann", 1)])


# -- before it costs -----------------------------------------------------------------------------------------------
def test_a_network_out_of_range_is_refused_before_keys_are_asked_for(tmp_path):
    stocked(tmp_path, "ann")
    uploads, _ = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), SHARED)
    network = initial(TINY, 0)
    network.biases[0][0] = 1e9
    script = Script()
    with pytest.raises(InputError, match="^network: "):
        shares_role.run_shopper(context_of(script, SHARED), ShopperInput(network), uploads)
    assert not script.sent


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 1 << 63}, "seed"),
        ({"lr": "0.1"}, "lr"),
        ({"lr": True}, "lr"),
        ({"momentum": None}, "momentum"),
        ({"deliver": 1}, "deliver"),
    ],
)
def test_validation_of_other_types_is_refused(changes, named):
    with pytest.raises(InputError) as caught:
        Validation(**({"granularity": 1, "steps": 1, "lr": 0.1, "batch_size": 2} | changes))
    assert caught.value.name == named


@pytest.mark.parametrize("seed", [-1, 1 << 63, True, "0", None])
def test_seeds_of_other_types_are_refused(seed):
    assert MarketPlan(TINY, PLAN.protocol, "margin", 2, seed=(1 << 63) - 1).seed == (1 << 63) - 1
    with pytest.raises(InputError) as caught:
        MarketPlan(TINY, PLAN.protocol, "margin", 2, seed=seed)
    assert caught.value.name == "seed"


def test_a_seller_whose_signed_ciphertexts_cannot_be_evaluated_is_left_out_by_name(tmp_path, monkeypatch):
    stocked(tmp_path, "ann", "bob")
    uploads, _ = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), PLAN)

    class Side:
        def __init__(self, *_):
            pass

        def products(self, key, ciphertext):
            if ciphertext.key_id == uploads["ann"].ciphertext.key_id:
                raise InputError("ciphertext", "no inner product", "one below 2^24")
            return torch.zeros(3, 2)

        def send_logits(self, products):
            script.sent.append((SHOPPER, products))

    monkeypatch.setattr(cloud_role, "TransformCloud", Side)
    keys = [{"key_id": uploads[name].ciphertext.key_id} for name in ("ann", "bob")]
    script = Script(*keys, {"rows": [["bob", 0], ["bob", 2]]}, arrays=[np.zeros((3, 32), dtype=np.int64)] * 2)
    run_transform(context_of(script, rows={"ann": ROWS, "bob": ROWS}), uploads)
    (_, refused), (_, answer), *_, (_, labels) = script.sent
    assert (
        refused["refused"].startswith("upload of seller ann: ciphertext: got no inner product") and answer["rows"] == 3
    )
    assert torch.equal(labels, torch.from_numpy(uploads["bob"].labels[[0, 2]]))
    assert script.reasons == {"ann": refused["refused"]}
    script = Script(*keys, {"rows": [["bob", 0], ["ann", 2]]}, arrays=[np.zeros((3, 32), dtype=np.int64)] * 2)
    with pytest.raises(PeerError, match="selected rows of a seller that was refused"):
        run_transform(context_of(script, rows={"ann": ROWS, "bob": ROWS}), uploads)


def test_sealed_labels_of_two_uploads_are_refused_by_the_seller_s_name():
    one, two = (label_shares(np.arange(2), 4, bytes(32)) for _ in range(2))
    with pytest.raises(InputError, match="labels of ann: got 2 nonces"):
        shares_of(np.stack([one[0], two[1]]), 4, "ann")
