"""The allocator of a party: it keeps what is freed, unless the user's own settings say otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import numpy
from mpc_appraisal.common.environment import keep_freed_memory
def held():
    try:
        return int(open("/proc/self/statm").read().split()[1]) * 4096
    except FileNotFoundError:  # a system other than Linux
        return 0
kept, before = keep_freed_memory(), held()
numpy.empty(SIZE // 8).fill(1.0)
print(kept, held() - before)
"""
SIZE = 256 << 20  # bytes of one array, more than what glibc keeps by itself


@pytest.mark.parametrize("stated", [{}, {"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.check=0"}])
def test_freed_pages_stay_unless_the_user_has_settings_of_its_own(stated):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        environment.pop(name, None)
    command = [sys.executable, "-c", CODE.replace("SIZE", str(SIZE))]
    done = subprocess.run(command, env=environment | stated, capture_output=True, text=True, timeout=600)
    kept, held = done.stdout.split()
    glibc = platform.libc_ver()[0] == "glibc"
    assert kept == str(glibc and not stated)  # other C libraries are left as they are
    if glibc:
        assert int(held) < SIZE // 10 if stated else int(held) > SIZE * 9 // 10
