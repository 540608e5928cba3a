"""Alterations of all messages of checked appraisals, and honest appraisals, in numbers that no ordinary test can have.

    python -m tests.support.every_message honest --runs 1000     # honest sessions, none of which may be refused
    python -m tests.support.every_message claims                 # each message of each program, by each kind of error
    python -m tests.support.every_message sessions --runs 1000   # whole sessions with one message altered at random
    python -m tests.support.every_message large --runs 2000      # random numbers of a candidate of MNIST's size

The first failure ends it with an AssertionError. `tests/appraisal/test_altered_messages.py` and
`test_altered_claims.py` make a part of this.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch

if __package__:
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(each) for each in (here, here.parent / "mpc", here.parent / "appraisal")]  # as pytest has it

from checked_sessions import COVERED, Appraisal, play, varied
from recorded_sessions import KINDS, check_false_by_the_error, checked_messages, record
from test_altered_messages import alter_at_random

from mpc_appraisal.mpc.integrity.bit_sumcheck import total_of, words_of
from mpc_appraisal.mpc.integrity.subset_claims import SubsetClaims

LARGE = Appraisal(rows=(5940,), features=784, classes=10, scale=0.05, inputs=(((0,),), ((0, 1),)))
BATCH = 100  # so many numbers of a large message are altered at once


def honest(runs: int) -> str:
    for k, appraisal in enumerate(varied(runs)):
        played = play(appraisal)
        assert not played.errors, (k, appraisal, played.errors)
    return f"{runs} honest sessions of {len(COVERED)} programs: none was refused"


def claims(runs: int) -> str:
    messages = found = 0
    for name, appraisal in COVERED.items():
        recorded = record(appraisal)
        for place in checked_messages(recorded):
            messages += 1
            found += sum(check_false_by_the_error(recorded, *place, kind) for kind in KINDS)
        print(f"{name}: done", file=sys.stderr, flush=True)
    return f"{found} altered numbers of {messages} messages, by {len(KINDS)} kinds: each claim is false by its error"


def sessions(runs: int) -> str:
    chance, names = random.Random(runs), list(COVERED)
    right = {name: play(appraisal) for name, appraisal in COVERED.items()}
    for name in (names * runs)[:runs]:
        alter_at_random(COVERED[name], right[name], chance)
    return (
        f"{runs} sessions of {len(names)} programs with an altered message: each was refused, and the cheat was named"
    )


def large(runs: int) -> str:
    """Random numbers of random messages of a large candidate, and random subsets of their claims."""
    chance, recorded, done = np.random.default_rng(runs), record(LARGE, 3600.0), 0
    for me in (0, 1):
        sent = recorded.sections[me][0].sent
        numbers = [number for owner, _, number in checked_messages(recorded) if owner == me]
        sizes = np.array([sent[number].numel() for number in numbers], float)
        drawn = chance.choice(numbers, runs // 2, p=sizes / sizes.sum())
        for turn, number in enumerate(np.repeat(*np.unique(drawn, return_counts=True))[::BATCH]):
            count = min(BATCH, sent[number].numel())
            places = chance.choice(sent[number].numel(), count, replace=False)
            done += check_false_by_the_error(recorded, me, 0, int(number), list(KINDS)[turn % len(KINDS)], places)
        replay = recorded.replayed(me, 0, sent)
        octets = sum(claim.sent.size for claim in replay.plane_claims)
        bits = np.concatenate([np.full(c.form.numel(), c.bits) for c in replay.claims])
        for _ in range(runs // 2):
            errors, k = np.zeros(len(bits), np.int64), chance.integers(len(bits))
            errors[k] = chance.choice([1, -1, 1 << int(bits[k]) - 1 if bits[k] < 64 else -(1 << 63)])
            assert any(SubsetClaims(chance.bytes(32), "large", bits).sums(errors)), k
            flipped, k = np.zeros(octets, np.uint8), chance.integers(8 * octets)
            flipped[k // 8] = 1 << k % 8
            assert total_of(words_of(chance.bytes(32), "large", octets), flipped), k
    return f"{done} altered numbers at the size of MNIST: each claim is false by its error, and so are sums of claims"


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {each.__name__: each for each in (honest, claims, sessions, large)}
    parser.add_argument("what", choices=kinds)
    parser.add_argument("--runs", type=int, default=1000)
    args = parser.parse_args()
    start = time.perf_counter()
    print(f"{kinds[args.what](args.runs)}; {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
