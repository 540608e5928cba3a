"""CrypTen's tensors in the clear: the plaintext baseline of appraisal methods that are written with CrypTen.

A `PlainTensor` is a CrypTensor that holds a plain tensor in float64. CrypTen's autograd, modules, losses and optimisers
run on it as they run on shares, and every function is torch's own. So one method gives its baseline and its private
value by the same lines, and their difference is what fixed point and approximations add. Nothing here is secret.
"""

from __future__ import annotations

from typing import Any

import torch

from mpc_appraisal.mpc.protocols import crypten_compat

crypten = crypten_compat.load()
OPENS_NOTHING = "a method opens nothing; return the tensor by from_crypten, and the run opens it"


def _plain(value: Any) -> Any:
    return value._tensor if isinstance(value, PlainTensor) else value


@crypten.register_cryptensor("plain")
class PlainTensor(crypten.CrypTensor):
    """A tensor of CrypTen that hides nothing.

    Args:
        tensor: The values, which are converted to float64.
        requires_grad: Whether CrypTen's autograd records what is computed with the tensor.
        device: It is not used, since all values are on the CPU.
    """

    def __init__(self, tensor: Any, requires_grad: bool = False, device: Any = None):
        super().__init__(requires_grad=requires_grad)
        self._tensor = torch.as_tensor(tensor, dtype=torch.float64).detach().clone()

    def shallow_copy(self):
        return PlainTensor(self._tensor)

    clone = shallow_copy

    def copy_(self, other):
        self._tensor.copy_(_plain(other))

    def get_plain_text(self, dst=None):
        raise TypeError(f"get_plain_text: {OPENS_NOTHING}")

    reveal = get_plain_text

    @property
    def device(self):
        return self._tensor.device

    def _ltz(self):
        return PlainTensor(self._tensor < 0)

    def argmax(self, dim=None, keepdim=False, one_hot=True):
        """Return the first of the largest elements, where CrypTen draws one of them."""
        index = self._tensor.argmax(dim, keepdim=keepdim) if dim is not None else self._tensor.argmax()
        if not one_hot:
            return PlainTensor(index)
        whole = self._tensor.flatten() if dim is None else self._tensor
        place, along = (index.reshape(1), 0) if dim is None else (whole.argmax(dim, keepdim=True), dim)
        return PlainTensor(torch.zeros_like(whole).scatter(along, place, 1.0).reshape(self._tensor.shape))

    def max(self, dim=None, keepdim=False, one_hot=True):
        if dim is None:
            return PlainTensor(self._tensor.max())
        return PlainTensor(self._tensor.amax(dim, keepdim=keepdim)), self.argmax(dim, keepdim, one_hot)

    def softmax(self, dim, **options):
        return PlainTensor(self._tensor.softmax(dim))

    def log_softmax(self, dim, **options):
        return PlainTensor(self._tensor.log_softmax(dim))

    def log(self, input_in_01=False):
        return PlainTensor(self._tensor.log())

    def reciprocal(self, input_in_01=False):
        return PlainTensor(self._tensor.reciprocal())

    def inv_sqrt(self):
        return PlainTensor(self._tensor.rsqrt())

    def conv1d(self, kernel, *arguments, **options):
        return PlainTensor(torch.conv1d(self._tensor, _as_double(kernel), *arguments, **options))

    def conv2d(self, kernel, *arguments, **options):
        return PlainTensor(torch.conv2d(self._tensor, _as_double(kernel), *arguments, **options))

    def conv_transpose1d(self, kernel, *arguments, **options):
        return PlainTensor(torch.conv_transpose1d(self._tensor, _as_double(kernel), *arguments, **options))

    def conv_transpose2d(self, kernel, *arguments, **options):
        return PlainTensor(torch.conv_transpose2d(self._tensor, _as_double(kernel), *arguments, **options))

    def avg_pool2d(self, kernel_size, stride=None, padding=0, ceil_mode=False):
        return PlainTensor(torch.nn.functional.avg_pool2d(self._tensor, kernel_size, stride, padding, ceil_mode))


def _of_one(name: str):
    def function(self):
        return PlainTensor(getattr(self._tensor, name)())

    return function


def _of_two(name: str):
    def function(self, other):
        return PlainTensor(getattr(self._tensor, name)(_as_double(other)))

    return function


def _as_double(value: Any) -> Any:
    value = _plain(value)
    return value.to(torch.float64) if torch.is_tensor(value) else value


for _name in ("neg", "square", "exp", "sqrt", "sigmoid", "tanh", "erf", "cos", "sin"):
    setattr(PlainTensor, _name, _of_one(_name))
for _name in ("add", "sub", "mul", "div", "matmul"):
    setattr(PlainTensor, _name, _of_two(_name))
