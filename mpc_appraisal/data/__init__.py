"""Labelled data: the record (`dataset`), a party's own files (`files`) and public data sets (`public`)."""

from mpc_appraisal.data.dataset import Dataset, with_bias
from mpc_appraisal.data.files import StoredDataset, open_dataset, read_dataset, standardise, transformed
from mpc_appraisal.data.public import ENVIRONMENT, Cifar10, DataSource, Digits, Mnist, TrainSize

__all__ = [
    "ENVIRONMENT",
    "Cifar10",
    "DataSource",
    "Dataset",
    "Digits",
    "Mnist",
    "StoredDataset",
    "TrainSize",
    "open_dataset",
    "read_dataset",
    "standardise",
    "transformed",
    "with_bias",
]
