"""What each party sees of levels, harmonics and a softmax does not depend on the secrets, over many runs."""

from __future__ import annotations

import pytest
import torch
from test_comparison_views import CHANCE, TELLING, advantage, suspicion, views

from mpc_appraisal.mpc.protocols import harmonics, levels
from mpc_appraisal.mpc.protocols.log_softmax import log_softmax
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all
from mpc_appraisal.mpc.protocols.slopes import averages
from mpc_appraisal.mpc.protocols.softmax import softmax
from mpc_appraisal.mpc.ring.prg import Stream

torch.set_num_threads(1)
TOP = 2**23
SUMS = (torch.full((2, 3), TOP // 3), torch.tensor([[TOP // 3, TOP - 1, TOP // 2], [TOP - 9, TOP // 3 + 5, TOP - 2]]))
LOGITS = (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[15, -15, 0], [-14, 7, 7]]) << 32)


def level_of(engine, share):
    (s,) = open_all(engine, MaskedOpening(share, 0, 24, 24, 1))
    found = levels.reached(engine, s, [3, 1000, TOP // 3 + 3, TOP - 5])
    evict(engine, s)
    return levels.level(engine, found)


def function_of(engine, share):
    fit = harmonics.fitted("reciprocal", TOP // 4, TOP, 24, TOP, 8)
    (s,) = open_all(engine, MaskedOpening(share, 0, 24, 24, 1))
    value = harmonics.evaluate(engine, s, fit, harmonics.waves(engine, s, 8))
    (y,) = open_all(engine, MaskedOpening(value, 36, 20, 64))
    evict(engine, s, y)
    return y.share(engine)


GATES = {
    "levels": (level_of, SUMS),
    "harmonics": (function_of, SUMS),
    "softmax": (lambda e, z: softmax(e, z, 32, 16.0), LOGITS),
    "softmax of a large bound": (lambda e, z: softmax(e, z, 32, 40.0), LOGITS),
    "averages": (lambda e, z: averages(e, z, 32, 16.0, MaskedOpening(z, 17, 23, 40, 1 << 20), 16), LOGITS),
    "log-softmax": (lambda e, z: log_softmax(e, z, 32, 16.0)[0], LOGITS),
}


@pytest.mark.parametrize("name", list(GATES))
def test_no_party_sees_which_secret_went_in(name):
    gate, secrets = GATES[name]
    owners, dealer = views(gate, secrets)
    assert dealer == []
    for seen, known in owners:
        assert suspicion(seen) > CHANCE and advantage(seen, known) < TELLING


@pytest.mark.parametrize("source", ["octets", "ring"])
def test_the_tests_see_a_softmax_that_opens_without_masks(source, monkeypatch):
    """Without the masks of bits, or of opened values: the dealer's shares stay as they are."""

    real = getattr(Stream, source)

    def bare(self, shape, *size):
        return real(self, shape, *size) * (source == "octets" and len(shape) == 1)

    monkeypatch.setattr(Stream, source, bare)
    owners, _ = views(*GATES["softmax" if source == "ring" else "levels"])
    assert all(suspicion(seen) < CHANCE for seen, _ in owners)
