"""Signed uploads: what is verified, and files that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from test_ife import SCHEMES, big, rng

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.signed_upload import new_signing_key, open_labels, read_upload, write_upload

# ---- uploads


@pytest.fixture(params=SCHEMES, ids=lambda scheme: scheme.name)
def market(request, tmp_path):
    """An authority with two sellers, and ann's upload of three images with labels."""
    scheme = request.param
    authority = Authority(tmp_path / "desk", scheme, label_cap=3)
    signing, homes = {}, {}
    for seller in ("ann", "bob"):
        signing[seller], verify = new_signing_key()
        homes[seller] = authority.enrol(seller, 4, verify)
    x, labels = rng().integers(0, 256, (3, 4)), np.array([7, 0, 255])

    def upload(seller="ann", **other):
        path = tmp_path / f"{seller}.upload"
        facts = dict(x=x, labels=labels, image=(1, 2, 2), signing_key=signing[seller])
        home = homes[seller]
        write_upload(path, seller, scheme, home.encryption_key, **(facts | other), label_secret=home.label_secret)
        return path

    return scheme, authority, upload, x, labels


def test_an_upload_comes_back_as_it_was_sealed(market):
    scheme, authority, upload, x, labels = market
    found = read_upload(upload(), "ann", authority.verify_key("ann"), scheme)
    assert found.seller == "ann" and found.image == (1, 2, 2) and len(found) == 3
    w = rng().integers(-9, 10, (2, 4))
    assert (scheme.evaluate(authority.function_key("ann", w), w, found.ciphertext) == big(x, w)).all()
    keys = authority.label_keys("ann", found.upload_id, [2, 0])
    assert open_labels(found, [2, 0], keys).tolist() == [[255], [7]]
    again = read_upload(upload(), "ann", authority.verify_key("ann"), scheme)
    assert again.upload_id != found.upload_id and not (again.labels == found.labels).all(1).any()
    pairs_of = read_upload(upload(labels=np.stack([labels, labels], 1)), "ann", authority.verify_key("ann"), scheme)
    key = authority.label_keys("ann", pairs_of.upload_id, [1])
    assert open_labels(pairs_of, [1], key).tolist() == [[0, 0]]


def test_label_keys_open_their_own_row_alone_and_are_counted(market):
    scheme, authority, upload, _, _ = market
    found = read_upload(upload(), "ann", authority.verify_key("ann"), scheme)
    keys = authority.label_keys("ann", found.upload_id, [0, 1])
    assert authority.label_keys("ann", found.upload_id, [1, 0]) == keys[::-1]
    assert authority.issued("ann").labels == 2 and authority.issued("bob").labels == 0
    foreign = authority.label_keys("bob", found.upload_id, [0])
    for index, key in ((1, keys[0]), (0, foreign[0]), (0, b"short")):
        with pytest.raises(InputError, match=f"label {index} of ann: got a key that does not open it"):
            open_labels(found, [index], [key])
    with pytest.raises(InputError, match="labels of ann: got 4 with those given before; expected at most 3"):
        authority.label_keys("ann", bytes(16), [5, 6])
    assert authority.issued("ann").labels == 2
    with pytest.raises(InputError, match="row 3; expected 0..2"):
        open_labels(found, [3], keys[:1])
    with pytest.raises(InputError, match="label keys: got 2; expected 1"):
        open_labels(found, [0], keys)


def test_every_flipped_bit_and_every_cut_is_refused_by_the_seller_s_name(market):
    scheme, authority, upload, _, _ = market
    path, verify = upload(), authority.verify_key("ann")
    whole = path.read_bytes()
    lines = sum(len(line) for line in whole.split(b"\n")[:3]) + 3
    places = [*range(lines), *rng().integers(lines, len(whole), 300).tolist(), len(whole) - 1]
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng().integers(8))
        path.write_bytes(flipped)
        with pytest.raises(InputError, match="upload of ann: got .*; expected"):
            read_upload(path, "ann", verify, scheme)
    for length in [0, 5, *range(lines - 3, lines + 3), len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="upload of ann: got .*; expected"):
            read_upload(path, "ann", verify, scheme)
    path.write_bytes(whole + b"more")
    with pytest.raises(InputError, match="altered or cut bytes"):
        read_upload(path, "ann", verify, scheme)


def test_other_sellers_schemes_and_versions_are_refused_by_name(market):
    scheme, authority, upload, _, _ = market
    path, verify = upload(), authority.verify_key
    other = next(known for known in SCHEMES if known is not scheme)
    with pytest.raises(InputError, match="upload of bob: got a file of seller 'ann'; expected one of seller 'bob'"):
        read_upload(path, "bob", verify("bob"), scheme)
    with pytest.raises(InputError, match="upload of ann: got a signature that does not hold"):
        read_upload(path, "ann", verify("bob"), scheme)
    with pytest.raises(InputError, match=f"upload of ann: got scheme {scheme.name}; expected scheme {other.name}"):
        read_upload(path, "ann", verify("ann"), other)
    with pytest.raises(InputError, match="a signature that does not hold"):  # signed by someone else in ann's name
        read_upload(upload(signing_key=new_signing_key()[0]), "ann", verify("ann"), scheme)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"upload 1\n", b"upload 2\n", 1))
    with pytest.raises(InputError, match="upload of ann: got version '2'; expected version 1"):
        read_upload(path, "ann", verify("ann"), scheme)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"labels": np.array([1, 2])}, "labels: got 2 rows; expected 3"),
        ({"labels": np.array([1, 2, 256])}, "labels: got 1..256"),
        ({"labels": np.array([1.0, 2, 3])}, "labels: got float64"),
        ({"image": (1, 2, 3)}, "image"),
        ({"x": np.full((3, 4), 300)}, "pixels"),
    ],
    ids=["count", "range", "type", "image", "pixels"],
)
def test_bad_uploads_are_not_written(market, tmp_path, bad, says):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=says):
        market[2](**bad)
    assert sorted(tmp_path.iterdir()) == before


def test_a_signed_payload_with_pickles_is_refused(market, tmp_path, monkeypatch):
    scheme, authority, upload, _, _ = market
    plain = np.savez
    monkeypatch.setattr(np, "savez", lambda file, **arrays: plain(file, **(arrays | {"body": np.array([{}])})))
    with pytest.raises(InputError, match="upload of ann: got a payload that cannot be read"):
        read_upload(upload(), "ann", authority.verify_key("ann"), scheme)
