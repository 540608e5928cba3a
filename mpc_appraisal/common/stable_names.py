"""Names of strategies that stay when a class moves to another file.

A strategy is a class or function that the configuration chooses, such as a method, by its class path (`_target_`). The
digest of the public configuration, the key of a finished job and the digest of a question in a ledger, the file of what
an owner has answered, contain the strategy too. A digest must not change when a class moves, or an answered question
would be new and would be charged again. Therefore digests contain the stable name.

The stable name of a strategy of this package is the class path that it had when ledgers were first written. A class
that moves gets a new key in the table below and keeps its value; no value may ever change. A class of somebody else's
package has no entry: its class path is its stable name.
"""

from __future__ import annotations

from typing import Any

TARGET = "_target_"  # Hydra's key for a class path

# class path today: stable name
STABLE_NAMES = {
    "mpc_appraisal.methods.Finetuning": "mpc_appraisal.appraisal.Finetuning",
    "mpc_appraisal.methods.GradientNorm": "mpc_appraisal.appraisal.GradientNorm",
    "mpc_appraisal.methods.Influence": "mpc_appraisal.appraisal.Influence",
    "mpc_appraisal.methods.InfluenceError": "mpc_appraisal.appraisal.InfluenceError",
    "mpc_appraisal.methods.Methods": "mpc_appraisal.appraisal.Methods",
    "mpc_appraisal.methods.MlpFinetuning": "mpc_appraisal.appraisal.MlpFinetuning",
    "mpc_appraisal.methods.Diversity": "mpc_appraisal.methods.Diversity",
    "mpc_appraisal.methods.Relevance": "mpc_appraisal.methods.Relevance",
    "mpc_appraisal.data.Cifar10": "mpc_appraisal.data.Cifar10",
    "mpc_appraisal.data.ConvRandom": "mpc_appraisal.data.ConvRandom",
    "mpc_appraisal.data.BreastCancer": "mpc_appraisal.data.BreastCancer",
    "mpc_appraisal.data.Diabetes": "mpc_appraisal.data.Diabetes",
    "mpc_appraisal.data.Wine": "mpc_appraisal.data.Wine",
    "mpc_appraisal.data.scenarios.TargetNoise": "mpc_appraisal.data.scenarios.TargetNoise",
    "mpc_appraisal.data.scenarios.TargetShift": "mpc_appraisal.data.scenarios.TargetShift",
    "mpc_appraisal.data.Digits": "mpc_appraisal.data.Digits",
    "mpc_appraisal.data.Layers": "mpc_appraisal.data.Layers",
    "mpc_appraisal.data.Mnist": "mpc_appraisal.data.Mnist",
    "mpc_appraisal.data.NoFeatures": "mpc_appraisal.data.NoFeatures",
    "mpc_appraisal.data.RandomRelu": "mpc_appraisal.data.RandomRelu",
    "mpc_appraisal.marketplace.IfeShares": "mpc_appraisal.marketplace.IfeShares",
    "mpc_appraisal.marketplace.IfeTransform": "mpc_appraisal.marketplace.IfeTransform",
    "mpc_appraisal.marketplace.Sellers": "mpc_appraisal.marketplace.Sellers",
    "mpc_appraisal.marketplace.Validation": "mpc_appraisal.marketplace.Validation",
    "mpc_appraisal.marketplace.encryption.als16.ALS16": "mpc_appraisal.protocols.ife.als16.ALS16",
    "mpc_appraisal.marketplace.encryption.lwe.LWE": "mpc_appraisal.protocols.ife.lwe.LWE",
    "mpc_appraisal.release.Best": "mpc_appraisal.release.Best",
    "mpc_appraisal.release.Bit": "mpc_appraisal.release.Bit",
    "mpc_appraisal.release.NoisedRelease": "mpc_appraisal.release.Private",
    "mpc_appraisal.release.Value": "mpc_appraisal.release.Value",
    "mpc_appraisal.data.scenarios.Clean": "mpc_appraisal.scenario.Clean",
    "mpc_appraisal.data.scenarios.DistributionMismatch": "mpc_appraisal.scenario.DistributionMismatch",
    "mpc_appraisal.data.scenarios.LabelNoise": "mpc_appraisal.scenario.LabelNoise",
    "mpc_appraisal.data.scenarios.MissingData": "mpc_appraisal.scenario.MissingData",
    "mpc_appraisal.appraisal.sessions.Join": "mpc_appraisal.sessions.Join",
    "mpc_appraisal.appraisal.sessions.Plain": "mpc_appraisal.sessions.Plain",
    "mpc_appraisal.appraisal.sessions.Spawn": "mpc_appraisal.sessions.Spawn",
    "mpc_appraisal.models.training.fit": "mpc_appraisal.training.fit",
    "mpc_appraisal.models.linear_regression.fit": "mpc_appraisal.models.linear_regression.fit",
    "mpc_appraisal.models.logistic_regression.fit": "mpc_appraisal.models.logistic_regression.fit",
    "mpc_appraisal.attacks.measures.NoAttack": "mpc_appraisal.attacks.measures.NoAttack",
    "mpc_appraisal.attacks.measures.EveryAttack": "mpc_appraisal.attacks.measures.EveryAttack",
    "mpc_appraisal.attacks.measures.Membership": "mpc_appraisal.attacks.measures.Membership",
    "mpc_appraisal.attacks.measures.Collusion": "mpc_appraisal.attacks.measures.Collusion",
    "mpc_appraisal.attacks.measures.FloatDrift": "mpc_appraisal.attacks.measures.FloatDrift",
    "mpc_appraisal.attacks.measures.KnownRows": "mpc_appraisal.attacks.measures.KnownRows",
    "mpc_appraisal.attacks.measures.Histogram": "mpc_appraisal.attacks.measures.Histogram",
    "mpc_appraisal.attacks.measures.PixelRecovery": "mpc_appraisal.attacks.measures.PixelRecovery",
    "mpc_appraisal.attacks.measures.EquivalentModel": "mpc_appraisal.attacks.measures.EquivalentModel",
    "mpc_appraisal.attacks.measures.Linking": "mpc_appraisal.attacks.measures.Linking",
    "mpc_appraisal.transformations.RtasTraining": "mpc_appraisal.transformations.RtasTraining",
    "mpc_appraisal.transformations.RtasFast": "mpc_appraisal.transformations.RtasFast",
    "mpc_appraisal.transformations.SharesTraining": "mpc_appraisal.transformations.SharesTraining",
    "mpc_appraisal.transformations.FloatShares": "mpc_appraisal.transformations.FloatShares",
    "mpc_appraisal.attacks.measures.ImageRanking": "mpc_appraisal.attacks.measures.ImageRanking",
    "mpc_appraisal.attacks.measures.ImageRecovery": "mpc_appraisal.attacks.measures.ImageRecovery",
    "mpc_appraisal.attacks.measures.InstaHideChallenge": "mpc_appraisal.attacks.measures.InstaHideChallenge",
    "mpc_appraisal.attacks.measures.SeedSearch": "mpc_appraisal.attacks.measures.SeedSearch",
    "mpc_appraisal.attacks.measures.Extraction": "mpc_appraisal.attacks.measures.Extraction",
    "mpc_appraisal.attacks.measures.Inflation": "mpc_appraisal.attacks.measures.Inflation",
    "mpc_appraisal.attacks.measures.MersenneTwister": "mpc_appraisal.attacks.measures.MersenneTwister",
    "mpc_appraisal.transformations.InstaHideCross": "mpc_appraisal.transformations.InstaHideCross",
    "mpc_appraisal.transformations.InstaHideInside": "mpc_appraisal.transformations.InstaHideInside",
}


def stable(value: Any) -> Any:
    """Return `value` with stable names for class paths.

    value: a tree of dictionaries and lists, as the configuration holds it.
    """
    if isinstance(value, dict):
        return {key: _named(child) if key == TARGET else stable(child) for key, child in value.items()}
    return [stable(child) for child in value] if isinstance(value, list) else value


def _named(path: Any) -> Any:
    return STABLE_NAMES.get(path, path) if isinstance(path, str) else path
