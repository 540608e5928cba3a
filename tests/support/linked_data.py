"""Listings for the tests of Croissant and DCAT-AP, and JSON-LD as a graph, which a library reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mpc_appraisal.data import Dataset
from mpc_appraisal.governance.catalogue import Listing, Terms, commit, statistics, types_of

BASE = "https://example.org/shop/"
PREFIXES = {
    "cr": "http://mlcommons.org/croissant/",
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "sc": "https://schema.org/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u2028{{ 7 * 7 }} javascript:alert(3)"


def bare() -> Listing:
    """Return a listing that states no more than it has to."""
    return of(Dataset.of(np.array([[0.0, 1.5], [1.0, -2.0], [1.0, 0.25]]), [0, 2, 1], name="bare"), name="bare")


def complete() -> Listing:
    """Return a listing that states all that the formats have a place for, with labels that mlcroissant misreads."""
    data = Dataset.of(np.array([[0.0, 1.5], [1.0, -2.0], [1.0, 0.25], [0.0, 0.0]]), [0, 2, 1, 1], name="complete")
    terms = Terms("Once a week.", 2, 1e-7, "EUR", "cc-by-4.0", ("research", "teaching"), "owner@example.org")
    return of(
        data,
        name="complete",
        title="Ziffern",
        description="Größe 2",
        terms=terms,
        columns=(("a/b, c", "binary"), ("Größe", "real")),
        class_names=("007", "no", "2.7"),
        creator="Müller & Söhne",
        date="2026-01-31",
        version="1.10.0",
        statistics=statistics(data),
    )


def hostile(name: str = "hostile") -> Listing:
    """Return a listing whose texts try to leave their place in a page, in a script or in an address."""
    data = Dataset.of(np.array([[0.0, 1.5], [1.0, -2.0], [1.0, 0.5]]), [0, 2, 1], name=name)
    terms = Terms(HOSTILE, 1, 2, "EUR", HOSTILE, (HOSTILE, "research"), f"{HOSTILE}@example.org")
    return of(
        data,
        name=name,
        title=HOSTILE,
        description=HOSTILE,
        encoding=HOSTILE,
        terms=terms,
        creator=HOSTILE,
        columns=((HOSTILE, "binary"), ("b", "real")),
        class_names=(HOSTILE, "1", "2"),
        statistics=statistics(data),
    )


def of(data: Dataset, **more: Any) -> Listing:
    """Return a listing of the data, committed to with a salt that depends on its name."""
    kinds = types_of(data)
    counts = {kind: kinds.count(kind) for kind in ("binary", "integer", "real")}
    salt = more["name"].encode().ljust(32, b"0")
    sizes = {"rows": data.rows, "features": data.features, "classes": data.classes}
    return Listing(types=counts, digest=commit(data, salt), **sizes, **more)


def graph(content: Any, at: str) -> Any:
    """Return the graph of a JSON-LD document that lies at the address `at`."""
    import rdflib

    found = rdflib.Graph()
    for prefix, address in PREFIXES.items():
        found.bind(prefix, address, replace=True)
    return found.parse(data=json.dumps(content), format="json-ld", publicID=at)


def asked(found: Any, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a SPARQL query, with values as Python has them."""
    return [tuple(None if value is None else value.toPython() for value in row) for row in found.query(query)]
