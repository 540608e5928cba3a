"""The page on Python describes every protocol of private learning and every attack that the app offers."""

from __future__ import annotations

from processes import ROOT

from mpc_appraisal import transformations
from mpc_appraisal.attacks.measures import EVERY
from mpc_appraisal.methods import METHODS

PAGE = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")


def test_methods_protocols_and_attacks_stand_on_the_page():
    protocols = [getattr(transformations, name) for name in transformations.PROTOCOLS]
    missing = [
        kind.__name__
        for kind in (*METHODS.values(), *protocols, *EVERY)
        if f"{kind.__module__}.{kind.__name__}\n" not in PAGE and kind.__module__ != "mpc_appraisal.methods.relevance"
    ]
    assert not missing and len(protocols) >= 6 and len(EVERY) >= 12
    assert "mpc_appraisal.methods.relevance\n   :members: Relevance, Diversity" in PAGE
