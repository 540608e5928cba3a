"""DCAT-AP 3: catalogues conform to shapes of what the profile makes mandatory, and the shapes refuse what does not."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path

import pyshacl
import pytest
from linked_data import BASE, asked, bare, complete, graph, hostile

from mpc_appraisal.governance.site import Publisher, dcat

SHAPES = Path(__file__).with_name("dcat_ap_3.ttl")


def conforms(content):
    """Return whether a catalogue at BASE conforms to the shapes, and the report."""
    done, _, words = pyshacl.validate(graph(content, BASE + "catalogue.jsonld"), shacl_graph=str(SHAPES))
    return done, words


@pytest.mark.parametrize(
    "listings", [[], [bare()], [complete()], [bare(), complete(), hostile()]], ids=["none", "bare", "complete", "all"]
)
@pytest.mark.parametrize("publisher", [Publisher(), Publisher("Shop", "Title", "Words", "https://shop.org/a/")])
def test_a_catalogue_conforms(listings, publisher):
    done, words = conforms(dcat(listings, publisher))
    assert done, words


def without(content, *path):
    *parents, last = path
    for key in parents:
        content = content[key]
    del content[last]


DATA = ("dcat:dataset", 0)
FILE = (*DATA, "dcat:distribution", 0)
POLICY = (*FILE, "odrl:hasPolicy")
PERMISSION = (*POLICY, "odrl:permission", 0)


@pytest.mark.parametrize(
    "path",
    [
        ("dct:title",),
        ("dct:description",),
        ("dct:publisher",),
        ("dct:publisher", "foaf:name"),
        ("@type",),
        *((*DATA, key) for key in ("dct:title", "dct:description", "@type", "odrl:hasPolicy")),
        *((*FILE, key) for key in ("dcat:accessURL", "@type")),
        *((*POLICY, key) for key in ("odrl:assigner", "odrl:permission", "@type")),
        *((*PERMISSION, key) for key in ("odrl:target", "odrl:action", "odrl:duty")),
        (*PERMISSION, "odrl:duty", 0),  # the owner's consent
        (*PERMISSION, "odrl:constraint", 0, "odrl:operator"),
        (*PERMISSION, "odrl:duty", 1, "odrl:action", "odrl:refinement", 0, "odrl:unit"),
    ],
    ids=lambda path: ".".join(map(str, path)),
)
def test_the_shapes_refuse_a_catalogue_that_lacks_a_part(path):
    content = copy.deepcopy(dcat([complete()], Publisher("Shop")))
    without(content, *path)
    done, words = conforms(content)
    assert not done, words


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*DATA, "dct:issued", "@value"), "2026-02-30"),
        ((*DATA, "dct:issued"), "2026-01-31"),
        ((*DATA, "dct:title"), ""),
        ((*FILE, "dcat:accessURL"), "listings/complete.html"),
        ((*FILE, "dcat:downloadURL"), {"@id": "data.csv"}),
        ((*FILE, "dct:license"), "CC-BY-4.0"),
        ((*PERMISSION, "odrl:duty", 1, "odrl:action", "odrl:refinement", 0, "odrl:rightOperand"), "100"),
        ((*PERMISSION, "odrl:action"), {"@id": "odrl:transfer"}),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_the_shapes_refuse_a_catalogue_with_a_value_of_another_kind(path, value):
    content = copy.deepcopy(dcat([complete()], Publisher("Shop")))
    *parents, last = path
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    done, words = conforms(content)
    assert not done, words


def test_the_graph_states_the_listings():
    found = graph(dcat([bare(), complete()], Publisher("Shop")), BASE + "catalogue.jsonld")
    page = BASE + "listings/complete.html"
    [row] = asked(
        found,
        """SELECT ?catalogue ?publisher ?data ?title ?text ?creator ?day ?version ?access ?licence ?policy ?price WHERE
        { ?catalogue a dcat:Catalog; dct:publisher/foaf:name ?publisher; dcat:dataset ?data. ?data dct:title ?title;
        dct:description ?text; dct:creator/foaf:name ?creator; dct:issued ?day; dcat:version ?version; odrl:hasPolicy
        ?policy; dcat:distribution [ dcat:accessURL ?access; dct:license ?licence; odrl:hasPolicy ?policy ]. ?policy
        odrl:permission/odrl:duty/odrl:action/odrl:refinement/odrl:rightOperand ?price }""",
    )
    assert [str(value) for value in row[:-1]] == [
        *(f"{BASE}index.html#catalogue", "Shop", f"{page}#data", "Ziffern", "Größe 2", "Müller & Söhne"),
        *("2026-01-31", "1.10.0", page, "https://spdx.org/licenses/CC-BY-4.0.html", f"{page}#offer"),
    ]
    assert row[-1] == Decimal("0.0000001")
    # A decimal of XML has no exponent, and the library reads one that has.
    assert '"0.0000001"' in json.dumps(dcat([complete()], Publisher()))
    texts = "SELECT ?text WHERE { ?data a dcat:Dataset; dct:identifier 'bare'; dct:description ?text }"
    assert asked(found, texts) == [("3 rows of 2 features in 3 classes.",)]
    identifiers = "SELECT ?id WHERE { ?data a dcat:Dataset; dct:identifier ?id } ORDER BY ?id"
    committed = [f"sha256-salted-rows-1:{listing.digest}" for listing in (bare(), complete())]
    assert [one for (one,) in asked(found, identifiers)] == sorted(["bare", "complete", *committed])


def test_addresses_are_absolute_where_the_site_has_one():
    content = dcat([complete()], Publisher(url="https://shop.org/a/"))
    found = graph(content, "https://elsewhere.org/")
    addresses = {str(node) for triple in found for node in triple if "elsewhere" in str(node)}
    assert not addresses
