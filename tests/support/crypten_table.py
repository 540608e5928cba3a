"""The table of docs/crypten_models.md: what is measured of `crypten_layers`, and how it is written and read back.

`PYTHONPATH=.:tests/support python tests/support/crypten_table.py` measures everything again and writes the table.
"""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
from pathlib import Path

from crypten_layers import FUNCTIONS, LAYERS, NETWORKS
from processes import HERE, ROLES, ROOT, Processes, free_port, stretched

PAGE = ROOT / "docs" / "crypten_models.md"
KINDS = ("plaintext", "shares", "gradients")
HEADS = {"Layer": LAYERS, "Function": FUNCTIONS, "Network": NETWORKS}
ROW = re.compile(r"^\| `?([^`|]+?)`? \| (\d\S*) \| (\d\S*) \| (\d\S*) \|$", re.MULTILINE)


def both(processes: Processes, what: str) -> dict:
    """Start the three parties of `crypten_layer_party.py`, and return what the owners print; both have the same."""
    where = f"tcp://127.0.0.1:{free_port()}"
    script = [sys.executable, str(HERE / "crypten_layer_party.py")]
    parties = {role: processes.start(role, [*script, role, where, ".", what]) for role in reversed(ROLES)}
    ended = {role: party.wait(stretched(120)) for role, party in parties.items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err[-2000:] for role, end in ended.items()}
    one, other = (json.loads(ended[role].out.strip().splitlines()[-1]) for role in ROLES[:2])
    assert one.keys() == other.keys()
    return one


def rounded_up(value: float) -> str:
    """Return the next number above `value` that is 1, 2 or 5 times a power of ten; "0" for zero."""
    if value == 0:
        return "0"
    power = 10.0 ** math.floor(math.log10(value))
    digit = next(digit for digit in (1, 2, 5, 10) if digit * power >= value)
    return f"{digit * power:.0e}".replace("e-0", "e-")


def table(found: dict) -> str:
    """Return the table of the page, in Markdown."""
    parts = []
    for head, cases in HEADS.items():
        parts.append(f"| {head} | plaintext | on shares | gradients on shares |\n|---|---|---|---|")
        parts += [
            f"| `{name}` | " + " | ".join(rounded_up(found[name][kind]) for kind in KINDS) + " |" for name in cases
        ]
        parts.append("")
    return "\n".join(parts)


def stated() -> dict[str, dict[str, float]]:
    """Return the errors that the page states, by case and kind."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {name: dict(zip(KINDS, map(float, errors), strict=True)) for name, *errors in rows}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        found = both(processes, "layers")
    begin, end = "<!-- table: measured -->\n", "<!-- end of the table -->\n"
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(begin)] + begin + "\n" + table(found) + text[text.index(end) :], encoding="utf-8")


if __name__ == "__main__":
    main()
