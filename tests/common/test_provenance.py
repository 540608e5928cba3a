"""Provenance: versions, the revision, and hashes of configurations."""

from __future__ import annotations

import hashlib
import math
import re

import numpy as np
import pytest
import torch

from mpc_appraisal.common import provenance
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash, revision, versions


def test_versions_name_what_computes():
    found = versions()
    assert set(found) == {"python", "torch", "crypten", "numpy", "scipy", "mpc_appraisal"}
    assert found["numpy"] == np.__version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_revision_is_a_short_hash_or_none():
    assert revision() is None or re.fullmatch(r"[0-9a-f]{4,40}", revision())


def test_revision_of_a_foreign_repository_is_none(tmp_path, monkeypatch):
    (tmp_path / "outer" / ".git").mkdir(parents=True)  # a repository that merely holds the environment
    inside = tmp_path / "outer" / "site-packages" / "mpc_appraisal" / "common" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(inside))
    revision.cache_clear()
    try:
        assert revision() is None
    finally:
        revision.cache_clear()


def test_config_hash_is_canonical():
    config = {"b": [1, 2.5, None], "a": {"y": "ü", "x": True}}
    text = '{"a":{"x":true,"y":"\\u00fc"},"b":[1,2.5,null]}'
    assert config_hash(config) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert config_hash({"a": {"x": True, "y": "ü"}, "b": [1, 2.5, None]}) == config_hash(config)
    assert config_hash({**config, "c": 1}) != config_hash(config)


@pytest.mark.parametrize("value", [math.nan, object()])
def test_config_hash_refuses_what_has_no_canonical_form(value):
    with pytest.raises(InputError, match="^a: got "):
        config_hash({"a": value})
