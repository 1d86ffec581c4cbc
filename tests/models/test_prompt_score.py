"""CLIP scores: the library's own processing as the check, and every way it can fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipelines import save_clip

from worldexplorer.engine import PromptScorer
from worldexplorer.errors import Cancelled, DefectError, UserError
from worldexplorer.models.prompt_score import PromptScoreModel, network_pixels
from worldexplorer.models.residents import Residents
from worldexplorer.progress import silent

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3), dtype=np.uint8)
TEXTS = ["a harbour", "a pier", "a wood"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("clip")
    save_clip(place)
    return place


@pytest.fixture
def scorer(folder: Path) -> PromptScorer:
    return PromptScoreModel(lambda: folder, Residents(), CPU)


def test_scores_are_the_cosines_of_the_librarys_features(folder: Path, scorer: PromptScorer) -> None:
    from transformers import AutoTokenizer, CLIPModel

    found = scorer.score(IMAGES, TEXTS, silent)
    assert found.shape == (20, 3)
    assert found.dtype == np.float32
    model, tokenizer = CLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        for number in (0, 17):
            pixels = torch.from_numpy(network_pixels(IMAGES[number], 32))[None]
            for place, text in enumerate(TEXTS):
                answer = model(pixel_values=pixels, **tokenizer([text], return_tensors="pt"))
                expected = torch.nn.functional.cosine_similarity(answer.image_embeds, answer.text_embeds)
                assert found[number, place] == pytest.approx(float(expected), abs=1e-5)


def test_pixels_are_what_the_librarys_own_processor_makes_of_the_first_size() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = IMAGES[0]
    first = Image.fromarray(picture).resize((299, 299), Image.Resampling.BILINEAR)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    expected = np.asarray(processor(first, return_tensors="np")["pixel_values"][0])
    assert np.abs(network_pixels(picture, 224) - expected).max() < 1e-5


def test_a_text_that_is_too_long_is_cut(scorer: PromptScorer) -> None:
    long = "a harbour " * 60
    one, other = scorer.score(IMAGES[:1], [long, long + "and a pier"], silent)[0]
    assert one == other


def test_a_text_does_not_depend_on_the_others(scorer: PromptScorer) -> None:
    together = scorer.score(IMAGES[:2], ["a pier", "a very much longer text about a harbour"], silent)
    alone = scorer.score(IMAGES[:2], ["a pier"], silent)
    assert np.abs(together[:, :1] - alone).max() < 1e-5


def test_progress_counts_pictures_and_can_cancel(scorer: PromptScorer) -> None:
    heard = []
    scorer.score(IMAGES, TEXTS, lambda done, total, what: heard.append((done, total)))
    assert heard == [(16, 20), (20, 20)]

    def stop(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        scorer.score(IMAGES, TEXTS, stop)


def test_a_score_that_is_not_finite_is_a_defect(folder: Path) -> None:
    residents = Residents()
    scorer = PromptScoreModel(lambda: folder, residents, CPU)
    scorer.score(IMAGES[:1], TEXTS, silent)
    model, _ = residents.get("CLIP for comparing pictures with words", 0, lambda: None)
    with torch.no_grad():
        model.visual_projection.weight.fill_(torch.nan)
    with pytest.raises(DefectError, match="not finite"):
        scorer.score(IMAGES[:1], TEXTS, silent)


def test_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights of CLIP.*cannot be loaded.*worldexplorer weights verify"):
        PromptScoreModel(lambda: tmp_path, Residents(), CPU).score(IMAGES, TEXTS, silent)
