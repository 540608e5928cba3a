"""Machines of a test: a folder each and, where the system permits it, a network and a view of the files of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from processes import Process, Processes, stretched

RELAYED = "192.0.2.7"  # the address of the machine that all others reach; it is for documentation (RFC 5737)

# The first machine is the namespace of the script itself, and every other one is a child with one link to the first
# and one route, to its address. So no other machine can reach another. Each sees the folders of the others as empty.
SCRIPT = r"""
set -eu
first=$1; shift
ip link set lo up
ip addr add {address}/32 dev lo
mount --make-rprivate /
number=0; said="$first=$$"
for home; do
  number=$((number + 1))
  unshare --net --mount sleep 100000 & pid=$!
  while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
  while [ "$(readlink /proc/$pid/ns/mnt)" = "$(readlink /proc/$$/ns/mnt)" ]; do sleep 0.05; done
  ip link add "up$number" type veth peer name out netns $pid
  ip link set "up$number" up
  ip route add "10.77.$number.2/32" dev "up$number"
  nsenter -t $pid -n sh -ec "ip link set lo up; ip addr add 10.77.$number.2/32 dev out; ip link set out up
    ip route add {address}/32 dev out"
  for other in "$first" "$@"; do
    [ "$other" = "$home" ] || nsenter -t $pid -m mount -t tmpfs -o ro none "$other"
  done
  said="$said $home=$pid"
done
for other; do mount -t tmpfs -o ro none "$other"; done
echo "ready $said"
exec sleep 100000
"""
ENTER = ("--user", "--preserve-credentials", "--net", "--mount")


class Machines:
    """Machines by name, the first of which all others reach at RELAYED.

    Attributes:
        folders: The folder of each machine, which only it can see if `apart`.
        apart: Whether each machine has a network and a view of the files of its own.
    """

    def __init__(self, processes: Processes, names: Sequence[str]):
        self._processes, self._count = processes, 0
        self.folders = {name: processes.folder / "home" / name for name in names}
        for folder in self.folders.values():
            folder.mkdir(parents=True)
        self._pids = self._entered()
        self.apart = bool(self._pids)

    def _entered(self) -> dict[str, int]:
        """The process in whose namespaces each machine is, or nothing where the system does not permit namespaces."""
        if not sys.platform.startswith("linux") or not all(map(shutil.which, ("unshare", "nsenter", "ip", "mount"))):
            return {}
        words = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]
        script = SCRIPT.format(address=RELAYED)
        started = self._processes.start("machines", [*words, script, "sh", *map(str, self.folders.values())])
        deadline = time.monotonic() + stretched(30)
        while not (said := re.search(r"^ready (.*)$", (started.folder / "stdout.txt").read_text(), re.MULTILINE)):
            if started.popen.poll() is not None:
                return {}
            assert time.monotonic() < deadline, started.err
            time.sleep(0.05)
        pids = dict(one.rsplit("=", 1) for one in said[1].split())
        return {name: int(pids[str(folder)]) for name, folder in self.folders.items()}

    def command(self, name: str, *words: str) -> list[str]:
        """Return the command that runs these words on a machine, in its folder."""
        folder = self.folders[name]
        if self.apart:
            return ["nsenter", "-t", str(self._pids[name]), *ENTER, f"--wd={folder}", *words]
        return ["env", "-C", str(folder), *words]

    def start(self, name: str, script: str, environment: dict[str, str]) -> Process:
        """Start a script for bash on a machine."""
        self._count += 1
        place = f"said/{self._count} {name}"
        return self._processes.start(place, self.command(name, "bash", "-e", "-c", script), environment)

    def send(self, sender: str, file: str, receiver: str) -> None:
        """Copy one file from a machine's folder into that of another, as people would send it."""
        source = self.folders[sender] / file
        assert source.is_file() and source.resolve().is_relative_to(self.folders[sender].resolve()), file
        shutil.copyfile(source, self.folders[receiver] / Path(file).name)

    def listening(self, name: str) -> list[str]:
        """Return the addresses at which a machine's processes listen over TCP."""
        tables = subprocess.run(
            self.command(name, "cat", "/proc/net/tcp", "/proc/net/tcp6"), capture_output=True, text=True, timeout=600
        )
        rows = [line.split() for line in tables.stdout.splitlines() if line.strip()[:1].isdigit()]
        assert tables.returncode == 0 or rows, tables.stderr
        return [row[1] for row in rows if row[3] == "0A"]

    def reaches(self, name: str, address: str) -> bool:
        """Whether a machine has a route to an address."""
        found = subprocess.run(self.command(name, "ip", "route", "get", address), capture_output=True, timeout=600)
        return found.returncode == 0
