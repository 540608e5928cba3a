"""Attacks as choices of the app: each measures what one attack recovers from a protocol's view, beside a guess.

`EVERY` lists the attacks in the order in which `attack=all` measures them. An attack is added as a file here, a name in
`EVERY`, and a file in conf/attack.
"""

from mpc_appraisal.attacks.measures.base import Attack, EveryAttack, Finding, NoAttack, above_chance, attacks_on
from mpc_appraisal.attacks.measures.challenge import InstaHideChallenge
from mpc_appraisal.attacks.measures.collusion import Collusion
from mpc_appraisal.attacks.measures.equivalent_model import EquivalentModel
from mpc_appraisal.attacks.measures.extraction import Extraction
from mpc_appraisal.attacks.measures.float_drift import FloatDrift
from mpc_appraisal.attacks.measures.histogram import Histogram
from mpc_appraisal.attacks.measures.image_ranking import ImageRanking
from mpc_appraisal.attacks.measures.image_recovery import ImageRecovery
from mpc_appraisal.attacks.measures.inflation import Inflation
from mpc_appraisal.attacks.measures.known_rows import KnownRows
from mpc_appraisal.attacks.measures.linking import Linking
from mpc_appraisal.attacks.measures.membership import Membership
from mpc_appraisal.attacks.measures.mersenne_twister import MersenneTwister
from mpc_appraisal.attacks.measures.pixel_recovery import PixelRecovery
from mpc_appraisal.attacks.measures.seed_search import SeedSearch

EVERY: tuple[type[Attack], ...] = (
    Membership,
    Linking,
    Histogram,
    KnownRows,
    FloatDrift,
    PixelRecovery,
    EquivalentModel,
    Collusion,
    ImageRanking,
    ImageRecovery,
    SeedSearch,
    InstaHideChallenge,
    MersenneTwister,
    Extraction,
    Inflation,
)

__all__ = [
    "EVERY",
    "Attack",
    "Collusion",
    "EquivalentModel",
    "EveryAttack",
    "Extraction",
    "Finding",
    "FloatDrift",
    "Histogram",
    "ImageRanking",
    "ImageRecovery",
    "Inflation",
    "InstaHideChallenge",
    "KnownRows",
    "Linking",
    "Membership",
    "MersenneTwister",
    "NoAttack",
    "PixelRecovery",
    "SeedSearch",
    "above_chance",
    "attacks_on",
]
