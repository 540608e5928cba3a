"""Fixtures of several test files of this folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from processes import APP

from mpc_appraisal.mpc.ring import kernels


@pytest.fixture(scope="session")
def trial(tmp_path_factory) -> Path:
    """The folder that `mpc-appraisal certificates` makes, with a folder for each role; tests only read it."""
    folder = tmp_path_factory.mktemp("tls") / "trial"
    command = [*APP, "certificates", str(folder)]
    assert b"valid for 30 days" in subprocess.run(command, timeout=600, capture_output=True, check=True).stdout
    again = subprocess.run(command, timeout=600, capture_output=True)
    assert again.returncode == 2 and b"already there" in again.stderr
    return folder


@pytest.fixture(params=("numpy", "compiled"))
def way(request, monkeypatch):
    """Compute by numpy, and by the compiled loops where numba has a wheel: without one, nothing is compiled to test."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        assert kernels.load() is not None
    else:
        monkeypatch.setattr(kernels, "_loaded", [None])
