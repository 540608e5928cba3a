"""How the functions of `mpc.ops` work on private and shared tensors. Importing this module registers them.

In go the classes of `tensors` and the generic functions of `mpc.ops`, which a method calls on plain tensors too. Out
come the registrations alone. A function may be added. Each has to compute on private and shared tensors what the
function of `mpc.ops` states for plain ones, and none may reveal a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.comparison import negative
from mpc_appraisal.mpc.protocols.tensors import NUMBER_BITS, PrivateTensor, Secret


@ops.join.register(PrivateTensor)
@ops.join.register(Secret)
def _join(first: PrivateTensor | Secret, tensors: Sequence[Any]) -> Secret:
    secrets = [t.secret() if isinstance(t, PrivateTensor) else t for t in tensors]
    bits = max(t.bits for t in secrets)
    shares = [t.share << (bits - t.bits) for t in secrets]
    return Secret(first.context, torch.cat(shares), bits)


ops.negative.register(Secret, lambda value: value._with(negative(value._engine, value.share), 0))
ops.choose.register(Secret, lambda bit, value: value._with(value._engine.multiply(bit.share, value.share)))
ops.factor.register(Secret, Secret.factor)
ops.private.register(PrivateTensor, lambda value: True)
ops.high_precision.register(PrivateTensor, lambda value: value.secret(NUMBER_BITS))
ops.log_sigmoid.register(PrivateTensor, lambda value: value._local(torch.nn.functional.logsigmoid))
ops.log_sigmoid.register(Secret, Secret.log_sigmoid)
