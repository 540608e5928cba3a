"""Labelled data: the record (`dataset`), a party's own files (`files`), public data sets (`public`) and public feature
extractors (`extractors`)."""

from mpc_appraisal.data.dataset import Dataset, with_bias
from mpc_appraisal.data.extractors import ConvRandom, Extractor, Layers, NoFeatures, RandomRelu, mapped
from mpc_appraisal.data.files import StoredDataset, open_dataset, read_dataset, standardise, transformed
from mpc_appraisal.data.public import ENVIRONMENT, Cifar10, DataSource, Digits, Mnist, TrainSize

__all__ = [
    "ENVIRONMENT",
    "Cifar10",
    "ConvRandom",
    "DataSource",
    "Dataset",
    "Digits",
    "Extractor",
    "Layers",
    "Mnist",
    "NoFeatures",
    "RandomRelu",
    "StoredDataset",
    "TrainSize",
    "mapped",
    "open_dataset",
    "read_dataset",
    "standardise",
    "transformed",
    "with_bias",
]
