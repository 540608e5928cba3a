"""One job of the app: an appraisal, a marketplace or private learning, with records and reports in its folder.

In go the configuration that Hydra composed. Out come records.jsonl, report, figures and cards in the job's folder, and
tables on the terminal. An appraisal computes what the data owner's data sets (candidates) are worth for the model
owner's model. The order of steps in `run_job` has to stay: the folder is held before anything is written, earlier files
are removed only once a result is there, and the job is marked as finished last. A key of `party` that has no effect in
a run on one machine belongs into `BETWEEN` or `OF_FILES`, so that `check_unused` warns of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mpc_appraisal.appraisal.api import check_seed, run
from mpc_appraisal.appraisal.argument_names import by_key
from mpc_appraisal.appraisal.evaluation import Evaluation, evaluated
from mpc_appraisal.appraisal.given_model import check_given
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.appraisal.sessions import Join, Plain, Spawn
from mpc_appraisal.appraisal.settings import digest_of_data, without_built_in
from mpc_appraisal.cli import finished, sweep
from mpc_appraisal.cli.attacked import (
    attack_appraisal,
    attack_market,
    attacks_on_appraisal,
    attacks_on_market,
    check_candidates,
)
from mpc_appraisal.cli.config import (
    absolute,
    check_sections,
    extractor,
    in_full,
    instantiate,
    load_data,
    overlap_of,
    public_part,
    release_settings,
)
from mpc_appraisal.cli.console import terminal
from mpc_appraisal.cli.inputs import built_in_market, by_part, read_own, shown
from mpc_appraisal.cli.jobs import job_key, job_settings
from mpc_appraisal.cli.progress import progress
from mpc_appraisal.cli.public_sizes import check_row_norm
from mpc_appraisal.cli.unused_keys import check_unused
from mpc_appraisal.common.checks import boolean, number, one_of
from mpc_appraisal.common.environment import whole
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import mapped
from mpc_appraisal.data.scaling import out_of_scale as scale_caveat
from mpc_appraisal.methods import Appraiser, LeaveOneOut, Shapley, as_methods
from mpc_appraisal.methods.preflight.check import glance
from mpc_appraisal.methods.preflight.decision import advice
from mpc_appraisal.methods.preflight.result import Preflight
from mpc_appraisal.models.base import check_l2
from mpc_appraisal.models.training import model_of
from mpc_appraisal.mpc.backends.rtas import NAME as RTAS
from mpc_appraisal.reporting.advice import NO_ADVICE
from mpc_appraisal.reporting.attacked import Attacked
from mpc_appraisal.reporting.card import card_stems, write_cards
from mpc_appraisal.reporting.learning_report import attacks_line
from mpc_appraisal.reporting.measured import write_measured
from mpc_appraisal.reporting.record import Record, append
from mpc_appraisal.reporting.recovered_images import RecoveredImages
from mpc_appraisal.reporting.report import print_result, write_report
from mpc_appraisal.reporting.result import Result

SHARES = "shares"  # the name of the protocol whose engine session.engine chooses
SWITCHES = ("true_utility", "leave_one_out", "shapley")  # the keys of `baselines` that are true or false
STANDARDISE = (
    "standardise them by standardise.mean and standardise.scale, or by a recipe (`mpc-appraisal recipe infer`)."
)


def wants_preflight(cfg: DictConfig) -> bool:
    """Return whether party.preflight asks for a check. Raises InputError unless it is quick or no."""
    stated = cfg.party.preflight
    if stated not in ("quick", "no", False):  # YAML reads a bare no as false.
        raise InputError("party.preflight", stated, "quick or no")
    return stated == "quick"


def look(own: ModelOwnerInput, plan: Plan, folder: Path) -> Preflight | None:
    """Check the methods on the model owner's own data, in the clear, and return what was found; None for no check.

    Warnings go to standard error, and all figures to preflight.json in `folder`.
    """
    found, warnings = glance(own.train, own.test, plan.methods, plan.l2, plan.fit, plan.seed, own.model)
    for sentence in warnings if found is not None else ():
        print(f"warning: {sentence}", file=sys.stderr, flush=True)
    if found is not None:
        (folder / "preflight.json").write_text(json.dumps(found.as_dict(), allow_nan=False) + "\n", encoding="utf-8")
    return found


def appraise_config(
    cfg: DictConfig,
    emit: Callable[[dict[str, Any]], None],
    folder: Path,
    found: Callable[[Preflight], None] = lambda preflight: None,
    attacked: Callable[[Attacked], None] = lambda attacked: None,
    out_of_scale: Callable[[str], None] = lambda text: None,
) -> Result:
    """Run the appraisal that the configuration describes, and return its records.

    Args:
        cfg: The composed configuration.
        emit: A function that takes events of progress.
        folder: The run's folder, for files that are needed before it ends.
        found: A function that takes the pre-flight, where this process makes one. Only the model owner's does.
        attacked: A function that takes what attacks recovered, where attacks were chosen.
        out_of_scale: A function that takes the sentence on the model owner's features that are far larger than others.

    Raises:
        InputError: A key or an input does not fit.
    """
    methods = as_methods(instantiate(cfg.appraisal))
    features = extractor(cfg)
    public, seed = public_part(cfg) | {"features.digest": features.digest}, check_seed(cfg.seed)
    plan = _plan(cfg, methods, seed, public)
    session = instantiate(cfg.session)
    if one_of("protocol.name", cfg.protocol.name, (SHARES, RTAS)) == RTAS and session.engine != RTAS:
        raise InputError(
            "protocol", f"{RTAS} with session.engine={session.engine}", f"session.engine={RTAS}, or shares"
        )

    def checked(own: OwnInput, given: bool = False) -> OwnInput:
        if isinstance(own, ModelOwnerInput) and given:
            check_given(own, plan)
        if (
            isinstance(own, ModelOwnerInput)
            and own.train is not None
            and (text := scale_caveat(own.train, STANDARDISE))
        ):
            print(f"warning: {text}", file=sys.stderr, flush=True)
            out_of_scale(text)
        if isinstance(own, ModelOwnerInput) and preflight:
            emit({"state": "pre-flight: checking the methods on the model owner's own rows"})
        if isinstance(own, ModelOwnerInput) and preflight and (made := look(own, plan, folder)) is not None:
            found(made)
        return own

    attacks = attacks_on_appraisal(cfg, plan, session)
    served = Evaluation(**OmegaConf.to_object(cfg.evaluate))
    if served.measures and isinstance(session, Join):
        raise InputError("evaluate.measures", list(served.measures), "none with session=join: nobody holds both sides")
    if isinstance(session, Spawn):
        session.begin()
    preflight = wants_preflight(cfg) and not isinstance(session, Plain)
    if isinstance(session, Join):
        return Result(session.run(plan, lambda role: shown(checked(read_own(cfg, role, methods), True), folder), emit))
    if plan.overlap is not None:
        raise InputError("overlap", cfg.overlap, "session=join: owners count between organisations alone")
    levels: dict[str, float] = {}
    known: dict[str, str] | None = None  # of a built-in data set; None for files
    check_unused(cfg, plan.release)
    if any(cfg.party[key] for key in ("data", "train", "test", "model")):
        buyer, seller = read_own(cfg, MODEL_OWNER, methods), read_own(cfg, DATA_OWNER, methods)
    else:
        if "recipe" in public:
            raise InputError("recipe", cfg.recipe, "party.data and party.train beside it, because it reads files")
        parts = load_data(cfg)
        known = digest_of_data(*parts)
        market = built_in_market(cfg, parts)
        threshold = OmegaConf.to_object(cfg.party)["threshold"]
        train, test = mapped(market.train, features), mapped(market.test, features)
        buyer = ModelOwnerInput(train, test, threshold=threshold, same=True)
        sets = tuple(mapped(c.data.renamed(c.name), features) for c in market.candidates)
        seller = DataOwnerInput(sets, resolution=OmegaConf.to_object(cfg.party)["resolution"])
        levels = {c.name: c.level for c in market.candidates}
    attacks = check_candidates(attacks, seller)
    checked(buyer)
    shapley = Shapley(cfg.baselines.retrainings, cfg.baselines.truncation, seed)
    wanted = {key: boolean(f"baselines.{key}", cfg.baselines[key]) for key in SWITCHES}
    each = {"leave_one_out": LeaveOneOut(), "shapley": shapley}
    baseline_methods, utility = [each[key] for key in each if wanted[key]], wanted["true_utility"]
    result = _described(run(session, plan, buyer, seller, emit, levels, utility, baseline_methods), known)
    if attacks is not None:
        with by_part(cfg), by_key("attack", cfg.attack):
            attacked(attack_appraisal(attacks, plan, buyer, seller, result, emit, instantiate(cfg.attack).name))
    return result.with_measured(evaluated(served, result, plan, buyer, seller, emit))


def _described(result: Result, known: dict[str, str] | None) -> Result:
    """Return the result whose records state which data were used. known: the data set's digest; None for files."""

    def with_data(record: Record) -> Record:
        stated = record.settings or {}
        described = without_built_in(stated) if known is None else stated | known
        return replace(record, settings=dict(sorted(described.items())))

    return Result(map(with_data, result))


def _plan(cfg: DictConfig, methods: tuple[Appraiser, ...], seed: int, public: dict[str, Any]) -> Plan:
    """Return what all parties state alike. public: the public configuration, of which the plan's digest is made."""
    check_row_norm(cfg)
    if "tolerance" in cfg.model:
        number("model.tolerance", cfg.model.tolerance, "a number between 0 and 1", above=0, below=1)
    trains, release = instantiate(cfg.model), instantiate(release_settings(cfg))
    kind, l2, digest = model_of(trains), check_l2(cfg.model.l2), config_hash(public)
    return Plan(methods, l2, seed, digest, trains, public, release=release, model=kind, overlap=overlap_of(cfg))


def output_folder(session: Any) -> Path:
    """Create and return the run's folder. Where torchrun starts several roles on one machine, each role has its own."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if isinstance(session, str) and session.endswith("Join") and whole("LOCAL_WORLD_SIZE", 1, 1, 1 << 20) > 1:
        folder = folder / Join().resolved_role()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_job(cfg: DictConfig) -> str | None:
    """Run one job. Return `sweep.REUSED` if the job finished before and was not computed again, otherwise None.

    Raises InputError for a key that does not fit, or a folder that is taken or has records.
    """
    check_sections(cfg)
    session, sweeping = instantiate(cfg.session), HydraConfig.get().mode == RunMode.MULTIRUN
    for switch in ("resume", "overwrite", "quiet"):
        if switch != "quiet" or cfg.quiet is not None:
            boolean(switch, cfg[switch])
    between = isinstance(session, Join)
    if between and cfg.resume:
        raise InputError(
            "resume", "true", "false between organisations (session=join), where an answer is requested anew"
        )
    folder = output_folder(cfg.session.get("_target_"))
    root = absolute(HydraConfig.get().sweep.dir) if sweeping else folder
    name = "hydra.sweep.dir" if sweeping else "hydra.run.dir"
    stated = any(each.startswith("hydra.run.dir=") for each in HydraConfig.get().overrides.hydra)
    with finished.alone(folder, cfg.resume, name, apart=not (stated or sweeping or cfg.resume)) as folder:
        if between:
            if not cfg.overwrite:
                finished.fresh(folder, name)
            with in_full(cfg):
                return _compute(cfg, folder)
        key, settings = job_key(cfg), job_settings(cfg)
        # A launcher runs a job again if the worker is lost that ran it; the sweep's folder was empty when it began.
        again = sweeping and finished.finished(folder, key) and not cfg.overwrite
        if not (cfg.resume or cfg.overwrite or again):
            finished.fresh(folder, name)
        found = folder if again else finished.find(root, key, folder) if cfg.resume else None
        if found is not None:
            print(f"finished before, nothing computed: {os.path.relpath(found)}")
            return sweep.REUSED
        said = finished.mark(folder)
        if cfg.resume and sweeping and said.get("config") not in (None, key) and said.get("settings") != settings:
            raise InputError(
                "hydra.sweep.dir", os.path.relpath(folder), "no finished job of another configuration there"
            )
        with in_full(cfg):
            _compute(cfg, folder, key, settings)
        finished.supersede(root, key, settings)
        return None


def _compute(cfg: DictConfig, folder: Path, key: str | None = None, settings: str | None = None) -> None:
    """Compute one job, and write its files.

    key, settings: the hashes that mark the finished job. Without them the job is left unmarked.
    """
    if "market" in cfg:
        return _market(cfg, folder, key, settings)
    if "_target_" in cfg.protocol:
        return _learning(cfg, folder, key, settings)
    made: list[Preflight] = []
    attacked: list[Attacked] = []
    caveats: list[str] = []
    with progress(is_quiet(cfg)) as emit:
        result = appraise_config(cfg, emit, folder, made.append, attacked.append, caveats.append)
    if not len(result):
        print("dealer: done; it saw sizes and requests, and keeps no record")
        return
    finished.clear(folder)
    for record in result:
        append(folder / finished.RECORDS, record)
    write_measured(result.measured, folder)
    for each in attacked:
        each.write(folder)
    said = advice(result, made[0], OmegaConf.to_object(cfg.party)["threshold"]) if made else NO_ADVICE
    said = replace(said, scale=next(iter(caveats), None))
    write_cards(result, folder, said)
    write_report(result, folder, said, card_stems(result), attacked[0] if attacked else None)
    if key is not None:
        finished.finish(folder, key, settings)
    if is_quiet(cfg):
        print(f"report: {os.path.relpath(folder / 'report.html')}")
        return
    print_result(result, terminal(), said, folder / "report.html")
    for each in attacked:
        print(f"Attacks on the protocol: {attacks_line(each.attacks)}")


def is_quiet(cfg: DictConfig) -> bool:
    """Return whether the run prints neither progress nor its result. A job of a sweep does not, unless it is stated."""
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return sweeping if cfg.quiet is None else cfg.quiet


def _market(cfg: DictConfig, folder: Path, key: str | None, settings: str | None) -> None:
    """Run the marketplace, and write its files."""
    from mpc_appraisal.cli.market import market
    from mpc_appraisal.marketplace.report import print_market, write_market

    if cfg.get("recipe") is not None:
        raise InputError("recipe", cfg.recipe, "null for a marketplace, which reads no raw tables")
    if overlap_of(cfg) is not None:
        raise InputError("overlap", cfg.overlap, "null for a marketplace, which counts nothing")
    if Evaluation(**OmegaConf.to_object(cfg.evaluate)).measures:
        raise InputError("evaluate.measures", cfg.evaluate.measures, "none for a marketplace, which has no such truth")
    sellers, protocol, session = instantiate(cfg.market), instantiate(cfg.protocol), instantiate(cfg.session)
    attacks, built = attacks_on_market(cfg, protocol.name), []
    seed, load = check_seed(cfg.seed), partial(load_data, cfg)
    with by_key("market", cfg.market), by_key("session", cfg.session):
        record = market(sellers, protocol, session, load, seed, public_part(cfg), built.append)
    attacked = None if attacks is None else attack_market(attacks, built[0], record, seed, instantiate(cfg.attack).name)
    finished.clear(folder)
    record.write(folder / finished.RECORDS)
    write_market(record, folder, () if attacked is None else attacked.attacks)
    if attacked is not None:
        attacked.write(folder)
    if key is not None:
        finished.finish(folder, key, settings)
    if is_quiet(cfg):
        print(f"report: {os.path.relpath(folder / 'report.html')}")
    else:
        print_market(record, terminal(), folder / "report.html")
        if attacked is not None:
            print(f"Attacks on the protocol: {attacks_line(attacked.attacks)}")


def _learning(cfg: DictConfig, folder: Path, key: str | None, settings: str | None) -> None:
    """Run a protocol of private learning and the attacks on it, and write the files."""
    from mpc_appraisal.cli.learning import learn
    from mpc_appraisal.reporting.learning_report import print_learning, write_learning

    images: list[RecoveredImages] = []
    with progress(is_quiet(cfg)) as emit:
        record = learn(cfg, emit, images.append)
    finished.clear(folder)
    record.write(folder / finished.RECORDS)
    write_learning(record, folder, images)
    if key is not None:
        finished.finish(folder, key, settings)
    if is_quiet(cfg):
        print(f"report: {os.path.relpath(folder / 'report.html')}")
    else:
        print_learning(record, terminal(), folder / "report.html")
