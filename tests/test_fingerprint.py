from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.fingerprint import as_json, canonical_json, differences, fingerprint

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
)
documents = st.dictionaries(st.text(), values, max_size=4)
few = settings(max_examples=40)


def test_the_hash_is_that_of_the_text() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "ä"}) == '{"a":"\\u00e4","b":[1,2.5,null]}'
    assert fingerprint({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


@few
@given(documents)
def test_order_of_keys_does_not_count(document: dict[str, object]) -> None:
    backwards = dict(reversed(document.items()))
    assert fingerprint(document) == fingerprint(backwards)


@few
@given(documents, st.text(), scalars)
def test_a_changed_value_changes_the_fingerprint_and_is_named(
    document: dict[str, object], key: str, value: object
) -> None:
    changed = {**document, key: ["changed", value]}
    assert (fingerprint(changed) == fingerprint(document)) == (changed == document)
    assert len(differences(document, changed)) == (changed != document)


@few
@given(documents)
def test_a_document_comes_back_from_a_file_as_itself(document: dict[str, object]) -> None:
    assert as_json(document) == document
    assert fingerprint(as_json(document)) == fingerprint(document)


def test_tuples_are_lists() -> None:
    assert as_json({"cfg": (4.0, 2.0)}) == {"cfg": [4.0, 2.0]}
    assert fingerprint({"cfg": (4.0, 2.0)}) == fingerprint({"cfg": [4.0, 2.0]})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"a": value})


def test_differences_name_both_values() -> None:
    old = {"seed": 0, "settings": {"frames": 80, "cfg": [4.0, 2.0]}, "gone": True}
    new = {"seed": 1, "settings": {"frames": 80, "cfg": [3.0, 2.0]}, "came": "x"}
    assert differences(old, new) == [
        'came: not set -> "x"',
        "gone: true -> not set",
        "seed: 0 -> 1",
        "settings.cfg: [4.0, 2.0] -> [3.0, 2.0]",
    ]
    assert differences(old, old) == []


def test_long_values_are_cut() -> None:
    (line,) = differences({"a": "x" * 100}, {"a": 1})
    assert line == f'a: "{"x" * 56}... -> 1'
