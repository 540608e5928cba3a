"""Transformations that other work proposes for private learning, built to be measured and attacked.

`rtas_layers` and `rtas_training` train networks by random transformations, `float_shares` does so on shares in floating
point, `instahide` mixes images, and `reconstructive_privacy` computes what such transformations are said to hide. The
attacks on them are in `attacks`. A transformation may be added with its attacks; what a published one computes has to
stay as its paper has it, or the attacks would measure something else.

The classes below are choices of the app (conf/protocol), and derive from `strategy.LearningProtocol`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The protocols of the app, each with the module that holds it; a module is imported when its name is used.
PROTOCOLS = {
    "RtasTraining": "network_training",
    "RtasFast": "network_training",
    "SharesTraining": "network_training",
    "FloatShares": "float_training",
    "InstaHideCross": "instahide_training",
    "InstaHideInside": "instahide_training",
}


def __getattr__(name: str) -> Any:
    if name not in PROTOCOLS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PROTOCOLS[name]}"), name)
