"""Starts and ends a CrypTen program's session on the engine: crypten.init, crypten.uninit and CrypTen's launchers.

`install` replaces the following in CrypTen; `meeting` says which variables of the environment state the parties.

| in CrypTen | replaced by |
|---|---|
| init | an `AskedSession` as owner 0 or 1; with one owner alone, CrypTen's own init |
| DistributedCommunicator.shutdown, which uninit calls | the session's end |
| mpc.run_multiprocess | the same with two forked owners and a dealer; a lost owner ends the others |
| mpc.provider.TTPServer | the dealer, in a process whose rank comes after the owners' |

The dealer is a process of its own in every case. CrypTen's provider `TTP` leaves its start to the program, as in
CrypTen: a launcher that asks `crypten.mpc.ttp_required()` starts `TTPServer`. With CrypTen's default provider `TFP`,
rank 0 starts the dealer on its own machine if all parties are there; otherwise an organisation that colludes with
neither owner has to start it (`mpc-appraisal crypten role=dealer`). Either provider asks the dealer for all triples.

`crypten.init_thread` stays CrypTen's own, whose threads in 0.4.1 exchange messages and open nothing. Every wait in a
session ends at a loss, after the seconds that `meeting` states, and this has to stay.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.util
import os
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from mpc_appraisal.common.environment import keep_freed_memory
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.common.roles import DEALER, MODEL_OWNER
from mpc_appraisal.mpc.backends.asked import AskedSession
from mpc_appraisal.mpc.crypten_programs.dealing import deal
from mpc_appraisal.mpc.crypten_programs.meeting import APART, HERE, PREFIX, RANKS, Meeting
from mpc_appraisal.mpc.net.lifecycle import LINGER_SECONDS

DEALING = "mpc_appraisal.mpc.crypten_programs.dealing"
DEALER_SECONDS = 20.0  # so long after the session the dealer that rank 0 has started may take to end

_stock: dict[str, Any] = {}  # what `install` has replaced
_party: Party | None = None


class Party:
    """This process's part in a session on the engine, from crypten.init to crypten.uninit.

    Args:
        crypten: The module crypten.
        meeting: Where the parties meet.
        starts_dealer: Whether this process starts the dealer.

    Raises:
        InputError: The environment states what cannot be used.
        PeerError: A party does not come in time; the message names it.
    """

    def __init__(self, crypten: ModuleType, meeting: Meeting, starts_dealer: bool):
        self.meeting, self.dealer, self._before = meeting, None, None
        try:
            self.link, self.store = meeting.connect()
        except PeerError as error:
            raise PeerError(f"{error} ({RANKS})") from None
        try:
            if starts_dealer:
                self.dealer = _start_dealer()
            self.link.announce()
            self.session = AskedSession(self.link, meeting.timeout, meeting.transport.kind)
            self._before = _Before(crypten)
            _mending().carry(self.session)
        except BaseException as error:
            self._abandon(error)
            if isinstance(error, PeerError):
                raise PeerError(f"{error} ({RANKS})") from None
            raise
        self._ending = multiprocessing.util.Finalize(None, _end_with_process, exitpriority=10)

    def leave(self, failed: bool = False) -> None:
        """End the session, in good order unless this party has failed, and give CrypTen back what was replaced."""
        self._ending.cancel()
        try:
            if failed:
                self.link.abort("an error ended its program")
            self.session.close(not failed)
            if not failed:
                self.meeting.await_others(self.link)
        except AppraisalError as error:  # the program has its results
            logging.warning("CrypTen's session did not end in good order: %s", error)
        finally:
            self._before.restore()
            self.meeting.leave(self.link, LINGER_SECONDS)
            self._end_dealer()

    def _abandon(self, error: BaseException) -> None:
        if self._before is not None:
            self._before.restore()
        self.link.abort(error.public if isinstance(error, AppraisalError) else "it was interrupted")
        self.meeting.leave(self.link, LINGER_SECONDS)
        self._end_dealer()

    def _end_dealer(self) -> None:
        if self.dealer is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.dealer.wait(DEALER_SECONDS)
            self.dealer.kill()
            self.dealer.wait()


class _Before:
    """What a session replaces in CrypTen, so that a world of one can come before and after it."""

    def __init__(self, crypten: ModuleType):
        self._crypten = crypten
        primitives = crypten.mpc.primitives
        kinds = (primitives.ArithmeticSharedTensor, primitives.BinarySharedTensor)
        places = [(kind, name) for kind in kinds for name in ("PRZS", "rand") if name in vars(kind)]
        self._attributes = [(kind, name, vars(kind)[name]) for kind, name in places]
        self._generators = dict(crypten.generators)
        self._providers = dict(vars(crypten.mpc)["__SUPPORTED_PROVIDERS"])
        self._provider = crypten.cfg.mpc.provider

    def restore(self) -> None:
        """Set all as it was before the session; a provider that the program has set meanwhile stays set."""
        _mending().release()
        for kind, name, value in self._attributes:
            setattr(kind, name, value)
        self._crypten.generators.update(self._generators)
        providers = vars(self._crypten.mpc)["__SUPPORTED_PROVIDERS"]
        providers.clear()
        providers.update(self._providers)
        if self._crypten.cfg.mpc.provider not in providers:
            self._crypten.cfg.mpc.provider = self._provider


def _mending() -> ModuleType:
    return import_module("mpc_appraisal.mpc.crypten_programs.mending")  # it imports this file


def _start_dealer() -> subprocess.Popen:
    """Start the dealer as a clean process: a fork would inherit this owner's data."""
    environment = os.environ | {"RANK": "2", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen([sys.executable, "-m", DEALING], stdin=subprocess.DEVNULL, env=environment)


def _end_with_process() -> None:
    """Leave the session of a program that ends without crypten.uninit; after an error, say so to the others."""
    if _party is not None:
        ended_by = sys.exc_info()[0] or getattr(sys, "last_type", None)
        end_session(failed=ended_by not in (None, SystemExit))


def end_session(failed: bool = False) -> None:
    """End this process's session if there is one. The others are told if the program has failed."""
    global _party
    party, _party = _party, None
    if party is not None:
        party.leave(failed)


def _init(crypten: ModuleType) -> Callable[..., None]:
    def init(config_file=None, party_name=None, device=None):
        """Start CrypTen's session: over the engine with two owners, and as CrypTen itself does with one.

        Args:
            config_file: A file of CrypTen's configuration, or None.
            party_name: The name of this party for files, or None.
            device: It is not used, as in CrypTen 0.4.1; the engine computes on the CPU.

        Raises:
            InputError: The environment states what cannot be used, such as three owners.
            PeerError: A party does not come in time; the message names it.
        """
        global _party
        if config_file is not None:
            crypten.cfg.load_config(config_file)
        if crypten.communicator.is_initialized():
            warnings.warn("CrypTen is already initialized.", RuntimeWarning, stacklevel=2)
            return
        meeting = Meeting.of_environment()
        if meeting.owners == 1:
            if crypten.mpc.ttp_required():
                raise InputError("cfg.mpc.provider", "TTP", "TFP in a world of one party, which needs no dealer")
            _stock["init"](None, party_name, device)
            return
        if meeting.role == DEALER:
            return  # TTPServer does what there is to do
        keep_freed_memory()
        _party = Party(crypten, meeting, _starts_dealer(crypten, meeting))
        if party_name is not None:
            crypten.communicator.get().set_name(party_name)

    return init


def _starts_dealer(crypten: ModuleType, meeting: Meeting) -> bool:
    """Return whether this process has to start the dealer."""
    here = meeting.local and meeting.transport.kind == "tcp" and crypten.cfg.mpc.provider != "TTP"
    return meeting.role == MODEL_OWNER and (meeting.dealer == HERE or meeting.dealer != APART and here)


class DealerServer:
    """The dealer, under the name and with the call of CrypTen's TTPServer: creating it deals until the session ends."""

    TERMINATE = -1

    def __init__(self):
        deal(Meeting.of_environment())


def _shutdown(cls) -> None:
    """End the session of this process (DistributedCommunicator.shutdown)."""
    if _party is not None:
        end_session()
    elif cls.instance is not None:
        _stock["shutdown"].__func__(cls)


def run_multiprocess(world_size: int, maxsize: int | None = None) -> Callable[[Callable], Callable]:
    """Return a decorator: the function then runs as each owner, in a forked process, with a dealer beside them.

    The decorated function returns the list of the owners' results in the order of their ranks. It returns None, after
    an error in the log, where an owner has failed, as CrypTen's does.

    Args:
        world_size: 1 or 2.
        maxsize: It is not used; results of any size come back.

    Raises InputError, when the decorated function is called: there are more than two owners.
    """

    def decorator(func):
        @functools.wraps(func)
        def wrapper(*args, **kwargs):
            if world_size not in (1, 2):
                raise InputError("run_multiprocess: world_size", world_size, "1 or 2: two owners and a dealer")
            with _uninitialised(), tempfile.TemporaryDirectory(prefix="mpc-appraisal-") as folder:
                place = f"file://{Path(folder, 'rendezvous')}"
                return _run_parties(world_size, place, lambda: func(*args, **kwargs))

        return wrapper

    return decorator


@contextlib.contextmanager
def _uninitialised():
    """Leave the parent's own session, which its children would inherit, and start one again afterwards."""
    import crypten

    before = crypten.is_initialized()
    if before:
        crypten.uninit()
    try:
        yield
    finally:
        if before:
            crypten.init()


def _run_parties(world_size: int, place: str, program: Callable[[], Any]) -> list[Any] | None:
    """Run the program as each owner, and return their results; None where one has failed."""
    context = multiprocessing.get_context("fork")  # a function in a notebook cannot be sent to a new process
    processes, pipes = [], {}
    for rank in range(world_size):
        pipe, sender = context.Pipe(duplex=False)
        processes.append(context.Process(target=_run_party, args=(rank, world_size, place, program, sender)))
        processes[-1].start()
        sender.close()
        pipes[pipe] = rank
    found = _received(pipes)
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes) or len(found) < world_size:
        logging.error("One of the parties failed; its own error stands above.")
        return None
    return [found[rank] for rank in range(world_size)]


def _received(pipes: dict[Any, int]) -> dict[int, Any]:
    """Return what each owner has sent, by rank, until all have closed their pipes."""
    found: dict[int, Any] = {}
    while pipes:
        for pipe in multiprocessing.connection.wait(list(pipes)):
            try:
                found[pipes[pipe]] = pickle.loads(pipe.recv_bytes())
            except EOFError:
                pipes.pop(pipe)
                pipe.close()
    return found


def _run_party(rank: int, world_size: int, place: str, program: Callable[[], Any], sender: Any) -> None:
    """Be one owner in a process of its own."""
    import crypten

    here = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "RENDEZVOUS": place, f"{PREFIX}DEALER": HERE}
    os.environ.update(here | {"DISTRIBUTED_BACKEND": "gloo"})
    for name in ("TLS", "RELAY"):
        os.environ.pop(PREFIX + name, None)
    crypten.init()
    result = program()
    crypten.uninit()
    sender.send_bytes(pickle.dumps(result))  # tensors go as bytes, since this process and its memory end now


def install(crypten: ModuleType) -> None:
    """Replace in CrypTen what the table of this file names. A second call does nothing."""
    if _stock:
        return
    communicator = crypten.communicator.DistributedCommunicator
    _stock.update(init=crypten.init, shutdown=vars(communicator)["shutdown"])
    crypten.init = _init(crypten)
    communicator.shutdown = classmethod(_shutdown)
    crypten.mpc.run_multiprocess = crypten.mpc.context.run_multiprocess = run_multiprocess
    crypten.mpc.provider.TTPServer = DealerServer
    crypten.cfg.mpc.provider = "TFP"  # CrypTen's own default, which `crypten_compat.load` had replaced


__all__: Sequence[str] = ("DealerServer", "Party", "end_session", "install", "run_multiprocess")
