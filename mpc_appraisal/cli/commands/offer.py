"""`mpc-appraisal offer`: a data owner's standing offers, under which requests are answered without a person.

In go terms and the data owner's certificate folder; out comes a signed file that buyers name as party.offer, or a table
of the offers in a folder. `check` verifies a file with the certificate alone. Keys of terms are those of `offer_terms`.
The looks may change; names of actions and keys have to stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.arguments import split
from mpc_appraisal.cli.console import terminal
from mpc_appraisal.cli.offer_views import facts_of, left_of, state_of, table_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.decision import utc_now
from mpc_appraisal.governance.offers.book import FOLDER, Kept, OfferBook
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.taken import FILE, Taken
from mpc_appraisal.governance.offers.words import changed_terms
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import Table

USAGE = f"""usage: mpc-appraisal offer make name=NAME listing=FILE methods=A,B
           release=KIND answers_per_month=N until=DAY tls=DIR [in=DIR] [...]
       mpc-appraisal offer list [in=DIR] [ledgers=DIR]
       mpc-appraisal offer show NAME [in=DIR] [ledgers=DIR]
       mpc-appraisal offer withdraw NAME [in=DIR]
       mpc-appraisal offer check FILE certificate=FILE

standing offers of a data owner: who keeps their terms is answered without a
person (party.offers=DIR); a buyer takes one with party.offer=FILE, over TLS

make:     sign an offer with the key in the certificate folder tls=DIR, and put
          it into the folder of offers. More terms:
          METHOD.SETTING=A..B or =X,Y   limits of a method's setting
          epsilon=E delta=D     the most that an answer costs (release=dp)
          learners=model_owner  who is told; both is the default
          price=P currency=EUR  the price of one answer
          purposes=A,B          permitted purposes; without it, every one
          buyers=CERT,SHA256    files of certificates, or SHA-256 of keys
          integrity=on          all messages of both owners are checked
          text=TEXT             terms in your own words, which nothing checks
          replace=yes           change the offer of this name. Who took it has
                                to name the new one
list:     print all offers, and how many answers are left this month (UTC)
show:     print one offer with all terms
withdraw: give no more answers under the offer
check:    check a file with the data owner's certificate alone
in=DIR:   the folder of the offers (default: {FOLDER})
ledgers=DIR: the folder of the ledgers, where answers are counted in
          {FILE} (default: this folder)"""


def main(arguments: Sequence[str], console: Any = None) -> None:
    """Run the subcommand. Tables go to the rich console; by default to the terminal's.

    Raises InputError for a bad argument, and SystemExit with status 1 if `list` meets a damaged offer.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    actions: dict[str, Callable[[Sequence[str], Any], None]] = {
        "make": _make,
        "list": _list,
        "show": _show,
        "withdraw": _withdraw,
        "check": _check,
    }
    if arguments[0] not in actions:
        raise InputError("offer", shown(arguments[0]), f"one of {', '.join(actions)}")
    actions[arguments[0]](arguments[1:], console or terminal())


def _stated(action: str, arguments: Sequence[str], names: int, *keys: str) -> tuple[list[str], dict[str, str]]:
    """Return the words without a key, and the values of the arguments KEY=VALUE."""
    stated, left = split(arguments, keys)
    empty = [key for key, value in stated.items() if not value]
    if len(left) != names or any("=" in one for one in left) or empty:
        expected = " ".join(["NAME" if action != "check" else "FILE"] * names + [f"{key}=..." for key in keys])
        raise InputError(f"offer {action}", shown(" ".join(arguments)) or "nothing", expected)
    return left, stated


def _make(arguments: Sequence[str], console: Any) -> None:
    from mpc_appraisal.cli.offer_terms import KEYS, content_of, key_in, replaces

    stated, left = split(arguments, (*KEYS, "in"))
    limits, others = split(left, [one.partition("=")[0] for one in left if "." in one.partition("=")[0]])
    if others:
        expected = f"KEY=VALUE, each key once, of {', '.join((*KEYS, 'in'))}, or METHOD.SETTING=LIMIT"
        raise InputError("offer make", shown(others[0]), expected)
    book = OfferBook(stated.get("in") or FOLDER)
    replace = replaces(stated)
    offer = Offer.signed(content_of(stated, limits, utc_now()), key_in(stated["tls"]))
    old = book.put(offer, replace)
    print(f"offer: {book.folder / offer.name}.json (SHA-256 {offer.digest})")
    for term, before, after in [] if old is None else changed_terms(old, offer):
        print(f"changed {term}: {shown(before, 400)} before; {shown(after, 400)} now")


def _list(arguments: Sequence[str], console: Any) -> None:
    _, stated = _stated("list", arguments, 0, "in", "ledgers")
    folder = Path(stated.get("in", FOLDER))
    if not folder.is_dir():
        raise InputError("in", shown(str(folder)), "the folder of offers, as `mpc-appraisal offer make` makes it")
    found = OfferBook(folder).all()
    print_table(table_of(found, _taken(stated), utc_now()), console)
    if any(kept.offer is None for kept in found):
        raise SystemExit(1)


def _show(arguments: Sequence[str], console: Any) -> None:
    (name,), stated = _stated("show", arguments, 1, "in", "ledgers")
    kept, now = OfferBook(stated.get("in", FOLDER)).read(name), utc_now()
    facts = [("state", _state(kept)), *facts_of(kept.offer)]
    facts.insert(1, ("left this month", str(left_of(kept.offer, _taken(stated), now))))
    print_table(Table(f"Offer {kept.name}", ("term", "value"), "ll", facts), console)


def _withdraw(arguments: Sequence[str], console: Any) -> None:
    (name,), stated = _stated("withdraw", arguments, 1, "in")
    offer = OfferBook(stated.get("in", FOLDER)).withdraw(name)
    print(f"withdrawn: {offer.name} (SHA-256 {offer.digest})")


def _check(arguments: Sequence[str], console: Any) -> None:
    from mpc_appraisal.cli.offer_terms import certificate_in

    (file,), stated = _stated("check", arguments, 1, "certificate")
    if "certificate" not in stated:
        raise InputError("certificate", None, "certificate=FILE, the data owner's certificate")
    offer = Offer.read(file, "FILE")
    offer.check_certificate(certificate_in(stated["certificate"], "certificate"))
    state = _state(Kept(offer.name, offer))
    note = "The holder of the certificate's key signed these terms. Whether they were withdrawn, its owner alone knows."
    facts = [("until now", "not expired" if state == "in force" else state), *facts_of(offer)]
    print_table(Table(f"Offer {offer.name}", ("term", "value"), "ll", facts, (note,)), console)


def _state(kept: Kept) -> str:
    state = state_of(kept, utc_now())
    return f"{state} since {kept.withdrawn}" if kept.withdrawn else state


def _taken(stated: dict[str, str]) -> Taken:
    return Taken(Path(stated.get("ledgers", ".")) / FILE)
