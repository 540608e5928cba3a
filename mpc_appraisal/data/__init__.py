"""Labelled data: the record (`dataset`), a party's own files (`files`), public data sets (`public`), public feature
extractors (`features`), markets made of one data set (`scenarios`) and data of low quality (`low_quality`)."""

from mpc_appraisal.data.dataset import Dataset, with_bias
from mpc_appraisal.data.features import ConvRandom, Extractor, Layers, NoFeatures, RandomRelu, mapped
from mpc_appraisal.data.files import StoredDataset, open_dataset, read_dataset, standardise, transformed
from mpc_appraisal.data.labels import check_codes, check_gaps, check_kind
from mpc_appraisal.data.public import ENVIRONMENT, Cifar10, DataSource, Digits, Mnist, TrainSize
from mpc_appraisal.data.sizes import Sizes

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
    "Sizes",
    "StoredDataset",
    "TrainSize",
    "check_codes",
    "check_gaps",
    "check_kind",
    "mapped",
    "open_dataset",
    "read_dataset",
    "standardise",
    "transformed",
    "with_bias",
]
