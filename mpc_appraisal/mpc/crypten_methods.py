"""What an appraisal method that is written with CrypTen uses: CrypTen's module, and the way to its tensors and back.

    from mpc_appraisal.mpc.crypten_methods import crypten, from_crypten, to_crypten, with_parameters

`to_crypten` takes any tensor of a session: of the engine fast, of CrypTen as it is (stock), or in the clear. In go
tensors of `score`, and out come CrypTensors, with which `crypten.nn`, `crypten.optim` and CrypTen's autograd work.
`from_crypten` takes the result back. The method opens nothing, and what it computes must not depend on opened values,
since it also runs on shapes. `crypten` is CrypTen 0.4.1 as released, made importable; a method must not mend it, since
the engine stock is compared with it. docs/tutorials/crypten_method.md writes a method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.ops import from_crypten, to_crypten
from mpc_appraisal.mpc.protocols import crypten_compat

__all__ = ["crypten", "from_crypten", "to_crypten", "with_parameters"]

crypten = crypten_compat.load()


def with_parameters(module: Any, parameters: Mapping[str, Any]) -> Any:
    """Return a module of crypten.nn with CrypTensors as its parameters, ready to be trained.

    Args:
        module: The module, whose own parameters are dropped.
        parameters: The CrypTensors by the names of `module.named_parameters()`, such as "0.weight".

    Raises InputError: A name is missing or unknown, or a shape is wrong.
    """
    shapes = {name: tuple(own.size()) for name, own in module.named_parameters()}
    if set(shapes) != set(parameters):
        raise InputError("parameters", ", ".join(sorted(parameters)) or "none", ", ".join(sorted(shapes)))
    for name, tensor in parameters.items():
        if tuple(tensor.size()) != shapes[name]:
            raise InputError(name, f"shape {tuple(tensor.size())}", f"shape {shapes[name]}")
        *path, last = name.split(".")
        owner = module
        for step in path:
            owner = dict(owner.named_children())[step]
        owner.set_parameter(last, tensor)
    for each in module.modules():
        each.encrypted = True
    return module.train()
