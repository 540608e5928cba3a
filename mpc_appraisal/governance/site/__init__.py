"""A catalogue as a site of files, by which others find its listings: pages, Croissant, DCAT-AP, and offers in ODRL.

In go listings, and what the publisher says of the catalogue; out come a folder of pages, a Croissant file for each
listing (`croissant`), a DCAT-AP catalogue of all (`dcat`), both with the owner's terms as an offer (`offer`).
Nothing is stated that a listing does not state. The names in `__all__` are what other code imports from here. The
addresses in a site have to stay, because others link to them.
"""

from mpc_appraisal.governance.site.croissant import croissant, missing
from mpc_appraisal.governance.site.dcat import Publisher, dcat
from mpc_appraisal.governance.site.pages import write_site

__all__ = ["Publisher", "croissant", "dcat", "missing", "write_site"]
