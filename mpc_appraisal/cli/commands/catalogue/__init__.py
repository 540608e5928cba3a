"""`mpc-appraisal catalogue`: publish a listing, check data against one, and list, search or show those of a folder.

`site` shows them as pages, and in the formats of search engines and data portals; `import` reads such a description.
A listing is the public description of a data set: sizes, terms and a commitment, which is a salted hash that binds its
owner to the data. Each action is one file of this folder, and its `run` takes the arguments that follow the action's
name and a rich console for tables. To add an action, add its file to `ACTIONS`. A catalogue is meant to be published,
so that no action may write data into it beyond what the owner asked to publish.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Any

from mpc_appraisal.cli.commands.catalogue import check, imported, list, publish, search, show, site
from mpc_appraisal.cli.commands.catalogue.listings import FOLDER
from mpc_appraisal.cli.console import terminal
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.catalogue.schema import MOST_SAMPLES
from mpc_appraisal.governance.catalogue.store import DAYS, NUMBERS, TEXTS

TEXT_FIELDS = ("\n" + 9 * " ").join(wrap(", ".join(TEXTS), 70))
USAGE = f"""usage: mpc-appraisal catalogue publish data=FILE name=NAME [KEY=VALUE ...]
       mpc-appraisal catalogue list [in=DIR]
       mpc-appraisal catalogue search [in=DIR] [WORD ...] [FIELD>=VALUE ...]
       mpc-appraisal catalogue show NAME [in=DIR]
       mpc-appraisal catalogue import FILE [in=DIR] [name=NAME]
       mpc-appraisal catalogue site DIR [in=DIR] [title=TEXT]
               [description=TEXT] [publisher=NAME] [url=ADDRESS] [offers=DIR]
       mpc-appraisal catalogue check listing=FILE data=FILE [secret=FILE]
               [label=COLUMN] [classes=N] [recipe=FILE]
               [record=FILE train=FILE test=FILE [model=FILE] [salt=FILE]
                [threshold=NUMBER]]

A catalogue is a folder of listings, one JSON file each, for git or a web
server. The data are never in it.

publish: write a listing of a data file.
         out=DIR is the catalogue (default: {FOLDER}). secret=FILE is the file
         for the salt of the commitment, which stays with the owner (default:
         FILE.NAME.salt beside the data). label=COLUMN and classes=N are as the
         data need them. recipe=FILE makes features of a raw table, and its
         digest and names are published. title, description and encoding are
         texts. creator=NAME says who made the data, date=2026-01-31 when this
         version of them was published, and version=1.0.0 which version it is.
         target=number says that the label column is a number, and unit=TEXT
         its unit; a recipe says both itself.
         columns=file publishes the features' names of the file's header, and
         columns=A,B,... names those of a file without names.
         class_names=A,B,... names labels 0, 1, ..., and class_names=file
         publishes the file's names. Names are compared with the buyer's.
         Without them, columns go by position and labels by number.
         terms=TEXT, minimum_rows=N, price=N, currency=EUR, licence=TEXT,
         purposes=A,B,... and contact=TEXT state the terms. A licence is the
         name of one, as CC-BY-4.0 of SPDX, or its address, https://...
         statistics=yes publishes rows by class, and means and deviations of
         all columns; statistics=A,B,... of these columns alone.
         samples=synthetic:N publishes invented rows, and samples=real:N real
         rows, which all can see, for N up to {MOST_SAMPLES}. By default none of
         these is published; each says what it reveals
list:    print a table of all listings. Status 1 says that a file is bad
search:  print a table of the listings in which all words occur and all
         conditions hold.
         Numbers and days, with = != > >= < <=:
         {", ".join((*NUMBERS, *DAYS))}.
         Texts, with = and !=:
         {TEXT_FIELDS}.
         An argument with < or > needs quotation marks
show:    print everything that one listing says
import:  keep somebody else's description of data, a Croissant file (1.0, 1.1),
         for list, search, show and site. name=NAME is its name here (default:
         from its own). It has no commitment, so that no appraisal can be tied
         to it. Nothing is fetched, and what is left out is named
site:    write pages of all listings into DIR, with a search, for any web server
         or none. Croissant 1.1 of each and DCAT-AP 3 of all are beside them,
         with the terms as ODRL offers, for search engines and data portals.
         publisher=NAME is who publishes the catalogue, and url=https://.../ the
         address that DIR will have. Column statistics are shown only where
         statistics= published them. offers=DIR shows the standing offers of
         that folder. Status 1 says that a file is bad
check:   are these the data that the listing commits to? The buyer asks it once
         data and salt are delivered, and the owner may ask it before.
         secret=FILE is the salt (default: FILE.NAME.salt beside the data).
         Status 2 says that they are not. The check shows that the delivered
         data are the listed ones. That they are the appraised ones is the data
         owner's word, unless record=records.jsonl of the appraisal is stated
         with the buyer's own train=, test= or model=. Then the answer is
         computed again in the clear, and status 2 says that data, model or
         value are others.
         salt=FILE is the salt of the buyer's own commitment (default:
         FILE.inputs.salt beside its model or train=). threshold=NUMBER is
         needed if a bit was released; metric=, group= and class_weights= are as
         under appraisal, if the answer is for another metric than the log loss.
         An answer that agrees may still be off within the stated error
in=DIR:  the catalogue (default: {FOLDER})"""


ACTIONS: dict[str, Callable[[Sequence[str], Any], None]] = {
    "publish": publish.run,
    "list": list.run,
    "search": search.run,
    "show": show.run,
    "import": imported.run,
    "site": site.run,
    "check": check.run,
}


def main(arguments: Sequence[str], console: Any = None) -> None:
    """Run the subcommand. Tables go to the rich console; by default to the terminal's.

    Raises InputError for a bad argument, and what the action raises.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if arguments[0] not in ACTIONS:
        raise InputError("catalogue", shown(arguments[0]), f"one of {', '.join(ACTIONS)}")
    ACTIONS[arguments[0]](arguments[1:], console or terminal())


__all__ = ["main"]
