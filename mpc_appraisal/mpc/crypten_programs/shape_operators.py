"""Operators of ONNX that move elements, as modules of CrypTen; `operators` says how they are called.

None of them sends a message: each party moves its own shares.
"""

from __future__ import annotations

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.crypten_programs.operators import Operator, alike, crypten, integers, is_secret


class Transpose(Operator):
    def compute(self, x):
        return x.permute(self.attributes.get("perm", list(reversed(range(x.dim())))))


class Flatten(Operator):
    defaults = {"axis": 1}

    def compute(self, x):
        axis = self.attributes["axis"] + (x.dim() if self.attributes["axis"] < 0 else 0)
        rows = int(torch.tensor(list(x.size())[:axis]).prod())
        return x.reshape(rows, -1)


class Reshape(Operator):
    defaults = {"allowzero": 0}

    def compute(self, x, shape=None):
        shape = integers(self.attributes["shape"] if shape is None else shape)
        if not self.attributes["allowzero"]:  # A zero stands for the size that the input has.
            shape = [x.size(i) if size == 0 else size for i, size in enumerate(shape)]
        return x.reshape(shape)


class Squeeze(Operator):
    def compute(self, x, axes=None):
        axes = self.attributes.get("axes") if axes is None else axes
        axes = [i for i, size in enumerate(x.size()) if size == 1] if axes is None else integers(axes)
        for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
            x = x.squeeze(axis)
        return x


class Unsqueeze(Operator):
    def compute(self, x, axes=None):
        axes = integers(self.attributes["axes"] if axes is None else axes)
        for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
            x = x.unsqueeze(axis)
        return x


class Expand(Operator):
    def compute(self, x, shape):
        return x.expand(torch.broadcast_shapes(tuple(x.size()), tuple(integers(shape))))


class Tile(Operator):
    def compute(self, x, repeats):
        return x.repeat(integers(repeats))


class Concat(Operator):
    defaults = {"axis": 0}

    def compute(self, *values):
        values = alike(list(values))
        cat = crypten.cat if is_secret(values[0]) else torch.cat
        return cat(values, dim=self.attributes["axis"])


class Split(Operator):
    """Split along an axis into the sizes of the second input, or into as many equal parts as the node has outputs."""

    defaults = {"axis": 0, "split": None}
    several_outputs = True

    def compute(self, x, sizes=None):
        axis, sizes = self.attributes["axis"], self.attributes["split"] if sizes is None else sizes
        if sizes is None:
            parts, whole = len(self._output_names), x.size(axis)
            step = -(-whole // parts)
            sizes = [min(step, whole - step * part) for part in range(parts)]
        starts, pieces = 0, []
        for size in integers(sizes):
            pieces.append(x.narrow(axis, starts, size))
            starts += size
        return tuple(pieces) if len(pieces) > 1 else pieces[0]


class Slice(Operator):
    def compute(self, x, starts=None, ends=None, axes=None, steps=None):
        starts = integers(self.attributes["starts"] if starts is None else starts)
        ends = integers(self.attributes["ends"] if ends is None else ends)
        axes = self.attributes.get("axes") if axes is None else axes
        axes = range(len(starts)) if axes is None else integers(axes)
        steps = [1] * len(starts) if steps is None else integers(steps)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            kept = range(*slice(start, end, step).indices(x.size(axis)))
            if step == 1:
                x = x.narrow(axis, kept.start, len(kept))
            else:
                x = x.index_select(axis, torch.tensor(list(kept), dtype=torch.int64))
        return x


def public_indices(indices, name: str) -> torch.Tensor:
    """Return indices as int64. Raises InputError: They are secret, and a look-up by them would reveal them."""
    if is_secret(indices):
        raise InputError(name, "secret indices", "public indices, since CrypTen has no look-up by secret ones")
    return indices.long()


class Gather(Operator):
    defaults = {"axis": 0}

    def compute(self, x, indices):
        axis = self.attributes["axis"] % max(x.dim(), 1)
        indices = public_indices(indices, "Gather")
        indices = torch.where(indices < 0, indices + x.size(axis), indices)
        picked = x.index_select(axis, indices.reshape(-1))
        return picked.reshape([*x.size()[:axis], *indices.size(), *x.size()[axis + 1 :]])


class GatherElements(Operator):
    defaults = {"axis": 0}

    def compute(self, x, indices):
        indices = public_indices(indices, "GatherElements")
        axis = self.attributes["axis"] % x.dim()
        return x.gather(axis, torch.where(indices < 0, indices + x.size(axis), indices))


class ScatterElements(Operator):
    defaults = {"axis": 0, "reduction": b"none"}

    @classmethod
    def refusal(cls, attributes):
        kind = attributes.get("reduction", b"none")
        return None if kind == b"none" else f"its reduction is {kind!r}, and only none is computed"

    def compute(self, x, indices, updates):
        indices = public_indices(indices, "ScatterElements")
        axis = self.attributes["axis"] % x.dim()
        indices = torch.where(indices < 0, indices + x.size(axis), indices)
        x, updates = alike([x, updates])
        return x.scatter(axis, indices, updates)


class ScatterND(ScatterElements):
    """Write whole slices, as an assignment such as y[:, 2] = 0 is exported."""

    def compute(self, x, indices, updates):
        indices = public_indices(indices, "ScatterND")
        depth, x_size = indices.size(-1), list(x.size())
        positions = torch.arange(x.nelement()).reshape(x_size)[tuple(indices.unbind(-1))]
        x, updates = alike([x, updates])
        updates = updates.expand(positions.shape).reshape(-1)
        assert depth <= len(x_size)
        return x.reshape(-1).scatter(0, positions.reshape(-1), updates).reshape(x_size)


class Trilu(Operator):
    """The upper or the lower triangle of matrices, with zeros elsewhere."""

    defaults = {"upper": 1}

    def compute(self, x, k=None):
        ones = torch.ones(tuple(x.size()[-2:]), dtype=None if is_secret(x) else x.dtype)
        diagonal = 0 if k is None else int(k.item())
        kept = ones.triu(diagonal) if self.attributes["upper"] else ones.tril(diagonal)
        if is_secret(x):
            return x.mul(kept)
        return torch.where(kept.bool(), x, torch.zeros_like(x))


class CumSum(Operator):
    defaults = {"exclusive": 0, "reverse": 0}

    def compute(self, x, axis):
        (axis,) = integers(axis)
        x = x.flip(axis) if self.attributes["reverse"] else x
        total = x.cumsum(axis)
        total = total.sub(x) if self.attributes["exclusive"] else total
        return total.flip(axis) if self.attributes["reverse"] else total


class DepthToSpace(Operator):
    defaults = {"mode": b"DCR"}

    def compute(self, x):
        n, c, h, w = x.size()
        block = self.attributes["blocksize"]
        if self.attributes["mode"] == b"DCR":
            y = x.reshape(n, block, block, c // block**2, h, w).permute([0, 3, 4, 1, 5, 2])
        else:
            y = x.reshape(n, c // block**2, block, block, h, w).permute([0, 1, 4, 2, 5, 3])
        return y.reshape(n, c // block**2, h * block, w * block)


class Resize(Operator):
    """Enlarge by copying the nearest element, by whole factors, as `nn.Upsample` does by default."""

    @classmethod
    def refusal(cls, attributes):
        mode = attributes.get("mode", b"nearest")
        return None if mode == b"nearest" else f"its mode is {mode!r}, and only nearest is computed"

    def compute(self, x, roi=None, scales=None, sizes=None):
        sizes = [x.size(i) * s for i, s in enumerate(scales.tolist())] if sizes is None else integers(sizes)
        for axis, size in enumerate(int(size) for size in sizes):
            if size != x.size(axis):
                places = torch.arange(size) * x.size(axis) // size
                x = x.index_select(axis, places)
        return x


class Pad(Operator):
    """Pad with a constant, or with the tensor's own elements: reflected, or those at the edge, or those round it."""

    defaults = {"mode": b"constant", "pads": None, "value": 0.0}

    def compute(self, x, pads=None, value=None, axes=None):
        pads = integers(self.attributes["pads"] if pads is None else pads)
        axes = range(x.dim()) if axes is None else [axis % x.dim() for axis in integers(axes)]
        half = len(pads) // 2
        value = self.attributes["value"] if value is None else value.item()
        widths = [[0, 0] for _ in range(x.dim())]
        for place, axis in enumerate(axes):
            widths[axis] = [pads[place], pads[half + place]]
        if self.attributes["mode"] == b"constant":
            return padded(x, widths, value)
        for axis, (before, after) in enumerate(widths):
            if before or after:
                x = x.index_select(axis, self._picked(x.size(axis), before, after))
        return x

    def _picked(self, size: int, before: int, after: int) -> torch.Tensor:
        places = torch.arange(-before, size + after)
        if self.attributes["mode"] == b"edge":
            return places.clamp(0, size - 1)
        if self.attributes["mode"] == b"wrap":
            return places % size
        places = places.abs()
        return torch.where(places >= size, 2 * (size - 1) - places, places)


def padded(x, widths: list[list[int]], value: float = 0.0):
    """Return x with `widths` [before, after] for each axis; a negative width cuts. A secret tensor stays secret."""
    for axis, (before, after) in enumerate(widths):
        start, end = max(0, -before), x.size(axis) - max(0, -after)
        if end - start != x.size(axis):
            x = x.narrow(axis, start, end - start)
    flat = [max(0, width) for before_after in reversed(widths) for width in before_after]
    if not any(flat):
        return x
    return x.pad(flat, value=value) if is_secret(x) else torch.nn.functional.pad(x, flat, value=value)
