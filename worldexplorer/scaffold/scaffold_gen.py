"""scaffold_gen: four views from text, the first of them the photo where there is one, and the corners filled in.

The cardinal views 000, 002, 004 and 006 are pictures of their prompts. Each corner view takes from its two neighbours
what they show of it and has the rest made by an inpainting model: once (`fast`), or many times, of which a scorer
(`automatic`) or a person (`manual`) picks one. A person is asked by leaving the stage with a question; the same command
goes on when the answer is there.

Every picture is kept as soon as it is made (:mod:`worldexplorer.scaffold.kept_pictures`).

Example:
    >>> made = scaffold_gen_views(context)
    >>> isinstance(made, Question)      # manual, and nobody has picked yet
    True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldexplorer import layout
from worldexplorer.context import Question, StageContext
from worldexplorer.engine import InpaintRequest, Picture, PromptScorer, TextToImageRequest
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.photo import load_photo, photo_hfov, view_zero
from worldexplorer.pictures import is_blank, write_picture
from worldexplorer.progress import Progress, part
from worldexplorer.scaffold.corner_choice import CornerChoice, best_by_score, write_choices
from worldexplorer.scaffold.corners import CARDINALS, CORNERS, CornerView, corner_view, given_digest, grown
from worldexplorer.scaffold.kept_pictures import KeptPictures
from worldexplorer.scaffold.picks import offer_digest, question, read_picks
from worldexplorer.scaffold.poses import VIEW_COUNT, scaffold_poses
from worldexplorer.scaffold.prompts import NOT_IN_A_CORNER, ScaffoldPrompts, inpaint_prompt, scaffold_prompts
from worldexplorer.scaffold.scaffold_file import Source
from worldexplorer.scaffold.variants import corner_name, kept_name, make_variants, variants_of
from worldexplorer.scaffold.views import ScaffoldViews
from worldexplorer.seeds import derive_seed

if TYPE_CHECKING:
    from worldexplorer.scaffold.stage import ScaffoldSettings

_SCORED_AT_ONCE = 64
_CARDINALS_SHARE, _CORNERS_SHARE = 0.25, 0.95
"""Of the stage's time, where the cardinal views end and where the corners do."""


def scaffold_gen_views(context: StageContext[ScaffoldSettings]) -> ScaffoldViews | Question:
    """Make the views, or ask which variants are to become the corner views.

    Raises:
        UserError: the photo or the picks cannot be used, or the engine lacks a model.
    """
    return _ScaffoldGen(context).run()


class _ScaffoldGen:
    """One job's work."""

    def __init__(self, context: StageContext[ScaffoldSettings]) -> None:
        settings = context.settings
        assert settings.text_to_image is not None
        assert settings.inpaint is not None
        assert settings.corner_seeds is not None
        self._context = context
        self._mode = settings.mode
        self._text_to_image = settings.text_to_image
        self._inpaint = settings.inpaint
        self._variants = variants_of(settings.guidances, settings.corner_seeds)
        self._prompts: ScaffoldPrompts = scaffold_prompts(
            settings.prompts, settings.theme, has_photo=context.job.image is not None
        )
        self._size = context.engine.image_size
        self._views = KeptPictures(context.work / "views", context.work / "marks" / "views", context.keep)
        self._kept = KeptPictures(context.work / "variants", context.work / "marks" / "variants", context.keep)
        self._metrics: dict[str, object] = {}
        self._first_source: Source = "generated"

    def run(self) -> ScaffoldViews | Question:
        """The views, or a question."""
        names = [variant.name for variant in self._variants]
        if self._context.answer is not None:  # what is wrong with it is told before anything is made
            read_picks(self._context.answer.data, where=self._context.answer.where, names=names, digest=None)
        cardinals = self._cardinal_views(part(self._context.progress, 0.0, _CARDINALS_SHARE))
        corners = [corner_view(number, cardinals) for number in CORNERS]
        spans = np.linspace(_CARDINALS_SHARE, _CORNERS_SHARE, len(corners) + 1)
        for corner, start, end in zip(corners, spans[:-1], spans[1:], strict=True):
            make_variants(
                self._context.engine,
                self._inpaint,
                self._kept,
                corner,
                self._variants,
                inpaint_prompt(self._inpaint, self._prompts.beside(corner.left, corner.right)),
                self._context.seed,
                part(self._context.progress, float(start), float(end)),
            )
        choices = self._choices(corners, cardinals)
        if isinstance(choices, Question):
            return choices
        return self._finished(cardinals, corners, choices)

    def _cardinal_views(self, progress: Progress) -> dict[int, Picture]:
        """The views 000, 002, 004 and 006."""
        first, covered = self._photo_view()
        wanted = [number for number in CARDINALS if number or first is None]
        missing = [number for number in wanted if not self._views.has(corner_name(number), made_from="")]
        if missing:
            requests = [
                TextToImageRequest(
                    prompt=self._prompts.pictures[number // 2],
                    seed=derive_seed(self._context.seed, "scaffold", "view", corner_name(number)),
                    size=self._size,
                )
                for number in missing
            ]
            made = self._context.engine.text_to_image(self._text_to_image).generate(requests, progress)
            for number, picture in zip(missing, made, strict=True):
                if is_blank(picture[None])[0]:
                    raise DefectError(
                        f"scaffold view {corner_name(number)} is of one colour",
                        where=self._text_to_image,
                        remedy="the model failed without saying so; run it again, and report it if it stays",
                    )
                self._views.add(corner_name(number), picture, made_from="")
        cardinals = {number: self._views.read(corner_name(number)) for number in wanted}
        if first is not None:
            cardinals[0] = first if covered.all() else self._completed(first, covered, progress)
        return cardinals

    def _photo_view(self) -> tuple[Picture | None, NDArray[np.bool_]]:
        """View 000 of the photo, and what of it the photo covers; None without a photo."""
        job, hfov = self._context.job, self._context.settings.hfov
        if job.image is None:
            return None, np.zeros((self._size, self._size), dtype=np.bool_)
        photo = load_photo(job.image)
        first, covered = view_zero(photo, hfov, self._size)
        self._first_source = "input" if covered.all() else "input+generated"
        self._metrics["photo_hfov_deg"] = round(photo_hfov(photo.shape[1], photo.shape[0], hfov), 4)
        self._metrics["photo_coverage"] = round(float(covered.mean()), 4)
        return first, covered

    def _completed(self, first: Picture, covered: NDArray[np.bool_], progress: Progress) -> Picture:
        """A photo that does not fill view 000, with its rim made."""
        mask = grown(~covered)
        made_from = given_digest(first, mask)
        if not self._views.has("000", made_from=made_from):
            request = InpaintRequest(
                image=first,
                mask=mask,
                prompt=inpaint_prompt(self._inpaint, self._prompts.subjects[:1]),
                negative_prompt=NOT_IN_A_CORNER,
                guidance=self._variants[0].scale,
                seed=derive_seed(self._context.seed, "scaffold", "view", "000"),
            )
            (made,) = self._context.engine.inpaint(self._inpaint).inpaint([request], progress)
            # The photo stays as it is up to its edge: it is what the world is about.
            view = np.where(covered[..., None], first, made)
            self._views.add("000", view, made_from=made_from)
        return self._views.read("000")

    def _choices(
        self, corners: Sequence[CornerView], cardinals: Mapping[int, Picture]
    ) -> list[CornerChoice] | Question:
        """Which variant becomes which corner view, or who is to say."""
        if self._mode == "manual":
            return self._picked(corners, cardinals)
        if self._mode == "fast":
            return [CornerChoice(corner.number, self._variants, self._variants[0]) for corner in corners]
        scorer = self._context.engine.prompt_scorer()
        progress = part(self._context.progress, _CORNERS_SHARE, 1.0)
        choices = []
        for place, corner in enumerate(corners):
            span = part(progress, place / len(corners), (place + 1) / len(corners))
            texts = self._prompts.beside(corner.left, corner.right)
            scores = self._scores(scorer, corner, texts, span)
            choices.append(best_by_score(corner.number, self._variants, scores))
        self._metrics["clip_score"] = {corner_name(one.corner): one.score for one in choices}
        return choices

    def _scores(
        self, scorer: PromptScorer, corner: CornerView, texts: Sequence[str], progress: Progress
    ) -> NDArray[np.float32]:
        """[N, 2] of a corner's variants, a batch at a time: there may be thousands."""
        names = [kept_name(corner.number, variant) for variant in self._variants]
        found = []
        for start in range(0, len(names), _SCORED_AT_ONCE):
            batch = names[start : start + _SCORED_AT_ONCE]
            span = part(progress, start / len(names), (start + len(batch)) / len(names))
            found.append(scorer.score(self._kept.read_all(batch), texts, span))
        return np.concatenate(found)

    def _picked(self, corners: Sequence[CornerView], cardinals: Mapping[int, Picture]) -> list[CornerChoice] | Question:
        answer, by_name = self._context.answer, {variant.name: variant for variant in self._variants}
        picks: dict[int, str] = {}
        if answer is not None:
            digest = offer_digest(corners, list(by_name))
            picks = read_picks(answer.data, where=answer.where, names=list(by_name), digest=digest)
        if len(picks) < len(corners):
            job, label = layout.job_folder(self._context.job.id), self._context.engine.label
            return question(self._kept, corners, self._variants, cardinals, picks, title=job, label=label)
        return [CornerChoice(corner.number, self._variants, chosen=by_name[picks[corner.number]]) for corner in corners]

    def _finished(
        self, cardinals: Mapping[int, Picture], corners: Sequence[CornerView], choices: Sequence[CornerChoice]
    ) -> ScaffoldViews:
        folder = self._context.out / layout.GENERATED_VIEWS
        folder.mkdir(parents=True, exist_ok=True)
        pictures = dict(cardinals)
        for corner, choice in zip(corners, choices, strict=True):
            name = corner_name(corner.number)
            write_picture(folder / f"{name}_given.png", corner.image)
            write_picture(folder / f"{name}_mask.png", corner.mask.astype(np.uint8) * np.uint8(255))
            pictures[corner.number] = self._kept.read(kept_name(corner.number, choice.chosen))
        for number in CARDINALS:
            write_picture(folder / f"{corner_name(number)}.png", pictures[number])
        self._write_choices(corners, choices)
        self._metrics["corner_variants"] = {corner_name(one.corner): one.chosen.name for one in choices}
        sources: list[Source] = ["inpainted" if number in CORNERS else "generated" for number in range(VIEW_COUNT)]
        sources[0] = self._first_source
        return ScaffoldViews(
            images=np.stack([pictures[number] for number in range(VIEW_COUNT)]),
            c2w=scaffold_poses(),
            intrinsics=np.tile(normalised_intrinsics(), (VIEW_COUNT, 1, 1)),
            sources=tuple(sources),
            method=self._context.settings.method,
            metrics=self._metrics,
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        if self._variants[0].guidance is not None or len(self._variants) == 1:
            return ()
        return (
            f"{self._inpaint} takes no guidance scale: there are {len(self._variants)} variants a corner, one a seed",
        )

    def _write_choices(self, corners: Sequence[CornerView], choices: Sequence[CornerChoice]) -> None:
        texts = {}
        for corner in corners:
            left, right = self._prompts.beside(corner.left, corner.right)
            prompt = inpaint_prompt(self._inpaint, (left, right))
            texts[corner.number] = {"prompt": prompt, "neighbours": {"left": left, "right": right}}
        views = zip(CARDINALS, self._prompts.pictures, strict=True)
        facts = {
            "mode": self._mode,
            "text_to_image": self._text_to_image,
            "inpaint": self._inpaint,
            # A photo has taken the place of its prompt.
            "prompts": {
                corner_name(number): prompt for number, prompt in views if number or self._first_source == "generated"
            },
        }
        write_choices(self._context.out / layout.SCAFFOLD_CORNERS, choices, texts, self._context.seed, facts)
