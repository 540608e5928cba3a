"""An owner's program on linear forms gives every message that the owner has sent, of what it was dealt."""

from __future__ import annotations

import pytest
import torch
from three import new_key, private, run

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.integrity.linear_form import forward
from mpc_appraisal.mpc.integrity.plane_form import unpacked
from mpc_appraisal.mpc.integrity.replay import Claim, ReplayEngine
from mpc_appraisal.mpc.net.channel import Transcript
from mpc_appraisal.mpc.protocols import softmax
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product, row_products, shared_product
from mpc_appraisal.mpc.protocols.unbounded_softmax import unbounded_softmax
from mpc_appraisal.mpc.ring.packing import unpack
from mpc_appraisal.mpc.ring.prg import Stream

torch.set_num_threads(1)
PRIMES = (2147483647, 2147483629, 2147483587, 2147483579, 2147483563, 2147483549, 2147483543, 2147483497)
DRAW = torch.Generator().manual_seed(18)


class Drawn:
    """A stream that remembers the numbers that it has given."""

    def __init__(self, stream: Stream):
        self.stream, self.numbers = stream, []

    def ring(self, shape, size=8, bits=None):
        self.numbers.append(self.stream.ring(shape, size))
        return self.numbers[-1].clone()

    def octets(self, shape):
        self.numbers.append(self.stream.octets(shape))
        return self.numbers[-1].clone()


def replayed(program):
    """Run `program(engine)` at three parties, replay each owner; return (claims, what was dealt in order) by owner."""
    pair = new_key()

    def recorded(engine):
        engine.affine = True
        if not engine.dry:
            engine.channel.transcript, engine.pair = Transcript(), Stream(pair, "pair")
            engine.streams = {purpose: Drawn(stream) for purpose, stream in engine.streams.items()}
        return program(engine)

    done, found = run(recorded), []
    for me, engine in enumerate(done.engines):
        replay = ReplayEngine(me, engine.channel.transcript, Stream(pair, "pair"))
        program(replay)
        assert not replay.channel.sent and not replay.channel.received, "messages are left over"
        numbers = {purpose: list(stream.numbers) for purpose, stream in engine.streams.items()}
        if me == 0:
            dealt = zip(engine.channel.transcript.dealt, replay.leaves["share"], strict=True)
            numbers["share"] = [as_dealt(message, form, bits_of(replay, form)) for message, form in dealt]
        by_node = {
            form.node: values
            for purpose, forms in replay.leaves.items()
            for form, values in zip(forms, numbers[purpose], strict=True)
        }
        by_node = {node: unpacked(each) if each.dtype == torch.uint8 else each for node, each in by_node.items()}
        found.append((replay.claims, [by_node[node] for node in sorted(by_node)]))
    return found


def bits_of(replay: ReplayEngine, form) -> int:
    """How many bits the numbers of a leaf have."""
    return replay.tape.leaves[replay.tape.nodes[form.node].leaf].bits


def as_dealt(message: torch.Tensor, form, bits: int) -> torch.Tensor:
    """A message of the dealer as the numbers of its leaf: whole words, packed numbers, or octets."""
    if bits == 1:
        return message.reshape(*form.shape[:-1], form.shape[-1] // 8)
    return message.reshape(form.shape) if bits == 64 else unpack(message, form.shape, bits // 8)


def off(claim: Claim, dealt: list[torch.Tensor]) -> list[int]:
    """What a claim's message is off by mod 2^bits, as Python's integers, with the numbers that were dealt."""
    values = [found[0].reshape(-1).tolist() for found in forward([claim.form], dealt, PRIMES)]
    total = 1
    for p in PRIMES:
        total *= p
    parts = [total // p * pow(total // p, -1, p) for p in PRIMES]
    assert claim.form.largest < total // 2
    wrong = []
    for k, sent in enumerate(claim.linear_part.reshape(-1).tolist()):
        exact = sum(part * column[k] for part, column in zip(parts, values, strict=True)) % total
        exact -= total if exact > total // 2 else 0
        wrong.append((sent - exact) % 2**claim.bits)
    return wrong


def shares(engine, v: torch.Tensor, name: str) -> torch.Tensor:
    """This owner's share of v, the result of a product of matrices that the owners hold, so that it is a form."""
    one = torch.eye(v.shape[1], dtype=torch.int64)
    device = "meta" if engine.dry else None
    left = engine.mask(1, v.to(device) if engine.me == 1 else None, v.shape)
    right = engine.mask(0, one.to(device) if engine.me == 0 else None, one.shape)
    return engine.product(left, right)


def products(engine):
    x, y = (torch.randint(-(2**30), 2**30, (6, 5), generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    a, b = open_all(
        engine,
        MaskedOpening(shares(engine, x, "x"), 8, 24, 64, 1 << 22),
        MaskedOpening(shares(engine, y, "y"), 10, 24, 50, 1 << 22),
    )
    rows, squares, both = row_products(engine, a, b, 48), product(engine, a, a), product(engine, a, b)
    evict(engine, a, b)
    c = engine.truncate(shared_product(engine, both.t(), squares), 9)
    opened = engine.open(engine.blinded(c), engine.multiply(squares, both), engine.inner(both, squares))
    return opened, engine.swap([rows], [48])


def probabilities(bound):
    def program(engine):
        z = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * bound / 4
        z = torch.round((z - z.mean(1, keepdim=True)) * 2**32).to(torch.int64)
        engine.exact = True
        return engine.open(softmax.softmax(engine, shares(engine, z, "z"), 32, bound))

    return program


def slope(engine, bound=2.0, opened=True):
    """Influence as `protocols.slopes` computes it."""
    g = torch.Generator().manual_seed(6)
    x, y = torch.rand(11, 5, generator=g, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[torch.arange(11) % 3]
    w, v = (torch.randn(5, 3, generator=g, dtype=torch.float64) / 4 for _ in range(2))
    w, v = w - w.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    x, y = private(engine, 1, x, bound), private(engine, 1, y, bound)
    w, v = private(engine, 0, w, bound), private(engine, 0, v, bound)
    x.context = y.context = v.context = w.context
    share = ops.slope(w, v, x, y, 11, 2.3, 1.5).share
    return engine.open(share) if opened else share


def far_slope(engine, opened=True):
    """The same at logits within 30, for which coarse sizes of sums are compared by bits."""
    return slope(engine, 30.0, opened)


def unbounded(engine):
    """A softmax without a bound on logits, with maxima of rows."""
    z = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 9
    z = torch.round(z * 2**32).to(torch.int64)
    engine.exact = True
    return engine.open(unbounded_softmax(engine, shares(engine, z, "z"), 32, 120.0))


@pytest.mark.parametrize("program", [products, probabilities(2.0), slope, far_slope, unbounded])
def test_every_message_is_the_form_that_is_replayed(program):
    for claims, dealt in replayed(program):
        assert len(claims) >= 2
        for claim in claims:
            assert not any(off(claim, dealt))


def test_an_altered_message_is_not_the_form():
    for claims, dealt in replayed(products):
        for claim in claims:
            for error in (1, -1, 2 ** (claim.bits - 1)):
                sent = claim.sent.clone()
                sent.view(-1)[-1] += error - (2**64 if error == 2**63 else 0)
                wrong = off(Claim(claim.form, sent, claim.bits), dealt)
                assert wrong[-1] == error % 2**claim.bits and not any(wrong[:-1])


def test_a_program_whose_messages_are_no_forms_is_refused():
    def program(engine):
        share = shares(engine, torch.ones((2, 2), dtype=torch.int64), "x")
        return engine.open(share >> 2 if not engine.dry else share)

    with pytest.raises(AppraisalError, match="integrity.*rshift"):
        replayed(program)
