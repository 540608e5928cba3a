"""The front door of the command line: the overview, the version, help by name, and "did you mean" for misspelt words.

In go the words of the command line, or an error that Hydra raised for one of them. Out come texts for the terminal, and
errors that name the word and the nearest words that exist. Names and first lines of the files in conf/
are read from there, so that the overview and the files cannot differ. The texts may change.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from mpc_appraisal.cli.commands import ABOUT, COMMANDS
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.offered_methods import offered_methods
from mpc_appraisal.common.provenance import versions
from mpc_appraisal.common.text import printable, shown

# The folder of the configuration: that of a checkout, or the one in the installed package.
CHECKOUT = Path(__file__).resolve().parents[2] / "conf"
CONF = CHECKOUT if CHECKOUT.is_dir() else Path(str(resources.files("mpc_appraisal"))) / "conf"
HELP, VERSION = ("-h", "--help"), "--version"
METHODS = "appraisal"  # the group that installed packages add to
LISTED = "`mpc-appraisal --help` lists commands and groups."
STATUSES = (
    "0: done; 1: a check found something; 2: an expected error, in one line; 3: a party sent a wrong message; "
    "130: interrupted"
)


def answer(arguments: Sequence[str]) -> str | None:
    """Return the text that these words ask for: the overview, the version, or the help of a name. None: another thing.

    Raises UnknownWordError for `help` with a name that is none, and for a first word that is neither a command nor
    KEY=VALUE.
    """
    if list(arguments) in ([HELP[0]], [HELP[1]], ["help"]):
        return overview()
    if list(arguments) in ([VERSION], ["version"]):
        found = versions()
        ours = found.pop("mpc_appraisal")
        return f"mpc_appraisal {ours} ({', '.join(f'{name} {each}' for name, each in found.items())})"
    if arguments and arguments[0] == "help":
        return _help_of(arguments[1])
    for word in arguments[:1]:
        if "=" not in word and word[:1] not in ("-", "~", "+", "@"):
            raise UnknownWordError("no command", word, [*COMMANDS, "help"], LISTED)
    return None


def overview() -> str:
    """Return what `mpc-appraisal --help` prints: commands and groups first, then how a run and a sweep are started."""
    width = max(map(len, ABOUT)) + 2
    commands = [f"  {name:{width}}{what}" for name, (what, _) in ABOUT.items()]
    groups = [f"  {name:{width}}{', '.join(options(name))}" for name in group_names()]
    return "\n".join(
        [
            "What is a data set worth to a model? Two owners compute it on secret shares.",
            "",
            "usage: mpc-appraisal [GROUP=OPTION ...] [KEY=VALUE ...]      one appraisal",
            "       mpc-appraisal --multirun KEY=VALUE,VALUE ...          a sweep of such",
            "       mpc-appraisal COMMAND [--json] ...                    one of the commands",
            "       mpc-appraisal help COMMAND|GROUP|GROUP=OPTION|KEY     what a name means",
            "",
            "commands",
            *commands,
            "",
            "groups of the configuration, and what each can be",
            *_folded(groups, width + 2),
            "",
            "examples",
            "  mpc-appraisal",
            "  mpc-appraisal appraisal=influence data=wine scenario.candidates=5",
            "  mpc-appraisal --multirun appraisal=influence,gradient_norm seed=0,1",
            "",
            "--cfg job prints the configuration and runs nothing; --version prints versions.",
            *_folded([f"Exit status: {STATUSES}."], 2),
        ]
    )


def _folded(lines: Iterable[str], indent: int, width: int = 80) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent=" " * indent)]


# ---- the names of the configuration ----


def group_names() -> list[str]:
    """Return the names of the configuration's groups."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir())


def options(group: str) -> list[str]:
    """Return the options of a group: those of conf/, and for appraisal the methods that installed packages offer."""
    own = _own_options(group)
    return own + [name for name in offered_methods() if group == METHODS and name not in own]


def _own_options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def documented_keys() -> dict[str, str]:
    """Return each key of the configuration by its full name, with what its comment says."""
    found = _documented(CONF / "config.yaml", "")
    for group in group_names():
        for option in _own_options(group):
            for name, text in documented_keys_of(group, option).items():
                found[name] = found.get(name) or text
    # Of Hydra's own keys those count that a comment explains, and not the heads above them.
    own = {name: text for name, text in found.items() if not re.match(r"hydra(\.callbacks)?$|.*\bdefaults$", name)}
    return {name: text for name, text in own.items() if text or not name.startswith("hydra")}


def documented_keys_of(group: str, option: str) -> dict[str, str]:
    """Return the keys that the file of one option states, by their full names, with what their comments say."""
    return _documented(CONF / group / f"{option}.yaml", f"{group}.")


def _documented(path: Path, prefix: str) -> dict[str, str]:
    """Return the keys of a file, with the comment above each. A file of conf/ is indented by two spaces.

    prefix: what stands before the keys, unless the file is merged into the head of the configuration.
    """
    found: dict[str, str] = {}
    inside: list[str] = []
    comment: list[str] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    if lines[:1] == ["# @package _global_"]:
        prefix = ""
    for line in lines:
        if match := re.match(r"( *)#\s?(.*)", line):
            comment.append(match[2])
        elif match := re.match(r"( *)([A-Za-z]\w*):", line):
            inside = [*inside[: len(match[1]) // 2], match[2]]
            found[prefix + ".".join(inside)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


# ---- help of one name ----


def _help_of(word: str) -> str:
    if word in COMMANDS:
        what, example = ABOUT[word]
        return f"{word}: {what}\nexample: mpc-appraisal {example}\nmpc-appraisal {word} --help says more"
    if word in group_names():
        lines = [f"{word}={option}: {_about(word, option)}" for option in options(word)]
        return "\n".join(_folded(lines, 2))
    group, equals, option = word.partition("=")
    if equals and option in (options(group) if group in group_names() else ()):
        if option not in _own_options(group):
            return f"{word}: {_about(group, option)} Its settings are keys of appraisal, as its class names them."
        return (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").rstrip()
    known = documented_keys()
    if word in known:
        inside = [name for name in known if name.startswith(f"{word}.")]
        text = f"{word}: {known[word] or 'a part of the configuration'}"
        return "\n".join(_folded([text, *(f"  {name}: {known[name]}" for name in inside)], 4))
    choices = [*COMMANDS, *group_names(), *known, *(f"{g}={o}" for g in group_names() for o in options(g))]
    raise UnknownWordError("no command, group, GROUP=OPTION or key", word, choices, LISTED)


def _about(group: str, option: str) -> str:
    """Return what an option is, in a sentence."""
    if option in _own_options(group):
        return _first_sentence(CONF / group / f"{option}.yaml")
    return f"A method of an installed package, {shown(offered_methods()[option])}."


def _first_sentence(path: Path) -> str:
    lines = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = " ".join(line for line in lines if not line.startswith("@"))  # such as "@package _global_", for Hydra
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


# ---- did you mean ----


class UnknownWordError(AppraisalError):
    """This error names a word of the command line that is nothing here, with the words that are nearest to it."""

    def __init__(self, what: str, word: str, names: Iterable[str], otherwise: str):
        near = get_close_matches(word, list(names), n=3, cutoff=0.6)
        advice = f"Did you mean {' or '.join(near)}? " if near else ""
        super().__init__(printable(f"{shown(word)} is {what}. {advice}{otherwise}"))


def explained(error: Exception) -> AppraisalError:
    """Return an error in words for one by which Hydra refuses an argument, with the names that are nearest to it."""
    text = str(error)
    match = re.search(r"To append to your default list use \+((\w+)=\S+)", text)
    if match and match[2] in group_names():
        return InputError(match[2], match[1], f"+{match[1]}, because no configuration has this group by itself")
    place = re.search(r"full_key: (\S+)", text)
    if match := re.search(r"Error locating target '([^']+)'", text):
        key = f"{place[1]}._target_" if place else "configuration"
        return InputError(key, match[1], "the name of a class that can be imported")
    if match := re.search(r"Error in call to target '([^']+)':\s*(.*)", text):
        expected = f"settings that it takes ({shown(match[2], 200)})"
        return InputError(place[1] if place else "configuration", match[1], expected)
    if match := re.search(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        inner = re.search(rf"full_key: ({re.escape(match[1])}\.\S+)", f"{text} {error.__cause__}")
        return _unknown_key(inner[1] if inner else match[1].split("@")[0])
    if match := re.search(r"Could not (?:find|load) '([^']+?)/([^'/]*)'", text):
        group, option = match[1], match[2]
        if group in group_names():
            what, found = f"no option of the group {group}", options(group)
            return UnknownWordError(what, option, found, f"There are {', '.join(found)}.")
    if match := re.search(r"Error parsing override '(.*)'", text):
        return UnknownWordError("neither a command nor KEY=VALUE", match[1], COMMANDS, LISTED)
    return InputError("configuration", shown(" ".join(text.split()), 300), "what `mpc-appraisal --cfg job` prints")


def _unknown_key(key: str) -> AppraisalError:
    known = documented_keys()
    group = key.split(".")[0]
    if key in known and group in group_names():
        having = [o for o in _own_options(group) if key in documented_keys_of(group, o)]
        return UnknownWordError("no key of this configuration", key, (), f"{group}={' or '.join(having)} has it.")
    same = [name for name in known if name.rsplit(".", 1)[-1] == key]  # the key without its group
    return UnknownWordError(
        "no key of the configuration",
        key,
        () if same else (*known, *group_names()),
        f"Did you mean {' or '.join(same)}?" if same else "`mpc-appraisal --cfg job` prints all keys.",
    )
