"""CrypTen programs over the engine, between real processes, beside CrypTen as released where that goes wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from processes import HERE, ROLES, Processes, free_port

OWNERS = list(ROLES[:2])
SCRIPT = [sys.executable, str(HERE / "crypten_party.py")]
MENDED = ("decode", "products", "large_products", "ties", "refusals", "sources", "divisions", "statistics", "openings",
          "streams", "dropout", "objects", "pickles", "modules", "shares", "caches", "verbs", "labels")  # fmt: skip
STOCK = ("decode", "products", "large_products", "ties", "refusals", "divisions", "statistics", "streams", "labels")


def start(processes: Processes, what: str) -> dict:
    """Start the three parties of these programs; return them by role."""
    where = f"tcp://127.0.0.1:{free_port()}"
    return {role: processes.start(role, [*SCRIPT, role, where, what]) for role in reversed(ROLES)}


def printed(party) -> dict:
    ended = party.wait(120)
    assert ended.code == 0, ended.err
    return json.loads(ended.out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def mended(tmp_path_factory) -> dict:
    """What both owners print of each program over the engine, and their openings."""
    with Processes(tmp_path_factory.mktemp("mended")) as processes:
        parties = start(processes, ",".join(MENDED))
        one, other = (printed(parties[role]) for role in OWNERS)
        assert parties["dealer"].wait(120).code == 0, parties["dealer"].err
    return {name: (one[name], other[name]) for name in MENDED}


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> dict:
    """What rank 0 prints of each program with CrypTen as it was released."""
    folder: Path = tmp_path_factory.mktemp("stock")
    with Processes(folder) as processes:
        command = [*SCRIPT, "stock"]
        parties = [processes.start(r, [*command, r, str(folder / "meeting"), ",".join(STOCK)]) for r in ("0", "1")]
        one, _ = (printed(party) for party in parties)
    return {name: one[name][0] for name in STOCK}


def both(found: tuple) -> object:
    """Return what both owners found, which is the same."""
    assert found[0][0] == found[1][0]
    return found[0][0]


def test_no_number_is_opened_wrong_where_cryptens_decode_is_off_by_exactly_1(mended, stock):
    assert both(mended["decode"]) == 0 < stock["decode"]


def test_no_product_is_off_where_cryptens_are_by_exactly_1(mended, stock):
    assert both(mended["products"]) == 0 < stock["products"]


def test_a_thousand_times_a_thousand_never_wraps_where_cryptens_truncation_does(mended, stock):
    assert both(mended["large_products"]) == 0 < stock["large_products"]


def test_numbers_are_rounded_to_nearest_where_crypten_cuts_them_off(mended, stock):
    assert both(mended["ties"]) == [0.25, 0.25, 0.0]  # ties go to the even neighbour, so that they are unbiased
    assert min(stock["ties"][:2]) >= 0.75 and stock["ties"][2] == -0.5


def test_what_does_not_fit_is_refused_with_name_value_and_expectation_where_crypten_encodes_it(mended, stock):
    said = both(mended["refusals"])
    assert all(each.startswith("InputError: a tensor to encode: got ") and "expected finite" in each for each in said)
    assert "1 values that are NaN or infinite" in said[0] and "a value of 1e+15" in said[2]
    assert "a value of 1125899906842624" in said[3]
    assert sum(isinstance(each, list) for each in stock["refusals"]) >= 4


def test_the_source_alone_is_looked_at_and_whole_numbers_stay_whole(mended):
    values, whole = both(mended["sources"])
    assert values == [1.5, -2.0]
    assert whole == [(2**24 + 1) << 16, -(2**30 + 1) << 16]


def test_a_division_is_exact_where_it_divides_in_place_and_never_off_by_more_than_a_unit(mended, stock):
    exact, in_place, elementwise, large, zero = both(mended["divisions"])
    assert exact and in_place
    assert elementwise <= 2.0**-16 + 3000 * 2.0**-24  # a unit, and float32
    assert large <= 2.0**-16 + 2.0**40 / 3 * 2.0**-24 < 1e6 < stock["divisions"][3]
    assert zero.startswith("InputError: div: got 0; expected a divisor other than 0")


def test_statistics_count_the_products_and_the_truncations_without_verbose(mended, stock):
    for (before, after), _ in mended["statistics"]:
        assert before == {"rounds": 0, "bytes": 0, "time": 0}
        assert after["rounds"] == 2  # the masked factors, and the truncation
        assert after["bytes"] >= 2 * 3 * 8000 and after["time"] > 0  # 3 numbers an element each way, and the dealer
    assert stock["statistics"][1]["rounds"] == stock["statistics"][1]["bytes"] == 0


def test_every_opening_is_in_the_ledger_with_its_place_its_size_and_to_whom(mended):
    (one, first), (other, second) = mended["openings"]
    assert one == [None] and other[0] == [1.0, 4.0, 9.0]
    assert first == second and [o["to"] for o in first] == [OWNERS, OWNERS[1:], OWNERS, OWNERS]
    assert [o["numbers"] for o in first] == [3] * 4
    words = [o["what"].split(" at crypten_cases.py:") for o in first]
    assert [what for what, _ in words] == ["get_plain_text", "get_plain_text", "reveal", "a reduction"]
    lines = [int(line) for _, line in words]
    assert lines == [lines[0], lines[0] + 1, lines[0] + 2, lines[0] + 3]


def test_random_numbers_come_from_streams_and_not_from_torchs_generators(mended, stock):
    (one, _), (other, _) = mended["streams"]
    assert one[0] != other[0]  # torch's seed is the same at both
    for _, spans, _, _, _, _, untouched, said in (one, other):
        assert spans == [0, 31, -5, 4] and untouched
        assert said.startswith("generator: got a Generator; expected one of crypten.generators")
    assert one[2]["prev"] == other[2]["next"] and one[2]["next"] == other[2]["prev"]
    assert one[2]["prev"] != one[2]["next"] and one[2]["global"] == other[2]["global"]
    assert one[3]["global"] == other[3]["global"] and one[3]["local"] != other[3]["local"]
    assert one[4] == other[4] and sorted(one[4]) == list(range(50))  # one permutation at both
    assert all((a + b) % 2**64 == 0 for a, b in zip(one[5], other[5], strict=True)) and len(set(one[5])) == 4
    assert stock["streams"][-1] == "nothing"


def test_dropout_drops_at_its_rate_alike_at_both_owners(mended):
    rate, values, whole, channels = both(mended["dropout"])
    assert abs(rate - 0.75) < 6.5 * (0.25 * 0.75 / 20_000) ** 0.5
    assert len(values) == 2 and values[0] == 0 and abs(values[1] - 4 / 3) < 2.0**-14
    assert whole and abs(channels - 0.5) < 6.5 * 0.5 / 2000**0.5


def test_labels_are_flipped_and_noised_by_streams_where_crypten_never_flips_a_shared_label_0(mended, stock):
    first, second = both(mended["labels"])
    for shared, plain, noise, changed in (first, second):
        assert set(shared) == set(plain) == {0.0, 1.0} and not changed
        assert max(abs(sum(bits) / 4000 - 0.4) for bits in (shared, plain)) < 6.5 * 0.5 / 4000**0.5
        assert abs(sum(noise) / 4000) < 6.5 * 2 / 4000**0.5
        assert abs(sum(x * x for x in noise) / 4000 - 4) < 6.5 * 4 * (2 / 4000) ** 0.5
    assert all(first[k] != second[k] for k in range(3))  # with one seed of torch
    assert 1.0 not in stock["labels"][0][0] and stock["labels"][0][2] == stock["labels"][1][2]


def test_objects_arrive_as_they_were_and_others_are_refused_by_name(mended):
    (one, _), (other, _) = mended["objects"]
    assert all(one[0]) and all(other[0])
    assert one[1].startswith("InputError: an object to send: got a builtin_function_or_method; expected None, numbers")


def test_a_pickle_of_the_other_party_is_refused_and_not_run(mended):
    assert mended["pickles"][1][0].startswith("ForeignObjectError: model_owner sent an object that is refused")


def test_a_module_comes_without_its_weights_and_of_registered_classes_alone(mended):
    (one, _), (other, _) = mended["modules"]
    assert one[0] == "nothing" and "crypten_cases.Named', which is not registered here" in other[0]
    assert one[1:3] == other[1:3] == ["Named", 3] and one[3] > 0 and other[3] == 0 and one[4] == other[4] == 0


def test_shares_that_each_party_has_saved_come_back_from_its_own_file(mended):
    (one, _), (other, _) = mended["shares"]
    assert one[0] == other[0] == [1.5, -2.0] and one[1] != other[1]
    assert [(a + b) % 2**64 for a, b in zip(one[1], other[1], strict=True)] == [3 << 15, 2**64 - (2 << 16)]
    assert one[2] == other[2] and one[2].startswith("InputError: load_from_party: f: got None; expected this party's")


def test_tuples_that_were_dealt_ahead_are_used_once(mended):
    kept, noted, left, first, second = both(mended["caches"])
    assert kept == noted > 5 and left == 0  # a comparison takes several
    assert first == second == [[4.0, 9.0], [0.0, 3.0]]


def test_every_verb_of_the_communicator(mended):
    (one, named), (other, _) = (mended["verbs"][k][0] for k in (0, 1))
    for rank, found in enumerate((one, other)):
        assert found[:3] == [[[True, True], [True, True]], [[1, 2], [2, 2]], [[1.0, 2.0], [2.0, 2.0]]]
        assert found[3] == [True, [1.0 - rank] * 2]
        assert found[4] == [[6.0 - rank], [1.0]]
        assert found[5] == [[None], [[0], [1]]][rank]
        assert found[6] == [7 + rank]
        assert found[7] == [[[3], [[5.0]]], None][rank]
        assert found[8] == [2.5] and found[9:11] == [[3.0], 2]
    assert one[11] == other[11]
    assert named == ["alice", 0, 2, 2]


def test_programs_that_differ_end_in_an_error_that_names_both_messages(tmp_path):
    with Processes(tmp_path) as processes:
        parties = start(processes, "different")
        ended = {role: party.wait(120) for role, party in parties.items()}
    assert "model_owner sent send of 12 bytes where this program takes send of 16 bytes" in ended["data_owner"].err
    assert {end.code for end in ended.values()} == {2}
