"""Whether the delivered data, the model owner's own files and the recorded answer agree after a purchase.

In go a listing (the public description of a data set), the delivered data, and the model owner's record and files; out
come sentences on what agrees, or an error. The model owner then holds both sides' data, so that it computes the answer
in the clear. If the answer agrees, the other side did not alter it and used these rows, up to the difference that is
accepted (`_compared`). What `inputs_digest` hashes has to stay, because records hold such commitments. The accepted
differences may change only with a reason for the new ones: they decide what a cheating side could hide.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mpc_appraisal.appraisal.norms import class_norm
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.data import Dataset, NoFeatures, Recipe, Resolution, StoredDataset, read_dataset, standardise
from mpc_appraisal.data.resolution import rounded
from mpc_appraisal.governance.catalogue.commitment import commit, read_salt
from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.methods import Appraiser, method_named, plaintext
from mpc_appraisal.methods.base import Facts
from mpc_appraisal.methods.metrics import LOG_LOSS, ByMetric, own_settings
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import MODELS, refit
from mpc_appraisal.release.accuracy import LOOSELY, error_bound
from mpc_appraisal.release.dp.clipping import clip_rows, spread
from mpc_appraisal.release.unbounded_logits import AUTO
from mpc_appraisal.reporting.record import Record, read

RELATIVE, ABSOLUTE = 1e-3, 2e-4  # the accepted differences where a record states no bound or a loose one
DEVIATIONS = 5.0  # the accepted deviations of added noise, which one answer in 1.7 million exceeds
NORMAL_95 = 1.96  # half the length of a record's interval, in deviations of its noise
BLOCK = 1 << 13  # the number of rows that are read at a time
METRIC = ("metric", "group", "class_weights")  # the keys of the command for a metric, as under appraisal
ALL = ("record", "train", "test", "model", "salt", "threshold", *METRIC)  # the keys of the command


def inputs_digest(
    salt: bytes,
    sets: Sequence[Dataset | None],
    model: LinearModel | None,
    threshold: Any,
    settings: Mapping[str, Any] | None = None,
) -> str:
    """Return a commitment, in 64 hexadecimal digits, to all that a model owner brings.

    Args:
        salt: 32 random bytes that the owner keeps.
        sets: The owner's training rows and its test rows, each of which may be None.
        model: The model that the owner brings, if it brings one.
        threshold: The threshold as it was stated: None, a number, or numbers by method's name.
        settings: The settings of methods that stay with the owner, as `metrics.own_settings` returns them.
    """
    found = hashlib.sha256(salt)
    for data in sets:
        found.update(commit(data, salt).encode() if data is not None else b"-")
    if model is not None:
        theta = model.theta.double().contiguous()
        found.update(repr(tuple(theta.shape)).encode() + theta.numpy().astype("<f8").tobytes())
    stated = dict(threshold) if isinstance(threshold, Mapping) else threshold
    found.update(json.dumps(stated, sort_keys=True).encode())
    if settings:
        found.update(json.dumps(dict(settings), sort_keys=True).encode())
    return hashlib.sha256(salt + found.digest()).hexdigest()


def recompute(listing: Listing, data: Dataset | StoredDataset, stated: Mapping[str, str]) -> list[str]:
    """Return one sentence for each record of the listed data, and one on the commitment to the model owner's files.

    Args:
        listing: The listing of the data.
        data: The delivered rows, which have been checked against the listing.
        stated: The command's arguments, with keys of `ALL`, 'label' and 'recipe'.

    Raises:
        InputError: Something does not agree, or cannot be checked. The first such thing is named.
    """
    records = _records(listing, stated["record"])
    threshold = _threshold(stated.get("threshold"))
    found, compared = [], 0
    for record in records:
        terms, method = _terms(record, stated)
        kind = _kind(terms)
        train, test = (_own(stated, key, terms, record, kind) for key in ("train", "test"))
        model = kind.load(stated["model"], "model") if stated.get("model") else None
        if model is None and train is None:
            raise InputError("train", "nothing", "train=FILE or model=FILE: what the appraisal was for")
        if model is not None and model.l2 != terms["l2"]:
            raise InputError("model", f"a model with l2 = {model.l2:g}", f"l2 = {terms['l2']:g}, as the record says")
        for key, part in (("train", train), ("test", test)):
            if key in method.needs and part is None:
                raise InputError(key, "nothing", f"{key}=FILE: the method {method.name} needs it")
        found.append(_same_model(stated, terms, train, test, model, threshold))
        fitted = model or _fitted(train.with_classes(record.classes), terms, method, kind)
        sets = [part.with_classes(record.classes) if part is not None else None for part in (train, test)]
        delivered = _candidate(data, terms, record)
        value = plaintext(method, fitted, *sets, delivered)[0]
        sentence, answered = _compared(record, value, threshold, _bound(record, method, fitted, sets, delivered))
        found.append(sentence)
        compared += answered
    if not compared:
        raise InputError("record", "no answer that was opened to this party", "a record with a value or a bit in it")
    return list(dict.fromkeys(found))


def _records(listing: Listing, path: str) -> list[Record]:
    """Return the records of the listed data. Raises InputError where there are none, or of other data."""
    known = [r for r in read(path) if not r.baseline and r.listing is not None]
    found = [r for r in known if r.listing["name"] == listing.name]
    if not found:
        names = ", ".join(sorted({shown(r.listing["name"]) for r in known})) or "none"
        raise InputError("record", f"answers about these listings: {names}", f"an answer about {listing.name}")
    for record in found:
        if record.listing["commitment"] != listing.digest:
            said = f"the commitment {record.listing['commitment']}"
            raise InputError(
                "record: listing", said, f"{listing.digest}, as the listing says: other data were appraised"
            )
    return found


def _terms(record: Record, stated: Mapping[str, str]) -> tuple[dict[str, Any], Appraiser]:
    """Return the settings that the record states, and the method with them and with those of the command.

    Raises InputError where the record states none, or where the command does not state what is needed.
    """
    terms, kind = record.recompute, method_named(record.method)
    if terms is None or terms["settings"] is None or kind is None:
        found = f"a record of {shown(record.method)} without its settings"
        raise InputError("record: recompute", found, "l2 and the method's settings, as records state since version 0.1")
    if terms["features"] not in (None, NoFeatures().digest):
        raise InputError(
            "record: features",
            "a public feature extractor",
            "no feature extractor, because answers on extracted features cannot be recomputed",
        )
    try:
        method = kind(**terms["settings"])
        return terms, _with_own(method, stated) if isinstance(method, ByMetric) else method
    except TypeError as error:
        raise InputError("record: settings", shown(str(error)), f"settings of {record.method}") from None


def _kind(terms: Mapping[str, Any]) -> type[LinearModel]:
    """Return the kind of model that the record states. Raises InputError for an unknown one."""
    name = terms.get("model") or SoftmaxRegression.name
    if name not in MODELS:
        raise InputError("record: recompute: model", shown(name), f"one of {', '.join(MODELS)}")
    return MODELS[name]


def _fitted(train: Dataset, terms: Mapping[str, Any], method: Appraiser, kind: type[LinearModel]) -> LinearModel:
    """Return the fit on the training rows, or a model of zeros where the method reads no model."""
    if method.uses_model:
        return refit(train, terms["l2"], terms["tolerance"] or 1e-7, kind)
    outputs = train.classes if kind.link is SOFTMAX else 1
    return kind(torch.zeros(train.features + 1, outputs, dtype=torch.float64), terms["l2"])


def _with_own(method: ByMetric, stated: Mapping[str, str]) -> Appraiser:
    """Return the method with the settings of its metric that the command states, because no record holds them.

    Raises InputError where the command does not state the metric of the record: a record alone must not decide which
    function is imported here.
    """
    found = _metric(stated)
    if found.metric != method.metric:
        raise InputError("metric", found.metric, f"metric={shown(method.metric)}, as the record says")
    return replace(method, group=found.group, class_weights=found.class_weights)


def _metric(stated: Mapping[str, str]) -> ByMetric:
    """Return the metric that the command states, with its settings. Raises InputError where they do not fit."""
    weights = stated.get("class_weights")
    try:
        numbers = [float(one) for one in weights.strip("[] ").split(",")] if weights else None
    except ValueError:
        raise InputError("class_weights", shown(weights), "numbers, as in [1, 5]") from None
    return ByMetric(metric=stated.get("metric") or LOG_LOSS, group=stated.get("group") or None, class_weights=numbers)


def _own(
    stated: Mapping[str, str], key: str, terms: Mapping[str, Any], record: Record, kind: type[LinearModel]
) -> Dataset | None:
    """Return the model owner's training or test rows as they entered the computation; None where no file is stated."""
    if not stated.get(key):
        return None
    recipe = Recipe.load(stated["recipe"]) if stated.get("recipe") else None
    if (found := recipe.digest if recipe else None) != record.recipe:
        raise InputError("recipe", found or "no recipe", f"{record.recipe or 'no recipe'}, as the record says")
    read_as = {"recipe": recipe, "target": kind.target}
    data = read_dataset(Path(stated[key]), stated.get("label", "label"), None, key, **read_as)
    if data.features != record.features:
        raise InputError(key, f"{data.features} features", f"{record.features}, as the record says")
    if data.classes > record.classes:
        raise InputError(key, f"{data.classes} classes", f"at most {record.classes}, as the record says")
    return _standardised(data, terms)


def _standardised(data: Dataset, terms: Mapping[str, Any]) -> Dataset:
    mean, scale = terms["mean"], terms["scale"]
    if mean is None and scale is None:
        return data
    return standardise(data, 0.0 if mean is None else mean, 1.0 if scale is None else scale)


def _candidate(data: Dataset | StoredDataset, terms: Mapping[str, Any], record: Record) -> Dataset:
    """Return the delivered data as they entered the computation."""
    blocks = list(data.blocks(BLOCK))
    x, y = torch.cat([block.x for block in blocks]), torch.cat([block.y for block in blocks])
    if terms["row_norm"] is None:
        whole = _standardised(Dataset(x, y, data.classes, record.candidate), terms)
        if record.resolution is not None:  # which the data owner may have rounded to
            whole = replace(whole, x=rounded(whole.x, Resolution(**record.resolution), record.candidate))
        return whole.with_classes(record.classes)
    if terms.get("group_norm") is not None:
        found = f"{record.candidate}, whose rows were cut by person, to norms that add up to {terms['group_norm']:g}"
        raise InputError("record", found, "one whose rows were cut one by one")
    whole = _standardised(Dataset(x, y.clamp(max=record.classes - 1), record.classes, record.candidate), terms)
    return replace(whole, x=clip_rows(whole.x.double(), terms["row_norm"]))


def _same_model(
    stated: Mapping[str, str],
    terms: Mapping[str, Any],
    train: Dataset | None,
    test: Dataset | None,
    model: LinearModel | None,
    threshold: Any,
) -> str:
    """Say whether these are the files that the model owner brought, by its commitment to them.

    Raises InputError where the commitment is another one. Without the salt nothing is compared.
    """
    first = next(stated[key] for key in ("model", "train", "test") if stated.get(key))
    place = Path(stated["salt"]) if stated.get("salt") else Path(f"{first}.inputs.salt")
    if terms["inputs"] is None or not (stated.get("salt") or place.is_file()):
        return (
            "the model owner's files were not compared with a commitment, because the record has none or its salt was "
            "not found; only the value shows that they are the same"
        )
    found = inputs_digest(read_salt(place), (train, test), model, threshold, own_settings([_metric(stated)]))
    if found != terms["inputs"]:
        expected = f"the commitment {terms['inputs'][:16]}… of the record (another file, threshold, metric or salt?)"
        raise InputError("train, test, model, threshold", f"files whose commitment is {found[:16]}…", expected)
    return f"the model owner's inputs are those of the record: commitment {found}"


def _bound(
    record: Record, method: Appraiser, model: LinearModel, sets: list[Dataset | None], delivered: Dataset
) -> float | None:
    """Return twice the error bound that the delivered rows and this model give; None where no bound is derived.

    The factor two leaves room for the rounding of both computations. The record's own bound rests on norms that the
    other side announced: a norm that it announced too large would widen the bound, and a value that was shifted within
    that bound would pass unnoticed.
    """

    def longest(data: Dataset | None) -> float:
        return 1.0 if data is None else math.sqrt(float(data.x.double().norm(dim=1).max()) ** 2 + 1)

    row_norm = longest(delivered)
    farthest = max(row_norm, *map(longest, sets))
    weights = class_norm(model.theta, model.link) if method.uses_model else 1.0
    facts = replace(
        Facts.of(model, *sets, delivered), row_norm=row_norm, longest=farthest, logit_bound=farthest * weights
    )
    if record.resolution is not None:
        facts = replace(facts, resolution=Resolution(**record.resolution))
    kind = (record.release or {}).get("kind")
    if (record.settings or {}).get("session.logit_bound") == AUTO and record.engine == "fast" and kind != "dp":
        facts = replace(facts, auto=True)
    if delivered.numeric:
        facts = replace(facts, target=max(float(one.y.abs().max()) for one in (delivered, *sets) if one is not None))
    owned = method.prepare(model, *sets)
    if "direction" in owned:
        size = spread if model.link is SOFTMAX else torch.linalg.vector_norm
        facts = replace(facts, spread=float(size(owned["direction"])))
    found = error_bound(method, facts, record.engine or "fast", kind != "dp", kind == "best").value
    return None if found is None else 2 * found


def _compared(record: Record, value: float, threshold: Any, delivered: float | None) -> tuple[str, bool]:
    """Return a sentence on one record, and whether the record holds an answer that could be compared.

    delivered: the bound that `_bound` gives, which is already doubled. Raises InputError where the answer disagrees.
    """
    name, bound, words = f"record: {shown(record.method)} of {shown(record.candidate)}", record.error_bound, "its bound"
    if bound is None or record.method in LOOSELY:
        why = "states no bound" if bound is None else "states a loose bound"
        bound, words = RELATIVE * abs(value) + ABSOLUTE, f"0.1% and 0.0002, as the record {why}"
    elif delivered is not None and delivered < bound:
        bound, words = delivered, "the bound that these rows and this model give; the record's is larger"
    if record.interval is not None:
        low, high = record.interval
        bound += DEVIATIONS * (high - low) / 2 / NORMAL_95
        words += f", and {DEVIATIONS:g} deviations of its noise"
    if record.decision is not None:
        least = threshold.get(record.method) if isinstance(threshold, Mapping) else threshold
        if least is None:
            raise InputError("threshold", "nothing", "threshold=NUMBER: what the bit was compared with")
        if (record.release or {}).get("sigma") is not None:
            return f"{name}: a bit with noise, which no single value can prove right or wrong", False
        if abs(value - least) > bound and (value >= least) != record.decision:
            raise InputError(name, "yes" if record.decision else "no", f"the other answer: the value is {value:.6g}")
        near = "; the value is so near the threshold that either answer may be right" * (abs(value - least) <= bound)
        return f"{name}: the answer agrees with the value {value:.6g}{near}", True
    if record.value is None:
        return f"{name}: no value was opened to this party, so that there is none to compare", False
    if not abs(record.value - value) <= bound:
        expected = (
            f"{value:.6g} within {bound:.2g} ({words}): the data, the model or the recorded number is another one"
        )
        raise InputError(name, f"{record.value:.6g}", expected)
    return (
        f"{name}: {record.value:.6g} agrees with {value:.6g}, computed in the clear, within {bound:.2g} ({words})",
        True,
    )


def _threshold(text: str | None) -> Any:
    """Read the threshold in `text`: a number, or numbers by method's name as in {influence: 0.3}.

    Raises InputError for any other text. A lone infinity or NaN counts as no threshold.
    """
    if not text:
        return None
    pairs = re.fullmatch(r"\{(.*)\}", text.strip())
    try:
        if pairs is None:
            found = float(text)
            whole = int(text) if re.fullmatch("[-+]?[0-9]+", text.strip()) else found
            return whole if math.isfinite(found) else None
        parts = [one.partition(":") for one in pairs[1].split(",")]
        return {key.strip(): float(number) for key, _, number in parts}
    except ValueError:
        raise InputError("threshold", shown(text), "a number, or {method: number, ...}") from None
