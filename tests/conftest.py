"""Fixtures of several test files."""

from __future__ import annotations

import pytest
from processes import Processes


@pytest.fixture
def processes(tmp_path):
    """Starts processes in folders of this test; those left at its end are ended."""
    with Processes(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def module_processes(tmp_path_factory, request):
    """The same for a whole test file."""
    with Processes(tmp_path_factory.mktemp(request.module.__name__)) as started:
        yield started
