"""The attack with known rows as a choice of the app: the label owner of RTAS-fast solves for the first layer.

The formula is that of `rtas.known_rows`, with the bias solved for as the weight of a constant 1. In goes a
`FirstLayerView`; out comes the share of the variance of other private rows, about the mean row, that is explained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mpc_appraisal.attacks.measures.base import Attack, Finding
from mpc_appraisal.attacks.rtas import known_rows
from mpc_appraisal.common.checks import integer
from mpc_appraisal.models.networks import Conv
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS
from mpc_appraisal.transformations.rtas_layers import first
from mpc_appraisal.transformations.views import FirstLayerView

ULP = 2.0**-PRECISION_BITS


@dataclass(frozen=True)
class KnownRows(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        known: The number of private rows that the label owner knows, at most half of them. Behind a convolution on
            large images one is enough.
        shown: The number of other private rows that it seeks; there may be fewer.
    """

    known: int = 100
    shown: int = 50

    name: ClassVar[str] = "known_rows"
    reads: ClassVar[str] = "first_layer"

    def __post_init__(self) -> None:
        integer("known", self.known, 1)
        integer("shown", self.shown, 1)

    def measure(self, view: FirstLayerView, seed: int) -> list[Finding]:
        """Solve for the first layer and for rows, as `Attack.measure` describes it."""
        x, public = (part.x.double() for part in (view.train, view.test))
        known = min(self.known, len(x) // 2)
        z = first(view.model, view.layer, x.reshape(view.model.input_shape(len(x)))).numpy()
        z = np.rint(z / ULP) * ULP
        x, public = x.numpy(), public.numpy()
        sought = slice(known, known + self.shown)
        solve = _filters if isinstance(view.model.layers[0][0], Conv) else _dense
        w, bias, variance = solve(view, x[:known], z[:known], public)
        outputs, mean = z.reshape(len(z), -1), public.mean(axis=0)
        found = known_rows.rows(w, outputs[sought] - bias, public, variance)
        guess = np.random.default_rng(seed).normal(size=w.shape) * np.sqrt(np.square(w).mean())
        blind = known_rows.rows(guess, outputs[sought] - bias, public)
        return [Finding(
            "known rows", f"{known} known rows of {w.shape[0]} features, {w.shape[1]} outputs in one step",
            known_rows.explained(found, x[sought], mean), 0.0,
            "share of the rows' variance about the mean row that is explained",
            "with no known row, and with few outputs", known_rows.explained(blind, x[sought], mean),
        )]  # fmt: skip


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _dense(view: FirstLayerView, x: np.ndarray, z: np.ndarray, public: np.ndarray):
    """Return the layer (d, m), its bias (m,), and the variance of outputs that known rows leave open."""
    found = known_rows.dense(_with_one(x), z)
    return found[:-1], found[-1], known_rows.noise(found[:-1], x, public)


def _filters(view: FirstLayerView, x: np.ndarray, z: np.ndarray, public: np.ndarray):
    """Return the same of a convolution without padding, from the patches of known images."""
    conv, side = view.model.layers[0][0], view.model.image[1]
    windows = sliding_window_view(x.reshape(-1, side, side), (conv.kernel, conv.kernel), axis=(1, 2))
    patches = windows[:, :: conv.stride, :: conv.stride].reshape(-1, conv.kernel**2)
    found = known_rows.dense(_with_one(patches), z.transpose(0, 2, 3, 1).reshape(-1, z.shape[1]))
    filters = found[:-1].T.reshape(-1, conv.kernel, conv.kernel)
    places = z.shape[2] * z.shape[3]
    return known_rows.matrix(filters, side, conv.stride), np.repeat(found[-1], places), 0.0
