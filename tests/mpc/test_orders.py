"""The dealer's script: both owners make the same, and one that is malformed, too large or another is refused."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from processes import DATA_OWNER, MODEL_OWNER

from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import AppraisalError, DisagreementError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence
from mpc_appraisal.methods.base import Facts
from mpc_appraisal.methods.influence_error import InfluenceError
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.registry import dry_session
from mpc_appraisal.mpc.protocols import orders
from mpc_appraisal.mpc.protocols.dealer import parse
from mpc_appraisal.mpc.protocols.orders import claim_of, measured, receive_script
from mpc_appraisal.mpc.protocols.script_limits import Limits, ScriptRequest
from mpc_appraisal.mpc.ring import kernels, matrix
from mpc_appraisal.release import Best, Bit, NoisedRelease, Value

L2 = 1e-2
SCRIPT = [["mark"], ["mask", 1, 0, [3, 2]], ["mask", 2, 1, [2, 4]], ["product", 1, 2, 0], ["mark"]]
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
    if engine == "rtas" and release.description.noised:
        return  # the engine refuses this release before a script is made
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
    assert measured([["divide", [4, 3], 3]]) == ScriptRequest(1, largest=36, total=36, kept=0)
    assert measured(conv).total == 2 * 3 * 64 + 4 * 27 + 2 * 4 * 64 + 4 * 64 * 27 // 4


@pytest.mark.parametrize(("compiled", "copies"), [(object(), 1), (None, 2)])
def test_a_large_mask_is_counted_with_a_transposed_copy_only_where_torch_multiplies(monkeypatch, compiled, copies):
    monkeypatch.setattr(orders, "loops", lambda work: compiled if work >= orders.WORTH else None)
    large = ["mask", 1, 0, [orders.WORTH // 4, 4]]
    assert measured([large]).kept == copies * orders.WORTH
    rows = [large, ["rows", 2, 1, [0, 3]], ["free", 1], ["mask", 3, 0, [orders.WORTH // 4 - 1, 4]]]
    assert measured(rows[:2]).kept == copies * orders.WORTH + 2 * 8
    assert measured(rows).kept == max(copies * orders.WORTH + 16, 2 * (orders.WORTH - 4))


def test_the_compiled_product_of_a_mask_keeps_no_copy_and_torchs_keeps_one(monkeypatch):
    right = torch.ones(5, 2, dtype=torch.int64)
    for compiled in (kernels.load(), None):
        monkeypatch.setattr(matrix, "loops", lambda work, found=compiled: found)
        left = matrix.Matrix(torch.arange(20).reshape(4, 5))
        assert torch.equal(left.times(right), left.values @ right)
        assert (left._transposed is None) == (compiled is not None)


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


class ClaimingChannel:
    """The dealer's channel to two owners, who claim the script with the digest and length `claimed` and send `text`."""

    def __init__(self, text: bytes, claimed: bytes):
        self.messages, self.sent = [orders.tensor_of(claimed)] * 2 + [orders.tensor_of(text)], []

    def receive(self, shape, source, dtype):
        return self.messages.pop(0)

    def send(self, tensor, to):
        self.sent.append((to, tensor))


def test_a_text_that_is_too_long_or_another_one_is_refused_and_nobody_is_told_to_go_on():
    text = orders.script_json(SCRIPT)
    honest = ClaimingChannel(text, claim_of(text))
    assert receive_script(honest, Limits()) == SCRIPT and [len(tensor) for _, tensor in honest.sent] == [120, 120, 1, 1]
    for limits, sent, claimed, said in (
        (Limits(text=20), text, text, f"script of {len(text)} bytes; expected 1 to 20"),
        (Limits(), text[:-1] + b" ", text, "not the one that it had claimed"),
        (Limits(largest=3), text, text, "12 elements in one request; expected at most 3"),
    ):
        channel = ClaimingChannel(sent, claim_of(claimed))
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
        '[["power", [], 1, 1]]', '[["scale", [], 1]]',
        '[["mul", [2], [3]]]', '[["mul", 2, 3]]', '[["apply", 3, [2], 16]]', '[["square"]]',
        '[["bilinear", ["matmul"], [2, 2], [2, 2], {}]]', '[["bilinear", "matmul", [2, 2], [2, 2], ["stride"]]]',
        '[["bilinear", "conv2d", [1, 1, 2, 2], [1, 1, 3, 3], {}]]', '[["bilinear", "conv2d", [], [], {}]]',
        '[["bilinear", "conv2d", [1, 1, 4, 4], [1, 1, 2, 2], {"stride": 0}]]', '[["open", 1, [1e3], 8, 8]]',
    ],
)  # fmt: skip
def test_every_malformed_script_ends_in_a_named_error_before_anything_is_drawn(text):
    with pytest.raises(AppraisalError, match="dealer: refused"):
        measured(parse(text))
