"""What an owner opens by altering its share of a bit or of a winner's number is refused, where it is neither."""

from __future__ import annotations

import pytest
import torch

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.release.base import bit_of, index_of


def test_a_bit_is_zero_or_one():
    assert bit_of(torch.tensor([1.0])) is True and bit_of(torch.tensor(0.0)) is False


@pytest.mark.parametrize("opened", [2.0, -1.0, 3.0, 0.5, 1e9, float("nan")])
def test_any_other_number_is_no_bit(opened):
    with pytest.raises(PeerError, match="expected 0 or 1"):
        bit_of(torch.tensor([opened]))


def test_a_winner_is_a_candidate_that_can_win():
    assert index_of(torch.tensor(2.0), [True, False, True]) == 2


@pytest.mark.parametrize("opened", [1.0, 3.0, -1.0, 0.5, 1000.0, float("inf")])
def test_any_other_number_is_no_winner(opened):
    with pytest.raises(PeerError, match="altered its share"):
        index_of(torch.tensor(opened), [True, False, True])
