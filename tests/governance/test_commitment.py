"""The commitment of a listing against its bytes, data that are not the listed ones, and the file of the salt."""

from __future__ import annotations

import hashlib
import stat
import struct

import numpy as np
import pytest
from processes import problem, write_csv, write_npz
from test_catalogue import SALT, listed, small

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, StoredDataset, read_dataset
from mpc_appraisal.governance.catalogue import (
    Statistics,
    check_listing,
    commit,
    new_salt,
    read_salt,
    statistics,
    types_of,
    write_salt,
)


def test_the_commitment_is_the_hash_of_the_documented_bytes():
    data = small()
    raw = b"mpc_appraisal data commitment 1\n" + SALT + struct.pack("<QQQ", 3, 3, 3)
    for row, label in zip(data.x.tolist(), data.y.tolist(), strict=True):
        raw += struct.pack("<q3d", label, *row)
    assert commit(data, SALT) == hashlib.sha256(raw).hexdigest()


def test_the_commitment_depends_neither_on_dtype_nor_on_the_file_nor_on_blocks(tmp_path):
    x, y = problem(20_000, 3)  # more than a block
    x = x.astype(np.float32)
    x[0, 0] = -0.0
    plain = Dataset.of(x.astype(np.float64) + 0.0, y)
    one = commit(plain, SALT)
    assert commit(Dataset.of(x, y), SALT) == one
    stored = StoredDataset(write_npz(tmp_path / "s.npz", x, y), "label", None, "s")
    assert commit(stored, SALT) == one
    csv = read_dataset(write_csv(tmp_path / "s.csv", x[:50], y[:50]))
    assert commit(csv, SALT) == commit(Dataset.of(x[:50], y[:50]), SALT)
    assert types_of(stored) == types_of(plain) and statistics(stored) == statistics(plain)
    check_listing(listed(plain, statistics=statistics(plain)), stored, SALT)


def test_another_salt_is_another_digest_and_salts_are_fresh():
    assert commit(small(), SALT) != commit(small(), SALT[::-1])
    assert len(new_salt()) == 32 and new_salt() != new_salt()
    with pytest.raises(InputError, match="salt: got 31 bytes; expected 32"):
        commit(small(), SALT[1:])


def change(what: str) -> Dataset:
    data = small()
    x, y = data.x.clone(), data.y.clone()
    if what == "value":
        x[1, 1] += 2**-50
    elif what == "label":
        y[0], y[2] = y[2].item(), y[0].item()
    elif what == "order":
        x, y = x[[1, 0, 2]], y[[1, 0, 2]]
    elif what == "columns":
        x[:, 1:] = x[:, [2, 1]]
    return Dataset(x, y, 3)


@pytest.mark.parametrize("what", ["value", "label", "order", "columns"])
def test_data_that_were_changed_are_refused(what):
    check_listing(listed(small()), change(""), SALT)
    with pytest.raises(InputError, match=r"listing a: commitment\.digest: got [0-9a-f]{64} .*as the listing says"):
        check_listing(listed(small()), change(what), SALT)


def test_another_salt_is_refused():
    with pytest.raises(InputError, match="another salt"):
        check_listing(listed(small()), small(), SALT[::-1])


def test_a_listing_of_more_classes_than_the_file_shows():
    data = small()
    check_listing(listed(data.with_classes(5)), data, SALT)
    with pytest.raises(InputError, match="digest"):  # the number is bound, too
        check_listing(listed(data, classes=5), data, SALT)
    with pytest.raises(InputError, match=r"a: data\.classes: got 4; expected 3, as the listing says"):
        check_listing(listed(data), data.with_classes(4), SALT)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rows": 4}, r"a: data\.rows: got 3; expected 4, as"),
        ({"features": 4, "types": {"binary": 1, "integer": 2, "real": 1}}, r"a: data\.features: got 3; expected 4, as"),
        ({"types": {"binary": 0, "integer": 2, "real": 1}}, r"a: data\.types\.binary: got 1; expected 0, as"),
        (
            {"columns": (("p", "real"), ("q", "binary"), ("r", "integer"))},
            r"a: data\.columns\.'p': got binary; expected real, as",
        ),
        (
            {"statistics": Statistics((2, 1, 0), (0.667, -0.0833, 4.0), (0.471, 1.45, 0.816), "means")},
            r"a: statistics\.rows_by_class: got \[1, 1, 1\]; expected \[2, 1, 0\], as",
        ),
        (
            {"statistics": Statistics((1, 1, 1), (0.667, 0.0833, 4.0), (0.471, 1.45, 0.816), "means")},
            r"a: statistics\.mean\.1: got -0\.0833; expected 0\.0833, as",
        ),
    ],
)
def test_data_that_do_not_match_the_metadata_are_refused_by_field(change, match):
    with pytest.raises(InputError, match=match):
        check_listing(listed(small(), **change), small(), SALT)


def test_the_salt_file_is_its_owners_alone(tmp_path):
    path = tmp_path / "a.salt"
    write_salt(path, SALT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and read_salt(path) == SALT
    with pytest.raises(InputError, match="already there"):
        write_salt(path, SALT)
    path.chmod(0o640)
    with pytest.raises(InputError, match=r"secret: got a\.salt with mode 640; expected .*600"):
        read_salt(path)
    with pytest.raises(InputError, match="secret: got .*none.*; expected the file with the salt"):
        read_salt(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "zz" * 32, "AA" * 32, "é" * 64])
def test_a_salt_file_with_something_else(tmp_path, text):
    path = tmp_path / "a.salt"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        read_salt(path)
