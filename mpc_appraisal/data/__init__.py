"""Labelled data, from files, public sets and scenarios, as one checked record.

`dataset` is the record, `files` reads a party's own files, `recipe` makes features of raw tables, `public` loads public
data sets, `features` are public feature extractors, `scenarios` make markets of one data set, and `low_quality` makes
data that should be refused. In go files, arrays or names of public sets; out come data sets whose numbers are checked.
A new source or extractor is a class beside the others. The names below have to stay, because configurations and other
rooms use them.
"""

from mpc_appraisal.data.dataset import Dataset, with_bias
from mpc_appraisal.data.features import ConvRandom, Extractor, Layers, NoFeatures, RandomRelu, mapped
from mpc_appraisal.data.files import StoredDataset, open_dataset, read_dataset, standardise, transformed
from mpc_appraisal.data.labels import check_codes, check_gaps, check_kind
from mpc_appraisal.data.public import ENVIRONMENT, Cifar10, DataSource, Digits, Mnist, TrainSize
from mpc_appraisal.data.recipe import Recipe
from mpc_appraisal.data.resolution import Resolution, resolution_of, rounding_of
from mpc_appraisal.data.shipped import BreastCancer, Diabetes, Wine
from mpc_appraisal.data.sizes import Sizes

__all__ = [
    "ENVIRONMENT",
    "BreastCancer",
    "Cifar10",
    "ConvRandom",
    "DataSource",
    "Dataset",
    "Diabetes",
    "Digits",
    "Extractor",
    "Layers",
    "Mnist",
    "NoFeatures",
    "RandomRelu",
    "Recipe",
    "Resolution",
    "Sizes",
    "StoredDataset",
    "TrainSize",
    "Wine",
    "check_codes",
    "check_gaps",
    "check_kind",
    "mapped",
    "open_dataset",
    "read_dataset",
    "resolution_of",
    "rounding_of",
    "standardise",
    "transformed",
    "with_bias",
]
