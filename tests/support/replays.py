"""Programs of both owners that are run, recorded, and run again on linear forms, and how far a claim is off.

The oracle is Python's integers: the linear part of a claim is computed modulo eight primes from the numbers that were
dealt, joined by the Chinese remainder theorem, and compared with what was sent. Of packed bits it is numpy's octets.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from three import Run, new_key, private, run

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.integrity.linear_form import forward
from mpc_appraisal.mpc.integrity.plane_form import PlaneForm
from mpc_appraisal.mpc.integrity.replay import Claim, PlaneClaim, ReplayEngine
from mpc_appraisal.mpc.net.channel import Transcript
from mpc_appraisal.mpc.protocols import softmax
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product, row_products, shared_product
from mpc_appraisal.mpc.protocols.unbounded_softmax import unbounded_softmax
from mpc_appraisal.mpc.ring.packing import unpack, width
from mpc_appraisal.mpc.ring.prg import Stream

PRIMES = (2147483647, 2147483629, 2147483587, 2147483579, 2147483563, 2147483549, 2147483543, 2147483497)


class Drawn:
    """A stream that remembers the numbers that it has given."""

    def __init__(self, stream: Stream):
        self.stream, self.numbers = stream, []

    def ring(self, shape, size=8, bits=None):
        self.numbers.append(self.stream.ring(shape, size, bits))
        return self.numbers[-1].clone()

    def octets(self, shape):
        self.numbers.append(self.stream.octets(shape))
        return self.numbers[-1].clone()


class Noting(ReplayEngine):
    """A replay that remembers in which order leaves of numbers and of bits were drawn, by purpose."""

    def __init__(self, *arguments):
        self.order = defaultdict(list)
        super().__init__(*arguments)

    def new_leaf(self, purpose, shape, bits):
        self.order[purpose].append(super().new_leaf(purpose, shape, bits))
        return self.order[purpose][-1]

    def new_plane(self, purpose, shape):
        self.order[purpose].append(super().new_plane(purpose, shape))
        return self.order[purpose][-1]


@dataclass
class Given:
    """What was dealt to an owner: the numbers in the order of the tape's leaves, and octets of bits by their nodes."""

    numbers: list[torch.Tensor]
    octets: dict[int, np.ndarray]


@dataclass
class Replayed:
    """The replay of one owner: its engine, and what was dealt to that owner."""

    engine: ReplayEngine
    dealt: Given

    @property
    def claims(self) -> list[Claim | PlaneClaim]:
        return [*self.engine.claims, *self.engine.plane_claims]


def replayed(program) -> list[tuple[list[Claim | PlaneClaim], Given]]:
    """Run `program(engine)` at three parties, replay each owner; return (claims, what was dealt) by owner."""
    return [(owner.claims, owner.dealt) for owner in run_and_replayed(program)[1]]


def run_and_replayed(program) -> tuple[Run, list[Replayed]]:
    """Run `program(engine)` at three parties on affine engines, and replay each owner."""
    pair = new_key()

    def recorded(engine):
        engine.affine = True
        if not engine.dry:
            engine.channel.transcript, engine.pair = Transcript(), Stream(pair, "pair")
            engine.streams = {purpose: Drawn(stream) for purpose, stream in engine.streams.items()}
        return program(engine)

    done, found = run(recorded), []
    for me, engine in enumerate(done.engines):
        replay = Noting(me, engine.channel.transcript, Stream(pair, "pair"))
        program(replay)
        assert not replay.channel.sent and not replay.channel.received, "messages are left over"
        assert all(leaf.of is None for leaf in replay.tape.leaves), "a leaf is made of another one"
        numbers = {purpose: list(stream.numbers) for purpose, stream in engine.streams.items()}
        if me == 0:
            numbers["share"] = engine.channel.transcript.dealt
        by_node, octets = {}, {}
        for purpose, forms in replay.order.items():
            for form, drawn in zip(forms, numbers[purpose], strict=True):
                if isinstance(form, PlaneForm):
                    octets[form.node] = drawn.reshape(form.shape).numpy()
                else:
                    by_node[form.node] = as_dealt(drawn, form, bits_of(replay, form))
        found.append(Replayed(replay, Given([by_node[node] for node in sorted(by_node)], octets)))
    return done, found


def bits_of(replay: ReplayEngine, form) -> int:
    """How many bits the numbers of a leaf have."""
    return replay.tape.leaves[replay.tape.nodes[form.node].leaf].bits


def as_dealt(drawn: torch.Tensor, form, bits: int) -> torch.Tensor:
    """What was drawn, or sent by the dealer, as the numbers of its leaf: it is words, or packed numbers."""
    if drawn.dtype != torch.uint8:
        return drawn.reshape(form.shape)
    return unpack(drawn, form.shape, width(bits))


def off(claim: Claim | PlaneClaim, dealt: Given) -> list[int]:
    """What a claim's message is off by mod 2^bits, as Python's integers, with what was dealt; of bits, each bit."""
    if isinstance(claim, PlaneClaim):
        (found,) = claim.form.tape.forward([claim.form.node], dealt.octets)
        return np.unpackbits(found ^ claim.linear_part, bitorder="little").tolist()
    values = [found[0].reshape(-1).tolist() for found in forward([claim.form], dealt.numbers, PRIMES)]
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
