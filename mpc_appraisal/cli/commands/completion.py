"""`mpc-appraisal completion`: print a script that completes commands, groups and keys in bash, zsh or fish.

    source <(mpc-appraisal completion bash)

In go the name of a shell. Out comes a script with all words in it, so that completing starts no process; it is printed
anew after an update. A shell may be added to `SHELLS`. The script must define nothing but the function `_mpc_appraisal`
and the completion of `mpc-appraisal`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpc_appraisal.cli import front
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

USAGE = """usage: mpc-appraisal completion bash | zsh | fish

print a script for the shell, which completes commands, groups with their
options, and keys of the configuration

bash:  source <(mpc-appraisal completion bash)      in ~/.bashrc
zsh:   source <(mpc-appraisal completion zsh)       in ~/.zshrc, after compinit
fish:  mpc-appraisal completion fish | source       in config.fish"""

# A word that ends with = is followed by its value, so that no space goes after it. A colon or = splits words in bash's
# own reading of the line, and only what stands after the last = is to be replaced there.
BASH = """_mpc_appraisal() {{
  local line="${{COMP_LINE:0:COMP_POINT}}"
  local word="${{line##*[[:space:]]}}"
  local words="{words}"
  [ "$COMP_CWORD" -gt 1 ] || words="$words {commands}"
  local kept="${{word%=*}}="
  [ "$kept" = "$word=" ] && kept=""
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [ -z "$kept" ] || COMPREPLY=("${{COMPREPLY[@]#"$kept"}}")
  if [ "${{#COMPREPLY[@]}}" -eq 1 ] && [ "${{COMPREPLY[0]%=}}" != "${{COMPREPLY[0]}}" ]; then compopt -o nospace; fi
}} 2>/dev/null
complete -o default -F _mpc_appraisal mpc-appraisal"""
ZSH = """autoload -U +X bashcompinit && bashcompinit
_mpc_appraisal() {{
  local word="${{words[CURRENT]}}"
  local -a all=({words})
  [ "$CURRENT" -gt 2 ] || all+=({commands})
  compadd -S '' -- ${{(M)all:#$word*=}}
  compadd -- ${{(M)${{all:#*=}}:#$word*}}
}}
compdef _mpc_appraisal mpc-appraisal"""
FISH = """complete -c mpc-appraisal -n __fish_use_subcommand -a "{commands}"
complete -c mpc-appraisal -a "{words}" """
SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for another word than a shell that is known."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise InputError("completion", shown(" ".join(arguments)), f"one of {', '.join(SHELLS)}")
    print(SHELLS[arguments[0]].format(words=" ".join(_words()), commands=" ".join((*COMMANDS, "help"))).rstrip())


def _words() -> list[str]:
    """Return all words that a run takes: options, GROUP=OPTION, and KEY= for each key of the configuration."""
    groups = [f"{group}={option}" for group in front.group_names() for option in front.options(group)]
    keys = [f"{key}=" for key in front.documented_keys() if key not in front.group_names()]
    return ["--multirun", "--cfg", "--help", "--version", *groups, *keys]
