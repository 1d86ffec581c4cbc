"""The texts that scaffold_gen makes its pictures from, and those that it judges them by.

A sample's own four prompts (North, West, South, East) win; without them its theme, or the command's, is put into four
rooms. Own prompts are followed by words that keep the camera level, without which the views do not meet at the horizon;
the themed ones are published without them.

Example:
    >>> prompts = scaffold_prompts(None, "castle", has_photo=False)
    >>> prompts.pictures[1]
    'office of a castle'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worldexplorer.dataset import Job
from worldexplorer.errors import UserError

EYE_LEVEL = "with the horizon line centered, shot from an eye-level, straight-on camera, with no tilt"
ROOMS = ("kitchen", "office", "bedroom", "living room")
"""North, West, South and East of a theme."""
BLEND = "blend"
NOT_IN_A_CORNER = (
    "two images, text, sun, lines, dividers, advertisement, ad, poster, banner, inline, person, people, phone"
)
"""What the published system keeps out of corner views."""
_TRAINED_TO_BLEND = frozenset({"sd2-inpainting"})


@dataclass(frozen=True)
class ScaffoldPrompts:
    """Four texts a purpose, for the views 000, 002, 004 and 006.

    Attributes:
        pictures: what the views are made from.
        subjects: what they show, in fewer words: what a scorer compares pictures with.
    """

    pictures: tuple[str, ...]
    subjects: tuple[str, ...]

    def beside(self, left: int, right: int) -> tuple[str, str]:
        """The subjects of two cardinal views."""
        return self.subjects[left // 2], self.subjects[right // 2]


def scaffold_prompts(own: Sequence[str] | None, theme: str | None, *, has_photo: bool) -> ScaffoldPrompts:
    """The prompts of a job.

    Args:
        own: the sample's four, or None.
        theme: of the sample or of the command; looked at where there are no own ones.
        has_photo: whether view 000 is a photo: a theme's kitchen is then not in the North.
    """
    if own is not None:
        return ScaffoldPrompts(tuple(f"{prompt}, {EYE_LEVEL}" for prompt in own), tuple(own))
    assert theme is not None, "a job without any text is refused before it runs"
    rooms = tuple(f"{room} of a {theme}" for room in ROOMS)
    return ScaffoldPrompts(rooms, (theme, *rooms[1:]) if has_photo else rooms)


def inpaint_prompt(model: str, beside: Sequence[str]) -> str:
    """What a corner view is made from: the published word where the model goes by the picture, else its neighbours."""
    return BLEND if model in _TRAINED_TO_BLEND else " and ".join(beside)


def require_texts(job: Job, prompts: Sequence[str] | None, theme: str | None) -> None:
    """Refuse a job that says nothing about what it is to show; UserError."""
    if prompts is None and job.scaffold.custom:
        raise UserError(
            "scaffold.custom is true, and there are no prompts",
            where=f"sample {job.index}",
            remedy="give four texts as scaffold.prompts (North, West, South, East), or leave scaffold.custom out",
        )
    if prompts is None and theme is None:
        raise UserError(
            "no prompts: scaffold_gen makes views from text, and the sample has neither prompts nor a theme",
            where=f"sample {job.index}",
            remedy="give it scaffold.prompts (four texts: North, West, South, East) or a theme, give all samples one "
            "with --default_theme, or take --scaffold_method single_image",
        )
