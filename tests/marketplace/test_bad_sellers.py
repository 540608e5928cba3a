"""A seller whose signed file is bad never stops the others: files are measured before they are unpacked, and whoever
cannot be evaluated or opened is left out by name. The cloud refuses what the plan does not have."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_market_edges import PLAN, ROWS, SMALL_LWE, TINY, altered, stocked

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.payload import unpack
from mpc_appraisal.marketplace.plan import MarketPlan, SellerInput, ShopperInput, Validation
from mpc_appraisal.marketplace.plan_file import market_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.protocols.strategy import IfeShares
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.authority import AuthorityInput
from mpc_appraisal.marketplace.roles.cloud import CloudInput
from mpc_appraisal.marketplace.roles.context import Connection
from mpc_appraisal.marketplace.roles.party import take_part
from mpc_appraisal.marketplace.roles.trials import Trials, kept_places
from mpc_appraisal.marketplace.uploads.enrolment import SUFFIX, enrol, read_keys, registry
from mpc_appraisal.marketplace.uploads.inbox import read_inbox
from mpc_appraisal.marketplace.uploads.seller import upload
from mpc_appraisal.models.networks import initial
from mpc_appraisal.mpc.net.launch import launch

# ---- files


def arrays_of(path) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(path.read_bytes().split(b"\n", 3)[3])) as found:
        return dict(found)


def signed(path, key: bytes, payload: bytes, **facts) -> None:
    """Write the file with another payload and other facts, signed by its seller."""
    first, second, *_ = path.read_bytes().split(b"\n", 3)
    stated = json.loads(second) | {"digest": hashlib.sha512(payload).hexdigest()} | facts
    lines = first + b"\n" + json.dumps(stated).encode() + b"\n"
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(lines).hex().encode()
    path.write_bytes(lines + signature + b"\n" + payload)


def packed(arrays: dict[str, np.ndarray], compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def compressed(path, key):
    signed(path, key, packed(arrays_of(path), compressed=True))


def many_rows(path, key):  # small when compressed, but it has as many rows as it says
    arrays = {name: np.zeros((4000, *values.shape[1:]), values.dtype) for name, values in arrays_of(path).items()}
    signed(path, key, packed(arrays, compressed=True), rows=4000)


def more_than_told(path, key):
    arrays = {name: np.concatenate([values] * 2) for name, values in arrays_of(path).items()}
    signed(path, key, packed(arrays))


def beyond_the_plan(path, key):
    arrays = {name: np.concatenate([values] * 4) for name, values in arrays_of(path).items()}
    signed(path, key, packed(arrays), rows=4 * ROWS)


def another_entry(path, key):
    signed(path, key, packed(arrays_of(path) | {"more": np.zeros(3)}))


def by_columns(path, key):
    arrays = arrays_of(path)
    signed(path, key, packed(arrays | {"body": np.asfortranarray(arrays["body"])}))


def another_type(path, key):
    arrays = arrays_of(path)
    signed(path, key, packed(arrays | {"body": arrays["body"].view(np.uint64)}))


def another_header(path, key):
    """Write an array's header that states more rows than its entry has bytes for."""
    payload = packed(arrays_of(path)).replace(b"'shape': (3, 8), ", b"'shape': (9, 8), ")
    signed(path, key, payload)


def twice_the_same(path, key):
    buffer = io.BytesIO(packed(arrays_of(path)))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("body.npy", b"x")
    signed(path, key, buffer.getvalue())


def long_tail(path, key):
    signed(path, key, packed(arrays_of(path)) + bytes(100_000))


def stating(**facts):
    return lambda path, key: altered(path, key, facts)


BAD = {
    "compressed": (compressed, "body is compressed or encrypted"),
    "many rows, compressed": (many_rows, "got 4000 rows; expected at most 6"),
    "more than it tells": (more_than_told, r"body is int64 \(6, 8\); expected int64 \(3, 8\) by rows"),
    "more rows than the plan has": (beyond_the_plan, "got 12 rows; expected at most 6"),
    "another entry": (another_entry, "4 entries; expected body, header, labels"),
    "an entry twice": (twice_the_same, "4 entries; expected body, header, labels"),
    "by columns": (by_columns, r"body is int64 \(3, 8\); expected int64 \(3, 8\) by rows"),
    "another type": (another_type, "body is uint64"),
    "a header that states more": (another_header, r"body is int64 \(9, 8\)|cannot be read \(BadZipFile"),
    "a long tail": (long_tail, "a payload of .* bytes; expected at most"),
    "rows below nothing": (stating(rows=-1), "got -1 rows"),
    "rows without end": (stating(rows=10**30), f"got {10**30} rows; expected at most 6"),
    "rows that are true": (stating(rows="3"), "sizes that cannot be read"),
    "an image of other sides": (stating(image=[2, 1, 4]), r"images of shape \(2, 1, 4\); expected shape \(1, 2, 4\)"),
    "negative sides": (stating(image=[-1, -2, 4]), "three sides with product"),
    "another dimension": (stating(dimension=9), "three sides with product 9"),
}
CAPPED = replace(PLAN, seller_rows=6)


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_a_file_that_is_not_what_it_states_is_refused_by_name_and_the_others_are_served(tmp_path, change, said):
    stocked(tmp_path, "ann", "bob")
    change(tmp_path / "inbox" / "ann.upload", read_keys(tmp_path / "homes" / f"ann{SUFFIX}").signing_key)
    tracemalloc.start()
    uploads, refused = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), CAPPED)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(uploads) == ["bob"] and list(refused) == ["ann"]
    assert refused["ann"].startswith("upload of ann: got ") and re.search(said, refused["ann"])
    assert most < 2 << 20


def test_nothing_is_read_of_a_file_that_is_too_long(tmp_path):
    """The file is sparse and has 8 GiB behind a good signature."""
    stocked(tmp_path, "ann", "bob")
    with open(tmp_path / "inbox" / "ann.upload", "r+b") as file:
        file.truncate(8 << 30)
    uploads, refused = read_inbox(tmp_path / "inbox", registry(tmp_path / "state"), CAPPED)
    assert list(uploads) == ["bob"] and "a payload of 8589" in refused["ann"]


def test_arrays_are_unpacked_as_they_were():
    arrays = {"a": np.arange(12).reshape(3, 4), "b": np.zeros((0, 5), dtype=np.uint8), "c": np.float64([[1.5]])}
    found = unpack(packed(arrays), {name: (values.dtype, values.shape) for name, values in arrays.items()})
    for name, values in arrays.items():
        assert np.array_equal(found[name], values) and found[name].dtype == values.dtype and found[name].flags.writeable


def test_the_cap_on_rows_belongs_to_the_plan_and_leaves_old_digests_alone():
    assert "seller_rows" not in PLAN.public and CAPPED.public["seller_rows"] == 6 and CAPPED.digest != PLAN.digest
    stated = {"protocol": "ife_transform", "selection": "margin", "budget": 2}
    assert market_of(stated | {"seller_rows": 9}).seller_rows == 9 and market_of(stated).seller_rows == 1 << 17
    for bad in (0, "many", True, None):
        with pytest.raises(InputError, match="seller_rows"):
            market_of(stated | {"seller_rows": bad})


# ---- whole runs, in processes of their own


def playing(role, address, emit, folder, plan, inputs):
    return take_part(role, address, plan, lambda: inputs[role], Connection(join_timeout=60.0), hosted=True)


def ran(tmp_path, scheme, protocol, spoil):
    """Return the shopper's result of a market of ann, bob and cat, whose files `spoil` has changed."""
    rng = np.random.default_rng(5)
    for name in ("ann", "bob", "cat"):
        file = enrol(tmp_path / "state", name, TINY, tmp_path / "homes", scheme, 0.9)
        data = SellerInput(name, rng.integers(0, 256, (ROWS, 8)).astype(np.uint8), np.arange(ROWS))
        upload(data, file, tmp_path / "inbox")
    for name, change in spoil.items():
        path = tmp_path / "inbox" / f"{name}.upload"
        signed(path, read_keys(tmp_path / "homes" / f"{name}{SUFFIX}").signing_key, packed(change(arrays_of(path))))
    plan = MarketPlan(
        TINY, protocol, "margin", 6 if len(spoil) > 1 else 9, Validation(2, steps=1, lr=0.05, batch_size=4)
    )
    own = rng.integers(0, 256, (6, 8)).astype(np.uint8), np.arange(6) % 4
    inbox = tmp_path / "inbox"
    inputs = {
        SHOPPER: ShopperInput(initial(TINY, 0), own, own, inbox),
        CLOUD: CloudInput(inbox if isinstance(protocol, IfeTransform) else None),
        AUTHORITY: AuthorityInput(tmp_path / "state", 0.9),
    }
    jobs = {role: {"plan": plan, "inputs": {role: inputs[role]}} for role in inputs}
    return launch(playing, jobs, lambda event: None)[SHOPPER]


def other_labels(arrays):
    return arrays | {"labels": np.roll(arrays["labels"], 1, axis=0)}


def no_points(arrays):
    return arrays | {"body": np.full_like(arrays["body"], 7)}


def test_sellers_that_cannot_be_evaluated_or_opened_are_left_out_and_the_others_go_on(tmp_path):
    scheme = ALS16()
    found = ran(tmp_path, scheme, IfeTransform(scheme), {"bob": no_points, "cat": other_labels})
    refused = dict(found.refused)
    assert set(refused) == {"bob", "cat"}
    assert refused["bob"].startswith("upload of seller bob: ciphertext") and "label" in refused["cat"]
    assert set(found.probabilities) == {"ann", "cat"}  # nothing of bob was predicted
    assert sorted(found.selected) == [("ann", row) for row in range(ROWS)]
    assert found.labels.tolist() == [row for _, row in found.selected]  # ann's labels are the rows' numbers
    assert [len(verdict.rows) for verdict in found.verdicts] == [2, 1]


def test_so_it_is_with_shares(tmp_path):
    found = ran(tmp_path, SMALL_LWE, IfeShares(SMALL_LWE), {"bob": other_labels})
    assert list(dict(found.refused)) == ["bob"] and "label" in dict(found.refused)["bob"]
    assert {name for name, _ in found.selected} == {"ann", "cat"} and len(found.selected) == 2 * ROWS
    assert [len(verdict.rows) for verdict in found.verdicts] == [2, 2, 2]
    assert sorted(place for verdict in found.verdicts for place in verdict.rows) == list(range(2 * ROWS))


# ---- orders


def test_the_cloud_tries_the_plan_s_subsets_and_no_others():
    def asked(*trials, places=range(5)):
        found = Trials(list(places), 2)
        for trial in trials:
            found.take(trial)
        return found

    asked([0, 1], [2, 3], [4]).deliver([4])
    asked([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]).deliver([0, 1, 2, 3])
    asked([0, 1], [0, 1, 2, 3], [0, 1, 4])  # the second was not accepted
    asked([0, 3], [4], places=kept_places([("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2)], ["b"]))
    for trials in (
        ([0],), ([0, 0],), ([1, 0],), ([2, 3],), ([0, 1], [0, 1]), ([0, 1], [2, 3, 2, 3]), ([0, 1], [2, 3], [0, 1, 4]),
        ([0, 1], [2, 3], [4], [4]), ([],), ([0, 1, 2, 3, 4],),
    ):  # fmt: skip
        with pytest.raises(PeerError, match=f"{SHOPPER} asked for (a|another) trial"):
            asked(*trials)
    with pytest.raises(PeerError, match="asked for a network of 1 rows"):
        asked([0, 1]).deliver([0])
    assert torch.tensor(kept_places([("a", 0), ("b", 0)], [])).tolist() == [0, 1]
