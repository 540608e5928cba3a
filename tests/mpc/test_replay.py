"""An owner's program on linear forms gives every message that the owner has sent, of what it was dealt."""

from __future__ import annotations

import pytest
import torch
from replays import far_slope, off, probabilities, products, replayed, shares, slope, unbounded

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.integrity.replay import Claim

torch.set_num_threads(1)


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
