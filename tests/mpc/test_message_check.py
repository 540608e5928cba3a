"""A cheating owner is found before a value is opened: every message of small programs, altered in several ways."""

from __future__ import annotations

import random

import pytest
import torch
from affine_programs import RELEASES, SCORES
from checked import run
from replays import far_slope, slope
from three import private

from mpc_appraisal.common.errors import AppraisalError, InputError, IntegrityError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.integrity import message_check
from mpc_appraisal.mpc.integrity.replay import ReplayEngine
from mpc_appraisal.mpc.net.channel import Channel, Transcript
from mpc_appraisal.mpc.protocols import draws
from mpc_appraisal.mpc.protocols.dealer import Dealer

torch.set_num_threads(1)


def next_quotient(t: int, b: int, sums, primes) -> int:
    """The best that a cheat can tell whose sum is not t mod 2^b: the sum divided by 2^b, rounded down."""
    total, product = 0, 1
    for found, p in zip(sums, primes, strict=True):
        total += product * ((found - total) * pow(product, -1, p) % p)
        product *= p
    return ((total - product if total > product // 2 else total) - t) >> b


@pytest.fixture(autouse=True)
def cheats_tell_what_passes(monkeypatch):
    """Honest owners tell the same; without this a cheat would stop by itself."""
    monkeypatch.setattr(message_check, "_quotient", next_quotient)
    monkeypatch.setattr(message_check, "_primes_for", lambda bits: len(message_check.OWN_PRIMES))


@pytest.fixture(autouse=True)
def all_matrices_are_thin(monkeypatch):
    """Masks as small as those of these programs would be looked at number by number."""
    monkeypatch.setattr(draws, "WORTH", 0)


def of_slope(engine, opened):
    opened(slope(engine, opened=False).reshape(1))


def of_far_slope(engine, opened):
    opened(far_slope(engine, opened=False).reshape(1))


def of_two(engine, opened):
    """Two openings, of which the second one uses a matrix of the first one's section, and goes to one owner alone."""
    x = engine.mask(1, None if engine.me == 0 else whole(engine, (4, 3), 5), (4, 3))
    w = engine.mask(0, None if engine.me == 1 else whole(engine, (3, 2), 6), (3, 2))
    opened(engine.product(x, w))
    engine.free(w)
    v = engine.mask(0, None if engine.me == 1 else whole(engine, (3, 1), 7), (3, 1))
    share = engine.product(x, v)
    opened(engine.truncate(engine.multiply(share, share), 3), (1,))


def of_kept(engine, opened):
    """A share that is used after one opening, and once more after the next one."""
    x = engine.mask(1, None if engine.me == 0 else whole(engine, (4, 3), 5), (4, 3))
    w = engine.mask(0, None if engine.me == 1 else whole(engine, (3, 2), 6), (3, 2))
    share = engine.keep(engine.product(x, w))
    opened(share[:2].sum().reshape(1))
    share = engine.keep(engine.square(share))
    opened(share[0].reshape(2))
    opened(share + engine.product(x, w))


def whole(engine, shape, seed):
    values = torch.randint(-(2**12), 2**12, shape, generator=torch.Generator().manual_seed(seed))
    return values.to("meta") if engine.dry else values


@pytest.mark.parametrize("worth", [0, 1000])
@pytest.mark.parametrize("program", [of_slope, of_far_slope, of_two, of_kept])
def test_honest_owners_pass_and_cost_what_a_dry_run_says(program, worth, monkeypatch):
    monkeypatch.setattr(draws, "WORTH", worth)
    sent = run(program)
    assert not sent.errors, sent.errors
    assert sent.spent == sent.counted
    assert torch.equal(sent.results[0][0], sent.results[1][0])


def opening(of_share):
    return lambda engine, opened: opened(of_share(engine))


COVERED = {name: opening(one.of_share(exact)) for name, (one, exact) in SCORES.items()}
COVERED |= {name: opening(one.of_share()) for name, one in RELEASES.items()}


@pytest.mark.parametrize("name", COVERED)
def test_honest_owners_pass_with_every_method_and_release_that_is_covered(name):
    sent = run(COVERED[name])
    assert not sent.errors, sent.errors
    assert sent.spent == sent.counted
    assert torch.equal(sent.results[0][0], sent.results[1][0])


def test_a_result_is_right_and_is_shown_to_its_owner_alone():
    sent = run(of_two)
    x, w, v = (torch.randint(-(2**12), 2**12, shape, generator=torch.Generator().manual_seed(seed))
               for shape, seed in (((4, 3), 5), ((3, 2), 6), ((3, 1), 7)))  # fmt: skip
    assert torch.equal(sent.results[0][0], x @ w) and torch.equal(sent.results[1][0], x @ w)
    assert sent.results[0][1] is None
    exact = (x @ v) ** 2 / 8
    assert ((sent.results[1][1] - exact).abs() <= 1).all()


def test_a_kept_share_is_right_after_two_openings():
    sent = run(of_kept)
    x, w = (torch.randint(-(2**12), 2**12, shape, generator=torch.Generator().manual_seed(seed))
            for shape, seed in (((4, 3), 5), ((3, 2), 6)))  # fmt: skip
    for found in sent.results:
        assert torch.equal(found[2], (x @ w) ** 2 + x @ w)


def altered(number: int, error: int, place: float):
    """Return a cheat that adds `error` to one number of a message, in its own width."""

    def alter(n, tensor):
        if n != number:
            return tensor
        out = tensor.clone().reshape(-1)
        k = int(place * out.numel())
        value = int(out[k]) + error
        whole = tensor.dtype == torch.int64
        out[k] = (value + 2**63) % 2**64 - 2**63 if whole else (int(out[k]) + (error % 256 or 1)) % 256
        return out.reshape(tensor.shape)

    return alter


INPUTS = {
    of_slope: {0: {0}, 1: {0, 1}},
    of_far_slope: {0: {0}, 1: {0, 1}},
    of_two: {0: {0, 2}, 1: {0}},
    of_kept: {0: {0}, 1: {0}},
}


@pytest.mark.parametrize("program", [of_slope, of_far_slope, of_two, of_kept])
def test_every_message_is_found_wherever_it_is_altered(program):
    """What brings in a private matrix is an owner's own input. Settling messages are altered too."""
    honest, chance = run(program), random.Random(3)
    for me in (0, 1):
        assert len(honest.messages[me]) >= 4
        for number in set(range(len(honest.messages[me]))) - INPUTS[program][me]:
            errors = [1, -1, 1 << 7, 1 + (1 << 40), chance.randrange(1, 256), -(1 << 63)]
            for error in errors if program is not of_far_slope else chance.sample(errors, 2):
                place = chance.random()
                sent = run(program, {me: altered(number, error, place)})
                assert any(isinstance(each, IntegrityError) and OWNERS[me] in str(each) for each in sent.errors)
                assert len(sent.results[1 - me]) < len(honest.results[1 - me])


def test_messages_that_leave_the_program_are_refused():
    def shorter(n, tensor):
        return tensor[:-1] if n == 3 else tensor

    sent = run(of_slope, {1: shorter})
    assert sent.errors and not sent.results[0]
    assert all(isinstance(each, (AppraisalError, AssertionError)) for each in sent.errors)


def test_a_value_that_was_shared_before_an_opening_cannot_be_used_after_it():
    def program(engine, opened):
        x = private(engine, 1, torch.ones(2, 2, dtype=torch.float64), 1.0).masked()
        w = private(engine, 0, torch.ones(2, 2, dtype=torch.float64), 1.0).masked()
        share = engine.product(x, w)
        opened(share)
        opened(engine.square(share))

    sent = run(program)
    assert any("since the last opening" in str(each) for each in sent.errors)
    assert len(sent.results[0]) == 1


def test_more_numbers_than_a_party_can_hold_are_refused_in_the_dry_run(monkeypatch):
    monkeypatch.setattr(message_check, "MOST_NUMBERS", 100)
    with pytest.raises(InputError, match="session.integrity: got on with [0-9,]+ numbers"):
        run(of_far_slope)


def test_more_bits_than_a_party_can_hold_are_refused_in_the_dry_run(monkeypatch):
    monkeypatch.setattr(message_check, "MOST_BITS", 100)
    with pytest.raises(InputError, match="session.integrity: got on with [0-9,]+ bits .* at most 100,"):
        run(of_far_slope)


@pytest.mark.parametrize("shapes", [[], [(3,)], [(4,), (1,)], [(4,)]])
def test_bits_of_another_program_than_the_one_that_was_run_dry_are_refused(shapes):
    replay = ReplayEngine(0, Transcript(), None)
    for shape in shapes:
        replay.new_plane("triple", shape)
    dealt = draws.Dealt((), (draws.Draw("triple", (2, 2), 1, packed=True),), ())
    claims = message_check.claims_of(1, 0, dealt, (64,))
    assert claims.octets == 4 and claims.length == 0
    if shapes == [(4,)]:
        assert message_check._ClaimsOfBits(claims, dealt, replay, bytes(32)).weights().shape == (4, 8)
        return
    with pytest.raises(AppraisalError, match="other leaves of bits in section 1 of model_owner"):
        message_check._ClaimsOfBits(claims, dealt, replay, bytes(32))


def test_bits_of_another_section_are_refused():
    replay = ReplayEngine(0, Transcript(), None)
    old = replay.new_plane("triple", (4,))
    replay.close_section()
    replay.channel.add([torch.zeros(4, dtype=torch.uint8)], [torch.zeros(4, dtype=torch.uint8)])
    with pytest.raises(AppraisalError, match="bits of another section"):
        replay.open_octets(old)


def test_a_dealer_without_checks_refuses_a_script_with_checks():
    dealer = Dealer([bytes(32), bytes(32)], lambda correction: None)
    for request in (["settle", 1, [1]], ["check", [64]], ["show", 1, [0]]):
        with pytest.raises(AppraisalError, match="refused"):
            dealer.run([request], lambda: None)


def test_the_dealer_shows_nothing_before_both_owners_have_passed():
    class Said(Channel):
        def __init__(self, said):
            super().__init__(None)
            self.said = iter(said)

        def receive(self, shape, source, dtype=torch.int64, along=False):
            return torch.frombuffer(bytearray(next(self.said)), dtype=torch.uint8)

        def send(self, tensor, to):
            raise AssertionError("something was shown")

        _send = _receive = close = None

    with pytest.raises(IntegrityError, match="data_owner"):
        message_check.DealerCheck(Said([b"p", b"x"]), []).show([torch.zeros(1), torch.zeros(1)], [0, 1])
