"""What the parties of an appraisal state alike, what each owner brings, and the checks of both.

`Plan` holds the public settings of one session, which every party builds from its own configuration. `ModelOwnerInput`
and `DataOwnerInput` hold one owner's own side, and never leave its process. A candidate is one data set of the data
owner, whose value for the model owner's model is computed. The functions below take such inputs and refuse what does
not fit the plan; the errors name the input.

A field may be added with a default. What goes into `Plan` has to be public, because a plan's settings are compared and
recorded; what is private belongs into an owner's input.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch

from mpc_appraisal.appraisal.compared import WARN, Data, Source, check_policy
from mpc_appraisal.appraisal.names import PLAIN, Names, check_how
from mpc_appraisal.appraisal.overlap_terms import OverlapTerms
from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.text import PLACE, shown
from mpc_appraisal.data import Dataset, StoredDataset
from mpc_appraisal.data.items import Items
from mpc_appraisal.data.resolution import AUTO
from mpc_appraisal.governance.approval.decide import FOLDER, WEEK, Request
from mpc_appraisal.governance.approval.purpose import Purpose
from mpc_appraisal.governance.budget.ledgers import LedgerSet
from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.governance.offers.grant import Offering
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.methods import Appraiser
from mpc_appraisal.methods.metrics import ByMetric
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import IDENTITY
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.differences import ADDRESS, repr_differences
from mpc_appraisal.mpc.net.transport import Transport
from mpc_appraisal.mpc.session import same
from mpc_appraisal.release.base import Release
from mpc_appraisal.release.value import Value
from mpc_appraisal.reporting.metric_names import in_words

BLOCK_ROWS = 1 << 13  # the number of a large candidate's rows that are shared at a time
HELD_ROWS = 1 << 15  # a candidate with more rows is shared block by block, anew for each method
READ_ROWS = 1 << 10  # the number of rows that are read and converted at a time


@dataclass(frozen=True)
class Plan:
    """What all parties state alike, and nothing else.

    Attributes:
        methods: The methods that score every candidate.
        l2: The weight of the squared norm of the weights in the model's objective.
        seed: The seed of public choices, such as batches.
        digest: The hash of `public`.
        fit: A function that trains the model owner's model. Its parameters are in `public`.
        public: The public configuration as a flat mapping from a key to a JSON value.
        classes: The number of classes where the configuration states it. None takes it from the model owner's input.
        join_timeout: The seconds to wait for a party to come.
        timeout: The seconds that one message may take.
        engine: 'fast', 'stock' for CrypTen as shipped, or 'rtas', whose dealer sees permuted logits: `backends.rtas`.
        logit_bound: The public bound on the absolute value of logits. None derives it from the norms that the owners
            announce. 'auto' does too, and lets a public rule choose the softmax (`release.unbounded_logits`).
        release: Which of the results is opened, and to whom.
        transport: The connections of the parties, with this party's own certificate files if there are any.
        model: The kind of model that `fit` trains.
        overlap: What the owners count before the appraisal; None counts nothing. It is stated in `public` too.
        integrity: Whether the owners check all of each other's messages before a value is opened. Where they do, it is
            stated in `public` too; `covered` says which plans can be checked.
    """

    methods: tuple[Appraiser, ...]
    l2: float
    seed: int
    digest: str
    fit: Callable[[Dataset], LinearModel]
    public: dict[str, Any] = field(default_factory=dict)
    classes: int | None = None
    join_timeout: float = 120.0
    timeout: float = 300.0
    engine: str = "fast"
    logit_bound: float | str | None = None
    release: Release = Value()
    transport: Transport = Transport()
    model: type[LinearModel] = SoftmaxRegression
    overlap: OverlapTerms | None = None
    integrity: bool = False

    @property
    def relayed(self) -> bool:
        """Return whether the parties meet at a relay."""
        return self.transport.relay is not None

    def __post_init__(self) -> None:
        if self.model.link is IDENTITY:
            object.__setattr__(self, "methods", tuple(map(_of_numbers, self.methods)))


def _of_numbers(method: Appraiser) -> Appraiser:
    """Return the same method, whose `opens` names its metric as it is called for targets that are numbers."""
    if not isinstance(method, ByMetric):
        return method
    other, words = copy.copy(method), in_words(method.metric, numbers=True)
    object.__setattr__(other, "opens", method.opens.replace(method.measure.words, words))
    return other


def respelt(plan: Plan, public: dict[str, Any], digest: str) -> Plan:
    """Return `plan` with the public configuration that `mpc.session.agree` returned.

    Where the model owner wrote 1.0 for this party's 1, the methods and the release state 1.0 too, because the parties
    compare their texts.
    """
    if digest == plan.digest:
        return plan
    changed = {key.rsplit(".", 1)[-1]: v for key, v in public.items() if repr(v) != repr(plan.public.get(key))}

    def one(stated: Any) -> Any:
        found = {f.name: getattr(stated, f.name) for f in fields(stated) if f.init} if is_dataclass(stated) else {}
        new = {k: changed[k] for k, v in found.items() if k in changed and same(v, changed[k]) and v is not None}
        return replace(stated, **new) if new else stated

    return replace(plan, public=public, digest=digest, methods=tuple(map(one, plan.methods)), release=one(plan.release))


def check_reprs(plan: Plan) -> None:
    """Check that no method's text holds an address in memory that is another one in this process; requests hold them.

    Raises DisagreementError that names each setting with such a text, where the plan was made in another process.
    """
    stated, found = plan.public.get("methods"), [repr(method) for method in plan.methods]
    if isinstance(stated, list) and stated != found and any(ADDRESS.search(text) for text in found):
        parts = repr_differences("methods", stated, found) or [("methods", shown(stated), shown(found))]
        lines = [f"{name}: {a} as planned, {b} in this process" for name, a, b in parts]
        raise DisagreementError("a method has another repr in each process:\n  " + "\n  ".join(lines))


@dataclass(frozen=True)
class DisclosureControls:
    """Settings by which one owner limits what it discloses. They are never sent to the other parties.

    Attributes:
        counterparty: The name that this owner's ledgers give to the other owner.
        ledgers: The ledgers to charge before an answer is opened. None charges none.
        listings: At the data owner the listing of each candidate, or None for one that is not listed. At the model
            owner the listings that it expects.
        approval: How the data owner says yes; see `approval.decide`, also for the next two fields.
        requests: The folder of the requests that wait for an answer.
        patience: The seconds for which a request waits.
        salt: 32 bytes that the model owner keeps, so that it can show that a question is repeated. None commits to its
            inputs by a random number.
        show: A function that is given the request before it is answered, so that its owner can read it.
        names: 'plain' or 'hash', which is how this owner announces the names of columns and classes; see `names`.
        scale: 'warn', 'refuse' or 'ignore', where the rows of the two sides differ in length; see `compared`.
        counterparty_key: The SHA-256 (64 hex digits) of the certificate key that the other owner must show. None
            accepts every key.
        yes_expires: The seconds after which a yes that was not used is no longer valid.
        purpose: What the model owner asks for, which stands in the request.
        offer: At the model owner, the data owner's standing offer that it takes.
        offers: At the data owner, the standing offers under which it answers; None for none.
        agreed: At the model owner, the request to whose terms it has said yes; None accepts those of any request.

    Raises:
        InputError: `names` or `scale` is another word.
    """

    counterparty: str = "the other side"
    ledgers: LedgerSet | None = None
    listings: tuple[Listing | None, ...] = ()
    approval: str = "yes"
    requests: str = FOLDER
    patience: float = 3600.0
    salt: bytes | None = None
    show: Callable[[Request], None] | None = None
    names: str = PLAIN
    scale: str = WARN
    counterparty_key: str | None = None
    yes_expires: float = WEEK
    purpose: Purpose | None = None
    offer: Offer | None = None
    offers: Offering | None = None
    agreed: Request | None = None

    def __post_init__(self) -> None:
        check_how(self.names)
        check_policy(self.scale)


@dataclass(frozen=True)
class ModelOwnerInput:
    """What the model owner brings.

    Attributes:
        train: The rows to train the model on, or that a given model was trained on.
        test: The test rows, where a method needs them.
        model: A trained model. None trains one on `train`.
        threshold: The least value that the model owner would buy, where a bit is released: one for all methods, or one
            by method's name.
        controls: The settings by which the model owner limits what it discloses.
        raw: The training rows, or else the test rows, as their file holds them, where they were changed before use.
        same: Whether both sides' rows were drawn from one data set in this process.
        keys: The different keys of the training file, where the plan compares keys.
    """

    train: Dataset | None = None
    test: Dataset | None = None
    model: LinearModel | None = None
    threshold: float | Mapping[str, float] | None = None
    controls: DisclosureControls = DisclosureControls()
    raw: Data | None = None
    same: bool = False
    keys: Items | None = None

    @property
    def rows(self) -> Data | None:
        """Return the training rows as their file holds them; None without training rows."""
        return None if self.train is None else self.raw or self.train

    @property
    def names(self) -> Names:
        """Return the names of the model owner's columns and classes."""
        known = [part for part in (self.raw, self.train, self.test) if part is not None]
        if self.raw is not None:  # the columns of what an extractor made are not those of the file
            return Names(self.raw.columns, _first(known, "class_names"))
        return Names(_first(known, "columns"), _first(known, "class_names"))

    @property
    def classes(self) -> int:
        """Return the number of classes of the model, or of the rows and their names where there is no model yet."""
        if self.model is not None:
            return int(self.model.classes)
        return max(data.classes for data in (self.train, self.test) if data is not None)

    def threshold_of(self, method: str) -> float:
        """Return the threshold for one method. Raises InputError where it is no finite number."""
        stated = self.threshold.get(method) if isinstance(self.threshold, Mapping) else self.threshold
        return number("party.threshold", stated, f"a finite number, the least value by {method} that is worth it")


@dataclass(frozen=True)
class DataOwnerInput:
    """What the data owner brings.

    Attributes:
        candidates: One or more data sets. Their names are announced to the other parties.
        controls: The settings by which the data owner limits what it discloses.
        sources: Each candidate as its file holds it, where the rows were changed before use; empty otherwise.
        keys: The different keys of each candidate's file, where the plan compares keys; empty otherwise.
        resolution: What the owner states of the resolution of all candidates; see `data.resolution`.
    """

    candidates: tuple[Dataset | StoredDataset, ...]
    controls: DisclosureControls = DisclosureControls()
    sources: tuple[Source, ...] = ()
    keys: tuple[Items, ...] = ()
    resolution: Any = AUTO

    @property
    def names(self) -> list[Names]:
        """Return the names of each candidate's columns and classes."""
        raw = [source.data for source in self.sources] or self.candidates
        return [Names(each.columns, each.class_names) for each in raw]


@dataclass(frozen=True)
class MethodInput:
    """What the model owner brings to the joint computation of one method. It never leaves its process unshared.

    Attributes:
        tensors: What `Appraiser.prepare` computed, with the keys and shapes of `Appraiser.private_shapes`.
        threshold: The least value that the model owner would buy. None where the release compares with no threshold.
    """

    tensors: Mapping[str, torch.Tensor]
    threshold: float | None = None


OwnInput = ModelOwnerInput | DataOwnerInput | None
Emit = Callable[[dict[str, Any]], None]


def _first(parts: Sequence[Data], key: str) -> tuple[str, ...] | None:
    return next((getattr(part, key) for part in parts if getattr(part, key) is not None), None)


def check_names(names: Sequence[str]) -> None:
    """Raise InputError for candidates' names that a record may not hold, or that occur twice."""
    for name in names:
        fits = isinstance(name, str) and name.strip() and len(name) <= 200 and name.isprintable()
        if not fits or PLACE.search(name):
            raise InputError("a candidate's name", repr(name), "a name of 1 to 200 printable characters, and no path")
    if len(set(names)) < len(names):
        raise InputError("the candidates' names", list(names), "a different one for each")


def check_labelled(methods: Sequence[Appraiser], parts: Mapping[str, Data | None]) -> None:
    """Raise InputError for rows without labels, under their name in `parts`, where a method reads labels."""
    for method in (each for each in methods if each.uses_labels):
        for name, part in parts.items():
            if part is not None and not part.labelled:
                raise InputError(
                    name, "rows without labels", f"a label for each row: the method {method.name} needs it"
                )


def needs(methods: Sequence[Appraiser], own: ModelOwnerInput) -> None:
    """Raise InputError where the model owner's input lacks what a method needs; the error names it.

    The parts of the input must also have one number of features.
    """
    if own.model is None and own.train is None:
        raise InputError("party.train", None, "a data set to train the model on, or a trained model as party.model")
    for method in methods:
        for part in sorted(method.needs):
            if getattr(own, part) is None:
                raise InputError(f"party.{part}", None, f"a data set: the method {method.name} needs it")
    check_labelled(methods, {"party.train": own.train, "party.test": own.test})
    parts = {"party.model": own.model, "party.train": own.train, "party.test": own.test}
    (first, reference), *others = [(name, part) for name, part in parts.items() if part is not None]
    for name, part in others:
        if part.features != reference.features:
            raise InputError(name, f"{part.features} features", f"{reference.features}, as in {first}")


def check_classes(own: ModelOwnerInput) -> None:
    """Raise InputError where a given model has another number of classes than there are names of classes."""
    names = own.names.classes
    if own.model is not None and names is not None and len(names) != own.model.classes:
        raise InputError("party.class_names", f"{len(names)} names", f"{own.model.classes}: the model's classes")


def check_model(own: ModelOwnerInput, l2: float) -> None:
    """Raise InputError for a trained model whose l2 is not the public one.

    The formulas use the public l2, and the model's Hessian would use its own.
    """
    if own.model is not None and own.model.l2 != l2:
        raise InputError("party.model", f"a model trained with l2 = {own.model.l2:g}", f"{l2:g}, as model.l2 states")
