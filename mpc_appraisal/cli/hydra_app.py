"""Runs of the app: Hydra, a library for configurations, reads the words of the command line and runs jobs with them.

In go the words in `sys.argv`. One job is an appraisal or a marketplace; --multirun makes a sweep of jobs; see `run` and
`jobs`. Out comes an exit status: 0, 2 for an expected error or failed jobs, 3 for a party's message that is not what
the protocol prescribes, or 130 for an interruption. However a sweep ends, the report of what finished is written. `app`
has to end the process without waiting for threads where its comments say so.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from mpc_appraisal.cli import front, launchers, sweep, swept_keys
from mpc_appraisal.cli.config import offer_installed
from mpc_appraisal.cli.console import set_threads
from mpc_appraisal.cli.front import CONF
from mpc_appraisal.cli.jobs import check_callbacks
from mpc_appraisal.cli.run import run_job
from mpc_appraisal.cli.tracking import check_tracker
from mpc_appraisal.common.errors import AppraisalError


@hydra.main(version_base=None, config_path=str(CONF), config_name="config")
def app(cfg: DictConfig) -> str | None:
    """Run one job.

    An expected error is one line on standard error and the exit status that the error states, and no traceback. In a
    sweep the error is left to `Jobs`, and the next job runs.
    """
    set_threads()
    try:
        return run_job(cfg)
    except AppraisalError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(error.status)  # After a peer's death, threads of torch.distributed may hold up an ordinary exit.
    except KeyboardInterrupt:
        if sweep.started_here():
            raise
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)


def ordered(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with all options before all overrides, each in their order.

    Hydra's argparse reads overrides in one place only. It would refuse those that follow `--multirun` if others stand
    before it.
    """
    overrides = [each for each in arguments if each[:1] == "~" or ("=" in each and each[:1] != "-")]
    options = [each for each in arguments if each not in overrides]
    return [*options, *overrides]


def end_sweep(whole: bool = True) -> sweep.Summary:
    """End the sweep that this process started, if any, and write the report of what finished. whole: as for `end`."""
    done = sweep.end(whole)
    if done.folder is not None:
        from mpc_appraisal.cli.commands.report import at_the_end_of

        at_the_end_of(done.folder)
    return done


def run_words() -> None:
    """Run the jobs that the words of the command line describe, and end the process unless all is well."""
    try:
        sys.argv[1:] = swept_keys.stated(ordered(sys.argv[1:]))
        launchers.check_launcher(sys.argv[1:])
        check_tracker(sys.argv[1:])
        check_callbacks(sys.argv[1:])
        offer_installed(sys.argv[1:])
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    set_threads()
    # Hydra then raises its own errors, which `front` explains, in place of printing them and ending the process.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        app()
    except HydraException as error:
        end_sweep(whole=False)
        print(f"error: {front.explained(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # a second one does not wait for the report
        print("interrupted; Ctrl-C again ends at once", file=sys.stderr, flush=True)
        end_sweep(whole=False)
        sys.stdout.flush()
        os._exit(130)
    except BaseException:
        end_sweep(whole=False)
        raise
    done = end_sweep()
    if done.failed:
        sys.stdout.flush()
        (os._exit if done.inside else sys.exit)(2)  # As in `app`; a launcher's workers need an ordinary exit.
