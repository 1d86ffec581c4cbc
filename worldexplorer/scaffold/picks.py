"""Manual picks: what a person is shown, and what they write down.

In `scaffold/picks/` of the job lie the variants of each corner (`001/g7_s0.png`), one sheet a corner with all of them
(`001_sheet.png`) and `picks.json`:

    {
     "how": "...",
     "variants": "0123456789abcdef",
     "picks": {"001": null, "003": null, "005": null, "007": null}
    }

The person writes a variant's name for each null. `variants` says which variants the picks are about; a file without it
is about whatever lies there.

Example:
    >>> read_picks(data, where="picks.json", names=["g7_s0", "g7_s1"], digest=offer_digest(corners, names))
    {1: 'g7_s1', 3: 'g7_s0', 5: 'g7_s0', 7: 'g7_s1'}
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from worldexplorer import layout
from worldexplorer.context import Question
from worldexplorer.errors import UserError
from worldexplorer.report.contact_sheet import SheetRow, contact_sheet
from worldexplorer.scaffold.corners import CORNERS, CornerView
from worldexplorer.scaffold.kept_pictures import KeptPictures
from worldexplorer.scaffold.variants import Variant, corner_name, kept_name

if TYPE_CHECKING:
    from worldexplorer.engine import Picture

PICKS_FILE = "picks.json"
_HOW = (
    "Write the name of one variant for each corner view, such as g7_s0, then run the same command again. The sheets "
    "beside this file show them all; the folders hold them in full size."
)
_DIGEST_CHARACTERS = 16
_SHOWN_NAMES = 3
_LARGEST = 65_536


def offer_digest(corners: Sequence[CornerView], names: Sequence[str]) -> str:
    """What picks are about: equal for equal variants."""
    text = "\n".join([*(corner.digest for corner in corners), *names])
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def read_picks(data: bytes, *, where: str, names: Sequence[str], digest: str | None) -> dict[int, str]:
    """The names picked so far, by corner.

    Args:
        data: the file's bytes.
        where: it lies, for messages.
        names: of the variants that a corner has.
        digest: of the variants that are there; None where that is not known yet.

    Raises:
        UserError: the file cannot be read, is about other variants, or names what is no variant; tells everything that
            is wrong with it at once.
    """
    document = _document(data, where)
    problems = [f"{key!r} is no key of it" for key in document if key not in ("how", "variants", "picks")]
    picks = document.get("picks")
    if not isinstance(picks, dict):
        raise _wrong("picks is not an object with a corner view a line", where)
    about = document.get("variants")
    if about is not None and digest is not None and about != digest:
        raise UserError(
            f"picks.json is about other variants ({about}) than those that are there ({digest})",
            where=where,
            remedy="look at the sheets again, write the new picks, and set variants to the value named here",
        )
    corners = {corner_name(corner): corner for corner in CORNERS}
    found: dict[int, str] = {}
    for key, value in picks.items():
        if key not in corners:
            problems.append(f"{key!r} is no corner view ({', '.join(corners)} are)")
        elif isinstance(value, str):
            name = value.strip().removeprefix(f"{key}/").removesuffix(".png")
            if name in names:
                found[corners[key]] = name
            else:
                problems.append(f"{key} is {value!r}, which is no variant{_hint(name, names)}")
        elif value is not None:
            problems.append(f"{key} is {json.dumps(value)}, not a name in quotation marks")
    if problems:
        raise _wrong("; ".join(problems), where)
    return found


def question(
    kept: KeptPictures,
    corners: Sequence[CornerView],
    variants: Sequence[Variant],
    cardinals: Mapping[int, Picture],
    picked: Mapping[int, str],
    *,
    title: str,
    label: str,
) -> Question:
    """What to show a person and to ask them, once every variant is kept.

    Args:
        kept: the variants; the sheets are kept with them.
        corners: in order.
        variants: of each corner.
        cardinals: pictures by number.
        picked: what the person has picked already.
        title: the job's name, for the sheets.
        label: the engine's, for the sheets.
    """
    names = [variant.name for variant in variants]
    for corner in corners:
        name = f"{corner_name(corner.number)}_sheet"
        made_from = offer_digest([corner], names)
        if not kept.has(name, made_from=made_from):
            kept.add(name, _sheet(kept, corner, variants, cardinals, title, label), made_from=made_from)
    picks = {corner_name(corner.number): None for corner in corners}
    form = {"how": _HOW, "variants": offer_digest(corners, names), "picks": picks}
    left = len(corners) - len(picked)
    what = f"{len(variants)} variants of each of {len(corners)} corner views wait for a person to pick from"
    if picked:
        what = f"{left} of {len(corners)} corner views have no pick yet"
    return Question(
        shown=kept.folder,
        place=layout.SCAFFOLD_PICKS,
        answer=PICKS_FILE,
        form=(json.dumps(form, indent=1) + "\n").encode(),
        what=what,
        remedy="look at the sheets beside it, write the name of a variant for each corner view into it, and run the "
        "same command again",
    )


def _document(data: bytes, where: str) -> dict[str, Any]:
    if len(data) > _LARGEST:
        raise _wrong(f"it has {len(data):,} bytes", where)
    try:
        document = json.loads(data)
    except UnicodeDecodeError:
        raise _wrong("it is not text", where) from None
    except json.JSONDecodeError as error:
        raise _wrong(f"it is no JSON: {error.msg} in line {error.lineno}, column {error.colno}", where) from None
    except RecursionError:
        raise _wrong("it is no JSON that a person writes", where) from None
    if not isinstance(document, dict):
        raise _wrong("it is not an object with picks", where)
    return document


def _wrong(problem: str, where: str) -> UserError:
    return UserError(
        f"picks.json cannot be used: {problem}",
        where=where,
        remedy="correct it and run the same command again; the variants are kept. Without the file a new one is made",
    )


def _hint(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; perhaps {close[0]} was meant"
    return f" (variants are {', '.join(names[:_SHOWN_NAMES])}{' and so on' if len(names) > _SHOWN_NAMES else ''})"


def _sheet(
    kept: KeptPictures,
    corner: CornerView,
    variants: Sequence[Variant],
    cardinals: Mapping[int, Picture],
    title: str,
    label: str,
) -> Picture:
    """All variants of a corner in one picture, a row a guidance scale, below what they are to fit between."""
    around = [cardinals[corner.left], corner.image, cardinals[corner.right]]
    captions = [corner_name(corner.left), "what these two show", corner_name(corner.right)]
    rows = [SheetRow("From left to right", around, captions)]
    for guidance in dict.fromkeys(variant.guidance for variant in variants):
        row = [variant for variant in variants if variant.guidance == guidance]
        pictures = list(kept.read_all([kept_name(corner.number, variant) for variant in row]))
        title_of_row = "Without guidance" if guidance is None else f"Guidance {guidance:g}"
        rows.append(SheetRow(title_of_row, pictures, [variant.name for variant in row]))
    return np.asarray(contact_sheet(f"{title}  corner view {corner_name(corner.number)}", label, rows))
