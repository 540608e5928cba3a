"""Files are there whole or not at all, secrets are their owner's alone, and a lock has one holder."""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import subprocess
import sys

import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import (
    OWNER_ONLY,
    locked,
    read_secret,
    remove_leftovers,
    take_lock,
    write_new,
    write_whole,
)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("content", ["é\n", b"\x00\xff", memoryview(b"abc"), b""])
def test_a_file_takes_the_place_of_an_older_one(tmp_path, content):
    path = tmp_path / "a"
    path.write_text("an older file")
    write_whole(path, content, OWNER_ONLY)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else bytes(content))
    assert mode(path) == 0o600 and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("write", [lambda path: write_whole(path, "new", replace=False), lambda p: write_new(p, "new")])
def test_a_file_that_may_replace_nothing_does_not(tmp_path, write):
    write(tmp_path / "a")
    with pytest.raises(FileExistsError):
        write(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "new" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_older_file_and_no_other(tmp_path, monkeypatch, name):
    path = tmp_path / "a"
    path.write_text("old")

    def refused(*arguments, **named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, name, refused)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_failed_write_of_a_new_file_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_new(tmp_path / "a", "new")
    assert not os.listdir(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from mpc_appraisal.common.storage import write_whole
os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path(sys.argv[1]), "of a killed process")
"""


def test_what_a_killed_process_left_aside_is_removed_for_the_files_that_are_named(tmp_path):
    names = ["a", "b", "é" * 127]  # the last one is as long as a name can be
    for name in names:
        killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
        assert killed.returncode == -signal.SIGKILL
    write_whole(tmp_path / "a.new", "a file of that name")
    left = {path.name for path in tmp_path.iterdir()} - {"a.new"}
    assert len(left) == 3 and all(re.fullmatch(r"\.[0-9a-f]{16}-[0-9a-f]{16}\.new", name) for name in left)
    remove_leftovers(tmp_path / "a", tmp_path / names[2])
    (other,) = {path.name for path in tmp_path.iterdir()} - {"a.new"}
    assert other in left and (tmp_path / other).read_text() == "of a killed process"
    remove_leftovers(tmp_path / "b")
    remove_leftovers(tmp_path / "b")
    assert os.listdir(tmp_path) == ["a.new"]


def test_a_lock_has_one_holder(tmp_path):
    path = tmp_path / "lock"
    with locked(path):
        assert take_lock(path, 0) is None and mode(path) == 0o600
        with pytest.raises(InputError, match="desk: got busy"), locked(path, InputError("desk", "busy", "free"), 0):
            pass
    lock = take_lock(path, 0)
    assert lock is not None
    lock.release()


def test_a_secret_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "a.salt"
    write_new(path, "ab" * 4 + "\n", OWNER_ONLY)
    assert read_secret(path, "secret", "a salt", 4) == b"\xab" * 4
    with pytest.raises(InputError, match="secret: got a.salt with something else; expected 10 hexadecimal digits"):
        read_secret(path, "secret", "a salt", 5)
    os.chmod(path, 0o640)
    with pytest.raises(
        InputError, match="secret: got a.salt with mode 640; expected a salt for its owner alone .chmod 600"
    ):
        read_secret(path, "secret", "a salt", 4)


def test_a_content_in_pieces_is_written_in_their_order(tmp_path):
    path = tmp_path / "whole"
    write_whole(path, (b"one ", memoryview(b"two "), "three é"))
    assert path.read_bytes() == "one two three é".encode()
