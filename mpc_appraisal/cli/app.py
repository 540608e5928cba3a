"""`mpc-appraisal`: the Hydra app. It wires; what it wires is elsewhere."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, InstantiationException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from mpc_appraisal.appraisal.api import check_seed, run
from mpc_appraisal.appraisal.compared import Source
from mpc_appraisal.appraisal.given_model import check_given
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan, needs
from mpc_appraisal.appraisal.sessions import Join, Plain
from mpc_appraisal.cli import safeguards as guards
from mpc_appraisal.cli import sweep
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.progress import progress
from mpc_appraisal.common.environment import threads, whole
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.common.stable_names import stable
from mpc_appraisal.data import Extractor, Sizes, check_gaps, check_kind, mapped, open_dataset, read_dataset, standardise
from mpc_appraisal.data.naming import alike, named
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.catalogue import check_listing, commit, read_listing, read_salt, salt_beside
from mpc_appraisal.methods import LeaveOneOut, Shapley, as_methods
from mpc_appraisal.methods.preflight.check import glance
from mpc_appraisal.models.softmax_regression import SoftmaxRegression, check_l2
from mpc_appraisal.mpc.backends.rtas import NAME as RTAS
from mpc_appraisal.release import Release
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.record import append, config_hash
from mpc_appraisal.reporting.report import print_result, write_report
from mpc_appraisal.reporting.result import Result

CHECKOUT = Path(__file__).resolve().parents[2] / "conf"
CONF = CHECKOUT if CHECKOUT.is_dir() else Path(str(resources.files("mpc_appraisal"))) / "conf"
WIDTH = 120  # columns of the tables where the output is not a terminal
# One party's own; where a machine keeps public files, or is to be found, is no public fact.
OWN = (
    "party",
    "session.role",
    "session.tls",
    "session.in_the_clear",
    "session.data_owner_address",
    "data.root",
    "features.path",
    "resume",
    "overwrite",
)


# Keys of `party` that mean something between organisations alone, with their defaults; those of a ledger or an approval
# promise what no run on one machine does.
BETWEEN = {
    "salt": None,
    "counterparty": None,
    "ledger": None,
    "policy": None,
    "approval": "ask",
    "requests": "requests",
    "patience": 3600,
}
GUARDING = ("ledger", "policy")
OF_FILES = {"listing": None, "secret": None, "label": "label"}


def public_part(cfg: DictConfig) -> dict[str, Any]:
    """What all parties must state alike: the resolved configuration without each party's own, flat."""

    def flatten(node: Any, prefix: str) -> dict[str, Any]:
        if isinstance(node, dict) and node:
            return {k: v for key, child in node.items() for k, v in flatten(child, f"{prefix}{key}.").items()}
        return {prefix[:-1]: node}

    flat = flatten(stable(OmegaConf.to_container(cfg, resolve=True)), "")
    return {k: v for k, v in flat.items() if not any(k == own or k.startswith(f"{own}.") for own in OWN)}


def absolute(path: str) -> Path:
    """Of a path as it was typed: Hydra may have changed the folder."""
    return Path(hydra.utils.to_absolute_path(str(path)))


def _job_config(cfg: DictConfig) -> dict[str, Any]:
    """A job's configuration without what has no part in its result."""
    kept = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("hydra", "resume", "overwrite")])
    config = stable(OmegaConf.to_container(kept, resolve=True))
    for key in ("counterparty_key", "yes_expires"):
        config["party"].pop(key, None)
    return config


def job_key(cfg: DictConfig) -> str:
    """What a finished job is known by: its configuration but `resume` and Hydra's own, and its files' contents."""
    config = _job_config(cfg)
    data = config["party"]["data"]
    named = [*(data if isinstance(data, list) else [data]), *(config["party"][k] for k in ("train", "test", "model"))]
    named.append(config["features"].get("path"))
    return sweep.job_key(config, [absolute(path) for path in named if path])


def job_settings(cfg: DictConfig) -> str:
    """The same without the files' contents: what stays the same when a file changes."""
    return sweep.settings_key(_job_config(cfg))


def job_folder(number: int, *, _root_: DictConfig) -> str:
    """Of one job inside the sweep's folder."""
    if _root_.resume is not True:
        return str(number)
    return sweep.folder_of(absolute(_root_.hydra.sweep.dir), number, job_key(_root_), job_settings(_root_))


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
OmegaConf.register_new_resolver("jobs_at_once", sweep.jobs_at_once, replace=True)


class Jobs(Callback):
    """Tells what a sweep's jobs do, and keeps a failed one from ending the others. It travels to where they run."""

    def __init__(self) -> None:
        self.sweep: sweep.Sweep | None = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        sweeper = config.hydra.sweeper
        basic = sweeper._target_.endswith(".BasicSweeper")
        stated = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()] if basic else []
        counts: dict[str, int] = {}
        for each in parser.parse_overrides([*stated, *config.hydra.overrides.task]):
            several = each.is_sweep_override() and each.is_discrete_sweep()
            counts[each.get_key_element()] = len(list(each.sweep_iterator())) if several else 1
        total = math.prod(counts.values()) if basic else None
        swept = tuple(key for key, count in counts.items() if count > 1)
        root = absolute(config.hydra.sweep.dir)
        try:
            sweep.claim(root, config.resume is True, config.overwrite is True)
        except InputError as error:  # Hydra would make a warning of it
            print(f"error: {error}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None
        self.sweep = sweep.Sweep(root, total, swept)
        sweep.begin(self.sweep)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        if self.sweep is not None:
            self.sweep.begins(config.hydra.job.num, list(config.hydra.overrides.task))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if self.sweep is not None:
            failed = job_return.status == JobStatus.FAILED
            result = job_return._return_value  # the property raises where the job failed
            number, overrides = config.hydra.job.num, list(config.hydra.overrides.task)
            self.sweep.ends(number, overrides, result, result if failed else None)
            # The sweeper would raise at the first failed job; `main` says which failed, at the end.
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None


def extractor(cfg: DictConfig) -> Extractor:
    """The public feature extractor; its file, if it has one, as it was typed."""
    own = {"path": str(absolute(cfg.features.path))} if cfg.features.get("path") else {}
    return instantiate(OmegaConf.merge(cfg.features, own))


def read_own(cfg: DictConfig, role: str, methods) -> OwnInput:
    """Read the files of one role, and of no other."""
    party = OmegaConf.to_object(cfg.party)

    def read(path: str, name: str, reader: Callable[..., Any] = read_dataset, listed: Any = (None, None)) -> Any:
        file = absolute(path)
        listing = read_listing(absolute(listed[0])) if listed[0] else None
        sizes = listing and Sizes(listing.rows, listing.features, f"listing {listing.name}")
        data = named(reader(file, cfg.party.label, None, name, sizes), None, class_names, "party.class_names")
        check_kind(data, name)
        if listing is not None:
            salt = absolute(listed[1]) if listed[1] else salt_beside(file, listing.name)
            check_listing(listing, data, read_salt(salt))
            data = named(data, listing.column_names, listing.class_names, f"listing {listing.name}: data")
        return data

    def prepared(data: Any) -> Any:
        if cfg.standardise.mean is not None or cfg.standardise.scale is not None:
            mean = 0.0 if cfg.standardise.mean is None else OmegaConf.to_object(cfg.standardise).get("mean")
            scale = 1.0 if cfg.standardise.scale is None else OmegaConf.to_object(cfg.standardise).get("scale")
            data = standardise(data, mean, scale)
        return mapped(data, features)

    features = extractor(cfg)
    class_names = guards.class_names(party)
    between = isinstance(instantiate(cfg.session), Join)
    if role == MODEL_OWNER:
        train = read(cfg.party.train, "party.train") if cfg.party.train else None
        test = read(cfg.party.test, "party.test") if cfg.party.test else None
        test = alike(train, test, "party.test")
        own = ModelOwnerInput(
            prepared(train) if train is not None else None,
            prepared(test) if test is not None else None,
            SoftmaxRegression.load(absolute(cfg.party.model)) if cfg.party.model else None,
            party["threshold"],
            guards.unguarded(party),
            test if train is None else train,
        )
        needs(methods, own)
        if own.model is None:
            check_gaps(own.train, "party.train")
        return replace(own, guard=guards.of_model_owner(party, absolute)) if between else own
    if role == DATA_OWNER:
        if not cfg.party.data:
            raise InputError("party.data", None, "one file or a list of files, each a candidate")
        paths = [cfg.party.data] if isinstance(cfg.party.data, str) else list(cfg.party.data)
        listed = list(zip(*(guards.one_each(party, key, len(paths)) for key in ("listing", "secret")), strict=True))
        listings = tuple(read_listing(hydra.utils.to_absolute_path(one)) if one else None for one, _ in listed)
        names = [Path(path).stem if one is None else one.name for path, one in zip(paths, listings, strict=True)]
        if len(set(names)) < len(names):
            raise InputError("party.data", names, "files of different names: a candidate is called by its file's name")
        # With both sides at hand the plaintext value is computed too, from data in memory.
        reader = open_dataset if between else read_dataset
        files = zip(paths, names, listed, strict=True)
        sources = tuple(
            Source(read(path, "party.data", reader, own).renamed(name), prepared) for path, name, own in files
        )
        places = dict(zip(names, paths, strict=True))
        guard = replace(guards.unguarded(party), listings=listings)
        if between:
            raw = {
                name: lambda path=path: commit(
                    open_dataset(absolute(path), cfg.party.label, None, "party.data"), bytes(32)
                )
                for name, path in places.items()
            }
            guard = guards.of_data_owner(party, absolute, places, listings, raw)
        return DataOwnerInput(tuple(source.prepare(source.data) for source in sources), guard, sources)
    return None


def instantiate(cfg: DictConfig) -> Any:
    """Hydra's instantiate; what a constructor refuses comes out as its own error and not as Hydra's."""
    try:
        return hydra.utils.instantiate(cfg)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, AppraisalError):
            cause = cause.__cause__
        raise cause or AppraisalError(" ".join(str(error).split())) from error


def compose(overrides: Sequence[str]) -> DictConfig:
    """The app's configuration without running it; InputError for what it does not know."""
    try:
        with hydra.initialize_config_dir(str(CONF), version_base=None):
            return hydra.compose("config", list(overrides))
    except HydraException as error:
        raise InputError("arguments", " ".join(overrides), "; ".join(str(error).split("\n")[:2])) from error


def wide(console: Console) -> Console:
    """A file or a pipe has no width of its own: it gets room for a table."""
    return Console(width=WIDTH) if not console.is_terminal and console.width < WIDTH else console


def shown(own: OwnInput, folder: Path) -> OwnInput:
    """The same, its owner shown the request: its text goes into `folder`, one line to standard error."""

    def show(request: Request) -> None:
        (folder / "request.md").write_text(request.text(), encoding="utf-8")
        asked = "asks for" if isinstance(own, ModelOwnerInput) else "is asked for"
        line = f"this side {asked} request {request.id}; its text: {os.path.relpath(folder / 'request.md')}"
        print(line, file=sys.stderr, flush=True)

    return own if own is None else replace(own, guard=replace(own.guard, show=show))


def wants_preflight(cfg: DictConfig) -> bool:
    """party.preflight: quick or no."""
    stated = cfg.party.preflight
    if stated not in ("quick", "no", False):  # a bare no is a truth value in YAML
        raise InputError("party.preflight", stated, "quick or no")
    return stated == "quick"


def look(own: ModelOwnerInput, plan: Plan, folder: Path) -> None:
    """The pre-flight on the model owner's own data: warnings to standard error, all of it to its folder."""
    found, sentences = glance(own.train, own.test, plan.methods, plan.l2, plan.fit, plan.seed, own.model)
    for sentence in sentences if found is not None else ():
        print(f"warning: {sentence}", file=sys.stderr, flush=True)
    if found is not None:
        (folder / "preflight.json").write_text(json.dumps(found.as_dict(), allow_nan=False) + "\n", encoding="utf-8")


def check_unused(cfg: DictConfig, release: Release) -> None:
    """With both sides on one machine: say which keys of `party` have no effect, and refuse what would mislead.

    Raises InputError: a key of organisations that guards data, or one of files where the data are built in.
    """
    party = OmegaConf.to_object(cfg.party)
    stated = [key for key, default in BETWEEN.items() if party[key] != default]
    for key in (one for one in GUARDING if one in stated and party[one] != guards.NONE):
        raise InputError(
            f"party.{key}", party[key], "session=join: with both sides on one machine nothing is asked, kept or charged"
        )
    built_in = not any(party[key] for key in ("data", "train", "test", "model"))
    for key, default in OF_FILES.items():
        if built_in and party[key] != default:
            raise InputError(f"party.{key}", party[key], "party.data, party.train or party.model beside it: no file")
    if party["threshold"] is not None and not release.threshold:
        stated.append("threshold")
    if stated:
        what = " and ".join(f"party.{key}" for key in stated)
        print(f"warning: {what}: this run makes no use of it, and it is ignored", file=sys.stderr, flush=True)


def appraise_config(cfg: DictConfig, emit: Callable[[dict[str, Any]], None], folder: Path) -> Result:
    """Run the appraisal that `cfg` describes. folder: of the run, for what is to be seen before it ends."""
    methods = as_methods(instantiate(cfg.appraisal))
    features = extractor(cfg)
    public, seed = public_part(cfg) | {"features.digest": features.digest}, check_seed(cfg.seed)
    plan = Plan(
        methods,
        check_l2(cfg.model.l2),
        seed,
        config_hash(public),
        instantiate(cfg.model),
        public,
        release=instantiate(cfg.release),
    )
    session = instantiate(cfg.session)
    if cfg.protocol.name == RTAS and session.engine != RTAS:
        raise InputError(
            "protocol", f"{RTAS} with session.engine={session.engine}", f"session.engine={RTAS}, or shares"
        )

    def checked(own: OwnInput, given: bool = False) -> OwnInput:
        if isinstance(own, ModelOwnerInput) and given:
            check_given(own, plan)
        if isinstance(own, ModelOwnerInput) and preflight:
            look(own, plan, folder)
        return own

    preflight = wants_preflight(cfg) and not isinstance(session, Plain)
    if isinstance(session, Join):
        return Result(session.run(plan, lambda role: shown(checked(read_own(cfg, role, methods), True), folder), emit))
    levels: dict[str, float] = {}
    check_unused(cfg, plan.release)
    if any(cfg.party[key] for key in ("data", "train", "test", "model")):
        buyer, seller = read_own(cfg, MODEL_OWNER, methods), read_own(cfg, DATA_OWNER, methods)
    else:
        market = instantiate(cfg.scenario).build(*instantiate(cfg.data).load(), seed)
        threshold = OmegaConf.to_object(cfg.party)["threshold"]
        train, test = mapped(market.train, features), mapped(market.test, features)
        buyer = ModelOwnerInput(train, test, threshold=threshold, same=True)
        seller = DataOwnerInput(tuple(mapped(c.data.renamed(c.name), features) for c in market.candidates))
        levels = {c.name: c.level for c in market.candidates}
    checked(buyer)
    shapley = Shapley(cfg.baselines.retrainings, cfg.baselines.truncation, seed)
    wanted = ((cfg.baselines.leave_one_out, LeaveOneOut()), (cfg.baselines.shapley, shapley))
    yardsticks = [yardstick for asked, yardstick in wanted if asked]
    return run(session, plan, buyer, seller, emit, levels, bool(cfg.baselines.true_utility), yardsticks)


def output_folder(session: Any) -> Path:
    """The run's folder; a folder of its own for each role when torchrun starts several on one machine."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if isinstance(session, str) and session.endswith("Join") and whole("LOCAL_WORLD_SIZE", 1, 1, 1 << 20) > 1:
        folder = folder / Join().resolved_role()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _task(cfg: DictConfig) -> str | None:
    """One job; `sweep.REUSED` where it had finished before."""
    session, sweeping = instantiate(cfg.session), HydraConfig.get().mode == RunMode.MULTIRUN
    for switch in ("resume", "overwrite"):
        if not isinstance(cfg[switch], bool):
            raise InputError(switch, cfg[switch], "true or false")
    between = isinstance(session, Join)
    if between and cfg.resume:
        raise InputError("resume", "true", "false between organisations (session=join): an answer is asked for anew")
    folder = output_folder(cfg.session.get("_target_"))
    root = absolute(HydraConfig.get().sweep.dir) if sweeping else folder
    name = "hydra.sweep.dir" if sweeping else "hydra.run.dir"
    stated = any(each.startswith("hydra.run.dir=") for each in HydraConfig.get().overrides.hydra)
    with sweep.alone(folder, cfg.resume, name, apart=not (stated or sweeping or cfg.resume)) as folder:
        if not (cfg.resume or cfg.overwrite):
            sweep.fresh(folder, name)
        if between:
            return _compute(cfg, folder)
        key, settings = job_key(cfg), job_settings(cfg)
        found = sweep.find(root, key, folder) if cfg.resume else None
        if found is not None:
            print(f"finished before, nothing computed: {os.path.relpath(found)}")
            return sweep.REUSED
        said = sweep.mark(folder)
        if cfg.resume and sweeping and said.get("config") not in (None, key) and said.get("settings") != settings:
            raise InputError(
                "hydra.sweep.dir", os.path.relpath(folder), "no finished job of another configuration there"
            )
        _compute(cfg, folder, key, settings)
        sweep.supersede(root, key, settings)
        return None


def _compute(cfg: DictConfig, folder: Path, key: str | None = None, settings: str | None = None) -> None:
    """key: what the finished job is known by; None: it is not to be known."""
    if "market" in cfg:
        return _market(cfg, folder, key, settings)
    with progress() as emit:
        result = appraise_config(cfg, emit, folder)
    if not len(result):
        print("dealer: done; it saw sizes and requests, and keeps no record")
        return
    sweep.clear(folder)
    for record in result:
        append(folder / sweep.RECORDS, record)
    print_result(result, wide(Console()))
    write_report(result, folder)
    write_cards(result, folder)
    if key is not None:
        sweep.finish(folder, key, settings)
    print(f"records, report, figures and cards: {os.path.relpath(folder)}")


def _market(cfg: DictConfig, folder: Path, key: str | None, settings: str | None) -> None:
    """A run of the marketplace, where the protocol is one."""
    from mpc_appraisal.cli.market import market
    from mpc_appraisal.marketplace.report import print_market, write_market

    sellers, protocol, session = instantiate(cfg.market), instantiate(cfg.protocol), instantiate(cfg.session)
    record = market(sellers, protocol, session, instantiate(cfg.data).load, check_seed(cfg.seed), public_part(cfg))
    sweep.clear(folder)
    record.write(folder / sweep.RECORDS)
    print_market(record, wide(Console()))
    write_market(record, folder)
    if key is not None:
        sweep.finish(folder, key, settings)
    print(f"record and report: {os.path.relpath(folder)}")


@hydra.main(version_base=None, config_path=str(CONF), config_name="config")
def app(cfg: DictConfig) -> str | None:
    """One job of the app. An expected error is one line on standard error and exit status 2, not a traceback; in a
    sweep it is left to `Jobs`, and the next job comes."""
    set_threads()
    try:
        return _task(cfg)
    except AppraisalError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(2)  # threads of torch.distributed may hold up an ordinary exit after a peer's death
    except KeyboardInterrupt:
        if sweep.started_here():
            raise
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)


def set_threads() -> None:
    import torch

    torch.set_num_threads(threads())


def ordered(arguments: Sequence[str]) -> list[str]:
    """Options first and overrides after them, each in their order: argparse, which Hydra uses, reads overrides in one
    place alone, so that those before `--multirun` would be all that it takes."""
    overrides = [each for each in arguments if each[:1] == "~" or ("=" in each and each[:1] != "-")]
    options = [each for each in arguments if each not in overrides]
    return [*options, *overrides]


def main() -> None:
    """Entry point of the console script."""
    try:
        if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
            return COMMANDS[sys.argv[1]](sys.argv[2:])
        sys.argv[1:] = ordered(sys.argv[1:])
        sweep.check_launcher(sys.argv[1:])
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    set_threads()
    try:
        app()
    except KeyboardInterrupt:
        sweep.end(whole=False)
        print("interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    except BaseException:
        sweep.end(whole=False)
        raise
    done = sweep.end()
    if done.failed:
        sys.stdout.flush()
        (os._exit if done.inside else sys.exit)(2)  # as in `app`; a launcher's workers want an ordinary exit


if __name__ == "__main__":
    main()
