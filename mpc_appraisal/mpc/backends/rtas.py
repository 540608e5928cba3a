"""The engine `rtas`: sessions of `fast` whose dealer is a helper too, which computes functions of permuted values.

softmax, log-softmax, relu and sigmoid of shared values go to the helper. Products, squares and truncation are the
engine's, for they are cheap and what enters a square is often a gradient. Comparisons are its exact circuits: what a
release compares with a threshold, or with other candidates, the helper must not see.

No softmax here needs a public bound on logits: none is checked, and nothing is refused for one. Values beyond fixed
point are refused where the helper sees them.
"""

from __future__ import annotations

from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.mpc.backends.fast import DrySession, FastSession, _Engine
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols.helper_functions import check_functions
from mpc_appraisal.mpc.protocols.logit_bound import TrainedWeights

NAME = "rtas"


class UnboundedWeights(TrainedWeights):
    """Records nothing and has no verdict, because a helper needs no bound on logits."""

    def record(self, share, bits):
        pass

    def verdict(self):
        return None


class _Rtas(_Engine):
    """What a real session and a dry one share."""

    engine = NAME

    def _with_helper(self) -> None:
        self.context.engine.helper = True
        self.context.trained = UnboundedWeights(self.context.engine)

    def bound_logits(self, bound, weights=None):
        pass

    def applied(self, secret, names):
        check_functions(names)
        return secret.applied(*names)


class RtasDrySession(_Rtas, DrySession):
    """Shapes only."""

    def __init__(self, role: str = MODEL_OWNER):
        super().__init__(role)
        self._with_helper()


class RtasSession(_Rtas, FastSession):
    """An owner's session."""

    rehearsal = RtasDrySession

    def __init__(self, rendezvous: Rendezvous, timeout: float, transport: str = "tcp"):
        super().__init__(rendezvous, timeout, transport)
        self._with_helper()
