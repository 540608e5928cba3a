"""The catalogue: what a data owner publishes about a data set in place of the data.

A listing (`listing`) is one JSON file, valid under a schema (`schema`). It holds sizes, types, encoding, terms, a
commitment to the data (`commitment`), and on demand statistics or sample rows (`facts`). A catalogue (`store`) is a
folder of such files, which can be put in git or on a web server. `check_listing` (`check`) refuses data that are not
what a listing says. In go data and the owner's words; out come files, or errors. The names in `__all__` are what other
code imports from here, and the form of a listing has to stay, because others have copies.
"""

from mpc_appraisal.governance.catalogue.check import check_listing, check_recipe
from mpc_appraisal.governance.catalogue.commitment import commit, new_salt, read_salt, salt_beside, write_salt
from mpc_appraisal.governance.catalogue.facts import real_samples, statistics, synthetic_samples, types_of
from mpc_appraisal.governance.catalogue.listing import Listing, Samples, Statistics, Terms, read_listing, write_listing
from mpc_appraisal.governance.catalogue.store import Bad, matches, publish, read_catalogue

__all__ = [
    "Bad",
    "Listing",
    "Samples",
    "Statistics",
    "Terms",
    "check_listing",
    "check_recipe",
    "commit",
    "matches",
    "new_salt",
    "publish",
    "read_catalogue",
    "read_listing",
    "read_salt",
    "real_samples",
    "salt_beside",
    "statistics",
    "synthetic_samples",
    "types_of",
    "write_listing",
    "write_salt",
]
