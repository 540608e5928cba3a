"""Fixtures of several test files of this folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from processes import APP


@pytest.fixture(scope="session")
def trial(tmp_path_factory) -> Path:
    """The folder that `mpc-appraisal certificates` makes, with a folder for each role; tests only read it."""
    folder = tmp_path_factory.mktemp("tls") / "trial"
    command = [*APP, "certificates", str(folder)]
    assert b"valid for 30 days" in subprocess.run(command, timeout=600, capture_output=True, check=True).stdout
    again = subprocess.run(command, timeout=600, capture_output=True)
    assert again.returncode == 2 and b"already there" in again.stderr
    return folder
