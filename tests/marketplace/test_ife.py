"""Inner-product functional encryption against big integers, torch's convolution, published tables, and each other."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product as pairs

import numpy as np
import pytest
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption import als16, convolution
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.lwe import FRACTION_BITS, LWE
from mpc_appraisal.marketplace.encryption.noise import gaussian
from mpc_appraisal.marketplace.encryption.residues import Residues, Small, product, small_product
from mpc_appraisal.marketplace.encryption.scheme import BOUND, PIXEL, check_bound
from mpc_appraisal.marketplace.encryption.security_estimate import best_attack, security_bits

MOST = (BOUND - 1) // PIXEL  # the greatest sum of the sizes of a row's entries
SMALL_LWE = LWE(n=32)  # exact as the default one, and quick; not secure
SCHEMES = [SMALL_LWE, ALS16()]
BY_NAME = {"ids": lambda value: getattr(value, "name", str(value))}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def big(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Compute x @ w.T over Python's integers."""
    return x.astype(object) @ w.T.astype(object)


def wrapped(numbers: np.ndarray) -> np.ndarray:
    """Reduce Python integers modulo 2^64, as int64."""
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
    evaluate = scheme.evaluator(scheme.keygen(master, w), w)  # one evaluator serves many rows
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
    for share in (shopper, cloud):  # a share alone is uniform over the ring, with a mean square of 2^128 / 12
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
