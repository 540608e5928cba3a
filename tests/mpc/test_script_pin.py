"""The dealer's script: one that both owners have made, within limits, or nothing is dealt; and final results that are
committed to before they are opened. Cheating owners are real processes that run code of their own."""

from __future__ import annotations

import json
import math
import queue
import threading
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from three import QueueChannel, private

from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import AppraisalError, DisagreementError, PeerError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence
from mpc_appraisal.methods.base import Facts
from mpc_appraisal.methods.influence_error import InfluenceError
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends import fast
from mpc_appraisal.mpc.backends.registry import deal, dry_session, open_session
from mpc_appraisal.mpc.net.channel import DryChannel
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols import committed_opening as committed
from mpc_appraisal.mpc.protocols import orders
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.orders import Limits, ScriptRequest, claim_of, measured, receive_script
from mpc_appraisal.mpc.protocols.softmax import Z_BITS, squarings
from mpc_appraisal.mpc.ring.prg import Stream, new_key
from mpc_appraisal.release import Best, Bit, NoisedRelease, Value

L2, ROWS, FEATURE, BOUND = 1e-2, 24, 1, 8.0
SCRIPT = [["mark"], ["mask", 1, 0, [3, 2]], ["mask", 2, 1, [2, 4]], ["product", 1, 2, 0], ["mark"]]


# ---- the attack: a model owner's own script, in threads with the library's own data owner and dealer


def forged(rows: list[int]) -> list[list]:
    """Requests by which the dealer shares low and high parts of masks that the data owner's message stands under."""
    k = squarings(BOUND)
    drop = max(0, math.ceil(math.log2(BOUND / 2.0**k * 2 * 2.0 ** (40 + k) / (2.0 ** (Z_BITS - 2) - 8))))
    script, names = [["mask", 1, 0, [1, 1]]], iter(range(2, 10**6))

    def known(count: int) -> None:
        name = next(names)
        script.extend([["mask", name, 0, [count, 1]], ["product", name, 1, 0]])

    first = next(names)
    script.extend([["open", first, [1], 8, 8], ["open", next(names), [4 * ROWS - 1], 8, 8]])
    known(6)
    for _ in rows:
        script.append(["truncate", [1], 40 - drop])
        known(1)
        known(5)
        script.extend([["cross", first, first, 8]] * 5)
    return script


def unsigned(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.numpy()).view(np.uint64)


def attack(x: torch.Tensor, labels: torch.Tensor, pinned: bool) -> tuple[dict[int, float], list[BaseException]]:
    """What a cheating model owner reads of one feature, by row, and what the two honest parties said."""
    keys, pair, errors = [new_key(), new_key()], new_key(), []
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
    rows, width = list(range(3, ROWS, 4)), x.shape[1]
    facts = Facts(width - 1, 2, 0, 0, ROWS, 0.01)
    script = forged(rows)

    def score(engine: Engine) -> None:
        mine = [private(engine, 1, values, BOUND) for values in (x, torch.eye(2, dtype=torch.float64)[labels])]
        owned = {name: private(engine, 0, torch.empty(width, 2), BOUND) for name in ("weights", "direction")}
        Influence().score(owned, *mine, facts)

    def guarded(part) -> None:
        try:
            part()
        except queue.Empty:
            pass  # the model owner said nothing more
        except BaseException as error:  # noqa: BLE001  told in the test's own thread
            errors.append(error)

    def data_owner() -> None:
        channel = QueueChannel(1, queues, [])
        if pinned:
            dry = Engine(1, DryChannel(Meter()), Engine.streams_of(None), fast.DryStream(), dry=True)
            score(dry)
            orders.submit_script(channel, dry.script, DATA_OWNER)
        score(Engine(1, channel, Engine.streams_of(keys[1]), Stream(pair, "pair")))

    def dealer() -> None:
        channel = QueueChannel(2, queues, [])
        asked = receive_script(channel, Limits()) if pinned else parse(json.dumps(script))
        Dealer(keys, lambda correction: channel.send(correction, 0)).run(asked, lambda: None)

    threads = [threading.Thread(target=guarded, args=(part,), daemon=True) for part in (data_owner, dealer)]
    for thread in threads:
        thread.start()
    channel = QueueChannel(0, queues, [])
    found = {}

    def model_owner() -> None:
        if pinned:
            orders.submit_script(channel, script, MODEL_OWNER)
        found.update(read(channel, Engine.streams_of(keys[0]), rows, width))

    guarded(model_owner)
    for thread in threads if pinned else ():
        thread.join(60)
    return found, errors


def read(channel: QueueChannel, streams: dict[str, Stream], rows: list[int], width: int) -> dict[int, float]:
    """The cheating model owner's own part: it sends 2^26 at one feature in place of masked weights."""
    k = squarings(BOUND)
    drop = max(0, math.ceil(math.log2(BOUND / 2.0**k * 2 * 2.0 ** (40 + k) / (2.0 ** (Z_BITS - 2) - 8))))
    channel.receive((ROWS, width), 1)
    sent = torch.zeros(width, 2, dtype=torch.int64)
    sent[FEATURE, 1] = 1 << (drop + 3)
    channel.send(sent, 1)
    opened = channel.receive((6 * ROWS,), 1, torch.uint8).numpy()
    low, high = opened[: 4 * ROWS].view(np.uint16).astype(np.int64), opened[4 * ROWS :].astype(np.int64)
    message = (low | high << 16).reshape(ROWS, 2)
    factor = unsigned(streams["mask"].ring((1, 1)))[0, 0]
    streams["triple"].ring((1,), 1)
    streams["triple"].ring((4 * ROWS - 1,), 1)

    def theirs(count: int) -> np.ndarray:  # the data owner's share of a product that this owner knows
        mask = unsigned(streams["mask"].ring((count, 1)))
        return (mask * factor - unsigned(channel.receive((count, 1), 2))).reshape(-1)

    theirs(6)
    values = {}
    for row in rows:
        mask, shifted = (int(unsigned(t)[0]) for t in (streams["triple"].ring((1,)), channel.receive((1,), 2)))
        top = channel.receive((3,), 2, torch.uint8).numpy().astype(int)
        start = -(int(top[0]) | int(top[1]) << 8 | int(top[2]) << 16) & 0xFFFFFF
        share = start | (int(theirs(1)[0]) & (1 << 40) - 1) << 24
        theirs(5)
        for _ in range(5):
            channel.receive((1,), 2, torch.uint8)
        hidden = ((share + shifted - (mask >> (40 - drop))) % 2**64) >> drop
        value = (int(message[row, 1]) - hidden) & 0xFFFFFF
        values[row] = (((value + (1 << 18)) & 0xFFFFFF) - (1 << 18)) / 2.0**23
    return values


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    x = torch.tensor(np.column_stack([rng.integers(0, 17, (ROWS, 4)) / 16, np.ones(ROWS)]))
    return x, torch.arange(ROWS) % 2


def test_a_script_of_the_model_owner_s_own_would_read_the_data_owner_s_rows(rows):
    """The attack works against a dealer that compares nothing: so the next test shows something."""
    found, errors = attack(*rows, pinned=False)
    assert not errors and len(found) == 6
    assert {row: round(16 * value) for row, value in found.items()} == {
        row: round(16 * float(rows[0][row, FEATURE])) for row in found
    }


def test_such_a_script_is_refused_by_name_and_reads_nothing(rows):
    found, errors = attack(*rows, pinned=True)
    assert not found and len(errors) == 3
    for error in errors:
        assert isinstance(error, DisagreementError)
        for name in (MODEL_OWNER, DATA_OWNER):
            assert name in str(error)


# ---- real processes


def small(session, x=None, w=None) -> torch.Tensor | None:
    """The sum of a product of two owners' matrices, opened to both."""
    session.mark()
    left = session.input(DATA_OWNER, lambda: x, (3, 2), "x")
    right = session.input(MODEL_OWNER, lambda: w, (2, 4), "w")
    opened = session.reveal(left.matmul(right).sum(), "sum", "test")
    session.mark()
    return opened


def other(session) -> None:
    """A program that only the model owner rehearses: it asks for one request more."""
    small(session)
    session.context.engine.ask_dealer("truncate", [1], 8)


def late(share: torch.Tensor, engine, chosen: int) -> torch.Tensor:
    """A cheating owner: it commits to anything, waits for the other's share, and sends what makes the sum `chosen`."""
    channel, to, size = engine.channel, 1 - engine.me, committed.NONCE_BYTES + 8 * share.numel()
    channel.send(torch.zeros(committed.COMMITMENT_BYTES, dtype=torch.uint8), to)
    channel.receive((committed.COMMITMENT_BYTES,), to, torch.uint8)
    theirs = channel.receive((size,), to, torch.uint8)[committed.NONCE_BYTES :].clone().view(torch.int64)
    forged = torch.full_like(share, chosen) - theirs.reshape(share.shape)
    sent = torch.cat([torch.zeros(committed.NONCE_BYTES, dtype=torch.uint8), forged.reshape(-1).view(torch.uint8)])
    channel.send(sent, to)
    return share + theirs.reshape(share.shape)


JOBS = ("honest", "other script", "the dealer's own", "late", "shifted")
CHEATS = {
    "late": lambda real: lambda engine, share, context: late(share, engine, 42 << 40),
    "shifted": lambda real: lambda engine, share, context: real(engine, share + (1 << 40), context),
}


def play(role, address, emit, folder, values) -> dict[str, object]:
    """One process: sessions one after the other, of which some are with a cheating owner."""
    rendezvous, said = Rendezvous(role, address, 60.0, hosted=True), {}
    rendezvous.announce()
    for job in JOBS:
        try:
            said[job] = one_session(role, rendezvous, job, values)
        except AppraisalError as error:
            said[job] = type(error), str(error)
        rendezvous.exchange(f"after {job}", {})
    rendezvous.close(1.0)
    return said


def one_session(role, rendezvous, job, values) -> tuple[float, int, int] | None:
    """What was opened here, bytes sent and rounds."""
    if role == DEALER:
        own = {"honest": small, "the dealer's own": other}.get(job)
        deal("fast", rendezvous, 60.0, script=own and script_of(own, MODEL_OWNER))
        return None
    session = open_session("fast", rendezvous, 60.0)
    session.prepare(other if (role, job) == (MODEL_OWNER, "other script") else small)
    before, cheat = session.meter.cost(), CHEATS.get(job) if role == DATA_OWNER else None
    with mock.patch.object(fast, "open_committed", cheat(fast.open_committed) if cheat else fast.open_committed):
        opened = small(session, **{"x" if role == DATA_OWNER else "w": values})
    spent = session.meter.cost() - before
    session.close()
    return opened.item(), spent.bytes_sent, spent.rounds


def script_of(run, role: str) -> list:
    dry = dry_session("fast", role)
    run(dry)
    return dry.script


X, W = torch.arange(6, dtype=torch.float64).reshape(3, 2), torch.ones(2, 4, dtype=torch.float64) / 4


@pytest.fixture(scope="module")
def played():
    values = {MODEL_OWNER: W, DATA_OWNER: X, DEALER: None}
    return launch(play, {role: {"values": values[role]} for role in ROLES}, lambda event: None)


def test_an_honest_result_is_opened_and_the_dry_run_knew_what_it_takes(played):
    for role in (MODEL_OWNER, DATA_OWNER):
        value, sent, rounds = played[role]["honest"]
        assert value == pytest.approx((X @ W).sum().item(), abs=1e-6)
        dry = dry_session("fast", role)
        small(dry)
        assert (dry.meter.bytes_sent, dry.meter.rounds) == (sent, rounds)


@pytest.mark.parametrize("job", ["other script", "the dealer's own"])
def test_scripts_that_differ_are_refused_at_all_three_by_name(played, job):
    for role in ROLES:
        kind, said = played[role][job]
        assert kind is DisagreementError and f"differs at {role}" in said
        assert MODEL_OWNER in said and DATA_OWNER in said and "Nothing was dealt, shared or opened" in said


def test_who_opens_last_cannot_choose_the_result(played):
    """The cheat waits for the other's share to make the sum 42, but had to name what it would send before."""
    kind, said = played[MODEL_OWNER]["late"]
    assert kind is PeerError and said.startswith(f"{DATA_OWNER} opened another share")


def test_what_is_left_is_a_blind_shift(played):
    """As the docstring of `committed` says: an error that is added before the commitment is opened with the rest."""
    value, _, _ = played[MODEL_OWNER]["shifted"]
    assert value == pytest.approx((X @ W).sum().item() + 1.0, abs=1e-6)


# ---- scripts


FACTS = {
    name: Facts(6, 3, 20, 15, count, L2, row_norm=8.0, longest=8.0, logit_bound=12.0, spread=2.0)
    for name, count in (("a", 12), ("b", 30))
}
PROGRAMS = {
    "influence": ((Influence(),), Value()),
    "two methods, to one owner": ((Influence(), GradientNorm()), Value("model_owner")),
    "fine-tuning, a bit": ((Finetuning(steps=2),), Bit()),
    "the best, to the data owner": ((GradientNorm(),), Best(1, to="data_owner")),
    "an interval": ((Influence(), InfluenceError()), Value()),
    "noise": ((Influence(),), NoisedRelease(row_norm=8.0, epsilon=1.0, ceiling=50.0)),
    "a noised bit": ((Influence(),), NoisedRelease(row_norm=8.0, epsilon=1.0, what="bit", ceiling=50.0)),
}


@pytest.mark.parametrize(("methods", "release"), PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("engine", ["fast", "rtas"])
def test_both_owners_make_the_same_script_to_the_byte(engine, methods, release):
    if engine == "rtas" and release.kind == "dp":
        return  # refused before it comes to a script
    plan = Plan(methods, L2, 0, config_hash({}), partial(fit, l2=L2), {}, release=release)
    texts = []
    for role in (MODEL_OWNER, DATA_OWNER):
        dry = dry_session(engine, role)
        program(dry, plan, {}, {}, FACTS, 12.0, lambda event: None)
        texts.append(orders.script_json(dry.script))
    assert texts[0] == texts[1]
    asked = measured(parse(texts[0].decode()))
    Limits().check(asked)
    assert asked.requests == len(dry.script) and 0 < asked.largest <= asked.total and asked.kept > 0


def test_what_a_script_asks_is_measured():
    asked = measured(SCRIPT)
    assert asked == ScriptRequest(5, largest=12, total=6 + 8 + 12, kept=2 * 14)
    freed = [*SCRIPT, ["free", 1], ["free", 2], ["mask", 3, 0, [5, 1]]]
    assert measured(freed).kept == 2 * 14
    conv = [["bilinear", "conv2d", [2, 3, 8, 8], [4, 3, 3, 3], {"padding": 1}]]
    assert measured(conv).total == 2 * 3 * 64 + 4 * 27 + 2 * 4 * 64 + 4 * 64 * 27 // 4


@pytest.mark.parametrize(
    ("script", "limits", "said"),
    [
        ([["mask", 1, 0, [2**15, 2**15]]], Limits(largest=2**29), "1073741824 elements in one request.* 536870912"),
        ([["square", [2**30]]], Limits(), "bytes of memory for kept masks and the largest request"),
        ([["mul", [2**16, 1], [2**16]]], Limits(), "4295098368 elements in one request.* at most 2147483648"),
        ([["bilinear", "matmul", [2**20, 1], [1, 2**20], {}]], Limits(), "elements in one request"),
        ([["square", [8]]] * 3, Limits(requests=2), "3 requests; expected at most 2"),
        ([["square", [8]]] * 3, Limits(total=47), "48 elements in all requests; expected at most 47"),
        ([["mask", k, 0, [100, 1]] for k in range(5)], Limits(memory=9_000), "9600 bytes of memory"),
    ],
)
def test_a_script_beyond_the_limits_is_refused_before_memory_is_taken(script, limits, said):
    with pytest.raises(DisagreementError, match=f"dealer: refused a script of .*{said}"):
        limits.check(measured(parse(json.dumps(script))))


class Told:
    """The dealer's channel: both owners claim `text`, whatever `claimed` says of its length."""

    def __init__(self, text: bytes, claimed: bytes):
        self.messages, self.sent = [orders.tensor_of(claimed)] * 2 + [orders.tensor_of(text)], []

    def receive(self, shape, source, dtype):
        return self.messages.pop(0)

    def send(self, tensor, to):
        self.sent.append((to, tensor))


def test_a_text_that_is_too_long_or_another_one_is_refused_and_nobody_is_told_to_go_on():
    text = orders.script_json(SCRIPT)
    honest = Told(text, claim_of(text))
    assert receive_script(honest, Limits()) == SCRIPT and [len(tensor) for _, tensor in honest.sent] == [120, 120, 1, 1]
    for limits, sent, claimed, said in (
        (Limits(text=20), text, text, f"script of {len(text)} bytes; expected 1 to 20"),
        (Limits(), text[:-1] + b" ", text, "not the one that it had claimed"),
        (Limits(largest=3), text, text, "12 elements in one request; expected at most 3"),
    ):
        channel = Told(sent, claim_of(claimed))
        with pytest.raises(DisagreementError, match=said):
            receive_script(channel, limits)
        assert [len(tensor) for _, tensor in channel.sent] == [120, 120]


@pytest.mark.parametrize(
    "text",
    [
        '[[["square"], [3]]]', '[[{"a": 1}]]', "[[[]]]", "[[1, 2]]", "[[null]]", "{}", "7", "[" * 5000,
        "[[" + "9" * 5000,
        '[["mask", [1], 0, [2, 2]]]', '[["mask", {}, 0, [2, 2]]]', '[["mask", 1, -1, [2, 2]]]',
        '[["mask", 1, true, [2]]]',
        '[["mask", 1, 0, [2, 2]], ["mask", 1, 0, [2, 2]]]', '[["mask", 1, 0, [2]], ["product", 1, 1, 0]]',
        '[["mask", 1, 0, [2, 3]], ["rows", 2, 1, [2]]]', '[["mask", 1, 0, [2, 3]], ["rows", 2, 1, [true]]]',
        '[["mask", 1, 0, [2, 3]], ["rows", 2, 1, "01"]]', '[["mask", 1, 0, [2, 3]], ["product", 1, 1, 0]]',
        '[["free", [1]]]', '[["forget", 3]]', '[["forget", [[3]]]]', '[["cross", {}, {}, 8]]', '[["mark", 1]]',
        '[["power", [], 1, 1]]', '[["mul", [2], [3]]]', '[["mul", 2, 3]]', '[["apply", 3, [2], 16]]', '[["square"]]',
        '[["bilinear", ["matmul"], [2, 2], [2, 2], {}]]', '[["bilinear", "matmul", [2, 2], [2, 2], ["stride"]]]',
        '[["bilinear", "conv2d", [1, 1, 2, 2], [1, 1, 3, 3], {}]]', '[["bilinear", "conv2d", [], [], {}]]',
        '[["bilinear", "conv2d", [1, 1, 4, 4], [1, 1, 2, 2], {"stride": 0}]]', '[["open", 1, [1e3], 8, 8]]',
    ],
)  # fmt: skip
def test_every_malformed_script_ends_in_a_named_error_before_anything_is_drawn(text):
    with pytest.raises(AppraisalError, match="dealer: refused"):
        measured(parse(text))
