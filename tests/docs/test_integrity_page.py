"""The page on the check of messages states the figures of the code, and what the code covers."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace

import pytest
from processes import ROOT

from mpc_appraisal.appraisal.cost import estimate
from mpc_appraisal.appraisal.covered import COVERED
from mpc_appraisal.common.errors import InputError, IntegrityError
from mpc_appraisal.common.roles import TRUST_CHECKED
from mpc_appraisal.data import Resolution
from mpc_appraisal.methods import METHODS, Facts, Finetuning
from mpc_appraisal.mpc.backends.registry import ENGINES
from mpc_appraisal.mpc.integrity import bit_sumcheck, inner_product_check, message_check, subset_claims, sumcheck
from mpc_appraisal.mpc.integrity.inner_product_claims import HIDING, Claims
from mpc_appraisal.mpc.ring import binary_field
from mpc_appraisal.mpc.ring.prime_field import HIGHEST, LOWEST, is_field_prime

PAGE = " ".join((ROOT / "docs" / "protocols" / "integrity.md").read_text(encoding="utf-8").split())
PRIMES = 25_348_000  # the primes that are drawn from, rounded down: a test below samples them
SLACK = 44  # bits of the quotient's mask and sums, as `inner_product_check` derives them


def test_the_page_names_all_that_is_covered():
    (sentence,) = [each for each in PAGE.split(". ") if each.startswith("The check covers ")]
    names = [method.name for method in COVERED.methods]
    assert all(f"`{name}`" in sentence for name in names) and f"{COVERED.rows:,} rows at most" in sentence
    assert all(f"`{engine}`" in sentence for engine in COVERED.engines)
    assert all(f"`{kind}`" in sentence for kind in COVERED.releases)
    others = {method.name for method in METHODS.values()} - set(names) | (set(ENGINES) - set(COVERED.engines))
    assert not any(f"`{name}`" in sentence for name in others)


def bits(probability: float) -> float:
    return -math.log2(probability)


def test_an_altered_message_passes_as_rarely_as_the_page_and_the_trust_say():
    widest = 64 + message_check.QUOTIENT_BITS + SLACK
    dividing = widest // 30  # primes above 2^30
    prime = dividing / PRIMES
    one = prime + 2.0**-30 + 2.0**-59
    both, subsets = one**inner_product_check.PRIMES, 2.0**-subset_claims.SUBSETS
    of_bits = 2.0**-64 + 2.0**60 * 2 * 2.0**-binary_field.DEGREE
    assert both + subsets + of_bits < 2.0**-40
    assert "below $2^{-66}$" in PAGE and 2.0**60 * 2 * 2.0**-binary_field.DEGREE < 2.0**-66
    assert f"{subset_claims.SUBSETS} random subsets" in PAGE and f"$2^{{-{subset_claims.SUBSETS}}}$" in PAGE
    assert f"$b + {message_check.QUOTIENT_BITS} + {SLACK} \\le {widest}$ bits" in PAGE
    assert f"at most ${dividing}$ primes" in PAGE and "25,348,000" in PAGE
    figures = {"-21.5": prime, "-21.59": one, "-43.1": both, "-63.8": of_bits, "-43": both + subsets + of_bits}
    for stated, found in figures.items():
        assert f"2^{{{stated}}}" in PAGE and 0 <= bits(found) + float(stated) < 0.2, stated
    assert "probability of at least $1 - 2^{-40}$" in PAGE and "at most 2^-40" in TRUST_CHECKED


def test_about_as_many_primes_as_the_page_says_are_drawn_from():
    drawn = random.Random(0)
    sample = [LOWEST + 1 + 4 * drawn.randrange((HIGHEST - LOWEST) // 4) for _ in range(20_000)]
    found = sum(map(is_field_prime, sample))
    expected = PRIMES / ((HIGHEST - LOWEST) / 4)  # of the numbers that are 1 mod 4
    deviation = math.sqrt(len(sample) * expected * (1 - expected))
    assert abs(found - len(sample) * expected) < 7 * deviation


def test_the_bytes_of_the_table_are_those_of_the_messages():
    claims = Claims("any", 0, 1, (64,), (message_check.QUOTIENT_BITS,))
    assert f"| {claims.hidden_bytes} a claim |" in PAGE
    assert inner_product_check.PRIMES * sumcheck.ROUND_BYTES == 64 and "| 64 a round |" in PAGE
    assert inner_product_check.PRIMES * sumcheck.ELEMENT_BYTES == 32 and "| 32 a round |" in PAGE
    assert inner_product_check.SEED_BYTES + 4 * inner_product_check.PRIMES == 40
    assert f"| {bit_sumcheck.CROSS_BYTES}, and {bit_sumcheck.ROUND_BYTES} a round |" in PAGE
    first, round_ = bit_sumcheck.challenge_bytes(1) - binary_field.BYTES, binary_field.BYTES
    assert f"| {first}, and {round_} a round |" in PAGE and f"| {bit_sumcheck.ANSWER_BYTES} |" in PAGE
    hidden = message_check.QUOTIENT_BITS + HIDING + 1
    assert f"uniform in $[0, 2^{{{hidden}}})$" in PAGE and f"2^{{-{HIDING}}}$ a claim" in PAGE


def test_the_page_states_the_exit_status():
    assert f"the exit status of the command is {IntegrityError.status}." in PAGE


CANDIDATES = {"digits": Facts(64, 10, 600, 500, 500, 1e-2), "MNIST": Facts(784, 10, 600, 10_000, 5940, 1e-2)}
ROW = re.compile(r"\| `(\w+)` \| (\w+) \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|")
ROWS = ROW.findall(PAGE)


def facts_of(name: str) -> Facts:
    facts = CANDIDATES[name]
    resolution = Resolution(255, 8) if name == "MNIST" else None
    return replace(facts, resolution=resolution, row_norm=math.sqrt(facts.features + 1))


@pytest.mark.parametrize(("method", "candidate"), [row[:2] for row in ROWS])
def test_the_costs_of_the_page_are_those_of_dry_runs(method, candidate):
    (stated,) = [row[2:] for row in ROWS if row[:2] == (method, candidate)]
    for integrity, rounds, megabytes in zip((False, True), stated[:2], stated[2:], strict=True):
        found = estimate([METHODS[method]()], facts_of(candidate), 1, 16.0, auto=True, integrity=integrity)
        assert found.rounds == int(rounds)
        assert sum(found.bytes_sent.values()) / 1e6 == pytest.approx(float(megabytes), rel=0.01)


def test_the_page_has_costs():
    assert {row[1] for row in ROWS} == set(CANDIDATES) and len(ROWS) == 5


def test_the_page_states_the_most_numbers_and_bits_of_a_check(monkeypatch):
    sizes, real = [], message_check.claims_of

    def noting(*arguments):
        claims = real(*arguments)
        sizes.append((claims.length, 8 * claims.octets))
        return claims

    def finetuning(steps: int):
        return estimate([Finetuning(steps=steps)], facts_of("MNIST"), 1, 16.0, auto=True, integrity=True)

    assert f"at most {message_check.MOST_NUMBERS:,} numbers" in PAGE
    assert f"at most {message_check.MOST_BITS:,} bits" in PAGE
    monkeypatch.setattr(message_check, "claims_of", noting)
    finetuning(Finetuning().steps)
    numbers, bits_dealt = (round(max(each) / 1e6) for each in zip(*sizes, strict=True))
    assert f"takes {numbers} million numbers and {bits_dealt} million bits" in PAGE
    with pytest.raises(InputError, match=f"{message_check.MOST_NUMBERS:,}"):
        finetuning(2 * Finetuning().steps)
