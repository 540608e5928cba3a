"""A listing as Croissant 1.1, the description of data sets that search engines and loaders of machine learning read.

The specification is https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html. In go a listing and the way to
the site's folder; out comes JSON-LD. Column statistics are written only where the owner has published them. Croissant
asks for a file with a digest, so that the file stands for the data, which stay with their owner, and the digest is the
listing's salted commitment. The digest of the data's file may never be written here, for whoever guesses the data could
test the guess. The context names https://schema.org/, and a value is stated under two names, because mlcroissant 1.1.1
reads neither of these in the way that the specification writes them (see findings/croissant_context.sh).
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.governance.site.offer import CONTEXT as OFFER_CONTEXT
from mpc_appraisal.governance.site.offer import offer, offer_words
from mpc_appraisal.governance.site.words import (
    COMMITTED,
    KEPT,
    Addresses,
    columns_of,
    description_of,
    licence_address,
    title_of,
)

CONFORMS = "http://mlcommons.org/croissant/1.1"
PLAIN = (
    *("annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract"),
    *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath"),
    *("key", "md5", "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace"),
    *("samplingRate", "sdVersion", "separator", "source", "subField", "transform", "unArchive"),
)
CONTEXT: dict[str, Any] = {
    "@language": None,  # a listing does not state the language of its texts
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "ddi-stats": "http://rdf-vocabulary.ddialliance.org/cv/SummaryStatisticType/2.1.2/",
    "wd": "http://www.wikidata.org/entity/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{key: f"cr:{key}" for key in PLAIN},
    **OFFER_CONTEXT,
}
COUNT, MEAN, DEVIATION = "wd:Q4049983", "ddi-stats:7975ed0", "ddi-stats:690ab50"
KINDS = {"binary": "sc:Integer", "integer": "sc:Integer", "real": "sc:Float", None: "sc:Float"}
MOST_FIELDS = 10_000  # features, or classes, beyond which a Croissant file names none


def missing(listing: Listing) -> tuple[str, ...]:
    """Return the keys of `catalogue publish` that Croissant requires and that the listing does not state."""
    stated = {"licence": listing.terms.licence, "creator": listing.creator, "date": listing.date}
    return tuple(key for key, value in stated.items() if value is None)


def croissant(listing: Listing, to: str = "../") -> dict[str, Any]:
    """Return the listing as Croissant. What the listing does not state is left out.

    to: the address of the site with a slash at its end, or the way from the Croissant file's folder to the site's.
    """
    at, terms = Addresses.of(listing.name, to), listing.terms
    named = {"name": f"Offer for {title_of(listing)}", "description": offer_words(listing)}
    content: dict[str, Any] = {
        "@context": CONTEXT,
        "@id": at.data,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": title_of(listing),
        "description": description_of(listing),
        "url": at.page,
        "identifier": listing.name,
        "license": licence_address(terms.licence) or terms.licence and {"@type": "CreativeWork", "name": terms.licence},
        "creator": listing.creator and {"@type": "sc:Organization", "name": listing.creator},
        "datePublished": listing.date,
        "version": listing.version,
        "usageInfo": offer(listing, at) | {"@type": ["CreativeWork", "odrl:Offer"], **named},
        "distribution": [_file(listing, at)],
        "recordSet": [each for each in (_rows(listing, at.distribution), _classes(listing)) if each],
    }
    return {key: value for key, value in content.items() if value is not None}


def _file(listing: Listing, at: Addresses) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": at.distribution,
        "name": "data",
        "description": f"{KEPT} {COMMITTED}",
        "contentUrl": at.page,
        "encodingFormat": "application/octet-stream",
        "sha256": listing.digest,
    }


def _rows(listing: Listing, file: str) -> dict[str, Any]:
    """Return the rows as a record set: their number, the features that are named or have statistics, and the target."""
    fields, said = [], listing.statistics
    if (listing.columns or said) and listing.features <= MOST_FIELDS:
        for k, (name, kind) in enumerate(columns_of(listing)):
            field = _field(file, f"rows/{k}", name, KINDS[kind])
            shown = said.of_column(k) if said else None
            if shown:
                field["annotation"] = [
                    _value(f"rows/{k}/mean", "mean", shown[0], MEAN),
                    _value(f"rows/{k}/deviation", "standard deviation", shown[1], DEVIATION),
                ]
            fields.append(field)
    target = listing.target.name if listing.target else "label"
    fields.append(_field(file, "rows/target", target, ["sc:Float" if listing.target else "sc:Integer", "cr:Label"]))
    counted = _value("rows/count", "number of rows", listing.rows, COUNT)
    words = {"description": said.reveals} if said else {}
    return {"@type": "cr:RecordSet", "@id": "rows", "name": "rows", **words, "annotation": [counted], "field": fields}


def _classes(listing: Listing) -> dict[str, Any] | None:
    """Return the classes as an enumeration, with names and numbers of rows where the owner publishes them."""
    said = None if listing.target else listing.statistics
    if not (listing.class_names or said) or listing.classes > MOST_FIELDS:
        return None
    names = listing.class_names or tuple(str(label) for label in range(listing.classes))
    records = [{"classes/label": label, "classes/name": name} for label, name in enumerate(names)]
    fields = [("label", "sc:Integer"), ("name", "sc:Text")]
    if said:
        fields.append(("rows", "sc:Integer"))
        for record, rows in zip(records, said.rows_by_class, strict=True):
            record["classes/rows"] = rows
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/label"},
        "field": [
            {"@type": "cr:Field", "@id": f"classes/{key}", "name": key, "dataType": kind} for key, kind in fields
        ],
        "data": records,
    }


def _field(file: str, place: str, name: str, kind: str | list[str]) -> dict[str, Any]:
    source = {"fileObject": {"@id": file}, "extract": {"column": name}}
    return {"@type": "cr:Field", "@id": place, "name": name, "dataType": kind, "source": source}


def _value(place: str, name: str, value: float, kind: str) -> dict[str, Any]:
    return {"@type": "cr:Field", "@id": place, "name": name, "value": value, "cr:value": value, "dataType": kind}
