"""Noise per person between three processes: who is protected is said, and no person is named anywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from deals import DATA_OWNER, MODEL_OWNER, OWNERS, ROLES, SELLER, Market, value_of

from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.inputs import read_own
from mpc_appraisal.common.errors import InputError

N, R = 3, 4.0
SECRET = "zq-secret-person"
WORDS = "one person (column customer, at most 3 rows each)"
PUBLIC = (
    "release=dp",
    "release.epsilon=0.9",
    f"release.row_norm={R}",
    "release.group=customer",
    "release.group_rows=3",
)


def with_persons(path, who, x, y):
    """An .npz file whose array `customer` says who each row is of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=y, customer=np.array(who))
    return path


def persons(rows: int) -> list[str]:
    return [f"{SECRET} {k // N}" for k in range(rows)]


@pytest.fixture(scope="module")
def noised(module_processes):
    market = Market(module_processes, "persons")
    x, y = SELLER
    market.files = {"seller": with_persons(market.root / "seller" / "seller.npz", persons(len(x)), x, y)}
    market.session = market.start(*PUBLIC, data_owner=["party.approval=yes"])
    market.session.end()
    return market


def clipped(x: np.ndarray) -> np.ndarray:
    length = math.sqrt(R**2 - 1)
    return x * np.minimum(1.0, length / np.linalg.norm(x, axis=1, keepdims=True))


def test_the_value_is_that_of_the_rows_and_the_record_names_the_column(noised):
    buyer, seller = (noised.session.records(role)[0] for role in OWNERS)
    assert buyer.value == seller.value and buyer.release == seller.release
    assert buyer.release["protects"].startswith(WORDS)
    x, y = SELLER
    deviation = (buyer.release["high"] - buyer.release["low"]) / 2 / 1.96
    assert abs(buyer.value - value_of((clipped(np.asarray(x)), y))) < 7 * deviation + 1e-2
    assert buyer.features == x.shape[1]  # the column of persons is no feature
    (charge,) = noised.entries("seller")
    sigma, sensitivity = buyer.release["sigma"], buyer.release["sensitivity"]
    assert charge["mechanism"]["sigma"] == sigma
    assert buyer.release["deviation"] == pytest.approx(math.sqrt(2) * sigma * sensitivity)


def test_request_and_card_say_who_is_protected(noised):
    folder = noised.processes.folder / "persons" / "1"
    texts = {path: path.read_text() for path in folder.rglob("*") if path.suffix in (".md", ".html") and path.is_file()}
    requests = [text for path, text in texts.items() if path.name == "request.md"]
    cards = [text for path, text in texts.items() if path.name.startswith("card-") and path.suffix == ".md"]
    assert requests and all(
        "Protected: one person (column customer, at most 3" in " ".join(t.split()) for t in requests
    )
    assert cards and all("one person" in text and "customer" in text for text in cards)


def test_no_person_is_named_by_anybody(noised):
    """Neither in a record, a request, a card or a ledger nor in what the three processes print."""
    found = [path for path in noised.processes.folder.rglob("*") if path.is_file() and path != noised.files["seller"]]
    assert {"records.jsonl", "request.md", "seller.npz.ledger"} <= {path.name for path in found}
    assert len([path for path in found if path.name in ("stdout.txt", "stderr.txt")]) == 2 * len(ROLES)
    assert SECRET.encode() in noised.files["seller"].read_bytes().replace(b"\0", b"")
    for path in found:
        assert SECRET.encode() not in path.read_bytes().replace(b"\0", b""), path.name


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (
            lambda rows: [*persons(rows)[:-1], ""],
            r"party.data: got 1 row without a person in column 'customer': row 119",
        ),
        (
            lambda rows: ["one"] * 4 + persons(rows)[4:],
            "release.group_rows: got .*person of row 0 has 4 rows; .* 3 rows",
        ),
    ],
)
def test_the_data_owner_is_told_before_it_meets_anybody(tmp_path, who, message):
    x, y = SELLER
    path = with_persons(tmp_path / "seller.npz", who(len(x)), x, y)
    keys = ["session=join", f"party.data={path}", "party.ledger=none", "appraisal=influence", *PUBLIC]
    with pytest.raises(InputError, match=message) as caught:
        read_own(compose(keys), DATA_OWNER, ())
    assert SECRET not in str(caught.value)


def test_the_model_owner_reads_no_persons(noised):
    keys = ["session=join", f"party.train={noised.train}", "party.ledger=none", "party.salt=none", *PUBLIC]
    own = read_own(compose(keys), MODEL_OWNER, ())
    assert own.train.groups is None
