"""The key authority: caps by rank, keys on disk, and what it refuses."""

from __future__ import annotations

import math
import stat
import subprocess
import sys

import numpy as np
import pytest
from test_ife import MOST, SMALL_LWE, big, rng

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption import rank
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.authority import Authority

# ---- the authority


def rational_rank(rows: np.ndarray) -> int:
    """Compute the rank by Bareiss' elimination over Python's integers."""
    left, found, last = [list(map(int, row)) for row in rows], 0, 1
    for column in range(rows.shape[1]):
        pivot = next((i for i in range(found, len(left)) if left[i][column]), None)
        if pivot is None:
            continue
        left[found], left[pivot] = left[pivot], left[found]
        head = left[found][column]
        for i in range(found + 1, len(left)):
            factor = left[i][column]
            left[i] = [(head * a - factor * b) // last for a, b in zip(left[i], left[found], strict=True)]
        found, last = found + 1, head
    return found


def test_ranks_are_exact_in_every_order_and_block():
    basis = rng().integers(-60, 61, (20, 70))
    rows = np.concatenate([rng().integers(-3, 4, (50, 20)) @ basis, rng().integers(-9, 10, (15, 70)), basis])
    expected = rational_rank(rows)
    assert expected == 35
    for cuts in ([], [1, 40], [33, 64]):
        span = rank.Echelon(70, rank.draw_prime())
        new = np.concatenate([span.add(part) for part in np.split(rows, cuts)])
        assert span.rank == new.sum() == expected == rational_rank(rows[new])


def test_primes_are_primes_of_31_bits():
    for prime in {rank.draw_prime() for _ in range(5)}:
        assert 2**30 < prime < 2**31 and all(prime % d for d in range(2, math.isqrt(prime) + 1))
    assert [n for n in range(11, 2000) if rank._is_prime(n)] == [
        n for n in range(11, 2000) if all(n % d for d in range(2, math.isqrt(n) + 1))
    ]


@pytest.fixture
def context(tmp_path):
    return lambda **options: Authority(tmp_path / "desk", SMALL_LWE, **options)


def test_keys_are_counted_by_rank_and_capped_before_they_are_made(context):
    authority = context(cap_share=0.5)
    key = authority.enrol("ann", 8, bytes(32)).encryption_key
    w = rng().integers(-50, 51, (3, 8))
    c, x = SMALL_LWE.encrypt(key, np.full((1, 8), 9)), np.full((1, 8), 9)
    assert (SMALL_LWE.evaluate(authority.function_key("ann", w), w, c) == big(x, w)).all()
    assert authority.issued("ann").rows == 3 and authority.issued("ann").cap == 4
    within = np.stack([w[0], w[0] + w[1], 5 * w[2], np.zeros(8, dtype=np.int64)])
    authority.function_key("ann", within)
    assert authority.issued("ann").rows == 3
    with pytest.raises(InputError, match="rows for ann: got 5 independent ones .*; expected at most 4"):
        authority.function_key("ann", np.eye(8, dtype=np.int64)[:2])
    assert authority.issued("ann").rows == 3  # it was refused as a whole, so nothing was counted
    authority.function_key("ann", np.eye(8, dtype=np.int64)[:1])
    assert authority.issued("ann").rows == 4
    with pytest.raises(InputError, match="weights"):
        authority.function_key("ann", np.full((1, 8), MOST))


def test_rows_that_are_dependent_modulo_one_prime_alone_are_counted(context):
    authority = context()
    authority.enrol("ann", 4, bytes(32))
    prime = authority._read("ann").primes[0]
    high, low = divmod(prime, 2**15)
    w = np.array([[2**15, low, 0, 0], [-1, high, 0, 0]])  # their determinant is the prime
    span = rank.Echelon(4, prime)
    span.add(w)
    assert span.rank == 1
    authority.function_key("ann", w)
    assert authority.issued("ann").rows == 2


def test_the_count_survives_restarts_and_is_shared_by_processes(context, tmp_path):
    first, second = context(cap_share=0.5), context(cap_share=0.5)
    first.enrol("ann", 8, bytes(32))
    rows = np.eye(8, dtype=np.int64)
    first.function_key("ann", rows[:2])
    second.function_key("ann", rows[2:3])
    script = (
        "import sys, numpy as np\n"
        "from mpc_appraisal.marketplace.encryption.authority import Authority\n"
        "from mpc_appraisal.marketplace.encryption.lwe import LWE\n"
        "desk, row = Authority(sys.argv[1], LWE(n=32), cap_share=0.5), int(sys.argv[2])\n"
        "desk.function_key('ann', np.eye(8, dtype=np.int64)[row:row + 1])\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path / "desk", str(row)], stderr=subprocess.PIPE, text=True)
        for row in (3, 4)
    ]
    errors = [racer.communicate(timeout=600)[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 1]  # one row was left for the two of them
    assert "at most 4" in "".join(errors)
    assert first.issued("ann").rows == second.issued("ann").rows == 4
    with pytest.raises(InputError, match="at most 4"):
        first.function_key("ann", rows[5:6])


def test_state_is_its_owner_s_alone_and_holds_no_half_written_file(context, tmp_path):
    context().enrol("ann", 8, bytes(32))
    context().function_key("ann", np.eye(8, dtype=np.int64)[:1])
    files = sorted(path.name for path in (tmp_path / "desk").iterdir())
    assert files == ["ann.npz", "lock"]
    assert stat.S_IMODE((tmp_path / "desk" / "ann.npz").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "desk").stat().st_mode) == 0o700


def test_bad_names_and_shares_are_refused(context, tmp_path):
    authority = context()
    authority.enrol("ann", 8, bytes(32))
    for step, says in (
        (lambda: authority.enrol("ann", 8, bytes(32)), "seller: got ann; expected one that is not enrolled"),
        (lambda: authority.enrol("../bob", 8, bytes(32)), "seller: got '../bob'"),
        (lambda: authority.enrol("bob", 8, bytes(31)), "verify_key of bob: got 31 bytes"),
        (lambda: authority.enrol("bob", 0, bytes(32)), "dimension: got 0"),
        (lambda: authority.issued("bob"), "seller: got bob; expected an enrolled one"),
        (lambda: context(cap_share=1.0), "cap_share: got 1.0"),
        (lambda: context(label_cap=-1), "label_cap: got -1"),
        (lambda: Authority(tmp_path / "desk", ALS16()).issued("ann"), "scheme lwe; expected scheme als16"),
    ):
        with pytest.raises(InputError, match=says):
            step()
