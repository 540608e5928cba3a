"""Inner-product functional encryption against big integers, torch's convolution, published tables, and each other."""

from __future__ import annotations

import math
import stat
import subprocess
import sys
from dataclasses import replace
from itertools import product as pairs

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption import als16, convolution, rank
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.lwe import FRACTION_BITS, LWE
from mpc_appraisal.marketplace.encryption.noise import gaussian
from mpc_appraisal.marketplace.encryption.residues import Residues, Small, product, small_product
from mpc_appraisal.marketplace.encryption.scheme import BOUND, PIXEL, check_bound
from mpc_appraisal.marketplace.encryption.security_estimate import best_attack, security_bits
from mpc_appraisal.marketplace.encryption.signed_upload import new_signing_key, open_labels, read_upload, write_upload

MOST = (BOUND - 1) // PIXEL  # the greatest sum of a row's sizes
SMALL_LWE = LWE(n=32)  # exact as the default one, and quick; not secure
SCHEMES = [SMALL_LWE, ALS16()]
BY_NAME = {"ids": lambda value: getattr(value, "name", str(value))}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def big(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """x @ w.T over Python's integers."""
    return x.astype(object) @ w.T.astype(object)


def wrapped(numbers: np.ndarray) -> np.ndarray:
    """Python integers modulo 2^64, as int64."""
    return np.array([int(v) % 2**64 for v in numbers.flat], dtype=np.uint64).view(np.int64).reshape(numbers.shape)


def run(scheme, x, w):
    master = scheme.setup(x.shape[1])
    c = scheme.encrypt(scheme.encryption_key(master), x)
    return scheme.evaluate(scheme.keygen(master, w), w, c)


# ---- exact products modulo 2^64


@pytest.mark.parametrize("rows", [1, 9])
def test_products_modulo_2_64_are_those_of_big_integers(rows):
    left, right = (rng().integers(-(2**63), 2**63, shape) for shape in ((rows, 2100), (3, 2100)))
    assert (product(left, Residues(right)) == wrapped(big(left, right))).all()


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1, -(2**21), 2**21 - 1, 2**21, -(2**43) - 2**21, 2**62])
def test_products_are_exact_where_limbs_are_largest(value):
    left, right = np.full((6, 2560), value), np.full((2, 2560), value)
    assert (product(left, Residues(right)) == wrapped(big(left, right))).all()


@pytest.mark.parametrize(("columns", "share"), [(1, 1), (9, 1), (9, 0.03)])
def test_small_products_are_exact_for_dense_and_sparse_weights(columns, share):
    right = rng().integers(-(2**63), 2**63, (300, columns))
    right[:, 0] = -1  # low halves of 2^32 - 1
    w = np.where(rng().random((5, 300)) < share, rng().integers(-3400, 3400, (5, 300)), 0)
    assert (small_product(Small(w), right) == wrapped(big(w, right.T))).all()


# ---- both schemes


@pytest.mark.parametrize("scheme", SCHEMES, **BY_NAME)
def test_inner_products_are_exact_to_the_bound(scheme):
    dimension = 8
    alone, spread = np.zeros(dimension, dtype=np.int64), np.full(dimension, MOST // dimension)
    alone[3] = MOST
    mixed = spread * np.array([1, -1] * 4)
    w = np.stack([alone, -alone, spread, -spread, mixed, np.zeros_like(alone)])
    x = np.stack([np.full(dimension, PIXEL), np.zeros(dimension, dtype=np.int64), rng().integers(0, 256, dimension)])
    found = run(scheme, x, w)
    assert found.dtype == np.int64 and (found == big(x, w)).all()
    assert found.max() == PIXEL * MOST > BOUND - 256 and found.min() == -PIXEL * MOST


def test_thousands_of_products_at_full_size_are_exact():
    x = rng().integers(0, 256, (40, 784))
    x[0] = PIXEL
    dense = rng().integers(-83, 84, (60, 784))
    dense[0], dense[1] = 83, -83
    sparse = np.zeros((60, 784), dtype=np.int64)  # rows of one and of 25 entries, all at the bound
    sparse[np.arange(30), rng().permutation(784)[:30]] = MOST
    for row in sparse[30:]:
        row[rng().permutation(784)[:25]] = rng().choice([-1, 1], 25) * (MOST // 25)
    w = np.concatenate([dense, sparse])
    assert (run(LWE(), x, w) == big(x, w)).all()


def test_the_two_schemes_agree():
    x, w = rng().integers(0, 256, (3, 30)), rng().integers(-2000, 2001, (4, 30))
    assert (run(LWE(), x, w) == run(ALS16(), x, w)).all()


@pytest.mark.parametrize("scheme", SCHEMES, **BY_NAME)
def test_convolution_by_patches_and_by_toeplitz_rows_is_torch_s(scheme):
    image, padding, stride = (2, 6, 5), 1, 2
    kernels = rng().integers(-300, 301, (2, 2, 3, 3))
    x = rng().integers(0, 256, (2, 60))
    plain = torch.from_numpy(x.reshape(-1, *image)).double()
    expected = torch.nn.functional.conv2d(plain, torch.from_numpy(kernels).double(), stride=stride, padding=padding)
    expected = expected.flatten(1).long().numpy()
    rows = convolution.patches(x, image, 3, stride, padding)
    by_patches = convolution.outputs(run(scheme, rows, kernels.reshape(2, -1)), len(x))
    by_rows = run(scheme, x, convolution.toeplitz(kernels, image, stride, padding))
    assert (by_patches == expected).all() and (by_rows == expected).all()


@pytest.mark.parametrize("scheme", SCHEMES, **BY_NAME)
def test_no_seed_is_used_twice(scheme):
    key = scheme.encryption_key(scheme.setup(3))
    x = np.tile([1, 2, 3], (20, 1))
    first, second = scheme.encrypt(key, x), scheme.encrypt(key, x)
    headers = {row.tobytes() for c in (first, second) for row in c.header}
    bodies = {row.tobytes() for c in (first, second) for row in c.body}
    assert len(headers) == len(bodies) == 40
    assert len({scheme.setup(3).secret for _ in range(20)}) == 20


@pytest.mark.parametrize("scheme", SCHEMES, **BY_NAME)
def test_rows_of_ciphertexts_are_those_of_x(scheme):
    x, w = rng().integers(0, 256, (5, 4)), rng().integers(-9, 9, (2, 4))
    master = scheme.setup(4)
    c = scheme.encrypt(scheme.encryption_key(master), x)
    assert (scheme.evaluate(scheme.keygen(master, w), w, c.rows([4, 1])) == big(x[[4, 1]], w)).all()
    assert scheme.evaluate(scheme.keygen(master, w), w, c.rows([])).shape == (0, 2)
    evaluate = scheme.evaluator(scheme.keygen(master, w), w)  # once for many
    assert all((evaluate(c.rows([k])) == big(x[[k]], w)).all() for k in range(5))
    with pytest.raises(InputError, match="ciphertext"):
        evaluate(scheme.encrypt(scheme.encryption_key(scheme.setup(4)), x))


@pytest.mark.parametrize(
    ("w", "says"),
    [
        (np.array([[MOST, 1]]), "sum"),
        (np.array([[2**40, 0]]), "size"),
        (np.array([[-(2**63), 0]]), "size"),
        (np.array([[0.5, 0]]), "dtype"),
        (np.array([1, 2]), "shape"),
        (np.array([[1, 2, 3]]), "shape"),
    ],
    ids=["sum", "entry", "least", "real", "vector", "wide"],
)
def test_rows_out_of_bound_are_refused(w, says):
    for scheme in SCHEMES:
        with pytest.raises(InputError, match=f"weights: got .*{says}"):
            scheme.keygen(scheme.setup(2), w)
    assert (check_bound(np.array([[MOST, 0]])) == [[MOST, 0]]).all()


@pytest.mark.parametrize("scheme", SCHEMES, **BY_NAME)
@pytest.mark.parametrize("x", [[[256, 0]], [[-1, 0]], [[0.5, 0]], [[1, 2, 3]], [1, 2]], ids=str)
def test_pixels_out_of_range_are_refused(scheme, x):
    with pytest.raises(InputError, match="pixels"):
        scheme.encrypt(scheme.encryption_key(scheme.setup(2)), np.array(x))


@pytest.mark.parametrize(("scheme", "other"), list(pairs(SCHEMES, SCHEMES)), **BY_NAME)
def test_foreign_keys_and_ciphertexts_are_refused_by_name(scheme, other):
    w = np.array([[1, 2]])
    mine, foreign = scheme.setup(2), other.setup(2)
    c = other.encrypt(other.encryption_key(foreign), np.array([[3, 4]]))
    expected = "scheme" if scheme is not other else f"got key {foreign.key_id}; expected key {mine.key_id}"
    with pytest.raises(InputError, match=f"ciphertext: got {'' if scheme is other else 'scheme'}|{expected}"):
        scheme.evaluate(scheme.keygen(mine, w), w, c)
    if scheme is not other:
        for step in (lambda: scheme.keygen(foreign, w), lambda: scheme.encryption_key(foreign)):
            with pytest.raises(InputError, match=f"master: got scheme {other.name}; expected scheme {scheme.name}"):
                step()


@pytest.mark.parametrize("scheme", SCHEMES, **BY_NAME)
def test_misshapen_ciphertexts_and_other_rows_are_refused(scheme):
    w = np.array([[1, 2]])
    master = scheme.setup(2)
    key, c = scheme.keygen(master, w), scheme.encrypt(scheme.encryption_key(master), np.array([[3, 4]]))
    for bad, says in (
        (replace(c, header=c.header[:, :-1]), "header"),
        (replace(c, body=c.body.astype(np.int32)), "body"),
        (replace(c, body=c.body[..., None]), "body"),
        (replace(c, body=c.body[:, :1]), "dimension 1"),
    ):
        with pytest.raises(InputError, match=f"ciphertext.*{says}"):
            scheme.evaluate(key, w, bad)
    with pytest.raises(InputError, match="2 rows"):
        scheme.evaluate(key, np.tile(w, (2, 1)), c)


def test_secrets_stay_out_of_their_printed_form():
    for scheme in SCHEMES:
        master = scheme.setup(2)
        assert repr(master.secret) not in repr(master) and master.secret.hex() not in repr(master)
        assert master.secret.hex() not in master.key_id and repr(master.secret) not in repr(
            scheme.encryption_key(master)
        )


# ---- LWE


def test_shares_add_up_to_the_scaled_product_and_the_noise_has_its_deviation():
    scheme, x = LWE(n=64), rng().integers(0, 256, (400, 49))
    w = rng().integers(-1000, 1001, (3, 49))
    master = scheme.setup(49)
    c, key = scheme.encrypt(scheme.encryption_key(master), x), scheme.keygen(master, w)
    shopper, cloud = scheme.shopper_share(w, replace(c, header=c.header[:0])), scheme.cloud_share(key, c.header)
    noise = (shopper + cloud - (x @ w.T << FRACTION_BITS)).astype(float)
    assert np.abs(noise).max() < 2 ** (FRACTION_BITS - 1)
    deviations = noise / (scheme.sigma * np.sqrt((w.astype(float) ** 2).sum(1)))
    assert abs(deviations.std() - 1) < 5 / math.sqrt(2 * 400 * 3)
    for share in (shopper, cloud):  # alone uniform over the ring: its mean square is 2^128 / 12
        assert abs((share / 2.0**64).std() - 12**-0.5) < 0.03


def test_the_noise_is_a_rounded_gaussian_of_the_stated_deviation():
    count = 400_000
    drawn = gaussian((count // 8, 8), 5e5) / 5e5
    assert abs(drawn.mean()) < 5 / math.sqrt(count)
    assert abs(drawn.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs((drawn**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert np.abs(drawn).max() < 8.58
    for edge in (0.5, 1, 2, 3):
        share = math.erf(edge / math.sqrt(2))
        assert abs((np.abs(drawn) < edge).mean() - share) < 5 * math.sqrt(share * (1 - share) / count)
    small = gaussian((count,), 1.5)  # rounding adds 1/12, as it must, and shows at this width
    assert abs(small.var() - (1.5**2 + 1 / 12)) < 5 * 1.5**2 * math.sqrt(2 / count)
    odd = gaussian((3, 3), 5e5)
    assert odd.shape == (3, 3) and (odd != gaussian((3, 3), 5e5)).any()


def test_rows_whose_noise_could_reach_the_margin_are_refused():
    wide, w = LWE(n=32, sigma=9.09e6), np.array([[3781, 0], [2, 2]])
    with pytest.raises(InputError, match="row 0 of norm 3781.0; expected a norm of at most 3779.9"):
        wide.keygen(wide.setup(2), w)
    assert (run(wide, np.array([[255, 255]]), w - [[2, 0], [0, 0]]) == [[255 * 3779, 1020]]).all()
    LWE().check_rows(np.array([[MOST, 0]]), 2)  # the default takes every row below the bound


def test_ciphertexts_without_the_key_are_uniform_and_a_wrong_secret_gives_nonsense():
    scheme, x = LWE(n=64), np.full((500, 8), 7)
    mine, wrong = scheme.setup(8), scheme.setup(8)
    c = scheme.encrypt(scheme.encryption_key(mine), x)
    counts = np.bincount((c.body.view(np.uint64) >> np.uint64(60)).astype(int).ravel(), minlength=16)
    assert ((counts - 250) ** 2 / 250).sum() < 15 + 5 * math.sqrt(30)
    w = np.eye(8, dtype=np.int64)
    forged = replace(scheme.keygen(wrong, w), key_id=mine.key_id)
    assert (scheme.evaluate(forged, w, c) == x).mean() < 0.01


@pytest.mark.parametrize(
    ("n", "log2_q", "bits"),
    [  # Homomorphic Encryption Standard (2018), table 1, uniform secret, classical
        *((1024, 29, 128), (2048, 56, 128), (4096, 111, 128), (8192, 220, 128)),
        *((1024, 21, 192), (2048, 39, 192), (4096, 77, 192), (8192, 154, 192)),
        *((2048, 31, 256), (4096, 60, 256), (8192, 120, 256)),
    ],
)
def test_the_estimate_is_that_of_the_homomorphic_encryption_standard(n, log2_q, bits):
    # The table's log q are whole numbers that reach the level: a step of one is worth up to bits / log q.
    assert abs(security_bits(n, log2_q, 3.19) - bits) < 5 + bits / log2_q


def test_the_default_parameters_are_above_128_bits():
    for dimension, bits, core in ((784, 167, 135), (3072, 161, 129)):
        attack = best_attack(LWE().n, 64, LWE().sigma / (PIXEL * math.sqrt(dimension)))
        assert LWE().security_bits(dimension) == attack.bits
        assert (round(attack.bits), round(attack.core_bits)) == (bits, core)
    assert best_attack(2560, 64, 5e5).core_bits > 256
    with pytest.raises(InputError, match="sigma"):
        security_bits(1024, 20, 2.0**21)


# ---- ALS16


@pytest.mark.parametrize("z", [0, 1, -1, 65536, -65536, 65537, 131072, 131073, 196609, BOUND - 1, 1 - BOUND])
def test_logarithms_are_found_to_the_bound(z):
    assert als16._logarithm(als16._times(als16._generator(), z)) == z


@pytest.mark.parametrize("z", [BOUND, -BOUND, 2**40])
def test_logarithms_beyond_the_bound_are_refused(z):
    with pytest.raises(InputError, match="no inner product"):
        als16._logarithm(als16._times(als16._generator(), z))


def test_altered_curve_ciphertexts_are_refused():
    scheme, w = ALS16(), np.array([[1, 2]])
    master = scheme.setup(2)
    key, c = scheme.keygen(master, w), scheme.encrypt(scheme.encryption_key(master), np.array([[3, 4]]))
    swapped = replace(c, header=c.header[:, [*range(33, 66), *range(33)]])
    no_point = replace(c, body=np.full_like(c.body, 5))
    for bad, says in ((swapped, "no inner product"), (no_point, "no point")):
        with pytest.raises(InputError, match=says):
            scheme.evaluate(key, w, bad)


def test_without_coincurve_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(als16, "PublicKey", None)
    with pytest.raises(InputError, match=r"scheme als16: got no coincurve; expected the extra `curve`"):
        ALS16()


# ---- the authority


def rational_rank(rows: np.ndarray) -> int:
    """By Bareiss' elimination over Python's integers."""
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
    assert authority.issued("ann").rows == 3  # refused whole: nothing was counted
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
    errors = [racer.communicate(timeout=60)[1] for racer in racers]
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
