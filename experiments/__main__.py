"""The entry point: `python -m experiments STUDY`, `python -m experiments list`, or `python -m experiments --help`."""

from __future__ import annotations

import sys
from importlib import import_module

from experiments.harness.run import main

NAMES = (
    "appraisal",
    "crypten",
    "engine",
    "extraction",
    "inflation",
    "marketplace",
    "relay",
    "relevance",
    "transformations",
)

if __name__ == "__main__":
    chosen = [name for name in NAMES if name in sys.argv[1:2]] or NAMES  # a study takes seconds to import
    main([import_module(f"experiments.studies.{name}.study").STUDY for name in chosen])
