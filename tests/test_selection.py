from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldexplorer.errors import UsageError
from worldexplorer.selection import EXPANSION_LIMIT, IndexSelection, format_indices, parse_indices

GRAMMAR = "give numbers and inclusive ranges, such as --indices 0 5 14, 0-24 or 0-9 20 30:32"

spans = st.tuples(st.integers(0, 300), st.integers(0, 40), st.sampled_from("-:"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["0-9", "20", "30:32"], (*range(10), 20, 30, 31, 32)),
        (["0", "2", "5"], (0, 2, 5)),
        (["25-49"], tuple(range(25, 50))),
        (["5", "3-6", "4"], (3, 4, 5, 6)),
        (["7:7"], (7,)),
        (["007"], (7,)),
        (["0-2 5", " 9\t10 "], (0, 1, 2, 5, 9, 10)),
    ],
)
def test_the_grammar(arguments, expected):
    assert parse_indices(arguments) == expected


@given(st.lists(spans, min_size=1, max_size=8))
def test_the_indices_are_the_union_of_the_ranges(parts):
    selection = IndexSelection.parse([f"{first}{sign}{first + more}" for first, more, sign in parts])
    expected = {index for first, more, _ in parts for index in range(first, first + more + 1)}
    assert {index for index in range(400) if selection.contains(index)} == expected
    assert selection.count() == len(expected)
    assert parse_indices([span.text for span in selection.spans]) == tuple(sorted(expected))


@given(st.sets(st.integers(0, 10**12), min_size=1) | st.sets(st.integers(0, 60), min_size=1))
def test_what_is_formatted_parses_to_the_same(indices):
    text = format_indices(indices)
    assert parse_indices([text]) == parse_indices(text.split()) == tuple(sorted(indices))


@given(st.sets(st.integers(0, 60)))
def test_formatting_uses_one_item_a_run(indices):
    runs = sum(index - 1 not in indices for index in indices)
    assert len(format_indices(indices).split()) == runs


def test_formatting():
    assert format_indices({0, 1, 2, 5}) == "0-2 5"
    assert format_indices([9, 3, 3]) == "3 9"
    assert format_indices([]) == ""


@given(st.lists(spans, min_size=1, max_size=8), st.sets(st.integers(0, 350)))
def test_missing_names_what_matches_nothing(parts, existing):
    texts = [f"{first}{sign}{first + more}" for first, more, sign in parts]
    expected = [
        text
        for text, (first, more, _) in zip(texts, parts, strict=True)
        if not any(first <= index <= first + more for index in existing)
    ]
    assert IndexSelection.parse(texts).missing(existing) == tuple(dict.fromkeys(expected))


def test_a_range_needs_one_sample_and_a_number_needs_its_own():
    selection = IndexSelection.parse(["0-24", "3"])
    selection.require({0, 3}, "data/metadata.json")
    with pytest.raises(UsageError) as caught:
        IndexSelection.parse(["0-24", "7", "90:99", "3"]).require([3, 0, 1, 2, 40], "data/metadata.json")
    assert str(caught.value) == (
        "no such index: 7 90:99 (--indices, data/metadata.json). "
        "What to do: choose among the indices of the data set: 0-3 40"
    )


def test_a_huge_range_costs_nothing():
    selection = IndexSelection.parse(["0-99999999999", "5:999999999999999999"])
    assert selection.contains(10**11) and selection.contains(0) and not selection.contains(10**18)
    assert selection.missing([3]) == ("5:999999999999999999",)
    assert selection.count() == 10**18
    with pytest.raises(UsageError) as caught:
        parse_indices(["0-99999999999"])
    assert str(caught.value) == (
        f"100000000000 indices are too many to write out (--indices). "
        f"What to do: ask for at most {EXPANSION_LIMIT} indices at a time"
    )


@pytest.mark.parametrize(
    ("argument", "what", "remedy"),
    [
        ("-3", "'-3' is negative; indices start at 0", GRAMMAR),
        ("-3-5", "'-3-5' is negative; indices start at 0", GRAMMAR),
        ("2--5", "'2--5' is negative; indices start at 0", GRAMMAR),
        ("9-2", "'9-2' ends before it starts", "write 2-9"),
        ("9:2", "'9:2' ends before it starts", "write 2-9"),
        ("all", "'all' is neither a number nor a range", GRAMMAR),
        ("1,2", "'1,2' is neither a number nor a range", GRAMMAR),
        ("1.5", "'1.5' is neither a number nor a range", GRAMMAR),
        ("1-2-3", "'1-2-3' is neither a number nor a range", GRAMMAR),
        ("1-", "'1-' is neither a number nor a range", GRAMMAR),
        ("\u0663", "'\u0663' is neither a number nor a range", GRAMMAR),
        ("x" * 999, f"'{'x' * 40}...' is neither a number nor a range", GRAMMAR),
        ("1" * 19, f"'{'1' * 19}' has more than 18 digits", "give indices of the data set"),
        ("0-" + "9" * 5000, f"'0-{'9' * 38}...' has more than 18 digits", "give indices of the data set"),
        ("", "no index given", f"{GRAMMAR}, or leave it out to take every sample"),
    ],
)
def test_mistakes_say_what_is_wrong_and_what_to_write(argument, what, remedy):
    with pytest.raises(UsageError) as caught:
        IndexSelection.parse([argument])
    assert str(caught.value) == f"{what} (--indices). What to do: {remedy}"


def test_no_argument_at_all_is_a_mistake():
    with pytest.raises(UsageError, match="no index given"):
        parse_indices([])
