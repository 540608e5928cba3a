"""A few mutants of every file and message; `make fuzz` runs ten thousand of each."""

from __future__ import annotations

import pytest
from fuzz import READERS, mutant, run


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_mutant_is_accepted_or_refused_by_name(reader, tmp_path):
    accepted, faults = run(reader, tmp_path, reader.few or 12)
    assert not faults
    assert (accepted < reader.few) == bool(reader.few), "no mutant of this reader is refused"


def test_mutants_are_always_the_same_and_differ(tmp_path):
    reader = READERS[0]
    seeds = reader.seeds(tmp_path)
    first = [mutant(reader, seeds, k) for k in range(20)]
    assert first == [mutant(reader, seeds, k) for k in range(20)] and len(set(first)) > 15
