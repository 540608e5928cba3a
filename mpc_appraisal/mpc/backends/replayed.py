"""An owner's program on linear forms, for the check of its messages: `session.integrity=on` of the engine `fast`.

    both owners' programs, each at both owners: the messages so far -> claims on what the dealer has dealt

In go a program of a session and the stream that both owners share; out come two `ReplaySession`s, one for each owner
whose messages are checked. Both run to the next opening whenever a result is to be opened (`Replays.advance`). A replay
knows shapes and messages alone: its private tensors have no values, at their owner neither. It opens what this
owner was shown, or zeros, since no message depends on what one owner alone was shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.backends.fast import DEFAULT_BOUND, DrySession, EngineSession, TrainingContext
from mpc_appraisal.mpc.integrity.replay import ReplayEngine
from mpc_appraisal.mpc.integrity.steps import Steps
from mpc_appraisal.mpc.net.channel import Transcript
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor
from mpc_appraisal.mpc.session import Session


class ReplaySession(EngineSession):
    """The session of the owner that is checked, on linear forms.

    Args:
        rank: The rank of that owner.
        pair: The stream that both owners share, from its beginning.
    """

    blind = True

    def __init__(self, rank: int, pair: Any):
        super().__init__()
        self.opened: torch.Tensor | None = None  # what was opened last, if this owner was shown it
        self.role, self.pause = OWNERS[rank], lambda: None
        self.replay = ReplayEngine(rank, Transcript(), pair)
        self.context = TrainingContext(self.replay, DEFAULT_BOUND)

    input = DrySession.input  # of shapes alone

    def _open(self, secret, to):
        secret = secret.secret() if isinstance(secret, PrivateTensor) else secret
        self.replay.settle(secret.share)
        self.pause()
        return torch.zeros(secret.shape, dtype=torch.float64) if self.opened is None else self.opened


class Replays:
    """Both owners' programs, as one owner replays them.

    Args:
        program: The program of the session.
        pair: A function that returns the stream that both owners share, from its beginning.
    """

    def __init__(self, program: Callable[[Session], Any], pair: Callable[[], Any]):
        self.sessions = [ReplaySession(rank, pair()) for rank in range(len(OWNERS))]
        self._steps = [self._in_steps(program, session) for session in self.sessions]

    @staticmethod
    def _in_steps(program: Callable[[Session], Any], session: ReplaySession) -> Steps:
        def run(pause: Callable[[], None]) -> None:
            session.pause = pause
            program(session)

        return Steps(run)

    @property
    def engines(self) -> list[ReplayEngine]:
        """Return the engines of the model owner's and of the data owner's replay."""
        return [session.replay for session in self.sessions]

    def advance(self) -> None:
        """Run both programs until they have settled their next result."""
        for steps in self._steps:
            steps.advance()

    def opened(self, value: torch.Tensor | None) -> None:
        """Tell both programs what was opened, or None if this owner was not shown it."""
        for session in self.sessions:
            session.opened = value

    def close(self) -> None:
        """Give both programs up."""
        for steps in self._steps:
            steps.close()
