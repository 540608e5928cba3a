"""What an owner sends in an appraisal, replayed: each number of each message has a claim of its own, and an altered
number makes this claim false by exactly the error, whatever the error and wherever it stands.

That a false claim ends a session is shown in test_subset_claims, test_inner_product_check and test_altered_messages.
`python tests/support/every_message.py` makes all alterations of all messages.
"""

from __future__ import annotations

import random

import pytest
import torch
from checked_sessions import COVERED
from recorded_sessions import KINDS, Recording, check_false_by_the_error, checked_messages, record, sent_numbers

torch.set_num_threads(1)
SOME = 10  # so many messages of a program are altered, where those of influence are all altered


@pytest.fixture(scope="module", params=COVERED)
def recorded(request) -> Recording:
    return record(COVERED[request.param])


def test_an_honest_run_has_no_false_claim_and_covers_every_bit(recorded):
    """Flipped one by one, the bits of all messages are those of the claims, but for what pads numbers to octets."""
    for me in (0, 1):
        for section, own in enumerate(recorded.sections[me]):
            replay, flipped = recorded.replayed(me, section, own.sent), 0
            assert not any(wrong.any() for wrong in recorded.off(me, section, replay))
            assert sorted({claim.bits for claim in replay.claims}) == own.moduli
            others = set(range(len(own.sent))) - set(recorded.appraisal.inputs[me][section])
            for bit in range(8):
                sent = [message.clone() for message in own.sent]
                for number in others:
                    sent[number].reshape(-1).view(torch.uint8).bitwise_xor_(1 << bit)
                changed = zip(sent_numbers(recorded.replayed(me, section, sent)), sent_numbers(replay), strict=True)
                flipped += sum(int(each).bit_count() for a, b in changed for each in a ^ b)
            padding = sum(c.form.numel() * (-c.bits % 8) for c in replay.claims)
            assert flipped + padding == 8 * sum(own.sent[k].numel() * own.sent[k].element_size() for k in others)


def test_an_altered_number_makes_its_own_claim_false_by_the_error(recorded):
    """All numbers of a message at once, by kinds of errors in turn."""
    messages = checked_messages(recorded)
    if recorded.appraisal is not COVERED["influence"]:
        messages = random.Random(4).sample(messages, min(SOME, len(messages)))
    for turn, place in enumerate(messages):
        check_false_by_the_error(recorded, *place, list(KINDS)[turn % len(KINDS)])
