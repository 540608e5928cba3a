"""Croissant: mlcroissant takes it, and an RDF library finds in it what the listing states and no more."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from decimal import Decimal

import mlcroissant
import pytest
from linked_data import BASE, asked, bare, complete, graph, hostile

from mpc_appraisal.governance.catalogue import Statistics, Terms
from mpc_appraisal.governance.catalogue.listing import NumericTarget
from mpc_appraisal.governance.site import croissant, missing
from mpc_appraisal.governance.site.croissant import MOST_FIELDS

AT = BASE + "croissant/one.json"


def issues(content, tmp_path):
    """Return what mlcroissant warns of; it raises ValidationError for what it refuses."""
    path = tmp_path / "croissant.json"
    path.write_text(json.dumps(content))
    return mlcroissant.Dataset(str(path)).metadata.ctx.issues.warnings


def numeric():
    """Return a listing whose target is a number, with statistics and without names of columns."""
    target = NumericTarget("price", "EUR", 0.0, 10.0)
    said = Statistics((2,), (1.0, 3.0), (0.5, 1.0), "Means and deviations.")
    types = {"binary": 0, "integer": 0, "real": 2}
    given = {"rows": 2, "features": 2, "classes": 1, "types": types, "digest": "0" * 64, "class_names": None}
    return replace(complete(), name="numeric", columns=(), target=target, statistics=said, **given)


@pytest.mark.parametrize("listing", [bare(), complete(), hostile(), numeric()], ids=lambda listing: listing.name)
def test_mlcroissant_takes_every_listing_and_misses_only_what_it_does_not_state(listing, tmp_path):
    warned = " ".join(sorted(issues(croissant(listing), tmp_path)))
    stated = {"citeAs": None, "license": listing.terms.licence, "datePublished": listing.date}
    stated["version"] = listing.version
    assert warned.count("is recommended, but does not exist") == sum(value is None for value in stated.values())
    assert all((f"/{name}" in warned) == (value is None) for name, value in stated.items())
    assert missing(listing) == tuple(
        key
        for key, value in zip(
            ("licence", "creator", "date"), (listing.terms.licence, listing.creator, listing.date), strict=True
        )
        if value is None
    )


@pytest.mark.parametrize("damage", ["no file", "no digest", "another file", "no type"])
def test_mlcroissant_refuses_what_is_damaged(damage, tmp_path):
    content = copy.deepcopy(croissant(complete()))
    if damage == "no file":
        del content["distribution"]
    elif damage == "no digest":
        del content["distribution"][0]["sha256"]
    elif damage == "another file":
        content["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "other"
    else:
        del content["@type"]
    with pytest.raises(mlcroissant.ValidationError):
        issues(content, tmp_path)


def test_the_graph_states_the_listing():
    found, listing = graph(croissant(complete()), AT), complete()
    page = BASE + "listings/complete.html"
    assert asked(
        found,
        """SELECT ?data ?name ?text ?url ?licence ?day ?version ?creator ?digest ?spec WHERE {
        ?data a sc:Dataset; sc:name ?name; sc:description ?text; sc:url ?url; sc:license ?licence;
          sc:datePublished ?day; sc:version ?version; sc:creator/sc:name ?creator; dct:conformsTo ?spec;
          sc:distribution ?file. ?file a cr:FileObject; sc:sha256 ?digest }""",
    ) == [
        (
            *(f"{page}#data", "Ziffern", "Größe 2", "../listings/complete.html"),
            *("https://spdx.org/licenses/CC-BY-4.0.html", "2026-01-31", "1.10.0", "Müller & Söhne", listing.digest),
            "http://mlcommons.org/croissant/1.1",
        )
    ]
    assert asked(
        found,
        """SELECT ?name ?kind ?mean ?deviation WHERE { ?rows cr:field ?field. ?field sc:name ?name; cr:dataType ?kind;
        cr:annotation [ cr:value ?mean; cr:dataType <http://rdf-vocabulary.ddialliance.org/cv/SummaryStatisticType/2.1.2/7975ed0> ],
        [ sc:value ?deviation; cr:dataType <http://rdf-vocabulary.ddialliance.org/cv/SummaryStatisticType/2.1.2/690ab50> ] }
        ORDER BY ?name""",  # noqa: E501
    ) == [
        ("Größe", "https://schema.org/Float", -0.0625, 1.25),
        ("a/b, c", "https://schema.org/Integer", 0.5, 0.5),
    ]
    counted = "SELECT ?n WHERE { ?rows a cr:RecordSet; cr:annotation [ cr:value ?n ] }"
    assert asked(found, counted) == [(4,)]


def test_labels_stay_texts_in_the_file():
    classes = croissant(complete())["recordSet"][1]
    assert [record["classes/name"] for record in classes["data"]] == ["007", "no", "2.7"]
    assert [record["classes/rows"] for record in classes["data"]] == [1, 2, 1]


def test_the_offer_states_the_terms():
    found = graph(croissant(complete()), AT)
    page = BASE + "listings/complete.html"
    assert asked(
        found,
        """SELECT ?offer ?who ?target ?action WHERE { ?data a sc:Dataset; sc:usageInfo ?offer. ?offer a
        odrl:Offer, sc:CreativeWork; odrl:assigner/foaf:name ?who; odrl:permission
        [ odrl:target ?target; odrl:action ?action ] }""",
    ) == [(f"{page}#offer", "Müller & Söhne", f"{page}#distribution", "http://www.w3.org/ns/odrl/2/use")]
    price = """SELECT ?amount ?unit WHERE { ?permission odrl:duty/odrl:action [ rdf:value odrl:compensate;
        odrl:refinement [ odrl:leftOperand odrl:payAmount; odrl:operator odrl:eq; odrl:rightOperand ?amount; odrl:unit
        ?unit ] ] }"""
    euro = "http://publications.europa.eu/resource/authority/currency/EUR"
    assert asked(found, price) == [(Decimal("0.0000001"), euro)]
    purposes = """SELECT ?purpose WHERE { ?permission odrl:constraint [ odrl:leftOperand odrl:purpose; odrl:operator
        odrl:isAnyOf; odrl:rightOperand ?purpose ] } ORDER BY ?purpose"""
    assert asked(found, purposes) == [("research",), ("teaching",)]
    words = "SELECT ?words WHERE { ?offer a odrl:Offer; sc:description ?words }"
    [[said]] = asked(found, words)
    assert said == "Once a week.\nAn appraisal has 2 rows or more.\nThe owner says yes or no to each request."
    consent = "SELECT ?duty WHERE { ?permission odrl:duty ?duty. ?duty odrl:action odrl:obtainConsent }"
    bare_one = graph(croissant(bare()), AT)
    for one in (found, bare_one):
        assert len(asked(one, consent)) == len(asked(one, "SELECT ?p WHERE { ?offer odrl:permission ?p }")) == 1
    assert asked(bare_one, price) == asked(bare_one, purposes) == []


def test_nothing_is_stated_that_the_owner_has_not_published():
    silent = replace(complete(), statistics=None)
    text = json.dumps(croissant(silent))
    assert "7975ed0" not in text.replace('"ddi-stats": ', "") and "classes/rows" not in text
    assert [len(field.get("annotation", ())) for field in croissant(silent)["recordSet"][0]["field"]] == [0, 0, 0]
    [rows] = croissant(bare())["recordSet"]
    assert [field["name"] for field in rows["field"]] == ["label"]
    assert "Not differentially private" in croissant(complete())["recordSet"][0]["description"]
    assert "description" not in croissant(silent)["recordSet"][0]


def test_statistics_of_some_columns_are_written_for_these_alone():
    some = replace(complete(), statistics=Statistics((1, 2, 1), (-0.0625,), (1.25,), "Of one column.", (1,)))
    fields = croissant(some)["recordSet"][0]["field"]
    assert [[each["value"] for each in field.get("annotation", ())] for field in fields] == [[], [-0.0625, 1.25], []]


def test_a_licence_without_an_address_is_a_work_with_a_name():
    stated = {"MIT": "https://spdx.org/licenses/MIT.html", "https://example.org/l?a=1": "https://example.org/l?a=1"}
    stated["ask us"] = {"@type": "CreativeWork", "name": "ask us"}
    for licence, expected in stated.items():
        assert croissant(replace(bare(), terms=Terms(licence=licence)))["license"] == expected
    assert "license" not in croissant(bare())


def test_more_columns_than_a_file_should_name_are_left_out():
    def wide(features):
        columns = tuple((f"c{k}", "real") for k in range(features))
        return replace(bare(), features=features, types={"binary": 0, "integer": 0, "real": features}, columns=columns)

    assert len(croissant(wide(MOST_FIELDS))["recordSet"][0]["field"]) == MOST_FIELDS + 1
    assert len(croissant(wide(MOST_FIELDS + 1))["recordSet"][0]["field"]) == 1


def test_addresses_are_absolute_where_the_site_has_one():
    found = graph(croissant(complete(), BASE), "https://elsewhere.org/x/y.json")
    assert asked(found, "SELECT ?url WHERE { ?data a sc:Dataset; sc:url ?url }") == [(BASE + "listings/complete.html",)]
    text = json.dumps(croissant(complete(), BASE))
    assert "../" not in text
