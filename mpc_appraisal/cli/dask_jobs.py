"""Jobs of a sweep on Dask, by the launcher for joblib: a Hydra callback puts Dask in the place of joblib's own workers.

In go the address of a scheduler, or the number of workers to start here. While the sweep runs, joblib's back end "loky"
is Dask's: Hydra's launcher names that back end itself (hydra-joblib-launcher 1.2.0), so that another one cannot be
chosen by its name. Afterwards joblib has its own back end again, and workers that were started here are stopped. The
name of the class stands in conf/launch/dask.yaml and has to stay.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError

ADDRESS = "hydra.callbacks.dask.address"


class DaskJobs(Callback):
    """Run the jobs of a sweep on Dask.

    Args:
        address: The address of a scheduler that runs already, as tcp://HOST:PORT; None starts workers here.
        workers: How many workers are started here, each a process with one thread.
    """

    def __init__(self, address: str | None = None, workers: int = 1):
        self.address, self.workers = address, workers
        self.client: Any = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        from dask.distributed import Client, LocalCluster
        from joblib import register_parallel_backend
        from joblib._dask import DaskDistributedBackend

        for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]:
            logging.getLogger(name).setLevel(logging.ERROR)  # Hydra prints whatever others log
        try:
            integer("hydra.callbacks.dask.workers", self.workers, 1)
            if self.address is None:
                cluster = LocalCluster(
                    n_workers=self.workers, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
                )
                self.client = Client(cluster)
            else:
                self.client = Client(self.address, timeout=30)
        except InputError as error:  # Hydra would turn the error into a warning
            self._stop(str(error))
        except (OSError, ValueError, TypeError) as error:
            self._stop(str(InputError(ADDRESS, self.address, f"a scheduler of Dask that answers ({error})")))
        client = self.client

        def backend(nesting_level: int | None = None) -> Any:  # given to the class, it would go on to Dask's `submit`
            made = DaskDistributedBackend(client=client)
            made.nesting_level = nesting_level
            return made

        register_parallel_backend("loky", backend)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from joblib import register_parallel_backend
        from joblib._parallel_backends import LokyBackend

        register_parallel_backend("loky", LokyBackend)
        if self.client is not None:
            cluster = self.client.cluster if self.address is None else None
            self.client.close()
            if cluster is not None:
                cluster.close()
            self.client = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the client, because the launcher sends this callback to the workers."""
        return self.__dict__ | {"client": None}

    @staticmethod
    def _stop(text: str) -> None:
        print(f"error: {text}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
