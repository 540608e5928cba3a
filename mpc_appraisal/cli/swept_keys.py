"""Keys of a group whose option is swept, as in `protocol=rtas_training,float_shares protocol.epochs=2`.

Hydra composes the configuration of a sweep once without the swept words, and refuses there a key that only the swept
options have. In go the words of the command line; out come the same words, with `++` in front of such a key, which
Hydra then takes. A key counts as an option's own where the option's file in conf/ has it, or a file that this file
brings. A key that one of the swept options lacks is refused, because that option's jobs would run without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpc_appraisal.cli.front import CONF, documented_keys_of, group_names, options
from mpc_appraisal.common.errors import InputError

MULTIRUN = ("-m", "--multirun")
LITERAL = "[{'\""  # a value that begins so is one value, whatever commas it holds
BROUGHT = re.compile(r"- /(\w+): (\w+)$", re.MULTILINE)


def stated(arguments: Sequence[str]) -> list[str]:
    """Return the words, of which those that state a key of a swept option are words that Hydra takes.

    Raises InputError for a key that some of the swept options have and others lack.
    """
    if not set(MULTIRUN) & set(arguments):
        return list(arguments)
    swept = {}
    for word in arguments:
        group, _, choices = word.partition("=")
        if group in group_names() and "," in choices:
            found = [one.strip() for one in choices.split(",")]
            if set(found) <= set(options(group)):
                swept[group] = {one: _keys(group, one) for one in found}
    return [_stated(word, swept) for word in arguments]


def _keys(group: str, option: str) -> set[str] | None:
    """Return the keys that an option brings; None for a method of an installed package, whose keys its class states."""
    path = CONF / group / f"{option}.yaml"
    if not path.exists():
        return None
    brought = BROUGHT.findall(path.read_text(encoding="utf-8"))
    return set(documented_keys_of(group, option)).union(*(documented_keys_of(g, o) for g, o in brought))


def _stated(word: str, swept: dict[str, dict[str, set[str] | None]]) -> str:
    key, equals, value = word.partition("=")
    if not equals or "." not in key or not key[0].isalpha():
        return word
    for group, keys in swept.items():
        having = [option for option, own in keys.items() if own is None or key in own]
        if having and len(having) < len(keys):
            lacking = ", ".join(option for option in keys if option not in having)
            expected = f"a key of every {group} that is swept, and {lacking} lacks it: sweep {', '.join(having)} apart"
            raise InputError(key, value, expected)
        if having and ("," not in value or value[0] in LITERAL):
            return f"++{word}"
    return word
