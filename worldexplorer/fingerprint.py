"""Fingerprints: what a stage's result depends on, as one short hash.

A fingerprint covers the stage's settings that change results, its engine and the fingerprint of its input. It is a
hash of canonical JSON, so that it does not depend on the order of keys or on the machine.

Example:
    >>> fingerprint({"seed": 0}) == fingerprint({"seed": 0})
    True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no white space, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they come back from a JSON file: tuples as lists, and so comparable with what a record holds."""
    document: dict[str, Any] = json.loads(canonical_json(values))
    return document


def fingerprint(basis: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of `basis`, in hex."""
    return hashlib.sha256(canonical_json(basis).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`name: old -> new` for every value that differs, nested names joined by dots; null is what is not set."""
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {_short(before)} -> {_short(after)}")
    return found


def _short(value: Any) -> str:
    if value is None:
        return "not set"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
