"""YAML of a recipe, read so that every plain word is a text: `no` is the text no, and 2026-01-31 is no date.

A text goes in and plain values come out, or the other way round. Only true, false, null, and numbers are not texts, as
in YAML 1.2. Reading has to stay strict (no key twice, no reference to another place, no tag), because recipes come from
strangers and their digests are compared.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import yaml

WORDS = {
    "tag:yaml.org,2002:null": (r"null|~|", ["n", "~", ""]),
    "tag:yaml.org,2002:bool": (r"true|false", list("tf")),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
}


class _Reader(yaml.SafeLoader):
    """Reads one document of YAML by the words above."""

    yaml_implicit_resolvers: dict = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a reference (*name) to another place")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str):
                raise yaml.YAMLError(f"the key {key!r}, which is no text")
        for key, times in Counter(keys).items():
            if times > 1:
                raise yaml.YAMLError(f"the key {key!r} twice")
        return super().construct_mapping(node, deep)


class _Writer(yaml.SafeDumper):
    """Writes YAML that readers of YAML 1.1 and 1.2 read alike: a word that is special to one of them is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _number(loader: yaml.SafeLoader, node: Any) -> float:
    value = float(loader.construct_scalar(node))
    if not math.isfinite(value):
        raise yaml.YAMLError(f"{node.value}, which is no finite number")
    return value


for _tag, (_pattern, _first) in WORDS.items():
    for _kind in (_Reader, _Writer):
        _kind.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$(?!\n)"), _first)
_Reader.add_constructor("tag:yaml.org,2002:float", _number)
_Reader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def read_yaml(text: str) -> Any:
    """Return the values of a YAML text. Raises yaml.YAMLError or ValueError for a text that is refused."""
    return yaml.load(text, Loader=_Reader)  # a SafeLoader, which makes plain values alone


def write_yaml(content: Any) -> str:
    """Return the values as YAML, with lists and mappings of plain values on one line."""
    return yaml.dump(content, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
