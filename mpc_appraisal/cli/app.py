"""`mpc-appraisal`: the Hydra app. It wires; what it wires is elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mpc_appraisal.cli import sweep
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.config import CONF
from mpc_appraisal.cli.console import set_threads
from mpc_appraisal.cli.run import run_job
from mpc_appraisal.common.errors import AppraisalError


@hydra.main(version_base=None, config_path=str(CONF), config_name="config")
def app(cfg: DictConfig) -> str | None:
    """One job of the app. An expected error is one line on standard error and exit status 2, not a traceback; in a
    sweep it is left to `Jobs`, and the next job comes."""
    set_threads()
    try:
        return run_job(cfg)
    except AppraisalError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)  # threads of torch.distributed may hold up an ordinary exit after a peer's death
    except KeyboardInterrupt:
        if sweep.started_here():
            raise
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)


def ordered(arguments: Sequence[str]) -> list[str]:
    """Options first and overrides after them, each in their order: argparse, which Hydra uses, reads overrides in one
    place alone, so that those before `--multirun` would be all that it takes."""
    overrides = [each for each in arguments if each[:1] == "~" or ("=" in each and each[:1] != "-")]
    options = [each for each in arguments if each not in overrides]
    return [*options, *overrides]


def main() -> None:
    """Entry point of the console script."""
    try:
        if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
            return COMMANDS[sys.argv[1]](sys.argv[2:])
        sys.argv[1:] = ordered(sys.argv[1:])
        sweep.check_launcher(sys.argv[1:])
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    set_threads()
    try:
        app()
    except KeyboardInterrupt:
        sweep.end(whole=False)
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    except BaseException:
        sweep.end(whole=False)
        raise
    done = sweep.end()
    if done.failed:
        sys.stdout.flush()
        (os._exit if done.inside else sys.exit)(2)  # as in `app`; a launcher's workers want an ordinary exit


if __name__ == "__main__":
    main()
