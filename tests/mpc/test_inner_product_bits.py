"""Claims about bits in the messages of the check of inner products: whatever is altered is found, and named."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch
from test_inner_product_check import MESSAGES, Case, found, run

from mpc_appraisal.mpc.integrity import sumcheck

torch.set_num_threads(1)


def test_bytes_with_bits_are_those_stated():
    rounds, of_bits = sumcheck.rounds_of(9), 3  # six octets and the dummy element are halved three times
    _, seen = run(Case(9, 5, 1, octets=6))
    proof = 64 * rounds + 504 + 32 * of_bits
    told = 32 * rounds + 256 + 16 * of_bits
    assert [len(each) for each in seen] == [32 + 40, 95 + proof + 40 + 64 + 32, 1 + 32 + told]


def test_an_error_in_claims_about_bits_is_found_and_so_are_other_dealt_bits():
    for prover, k in product((0, 1), range(0, 64, 9)):
        case = Case(4, 2, k, prover=prover, octets=3)
        case.total ^= 1 << k
        found(case, (prover,))
        case = Case(4, 2, k, prover=prover, octets=3)
        other = case.bits.copy()
        other[k % 3] ^= 1 << k % 8
        found(case, (prover,), bits_of_dealer=other)


PARTS = {  # of messages about bits, by the party and its message: where their bytes are from the end
    "proof": (0, 1, range(1, 504 + 64 + 1)),
    "challenges": (1, 2, range(1, 256 + 32 + 1)),
    "answer": (2, 2, range(1, 33)),
}


@pytest.mark.parametrize("name", PARTS)
def test_every_part_of_the_messages_about_bits_is_looked_at(name):
    rank, which, places = PARTS[name]
    _, _, names = MESSAGES[name]
    for place in random.Random(name).sample(places, 24):

        def alter(k, to, data, place=place):
            if k != which:
                return data
            return data[:-place] + bytes([data[-place] ^ 64]) + data[len(data) - place + 1 :]

        found(Case(3, 1, place, octets=3), names, alter={rank: alter})
