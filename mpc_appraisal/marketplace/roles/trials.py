"""The trials that a cloud allows a shopper: the subsets of the selection in order, each beside the accepted ones.

Suppose that the cloud trained on whatever rows it is asked to. Then a cheating shopper could have it train on one row,
on one row many times, or any number of times, and every answer would reveal more of those rows. So the cloud derives
the subsets from the plan, as `validation.validate` does, and refuses any other request by the shopper's name. In go the
places of the rows that are tried and the shopper's requests; out comes a PeerError for a request that the plan does not
allow.

What a cheating shopper can still do:

- It can say that a subset was accepted, or was not, whatever its own rows showed. So it chooses one of 2^k sequences of
  k trials.
- It can leave out sellers, as an honest shopper does with sellers whose labels do not open, so that fewer rows are
  tried together.
- It can bring own and validation rows of its choice, and it learns what the plan opens of them.
- It can state the ids or nonces of other uploads to the authority, and so obtain label keys of other rows, which are
  counted alike.
- It can run the whole market again. The authority counts keys of functions and of labels over all runs; nobody counts
  trials.

The checks may become stricter, never looser; and the order of subsets may change only together with `validation`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.marketplace.buying.validation import subsets
from mpc_appraisal.marketplace.roles import SHOPPER

MOST_ROWS = 1 << 20  # the most rows that a shopper may bring, to train or to validate on


class Trials:
    """The trials of one run, as the cloud follows them.

    Args:
        places: the places in the selection of the rows that are tried, in order.
        granularity: the number of rows of a subset; where fewer rows are tried, all of them are one subset.
    """

    def __init__(self, places: Sequence[int], granularity: int):
        parts = subsets(torch.tensor(list(places)), min(granularity, len(places))) if places else ()
        self._left = [tuple(part.tolist()) for part in parts]
        self._kept: tuple[int, ...] = ()
        self._last: tuple[int, ...] = ()

    def take(self, picked: Sequence[int]) -> None:
        """Begin the trial that trains on the rows at the places `picked`.

        Raises PeerError unless these places are the accepted subsets followed by the next subset.
        """
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
        """Raise PeerError unless `picked` are the places of all accepted subsets."""
        if tuple(picked) not in (self._kept + self._last, self._kept):
            raise PeerError(f"{SHOPPER} asked for a network of {len(picked)} rows; expected those that it accepted")


def kept_places(selected: Sequence[tuple[str, int]], left_out: Sequence[str]) -> list[int]:
    """Return the places in the selection of all rows but those of the sellers in `left_out`."""
    return [place for place, (name, _) in enumerate(selected) if name not in set(left_out)]
