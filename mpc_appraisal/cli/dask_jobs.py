"""Jobs of a sweep on Dask, by the launcher for joblib: a Hydra callback puts Dask in the place of joblib's own workers.

In go the address of a scheduler, or the number of workers to start here. While the sweep runs, joblib's back end "loky"
is Dask's: Hydra's launcher names that back end itself (hydra-joblib-launcher 1.2.0), so that another one cannot be
chosen by its name. However the sweep ends, joblib then has its own back end again, and workers that were started here
are stopped. Ctrl-C in a terminal reaches these workers too, so that they are started deaf to it: this process ends
them. The name of the class stands in conf/launch/dask.yaml and has to stay.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mpc_appraisal.cli import sweep
from mpc_appraisal.common.checks import integer, text
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

ADDRESS, WORKERS = "hydra.callbacks.dask.address", "hydra.callbacks.dask.workers"


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that the block starts ignore Ctrl-C for good, and this process while the block lasts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a new process has what this one ignores
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class DaskJobs(Callback):
    """Run the jobs of a sweep on Dask.

    Args:
        address: The address of a scheduler that runs already, as tcp://HOST:PORT; None starts workers here.
        workers: How many workers are started here, each a process with one thread.
    """

    def __init__(self, address: str | None = None, workers: int = 1):
        self.address, self.workers = address, workers
        self.client: Any = None
        self.cluster: Any = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        from joblib import register_parallel_backend
        from joblib._dask import DaskDistributedBackend

        for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]:
            logging.getLogger(name).setLevel(logging.ERROR)  # Hydra prints whatever others log
        try:
            integer(WORKERS, self.workers, 1)
            if self.address is not None:
                text(ADDRESS, self.address)
            sweep.close_at_end(self.close)
            self._connect()
        except InputError as error:  # Hydra would turn the error into a warning
            print(f"error: {error}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None
        client = self.client

        def backend(nesting_level: int | None = None) -> Any:  # given to the class, it would go on to Dask's `submit`
            made = DaskDistributedBackend(client=client)
            made.nesting_level = nesting_level
            return made

        register_parallel_backend("loky", backend)

    def _connect(self) -> None:
        """Start workers here, or connect to the scheduler. Raises InputError where that fails."""
        from dask.distributed import Client, LocalCluster

        try:
            if self.address is None:
                os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")  # workers log on their own standard error
                with _deaf_to_interrupts():
                    self.cluster = LocalCluster(
                        n_workers=self.workers, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
                    )
            self.client = Client(self.address or self.cluster, timeout=30)
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            reason = shown(str(error) or type(error).__name__)
            if self.address is None:
                raise InputError(WORKERS, self.workers, f"workers that can be started here ({reason})") from error
            raise InputError(ADDRESS, self.address, f"a scheduler of Dask that answers ({reason})") from error

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Give joblib its own back end again, and stop the workers that were started here.

        Hydra calls `on_multirun_end` only after a launcher that did not fail, so that the sweep's end calls this too.
        """
        from joblib import register_parallel_backend
        from joblib._parallel_backends import LokyBackend

        register_parallel_backend("loky", LokyBackend)
        opened, self.client, self.cluster = (self.client, self.cluster), None, None
        for one in opened:
            if one is not None:
                one.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out client and cluster, because the launcher sends this callback to the workers."""
        return self.__dict__ | {"client": None, "cluster": None}
