"""The engine `rtas`: linear algebra on shares, and softmax and activations by a random permutation at a helper.

    X W, truncation, squares, comparisons of a release: on shares modulo 2^64, as in the engine `fast`
    f(z) = pi^-1( f(pi(z)) ),  f in relu, step, sigmoid, tanh, exp: the helper is shown pi(z), pi known to the owners
    softmax, log_softmax of rows (n, C): rows permuted, and in every row the columns by a permutation of its own

X are rows of data, W are weights, z are values of a network, and pi is a permutation; a release is the form in which a
result is opened. The helper is the dealer's process. Every appraisal method runs on the engine unchanged, with
`session.engine=rtas` or `protocol=rtas`. The protocol is in `protocols.permutation`, and its functions are in
`protocols.helper_functions`. Source: "Private machine learning by random transformations" (anonymous), section 4.2.1.
There the shares are floating point; here they are in the ring, so that each share says nothing and the helper sees the
sums alone.

No softmax here needs a public bound on logits, so none is checked. The helper refuses values beyond fixed point. A
softmax takes two messages, one after the other. Squares stay on shares, because they are cheap and often come from
gradients; comparisons of a release stay on shares, because the helper must not see what is compared. Linear regression
has no function that a helper computes: the helper sees nothing of it and can refuse nothing, so that the weights which
it trains are checked on shares, as in the engine `fast`. The logarithm of a sigmoid is the log-softmax of z / 2 and
-z / 2, of which the helper sees no order, and hence no sign of z.

The price is `LEAKAGE`: the engine must never become the default, and it is not for data that must stay private from the
helper. `TRUST` and `LEAKAGE` are shown to users and stand in requests; they may change only with what the engine does.
"""

from __future__ import annotations

from mpc_appraisal.common import roles
from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.mpc.backends.fast import DrySession, EngineSession, FastSession
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols.helper_functions import check_functions
from mpc_appraisal.mpc.protocols.logit_bound import TrainedWeights

NAME = "rtas"
TRUST = (
    "The parties follow the protocol, and the helper, which is the dealer too, colludes with neither owner. "
    f"{roles.CHEATING} A cheating helper can answer anything."
)
LEAKAGE = (
    "The helper sees every value that goes into a softmax or an activation, batch by batch: all logits of the data "
    "owner's rows, and of the model owner's where a method trains or tests on them. Their order is hidden, the values "
    "are not: they rank candidates much as the gradient norm does (measured rank correlation .76), and by what is "
    "missing (1.00), and tell the mix of classes; with the model they tell whether a row is among the data; batches "
    "and training steps can be linked. Noise and thresholds bound what owners learn, not what the helper sees; what a "
    "release compares it does not see. That it refuses a value beyond fixed point, both owners learn. Helper and one "
    "owner together learn everything. Not for data that must stay private from the helper."
)


class UnboundedWeights(TrainedWeights):
    """A record of trained weights that keeps nothing and has no verdict, because no bound on weights is needed."""

    def record(self, share, bits):
        pass

    def verdict(self):
        return None


class HelperSession(EngineSession):
    """What `RtasSession` and `RtasDrySession` share: the use of the helper. `Session` describes the methods."""

    engine = NAME

    def _use_helper(self) -> None:
        self.context.engine.helper = True
        self.context.trained = UnboundedWeights(self.context.engine)

    def bound_logits(self, bound, weights=None, spread=None):
        trained = UnboundedWeights if weights is None else TrainedWeights
        self.context.trained = trained(self.context.engine, weights)

    def applied(self, secret, names):
        check_functions(names)
        return secret.applied(*names)


class RtasDrySession(HelperSession, DrySession):
    """An owner's session on shapes alone; see `DrySession`."""

    def __init__(self, role: str = MODEL_OWNER):
        super().__init__(role)
        self._use_helper()


class RtasSession(HelperSession, FastSession):
    """An owner's session on the engine rtas; the arguments are those of `FastSession`."""

    rehearsal = RtasDrySession

    def __init__(self, rendezvous: Rendezvous, timeout: float, transport: str = "tcp"):
        super().__init__(rendezvous, timeout, transport)
        self._use_helper()
