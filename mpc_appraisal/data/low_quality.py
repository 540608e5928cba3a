"""Data of low quality that a shopper should refuse, made from good data whose truth is known.

A shopper is the model owner of the encrypted marketplace, and x (n, d) are images with labels y (n,) of C classes. p_c
is the probability that the shopper's model gives to class c, and y' is the label of low quality.

    mislabelled   y' uniform on the classes other than y
    irrelevant    images of something else, y' uniform on all classes: shuffled pixels (each image by a permutation
                  of its own, so brightness stays and shape goes), or grey crops of foreign colour images
    evasive       y' = argmax_{c != y} p_c: the wrong label that the shopper's model itself finds likeliest

Where the model errs, an evasive label is the model's own wrong prediction; elsewhere it is the model's second class.
Retraining on evasive labels moves the model least, so that these samples are the most likely to evade validation by
retraining. A seller who can make evasive labels knows the shopper's predictions, which is the worst case.

Images and labels go in and come out as tensors. A new kind is a function here; the streams of random numbers have to
stay, so that a seed gives the same data.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601: red, green, blue


def mislabelled(y: Tensor, classes: int, seed: int) -> Tensor:
    """Return (n,) labels, each of another class than in y, (n,).

    Raises InputError for labels outside 0 .. classes - 1, and for fewer than two classes.
    """
    if classes < 2 or bool(((y < 0) | (y >= classes)).any()):
        raise InputError("low_quality.y", f"labels {int(y.min())} .. {int(y.max())} of {classes} classes",
                         "labels 0 .. classes - 1 of two classes or more")  # fmt: skip
    shift = torch.randint(1, classes, y.shape, generator=torch.Generator().manual_seed(seed))
    return (y + shift) % classes


def random_labels(n: int, classes: int, seed: int) -> Tensor:
    """Return (n,) labels, uniform on all classes, for images that show none of them."""
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


def shuffled_pixels(x: Tensor, seed: int) -> Tensor:
    """Return the pixels of each row of x, (n, d), in an order of its own."""
    order = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return x.gather(1, order)


def grey_crops(x: Tensor, side: int) -> Tensor:
    """Return the middle of each image in grey, (n, side * side), of colour planes (n, 3 h h), red first.

    h is the side of an image in pixels. Raises InputError where h is no integer or smaller than `side`.
    """
    height = math.isqrt(x.shape[1] // 3)
    if x.shape[1] != 3 * height * height or not 1 <= side <= height:
        raise InputError("low_quality.side", f"{side} of images with {x.shape[1]} numbers",
                         "a crop inside of square images with three planes")  # fmt: skip
    weights = torch.tensor(GREY, dtype=x.dtype).reshape(3, 1, 1)
    grey = (x.reshape(len(x), 3, height, height) * weights).sum(dim=1)
    top = (height - side) // 2
    return grey[:, top : top + side, top : top + side].reshape(len(x), side * side)


def evasive(p: Tensor, y: Tensor) -> Tensor:
    """Return (n,) labels, each the likeliest class other than in y.

    p: the model's probabilities or logits, (n, C). Raises InputError for another shape.
    """
    if p.ndim != 2 or len(p) != len(y) or p.shape[1] < 2:
        raise InputError(
            "low_quality.p",
            f"shape {tuple(p.shape)} for {len(y)} labels",
            "shape (rows, classes), of two classes or more",
        )
    return p.scatter(1, y.unsqueeze(1), -torch.inf).argmax(dim=1)
