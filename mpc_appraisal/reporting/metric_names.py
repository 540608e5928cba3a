"""The names of the metrics of test predictions, as configurations and records state them, and what they mean in words.

A name goes in, and words for requests, reports and cards come out. `methods.metrics` has the formulas. A metric may be
added there and here. The names and the words have to stay, because the digest of a request is made of them.
"""

from __future__ import annotations

LOG_LOSS, SQUARED_ERROR, CLASS_WEIGHTED, WORST_GROUP, AUROC = METRICS = (
    "log_loss",
    "squared_error",
    "class_weighted",
    "worst_group",
    "auroc",
)
_WORDS = {
    LOG_LOSS: "mean log loss",
    SQUARED_ERROR: "mean squared error (Brier score)",
    CLASS_WEIGHTED: "class-weighted log loss",
    WORST_GROUP: "log loss of the worst group",
    AUROC: "smoothed 1 - AUROC",
}


def in_words(name: str, numbers: bool = False) -> str:
    """Return a metric in words, as in "mean log loss"; another name is that of a function of the model owner's own.

    numbers: whether the target is a number, of whose squared error nobody speaks as of Brier's score.
    """
    if numbers and name == SQUARED_ERROR:
        return "mean squared error"
    return _WORDS.get(name, f"metric {name}")
