"""The engine's protocols, compared with big integers and float64; and its messages, which are uniform noise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats
from three import new_key, private, run, sharing

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.log_softmax import MAX_LOG_CLASSES, log_softmax
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, open_all, product
from mpc_appraisal.mpc.protocols.softmax import softmax
from mpc_appraisal.mpc.protocols.softmax_plan import MAX_CLASSES, doublings
from mpc_appraisal.mpc.ring.fixed_point import decode, encode
from mpc_appraisal.mpc.ring.powers_of_three import POINT, power_of_three
from mpc_appraisal.mpc.ring.prg import DryStream, Stream
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(5)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def test_the_stream_is_aes_256_in_counter_mode():
    import hashlib
    import hmac

    key = new_key()
    derived = hmac.new(key, b"mask", hashlib.sha256).digest()
    expected = Cipher(algorithms.AES(derived), modes.CTR(bytes(16))).encryptor().update(bytes(8 * 35))
    stream = Stream(key, "mask")
    drawn = torch.cat([stream.ring((3, 5)).reshape(-1), stream.ring((20,))])
    # a draw ends on a block of the cipher or within one; the stream goes on where it stopped
    assert drawn.numpy().tobytes() == expected
    assert not torch.equal(Stream(key, "share").ring((35,)), drawn)


@pytest.mark.parametrize("value", [-1e-5, -1.0, -1000.00002, -59999.9999, 0.0, 3.25, 32000.1])
def test_decoding_is_exact_where_crypten_is_off_by_one(value):
    encoded = encode(torch.tensor([value], dtype=torch.float64) / 2, "x")
    assert abs(decode(encoded)[0].item() - value / 2) <= 2.0**-17


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_what_fixed_point_cannot_hold_is_refused(bad):
    with pytest.raises(InputError, match="weights"):
        encode(torch.tensor([0.0, bad]), "weights")


def test_products_are_exact_in_the_ring():
    x, w = normal(40, 7), normal(7, 3)

    def program(engine):
        return private(engine, 1, x).matmul(private(engine, 0, w)).share

    got = (lambda r: r.results[0] + r.results[1])(run(program))
    encoded = [np.array(torch.round(t * 2.0**20).long().tolist(), dtype=object) for t in (x, w)]
    assert got.tolist() == encoded[0].dot(encoded[1]).tolist()  # Python's integers


@pytest.mark.parametrize("owner", [0, 1])
def test_a_private_matrix_times_a_shared_one_from_both_sides(owner):
    x, r = normal(30, 6), normal(30, 4)
    share = sharing(r, 16)

    def program(engine):
        from mpc_appraisal.mpc.protocols.tensors import Context, Secret

        secret, matrix = Secret(Context(engine, 16.0), share(engine), 16), private(engine, owner, x)
        return torch.cat([secret.t().matmul(matrix).t().share, matrix.t().matmul(secret).share])

    got = run(program).value(36)  # a small private matrix has 20 fractional bits in a product
    expected = torch.round(x * 2.0**20).t() @ torch.round(r * 65536) / 2.0**36
    assert torch.equal(got, torch.cat([expected, expected]))


def test_rows_of_a_masked_matrix_need_no_second_mask():
    x, w = normal(30, 6), normal(6, 2)
    index = torch.tensor([7, 3, 3])

    def program(engine):
        matrix, weights = private(engine, 1, x), private(engine, 0, w)
        matrix.masked()
        before = engine.channel.meter.bytes_sent
        part = matrix[index].matmul(weights)
        engine.sent_for_rows = engine.channel.meter.bytes_sent - before
        return part.share

    done = run(program)
    assert torch.allclose(done.value(40), x[index] @ w, atol=1e-4)
    assert done.engines[1].sent_for_rows == 0  # only the weights were sent, by their owner


@pytest.mark.parametrize("bits", [1, 5, 16, 40, 61])
def test_exact_truncation_is_never_off_by_more_than_one_and_is_unbiased(bits):
    v = torch.cat([normal(4000) * 2.0**60, normal(4000) * 2.0**20, torch.tensor([0.0, 2.0**61, -(2.0**61)])])
    share = sharing(v, 0, seed=bits)
    done = run(lambda engine: engine.truncate(share(engine), bits))
    ring = [int(n) for n in torch.round(v).to(torch.int64).tolist()]
    error = [got - (n >> bits) for got, n in zip((done.results[0] + done.results[1]).tolist(), ring, strict=True)]
    assert set(error) <= {0, 1}
    if bits > 20:  # rounding up happens with probability the fraction cut off
        fraction = np.mean([(n % (1 << bits)) / (1 << bits) for n in ring])
        assert abs(np.mean(error) - fraction) < 4 * 0.5 / math.sqrt(len(ring))


def test_local_truncation_fails_as_often_as_stated():
    """At |v| = 2^55 an element fails with probability 2^-9, which is often enough to count."""
    v = torch.full((200_000,), 2.0**55, dtype=torch.float64)
    share = sharing(v, 0)
    done = run(lambda engine: engine.truncate_locally(share(engine), 20, 55.0))
    wrong = ((done.results[0] + done.results[1] - (1 << 35)).abs() > 1).sum().item()
    stated = done.engines[0].failure
    assert stated == pytest.approx(200_000 * 2.0**-9)
    assert abs(wrong - stated) < 5 * math.sqrt(stated)


def test_elementwise_products():
    x, y, row = normal(50, 4), normal(50, 4), normal(50, 1)
    sx, sy, sr = sharing(x, 16, 1), sharing(y, 16, 2), sharing(row, 16, 3)

    def program(engine):
        a, b, r = sx(engine), sy(engine), sr(engine)
        return torch.cat([engine.multiply(a, b), engine.multiply(a, r), engine.square(a),
                          engine.inner(a, b).expand(1, 4)])  # fmt: skip

    got = run(program).value(32)
    x, y, row = (torch.round(t * 65536) / 65536 for t in (x, y, row))
    expected = torch.cat([x * y, x * row, x * x, (x * y).sum().expand(1, 4)])
    assert (got - expected).abs().max() < 1e-9


@pytest.mark.parametrize(("drop", "bits", "ring"), [(0, 64, 64), (7, 24, 24), (20, 24, 40), (30, 20, 64), (3, 30, 61)])
def test_opened_values_are_exact_to_a_unit_and_so_are_their_products(drop, bits, ring):
    """The result is compared with Python's integers, in the ring that was asked for."""
    largest = 2.0 ** (min(bits, 62 - drop) - 2 + drop)
    x, y = (
        torch.round((torch.rand(3000, 2, dtype=torch.float64, generator=GENERATOR) * 2 - 1) * largest) for _ in "xy"
    )
    sx, sy, low = sharing(x, 0, 1), sharing(y[:, :1], 0, 2), 1 << (bits - 2)

    def program(engine):
        a, b = open_all(engine, *(MaskedOpening(s(engine), drop, bits, ring, low) for s in (sx, sy)))
        return [a.share(engine), b.share(engine), product(engine, a, a), product(engine, a, b)]

    done = run(program)
    both = zip(*done.results, strict=True)
    a, b, square, cross = ([[int(n) % 2**ring for n in row] for row in (p + q).tolist()] for p, q in both)
    worst = 0
    for k in range(3000):
        (b_k,) = b[k]
        for c in range(2):
            off = (a[k][c] - (int(x[k, c]) >> drop) + 2) % 2**ring - 2
            worst = max(worst, abs(off))
            assert square[k][c] == a[k][c] ** 2 % 2**ring and cross[k][c] == a[k][c] * b_k % 2**ring
    assert worst <= (1 if drop else 0)


def test_an_opening_shows_uniform_bytes_alone():
    share = sharing(torch.zeros(100_000, dtype=torch.float64), 0)
    done = run(lambda e: open_all(e, MaskedOpening(share(e), 5, 20, 40))[0].share(e))
    for received in done.seen:
        counts = np.bincount(np.concatenate([t.numpy().reshape(-1).view(np.uint8) for t in received]), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-10


def test_powers_of_three_in_the_ring():
    """3^-n is the inverse of 3^n mod 2^64. Fractions are compared with Python's decimals."""
    fractions = torch.linspace(-0.5, 0.499999, 5001, dtype=torch.float64)
    exponent = torch.round(fractions * 2.0**POINT).to(torch.int64)
    for whole in (-40, 0, 7):
        got = power_of_three(exponent + (whole << POINT), 17)
        for n, f in list(zip(got.tolist(), fractions.tolist(), strict=True))[::50]:
            mantissa = n * pow(3, -whole, 2**64) % 2**64
            assert abs(mantissa - 3.0**f * 2**17) < 1.0


@pytest.mark.parametrize("classes", [2, 3, 7, 10, 26, 100, 256])
def test_every_bound_has_a_plan(classes):
    dry = Engine(0, DryChannel(Meter()), Engine.streams_of(None), DryStream(), dry=True)
    for bound in (1e-3, 0.1, *(quarter / 4 for quarter in range(3, 1025, 7)), 256.0):
        assert softmax(dry, shape_tensor((4, classes)), 36, bound).shape == (4, classes)
        if classes <= MAX_LOG_CLASSES:
            assert log_softmax(dry, shape_tensor((4, classes)), 36, bound)[0].shape == (4, classes)


def test_rows_whose_sum_is_where_t_is_largest():
    """Ten classes and a bound for which k, rounded up, once brought t to 2."""
    bound, classes = 246.5, 10
    temperature = 2.0 ** doublings(bound)
    a = math.acosh((1 + math.cosh(bound / temperature)) / 2) * temperature
    z = torch.tensor([a] * 5 + [-a] * 5, dtype=torch.float64).repeat(4000, 1)
    z += normal(4000, classes) * 1e-3 * temperature
    z -= z.mean(1, keepdim=True)
    share = sharing(z, 32)
    error = run(lambda e: softmax(e, share(e), 32, bound)).value(16) - z.softmax(1)
    assert error.abs().max() < 2e-3


@pytest.mark.parametrize("bound", [3.0, 12.0, 16.0, 24.0, 60.0, 120.0])
@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_softmax(bound, classes):
    z = normal(1500, classes)
    z -= z.mean(1, keepdim=True)
    z *= 0.999 * bound / z.abs().max()
    z[0], z[1] = 0, torch.linspace(-1, 1, classes) * 0.99 * bound
    share = sharing(z + 3.0, 32)  # not centred
    error = run(lambda e: softmax(e, share(e), 32, bound)).value(16) - z.softmax(1)
    assert error.abs().max() < 2e-3 and error.std() < 6e-5 and abs(error.mean()) < 1e-5
    assert error.sum(1).abs().max() < 3e-3


@pytest.mark.parametrize("bound", [3.0, 12.0, 24.0, 60.0, 120.0])
@pytest.mark.parametrize("classes", [2, 10])
def test_log_softmax(bound, classes):
    z = normal(1500, classes)
    z -= z.mean(1, keepdim=True)
    z *= 0.999 * bound / z.abs().max()
    z[0], z[1] = 0, torch.linspace(-1, 1, classes) * 0.99 * bound
    share = sharing(z + 3.0, 32)
    error = run(lambda e: log_softmax(e, share(e), 32, bound)[0]).value(18) - z.log_softmax(1)
    assert error.abs().max() < 5e-5 + 2e-6 * bound and error.std() < 1.5e-5 + 2e-7 * bound
    assert abs(error.mean()) < 1e-6 + 2e-8 * bound


def test_more_classes_than_the_softmax_has_bits_for_are_refused():
    share = sharing(torch.zeros(3, MAX_CLASSES + 1), 32)
    with pytest.raises(InputError, match="classes"):
        run(lambda e: softmax(e, share(e), 32, 8.0))
    with pytest.raises(InputError, match="classes"):
        run(lambda e: log_softmax(e, share(e), 32, 8.0))


@pytest.mark.parametrize("bad", [0.0, -1.0, 1e4, float("nan")])
def test_a_senseless_bound_is_refused(bad):
    with pytest.raises(InputError, match="session.logit_bound"):
        doublings(bad)


def test_the_dry_run_predicts_messages_to_the_byte():
    z = normal(64, 10)
    share = sharing(z, 32)
    done = run(lambda e: softmax(e, share(e), 32, 16.0))
    dry, real = done.dry.channel.meter, done.engines[0].channel.meter
    assert (dry.bytes_sent, dry.rounds) == (real.bytes_sent, real.rounds) and real.bytes_sent > 0


def test_opening_a_sum_of_private_values_shows_the_sum_alone():
    x, w = normal(20, 3), normal(20, 3)

    def program(engine):
        total = private(engine, 1, x) + private(engine, 0, w)
        (opened,) = engine.open(engine.blinded(total.share))
        return opened

    done = run(program)
    rings = [torch.round(t * 65536).long() for t in (w, x)]
    assert torch.equal(done.results[0], rings[0] + rings[1])
    for me, received in enumerate(done.seen):
        assert not torch.equal(received[-1].reshape(20, 3), rings[1 - me])  # the other's own value


def test_everything_an_owner_receives_looks_uniform():
    """The data are zero, so that any structure in the messages would be structure of the protocol."""
    x, w = torch.zeros(500, 30, dtype=torch.float64), torch.zeros(30, 10, dtype=torch.float64)

    def program(engine):
        z = private(engine, 1, x).matmul(private(engine, 0, w))
        return z.softmax(1).share

    for received in run(program).seen:
        data = np.concatenate([t.numpy().reshape(-1).view(np.uint8) for t in received if t.numel() > 100])
        counts = np.bincount(data, minlength=256)
        assert len(data) > 70_000
        assert stats.chisquare(counts).pvalue > 1e-10


@pytest.mark.parametrize(
    "script",
    [
        "[[\"__class__\"]]", "[[\"run\", []]]", "[[\"_both\", [3]]]", "{}", "nonsense", "[[\"mul\", [1], [1], [1]]]",
        "[[\"square\", [-1]]]", "[[\"square\", [4294967296]]]", "[[\"square\", \"3\"]]", "[[\"truncate\", [1], 64]]",
        "[[\"divide\", [1], 1]]", "[[\"divide\", [1], 2305843009213693953]]", "[[\"divide\", [1], 2.0]]",
        "[[\"product\", 1, 2, 0]]", "[[\"cross\", 1, 1, 40]]", "[[\"open\", 1, [2], 24, 24], [\"cross\", 1, 1, 0]]",
        "[[\"forget\", [3]]]", "[[\"open\", 1, [2], 65, 65]]",
        "[[\"open\", 1, [2], 30, 20]]", "[[\"open\", 1, [2], 24, 24], [\"power\", 1, 1.5, 17]]",
        "[[\"open\", 1, [2], 24, 24], [\"power\", 1, 70368744177664, 17]]",
        "[[\"open\", 1, [2], 24, 24], [\"cross\", 1, 1, 99]]",
        "[[\"free\", 7]]", "[[\"mask\", 1, 5, [2]]]", "[[]]", "[7]",
    ],
)  # fmt: skip
def test_the_dealer_refuses_whatever_is_not_on_its_list(script):
    dealer = Dealer([new_key(), new_key()], lambda correction: None)
    with pytest.raises(AppraisalError, match="dealer: refused"):
        dealer.run(parse(script), lambda: None)


def test_the_dealer_sends_corrections_that_are_uniform_without_the_other_key():
    sent: list[torch.Tensor] = []
    Dealer([new_key(), new_key()], sent.append).run(parse(json.dumps([["square", [50_000]]])), lambda: None)
    counts = np.bincount(sent[0].numpy().view(np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-10
