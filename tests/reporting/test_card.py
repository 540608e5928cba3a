"""Cards: one page a candidate, the answer first, everything foreign escaped, and nothing that was not opened."""

from __future__ import annotations

import dataclasses
import re

import pytest
from markdown_it import MarkdownIt
from test_report import TRUST, Page, join_records, records

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable
from mpc_appraisal.reporting.advice import Advice, Recommendation
from mpc_appraisal.reporting.card import slug, write_cards
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result

BOTH = ["model_owner", "data_owner"]
OPENING = {"what": "the result", "to": BOTH, "numbers": 1, "why": "the appraisal's result"}
LISTING = {"name": "digits-a", "digest": "a1" * 32, "commitment": "b2" * 32, "price": 1200.5, "currency": "EUR"}
REQUEST = {"id": "c3c3c3c3c3c3", "digest": "c3" * 32, "how": "command", "time": "2026-01-31T12:00:00+00:00"}
BUDGET = {"ledger": "seller.ledger", "line": 12, "head": "d4" * 32, "counterparty": "acme", "plain_left": 19}
EPSILON = {"epsilon": 0.75, "epsilon_left": 0.25, "delta": 1e-6}
DP = {"epsilon": 0.5, "delta": 1e-6, "protects": "one row of the data", "sigma": 7.5, "sensitivity": 0.125}
DP |= {"deviation": 1.5}
FACTS = {
    "n": 594,
    "features": 64,
    "classes": 10,
    "seconds": {"private": 2.5},
    "bytes_sent": {"model_owner": 5_400_000, "dealer": 600_000},
    "rounds": 43,
    "failure_probability": 9.3e-6,
    "seed": 23,
    "openings": (OPENING,),
    "versions": {"python": "3.11.7", "torch": "2.9.0"},
    "config_hash": "abcdefabcdefabcd",
    "revision": "abc1234",
    "session": "join",
    "role": "model_owner",
    "trust": TRUST,
    "listing": LISTING,
    "request": REQUEST,
    "budget": BUDGET,
}


def one(
    value=None, kind="value", candidate="seller", method="influence", to=BOTH, answered=False, more=None, **release
):
    facts = FACTS | (more or {})
    return Record(method, candidate, value, release={"kind": kind, "to": to, "answered": answered, **release}, **facts)


def texts(folder, *rows, of=0) -> tuple[str, str]:
    """Markdown and the visible text of the HTML of one candidate's card, both in one line and without escapes."""
    written = write_cards(Result(rows), folder)
    markdown, html = (path.read_text(encoding="utf-8") for path in written[2 * of : 2 * of + 2])
    plain = re.sub(r"\\([^a-z0-9])", r"\1", markdown)
    return " ".join(plain.split()), " ".join(Page(html).text.split())


def says(folder, rows, of=0, yes=(), no=()):
    for text in texts(folder, *rows, of=of):
        for part in yes:
            assert part in text, part
        for part in no:
            assert part not in text, part


def test_the_card_of_a_value(tmp_path):
    yes = (
        "Appraisal card: seller",
        "influence: 0.2150",
        "higher is better",
        "at most 9.3e-06",
        "Sampling error of the data itself is not in this",
        "594 rows, 64 features, 10 classes",
        "digits-a",
        "a1" * 32,
        "b2" * 32,
        "1200.5 EUR",
        "the result (1 number; the appraisal's result)",
        "no noise: no differential privacy; 19 plain values left",
        "seller.ledger, line 12",
        "acme",
        "c3c3c3c3c3c3",
        "mpc-appraisal approval show c3c3c3c3c3c3",
        "c3" * 32,
        "by a person, with a command, 2026-01-31T12:00:00+00:00",
        "2.50 seconds, 6.000 MB sent by all parties, 43 rounds",
        TRUST,
        "mpc-appraisal budget verify LEDGER --head " + "d4" * 32,
        "sha256sum digits-a.json",
        "mpc-appraisal catalogue check listing=digits-a.json data=FILE secret=SALT record=records.jsonl",
        "abcdefabcdefabcd",
        "python 3.11.7, torch 2.9.0, revision abc1234",
        "seed 23",
        "gives it again, free",
        "up to fixed-point rounding",
    )
    says(tmp_path, [one(0.215)], yes=yes, no=("not listed", "epsilon", "ledger's record", "with noise", "None"))


@pytest.mark.parametrize(("how", "words"), [("policy", "standing policy"), ("stated", "stated beforehand")])
def test_an_approval_without_a_person_has_nothing_to_show_at_the_desk(tmp_path, how, words):
    says(tmp_path, [one(0.5, more={"request": REQUEST | {"how": how}})], yes=(words,), no=("approval show", "a person"))


def test_the_order_of_a_card(tmp_path):
    heads = ("The answer", "The data", "What was opened to whom", "Privacy spent", "Approval", "Cost", "Trust")
    for text in texts(tmp_path, one(0.215)):
        places = [text.index(head) for head in (*heads, "How to verify")]
        assert places == sorted(places)


@pytest.mark.parametrize("answer, words", [(True, "influence: Yes"), (False, "influence: No")])
def test_the_card_of_a_bit_has_the_bit_and_no_number(tmp_path, answer, words):
    what = "reached the model owner's secret threshold" if answer else "did not reach the model owner's secret"
    says(tmp_path, [one(kind="bit", decision=answer)], yes=(words, what, "no value"), no=("Not opened", "Winner"))


def test_the_cards_of_a_winner_and_of_a_loser(tmp_path):
    rows = [
        one(0.5, "best", "a", winner=True, rank=1),
        one(None, "best", "b", winner=True, rank=2),
        one(None, "best", "c", winner=False),
        one(None, "best", "d", winner=False),
    ]
    says(tmp_path, rows, 0, ("influence: Winner: rank 1 among 4 candidates", "Its value: 0.5000"))
    says(tmp_path, rows, 1, ("influence: Winner: rank 2 among 4 candidates",), ("Its value",))
    says(tmp_path, rows, 2, ("Not a winner among 4", "nothing else about this one was opened"), ("rank", "0.5000"))


def test_the_card_of_a_noised_value_gives_the_interval(tmp_path):
    row = one(0.215, "dp", low=0.12, high=0.31, more={"budget": BUDGET | EPSILON}, **DP)
    yes = (
        "0.2150 with noise",
        "between 0.1200 and 0.3100, with 95% certainty",
        "epsilon 0.5 at delta 1e-06",
        "one row of the data",
        "standard deviation 1.5 in the opened number; 7.5 times the sensitivity is counted; sensitivity 0.125",
        "epsilon 0.75 spent, epsilon 0.25 left at delta 1e-06",
        "A computation anew has new noise",
    )
    says(tmp_path, [row], yes=yes, no=("no differential privacy", "plain values left"))


def test_the_card_of_a_budget_that_renews_states_the_period_and_the_total(tmp_path):
    period = {"renews": "monthly", "period": "2026-01", "renews_at": "2026-02-01T00:00:00+00:00"}
    total = {"epsilon_total": 2.5, "plain_total": 3}
    row = one(0.215, "dp", low=0.12, high=0.31, more={"budget": BUDGET | EPSILON | period | total}, **DP)
    yes = (
        "2026-01 in UTC; the budget renews (monthly) at 2026-02-01T00:00:00+00:00",
        "epsilon 2.5 and 3 plain values: privacy loss adds up over periods",
    )
    says(tmp_path, [row], yes=yes)


def test_the_card_of_a_noised_bit(tmp_path):
    row = one(None, "dp", decision=True, **DP)
    says(tmp_path, [row], yes=("influence: Yes", "may fall on either side", "epsilon 0.5"), no=("no noise",))


def test_an_answer_from_the_ledger_says_that_nothing_was_computed(tmp_path):
    row = one(0.215, answered=True, more={"openings": (), "seconds": {}, "rounds": 0})
    yes = (
        "0.2150",
        "nothing was computed",
        "when this answer was first given",
        "nothing in this run: the answer is an earlier one",
    )
    says(tmp_path, [row], yes=yes, no=("seconds", "probability of at most"))


def test_data_without_a_listing_are_bound_by_nothing(tmp_path):
    bare = {"listing": None, "request": None, "budget": None}
    yes = ("not listed: nothing binds the data to what was offered", "no noise: no differential privacy")
    no = ("sha256sum", "catalogue check", "budget verify", "Approval", "plain value", "None", "price")
    says(tmp_path, [one(0.215, more=bare)], yes=yes, no=no)


def test_a_party_that_was_not_told_gets_a_card_that_says_so(tmp_path):
    row = one(None, to=["data_owner"], more={"openings": ({**OPENING, "to": ["data_owner"]},)})
    says(tmp_path, [row], yes=("Not opened to this party", "to the data owner alone"), no=("None", "0.2150"))


def test_records_of_before_have_cards_too(tmp_path):
    rows = [*records(), *(dataclasses.replace(r, method="other") for r in join_records())]
    written = write_cards(Result(rows), tmp_path)
    assert len(written) == 2 * (5 + 3) and all(path.is_file() for path in written)
    text = texts(tmp_path, *rows)[1]
    assert "gradient_norm: " in text and "influence: " in text and "retraining" not in text
    assert text.count("Sampling error") == 2 and text.count("594") == 0


def test_baselines_and_runs_in_the_clear_have_no_card(tmp_path):
    rows = [Record("retraining", "a", 1.0), Record("influence", "b", 1.0, session="plain")]
    assert write_cards(Result(rows), tmp_path / "new") == [] and list((tmp_path / "new").iterdir()) == []
    assert write_cards(Result([]), tmp_path) == []


def test_facts_on_which_methods_differ_carry_the_method(tmp_path):
    rows = [one(0.5, method="influence"), one(0.25, method="gradient_norm", more={"rounds": 99})]
    says(tmp_path, rows, yes=("influence: spent", "gradient_norm: spent", "99 rounds"), no=("influence: listing",))


TAGS = {"!doctype", "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "section", "dl", "dt", "dd"}
TAGS |= {"ol", "li", "code", "a"}
TOKENS = {"heading", "inline", "text", "text_special", "paragraph", "strong", "bullet_list", "ordered_list"}
TOKENS |= {"list_item", "fence"}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "[here](javascript:alert(1)) ![x](y) **bold** `code` | cell",
    "\x1b[2J\u202eevil\n\n# Headline\n\n- item www.evil.example a@evil.example",
    "{{ 7 * 7 }} {% for %} &lt;b&gt; $(rm -rf .) `id`",
    "~~~ *** ___ 1. <!-- x",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_stays_text(tmp_path, text):
    more = {
        "request": REQUEST | {"id": text},
        "budget": BUDGET | {"ledger": text, "counterparty": text},
        "openings": ({**OPENING, "what": text, "why": text},),
        "trust": text,
        "revision": text,
        "config_hash": text,
        "versions": {text: text},
    }
    row = one(0.5, "dp", text, text, more=more, **DP | {"protects": text})
    markdown, html = write_cards(Result([row]), tmp_path)
    source, page = markdown.read_text(encoding="utf-8"), html.read_text(encoding="utf-8")
    Page(page)  # every element that opens also closes
    assert "\x1b" not in source + page and "\u202e" not in source + page
    assert {match[0] for match in re.findall(r"<(h[1-6]|[a-z!]+)([^<]*>)", page)} <= TAGS
    links = re.findall("<a [^>]*>", page)
    assert len(links) == page.count("<h2") > 5 and all('href="#' in link for link in links)  # of headings alone
    assert not re.search(r"<[^>]*(onerror|javascript|src=)", page)
    assert "49" not in Page(page).text
    tokens = [inner for token in MarkdownIt().parse(source) for inner in (token, *(token.children or ()))]
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} <= TOKENS
    shown = printable(text)
    assert shown in "".join(token.content for token in tokens if token.type in ("text", "text_special"))
    assert shown in Page(page).text
    # what other readers of Markdown know beside CommonMark: tables, struck text, formulas, bare addresses
    outside = re.sub(r"\\[!-/:-@\[-`{-~]", "", re.sub(r"```\n.*\n *```", "", source))
    assert not re.search(r"[|~$@]|www\.", outside), outside
    assert [line for line in source.splitlines() if line.startswith("# ")] == source.splitlines()[:1]
    commands = [token.content.strip() for token in tokens if token.type == "fence"]
    assert len(commands) == 3 and commands == re.findall(r"<code>(.*?)</code>", page, re.DOTALL)
    assert all(re.fullmatch(r"[a-zA-Z0-9 =._-]+", command) for command in commands)


def test_html_is_one_file_without_scripts(tmp_path):
    for path in write_cards(Result([one(0.5)]), tmp_path):
        text = path.read_text(encoding="utf-8")
        assert "http" not in text and "<script" not in text and "<link" not in text and "url(" not in text
        assert "@import" not in text and "src=" not in text and str(tmp_path) not in text


def test_a_threshold_has_no_place_in_a_record_and_so_none_on_a_card():
    with pytest.raises(InputError, match="record.release: got 'threshold'"):
        one(kind="bit", decision=True, threshold=0.3)
    with pytest.raises(InputError, match="record.value"):
        one(0.5, kind="bit", decision=True)


@pytest.mark.parametrize("key", ["value", "paper_value", "plaintext_value", "difference", "level", "utility"])
def test_what_only_an_experimenter_knows_is_on_no_card(tmp_path, key):
    known = {"session": "spawn", "plaintext_value": 0.777, "difference": 0.777, "level": 0.777, "utility": 0.777}
    known["paper_value"] = 0.777
    row = one(0.5, more=known)
    assert getattr(row, key) is not None
    says(tmp_path, [row], no=("0.777",))


def test_names_of_files_are_safe_and_unique(tmp_path):
    names = ["p = 3/10", "P_3_10", "p-3-10-2", "Zürich", "..", "数据", "con", "x" * 300, "x" * 299 + "y", "a.csv"]
    written = write_cards(Result(one(0.5, candidate=name) for name in names), tmp_path)
    found = [path.name for path in written]
    assert len({name.lower() for name in found}) == 2 * len(names) and {p.parent for p in written} == {tmp_path}
    assert all(re.fullmatch(r"card-[a-z0-9-]{1,48}\.(md|html)", name) for name in found)
    assert found[0] == "card-p-3-10.md" and slug("Zürich") == "zurich" and slug("..") == "candidate"
    for name, path in zip(names, written[1::2], strict=True):
        assert name[:60] in Page(path.read_text(encoding="utf-8")).text


def test_a_card_of_one_method_is_about_a_page(tmp_path):
    row = one(0.215, "dp", low=0.12, high=0.31, more={"budget": BUDGET | EPSILON}, **DP)
    text = write_cards(Result([row]), tmp_path)[0].read_text(encoding="utf-8")
    lines = sum(1 + len(line) // 100 for line in text.splitlines() if line.strip())
    assert lines < 65


def test_no_sentence_of_a_card_is_cut_off(tmp_path):
    note = "By finetuning: the softmax needs no bound on logits, and none is checked. " * 9 + "This is its last word."
    row = dataclasses.replace(one(0.5), error_note=note.strip(), warnings=(note + " It warns.",))
    for path in write_cards(Result([row]), tmp_path):
        text = path.read_text(encoding="utf-8")
        assert text.count("This is its last word.") == 2 and "It warns." in text.replace("\\", "")


def test_a_decision_is_one_word_and_its_reasons_stand_below(tmp_path):
    why = "above your calibrated threshold 0.284: buy; expected +0.8 points of accuracy (+0.3 to +1.2)."
    said = Advice({("influence", "a"): Recommendation("buy", 0.284, why)}, {"influence": "trusted"})
    row = one(0.5)
    markdown, html = write_cards(Result([dataclasses.replace(row, candidate="a")]), tmp_path, said)
    assert f'<p class="answer">influence: buy</p>\n<p class="note">The value is {why}</p>' in html.read_text()
    assert "**influence: buy**" in markdown.read_text()
