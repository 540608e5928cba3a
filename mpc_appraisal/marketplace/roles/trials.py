"""What the shopper may have tried at the cloud: the subsets of the selection in order, each beside those accepted.

A cloud that trains on whatever rows it is told trains, for a shopper that cheats, on one row, on one row many times, or
as often as it is asked, and every answer says more of those rows. So the cloud derives the subsets from the plan, as
`validation.validate` does, and refuses any other request by the shopper's name. What a cheating shopper can still do:

- say that a subset was accepted, or not, whatever its own rows said: it chooses one of 2^k sequences of k trials;
- leave out sellers, as one does whose labels do not open, so that fewer rows are tried together;
- bring own and validation rows of its choice, of which it learns what the plan opens;
- state other uploads' ids or nonces to the authority, and so have label keys of other rows, which are counted alike;
- run the whole market again: the authority counts keys of functions and of labels over all runs; nobody counts trials.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.marketplace.buying.validation import subsets
from mpc_appraisal.marketplace.roles import SHOPPER

MOST_ROWS = 1 << 20  # of the shopper's own, to train or to validate on


class Trials:
    """places: of the selection's rows that are tried, in order; granularity: rows of a subset."""

    def __init__(self, places: Sequence[int], granularity: int):
        parts = subsets(torch.tensor(list(places)), min(granularity, len(places))) if places else ()
        self._left = [tuple(part.tolist()) for part in parts]
        self._kept: tuple[int, ...] = ()
        self._last: tuple[int, ...] = ()

    def take(self, picked: Sequence[int]) -> None:
        """The next trial trains on `picked`. Raises PeerError unless it is the next subset beside all accepted ones."""
        picked = tuple(picked)
        if not self._left:
            raise PeerError(f"{SHOPPER} asked for another trial; expected no more than the plan has subsets")
        following = self._left.pop(0)
        for kept in (self._kept + self._last, self._kept):
            if picked == kept + following:
                self._kept, self._last = kept, following
                return
        raise PeerError(
            f"{SHOPPER} asked for a trial on {len(picked)} rows; expected the next subset of the rows that it selected "
            "beside all that it accepted before"
        )

    def deliver(self, picked: Sequence[int]) -> None:
        """Raises PeerError unless `picked` are the rows of all accepted subsets."""
        if tuple(picked) not in (self._kept + self._last, self._kept):
            raise PeerError(f"{SHOPPER} asked for a network of {len(picked)} rows; expected those that it accepted")


def kept_places(selected: Sequence[tuple[str, int]], left_out: Sequence[str]) -> list[int]:
    """Places in the selection of all rows but those of the sellers that were left out."""
    return [place for place, (name, _) in enumerate(selected) if name not in set(left_out)]
