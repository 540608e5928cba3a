"""The yes under an offer: a request that names an offer of the data owner and keeps its terms needs no person.

    yes  <=>  the offer is the data owner's own, in force, and named by its digest; the request keeps its terms;
              and the month has enough answers left, which are then taken

In go a request, the data owner's offers and its own certificate key; out comes a `Decision`, or an OfferRefusal that
names each term that failed with what was found and what was expected. An offer that was changed does not hold for
whoever names its earlier digest: both sides have to say yes to new terms. Nothing is taken where any term fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timezone
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decision import Clock, Decision, stamp, utc_now
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.offers.book import OfferBook
from mpc_appraisal.governance.offers.limits import Broken, Settings, broken_terms
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.taken import Taken
from mpc_appraisal.governance.offers.words import changed_terms


class OfferRefusal(Exception):
    """An offer gives no yes to a request.

    Args:
        offer: the offer's name.
        broken: the terms that failed.
    """

    def __init__(self, offer: str, broken: list[Broken]):
        self.broken = tuple(broken)
        super().__init__(f"the offer {offer} gives no yes: {'. '.join(map(str, broken))}")


@dataclass(frozen=True)
class Offering:
    """What a data owner needs to answer under its offers.

    Attributes:
        folder: the folder of the offers.
        taken: the file in which the answers of each candidate are counted, by the candidate's name.
        own_key: the SHA-256 of the data owner's certificate key; None over a transport that shows none.
        settings: the settings of the request's methods, by method and setting.
        clock: a function that returns the time with its zone.
    """

    folder: str
    taken: Mapping[str, str | Path]
    own_key: str | None = None
    settings: Settings = field(default_factory=dict)
    clock: Clock = utc_now

    def grant(self, request: Request, buyer: str | None) -> Decision:
        """Return the yes to a request that names an offer, whose answers are then taken.

        Args:
            request: what is asked; its content has the field `offer`.
            buyer: the SHA-256 of the certificate key that the model owner showed.

        Raises OfferRefusal where a term fails, and InputError for a count that cannot be read or written.
        """
        named, now = request.content["offer"], self.clock()
        offer = self._in_force(named["name"], named["digest"])
        if broken := broken_terms(offer, request, self.settings, buyer, now):
            raise OfferRefusal(offer.name, broken)
        most, answers = offer.content["answers_per_month"], len(request.methods)
        taken = Taken(self.taken[request.candidates[0]])
        left = taken.take(offer.name, offer.digest, request.digest, buyer, answers, most, now)
        if left is not None:
            expected = f"at most the {left} that are left of {most} in {now.astimezone(timezone.utc):%Y-%m} (UTC)"
            raise OfferRefusal(offer.name, [Broken("answers a month", f"{answers} more", expected)])
        return Decision("offer", stamp(now), request.digest)

    def _in_force(self, name: str, digest: str) -> Offer:
        """Return the data owner's own offer of this name and digest. Raises OfferRefusal where it is not in force."""
        book = OfferBook(self.folder, self.clock)
        try:
            kept, earlier = book.read(name), book.earlier(name, digest)
        except InputError as error:
            signed = ".signature" in error.name  # the error itself may name a place of this owner
            found = ("signature", "one of other terms") if signed else ("offer", "none of this name that is whole")
            raise OfferRefusal(name, [Broken(*found, "an offer that this data owner has signed")]) from error
        if kept.offer.content["key"] != self.own_key:
            raise OfferRefusal(name, [Broken("key", "an offer of another key", "the key of this data owner")])
        if kept.offer.digest != digest:
            raise OfferRefusal(name, changes(earlier, kept.offer, digest))
        if kept.withdrawn:
            raise OfferRefusal(name, [Broken("withdrawn", f"at {kept.withdrawn}", "an offer that is in force")])
        return kept.offer


def changes(old: Offer | None, new: Offer, digest: str) -> list[Broken]:
    """Return each term of which the offer that was named has another value than the one in force.

    The buyer reads them, so that no key of another buyer is among them.

    Args:
        old: the offer that was named; None where nobody kept it.
        new: the offer in force.
        digest: the digest that was named.
    """
    pairs = [] if old is None else changed_terms(old, new)
    pairs = [("buyers", "those of the earlier offer", "others") if one[0] == "buyers" else one for one in pairs]
    found = [Broken(term, before, f"{after}, since the offer was changed") for term, before, after in pairs]
    return [*found, Broken("digest", digest, f"{new.digest}, the digest of the offer in force, named by the buyer")]
