"""Reading metadata.json: what it may hold, and what is said of everything else."""

from __future__ import annotations

import json
import os

import pytest

from worldexplorer.dataset import METADATA_SIZE_LIMIT, load_dataset
from worldexplorer.errors import UsageError

CORRECT_ONE = "What to do: correct this place and run the same command again"
CORRECT_ALL = "What to do: correct these places and run the same command again"
NAME_THE_FOLDER = "What to do: let --dataset_dir name the folder that holds metadata.json"
A_PATH = "the path of an image file, relative to the data set, without control characters"
A_FOLDER = "the path of a folder with the eight views, relative to the data set, without control characters"
AN_INDEX = "a whole number from 0 to 999999999, its own for every sample"
A_SCALE = "a finite number above 0, such as 3.0 indoors or 10.0 outdoors"
FOUR_TEXTS = "4 texts (North, West, South, East), each of 1 to 2,000 characters"
NAMES = "some of the trajectories in, left, right, up, each once, as a list or separated by spaces"


def write(folder, document):
    text = document if isinstance(document, str) else json.dumps(document)
    (folder / "metadata.json").write_text(text, encoding="utf-8")
    return folder


def load(folder, document, **options):
    return load_dataset(write(folder, document), **{"confine_paths": False} | options)


def message(folder, document, **options):
    with pytest.raises(UsageError) as caught:
        load(folder, document, **options)
    return str(caught.value)


def sample(**fields):
    return {"samples": [{"index": 0, **fields}]}


def test_everything_the_format_knows_is_read(tmp_path):
    document = {
        "samples": [
            {
                "index": 7,
                "scene_type": "outdoor",
                "category": "temple",
                "theme": "autumn",
                "photorealistic": {"original_path": "p.png", "path": "q.png", "filename": "r.png"},
                "stylized": {"scaffold_path": "scaffolds/7"},
                "scaffold": {"mode": "manual", "custom": True, "prompts": ["N\nth", "W", "S", "E" * 2000]},
                "expansion": {
                    "translation_scaling_factor": 10,
                    "trajectory_order": "in  up",
                    "num_images_for_vggt": 400,
                },
            },
            {"index": 3, "scaffold": {"scaffold_path": "s", "input_image": "i.png"}, "photorealistic": None},
            {"index": 5, "expansion": {"trajectory_order": ["left", "in"], "translation_scaling_factor": 0.5}},
        ]
    }
    dataset = load(tmp_path, document)
    assert [entry.index for entry in dataset.samples] == [3, 5, 7]
    assert dataset.warnings == ()
    assert dataset.where == str(tmp_path / "metadata.json")
    third, fifth, seventh = dataset.samples
    assert seventh.model_dump() == document["samples"][0] | {
        "photorealistic": {"original_path": "p.png", "path": "q.png", "filename": "r.png", "scaffold_path": None},
        "stylized": {"original_path": None, "path": None, "filename": None, "scaffold_path": "scaffolds/7"},
        "scaffold": document["samples"][0]["scaffold"] | {"scaffold_path": None, "input_image": None},
        "expansion": {
            "translation_scaling_factor": 10.0,
            "trajectory_order": ["in", "up"],
            "num_images_for_vggt": 400,
        },
    }
    assert third.scaffold.scaffold_path == "s" and third.photorealistic is None
    assert fifth.expansion.trajectory_order == ["left", "in"]


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "metadata.json").write_bytes(b'\xef\xbb\xbf{"samples": [{"index": 1, "category": "caf\xc3\xa9"}]}')
    assert load_dataset(tmp_path, False).samples[0].category == "caf\u00e9"


def test_the_folder_is_not_there(tmp_path):
    missing = tmp_path / "nowhere"
    with pytest.raises(UsageError) as caught:
        load_dataset(missing, False)
    assert str(caught.value) == f"Dataset directory not found: it does not exist ({missing}). {NAME_THE_FOLDER}"
    path = write(tmp_path, sample()) / "metadata.json"
    with pytest.raises(UsageError) as caught:
        load_dataset(path, False)
    assert str(caught.value) == f"Dataset directory not found: it is not a folder ({path}). {NAME_THE_FOLDER}"


def test_the_file_is_not_there(tmp_path):
    path = tmp_path / "metadata.json"
    with pytest.raises(UsageError) as caught:
        load_dataset(tmp_path, False)
    assert str(caught.value) == (
        f"the data set's metadata.json is not there: it does not exist ({path}). {NAME_THE_FOLDER}"
    )
    os.mkfifo(path)  # opening it would wait for ever
    with pytest.raises(UsageError) as caught:
        load_dataset(tmp_path, False)
    assert (
        str(caught.value) == f"the data set's metadata.json is not there: it is not a file ({path}). {NAME_THE_FOLDER}"
    )


def test_the_file_is_too_large(tmp_path):
    path = tmp_path / "metadata.json"
    with path.open("wb") as file:
        file.truncate(METADATA_SIZE_LIMIT)
    with pytest.raises(UsageError) as caught:
        load_dataset(tmp_path, False)
    assert str(caught.value) == (
        f"metadata.json has 67,108,864 bytes; it must stay under 67,108,864 ({path}). "
        "What to do: split the data set into several folders"
    )


@pytest.mark.parametrize(
    ("text", "what", "place", "remedy"),
    [
        (
            '{"samples": [\n  {"index": 0},\n]}',
            "metadata.json is not JSON: Expecting value",
            ", line 3, column 1",
            "correct the text there; often a comma or a quotation mark is missing or one too many",
        ),
        (
            "",
            "metadata.json is not JSON: Expecting value",
            ", line 1, column 1",
            "correct the text there; often a comma or a quotation mark is missing or one too many",
        ),
        ("[" * 100_000, "metadata.json is nested too deeply", "", "remove the needless brackets"),
        (
            '{"samples": [{"index": %s}]}' % ("1" * 5000),
            "metadata.json holds a number of thousands of digits",
            "",
            "write a shorter number",
        ),
    ],
    ids=["comma", "empty", "deep", "digits"],
)
def test_the_file_is_not_json(tmp_path, text, what, place, remedy):
    where = f"{tmp_path / 'metadata.json'}{place}"
    assert message(tmp_path, text) == f"{what} ({where}). What to do: {remedy}"


def test_the_file_is_not_utf8(tmp_path):
    path = tmp_path / "metadata.json"
    path.write_bytes(b'{"samples": "caf\xe9"}')
    with pytest.raises(UsageError) as caught:
        load_dataset(tmp_path, False)
    assert str(caught.value) == f"metadata.json is not UTF-8 text ({path}, byte 17). What to do: save it as UTF-8"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([1, 2], 'the file is [1, 2]: expected an object with a list "samples"'),
        ("null", 'the file is null: expected an object with a list "samples"'),
        ({}, 'samples is missing: expected a list of at least one sample, each an object such as {"index": 0}'),
        (
            {"samples": []},
            'samples is an empty list: expected a list of at least one sample, each an object such as {"index": 0}',
        ),
        (
            {"samples": {"0": {"index": 0}}},
            'samples is an object: expected a list of at least one sample, each an object such as {"index": 0}',
        ),
        (
            {"samples": [{"index": 0}, 5]},
            'samples[1] is 5: expected a list of at least one sample, each an object such as {"index": 0}',
        ),
        ({"samples": [{"category": "x"}]}, f"samples[0].index is missing: expected {AN_INDEX}"),
        ({"samples": [{"index": True}]}, f"samples[0].index is true: expected {AN_INDEX}"),
        ({"samples": [{"index": True}, {"index": 1}]}, f"samples[0].index is true: expected {AN_INDEX}"),
        ({"samples": [{"index": [1]}]}, f"samples[0].index is [1]: expected {AN_INDEX}"),
        ({"samples": [{"index": "3"}]}, f'samples[0].index is "3": expected {AN_INDEX}'),
        ({"samples": [{"index": 3.0}]}, f"samples[0].index is 3.0: expected {AN_INDEX}"),
        ({"samples": [{"index": None}]}, f"samples[0].index is null: expected {AN_INDEX}"),
        ({"samples": [{"index": -1}]}, f"samples[0].index is -1: expected {AN_INDEX}"),
        ({"samples": [{"index": 10**9}]}, f"samples[0].index is 1000000000: expected {AN_INDEX}"),
        (
            {"samples": [{"index": 4}, {"index": 5}, {"index": 4}]},
            "samples[2].index is 4, which samples[0] has already: expected an index of its own for every sample",
        ),
        (
            sample(photorealistic="photo.png"),
            'samples[0].photorealistic is "photo.png": expected an object such as {"original_path": "photo.png"}',
        ),
        (
            sample(stylized=["a.png"]),
            'samples[0].stylized is ["a.png"]: expected an object such as {"original_path": "painting.png"}',
        ),
        (
            sample(photorealistic={"original_path": 7}),
            f"samples[0].photorealistic.original_path is 7: expected {A_PATH}",
        ),
        (sample(photorealistic={"path": ""}), f'samples[0].photorealistic.path is "": expected {A_PATH}'),
        (
            sample(stylized={"filename": "a\x00.png"}),
            (
                'samples[0].stylized.filename is "a\\u0000.png": '
                "expected the name of an image file in the variant's folder"
            ),
        ),
        (
            sample(scaffold={"input_image": "a\x1b[2J.png"}),
            f'samples[0].scaffold.input_image is "a\\u001b[2J.png": expected {A_PATH}',
        ),
        (
            sample(scaffold={"scaffold_path": "a\n"}),
            f'samples[0].scaffold.scaffold_path is "a\\n": expected {A_FOLDER}',
        ),
        (
            sample(photorealistic={"path": "a" * 4097}),
            f"samples[0].photorealistic.path is a text of 4,097 characters: expected {A_PATH}",
        ),
        (
            '{"samples": [{"index": 0, "stylized": {"path": "\\ud800"}}]}',
            f'samples[0].stylized.path is "\\ud800": expected {A_PATH}',
        ),
        (sample(theme=3), "samples[0].theme is 3: expected one line of at most 2,000 characters"),
        (
            sample(category="a\nb"),
            'samples[0].category is "a\\nb": expected one line of at most 2,000 characters',
        ),
        (
            sample(scene_type="s" * 2001),
            (
                "samples[0].scene_type is a text of 2,001 characters: "
                'expected "indoor", "outdoor" or one line of at most 2,000 characters'
            ),
        ),
        (
            sample(scaffold={"mode": "quick"}),
            'samples[0].scaffold.mode is "quick": expected "fast", "automatic" or "manual"',
        ),
        (sample(scaffold={"custom": 1}), "samples[0].scaffold.custom is 1: expected true or false"),
        (
            sample(scaffold={"prompts": ["a", "b", "c"]}),
            f'samples[0].scaffold.prompts is ["a", "b", "c"]: expected {FOUR_TEXTS}',
        ),
        (
            sample(scaffold={"prompts": ["a" * 99] * 5}),
            f"samples[0].scaffold.prompts is a list of 5: expected {FOUR_TEXTS}",
        ),
        (
            sample(scaffold={"prompts": ["a", "b", " \n", "d"]}),
            f'samples[0].scaffold.prompts[2] is " \\n": expected {FOUR_TEXTS}',
        ),
        (
            sample(scaffold={"prompts": ["a", "b", "c", "d" * 100_000]}),
            f"samples[0].scaffold.prompts[3] is a text of 100,000 characters: expected {FOUR_TEXTS}",
        ),
        (
            sample(expansion={"translation_scaling_factor": 0}),
            f"samples[0].expansion.translation_scaling_factor is 0: expected {A_SCALE}",
        ),
        (
            sample(expansion={"translation_scaling_factor": "3"}),
            f'samples[0].expansion.translation_scaling_factor is "3": expected {A_SCALE}',
        ),
        (
            sample(expansion={"translation_scaling_factor": True}),
            f"samples[0].expansion.translation_scaling_factor is true: expected {A_SCALE}",
        ),
        (
            sample(expansion={"translation_scaling_factor": float("nan")}),
            f"samples[0].expansion.translation_scaling_factor is NaN: expected {A_SCALE}",
        ),
        (
            sample(expansion={"translation_scaling_factor": float("inf")}),
            f"samples[0].expansion.translation_scaling_factor is Infinity: expected {A_SCALE}",
        ),
        (
            '{"samples": [{"index": 0, "expansion": {"translation_scaling_factor": 1e999}}]}',
            f"samples[0].expansion.translation_scaling_factor is Infinity: expected {A_SCALE}",
        ),
        (
            sample(expansion={"num_images_for_vggt": 0}),
            "samples[0].expansion.num_images_for_vggt is 0: expected a whole number from 1 to 400",
        ),
        (
            sample(expansion={"num_images_for_vggt": 401}),
            "samples[0].expansion.num_images_for_vggt is 401: expected a whole number from 1 to 400",
        ),
        (
            sample(expansion={"trajectory_order": "in down"}),
            f'samples[0].expansion.trajectory_order is "in down": expected {NAMES}',
        ),
        (
            sample(expansion={"trajectory_order": ["in", "in"]}),
            f'samples[0].expansion.trajectory_order is ["in", "in"]: expected {NAMES}',
        ),
        (
            sample(expansion={"trajectory_order": ""}),
            f'samples[0].expansion.trajectory_order is "": expected {NAMES}',
        ),
        (
            sample(expansion={"trajectory_order": ["in", 3]}),
            (
                "samples[0].expansion.trajectory_order[1] is 3: "
                "expected trajectory names, each once, as a list or separated by spaces"
            ),
        ),
        (
            sample(stylized={"path": "a.png"}, scaffold={"scaffold_path": "s"}),
            (
                "samples[0].scaffold.scaffold_path stands beside stylized and does not say whose views it holds: "
                "put it inside, as samples[0].stylized.scaffold_path"
            ),
        ),
        (
            sample(photorealistic={"path": "a"}, stylized={"path": "b"}, scaffold={"scaffold_path": "s"}),
            (
                "samples[0].scaffold.scaffold_path stands beside photorealistic and stylized and does not say whose "
                "views it holds: put it inside, as samples[0].photorealistic.scaffold_path"
            ),
        ),
    ],
)
def test_one_mistake_names_its_place_and_what_is_expected(tmp_path, document, problem):
    assert message(tmp_path, document) == f"{problem} ({tmp_path / 'metadata.json'}). {CORRECT_ONE}"


def test_all_mistakes_are_named_at_once(tmp_path):
    document = {"samples": [{"index": 1, "theme": 5}, {"index": 1}, {"expansion": {"num_images_for_vggt": "many"}}]}
    assert message(tmp_path, document) == (
        "metadata.json has 4 problems:\n"
        "  samples[0].theme is 5: expected one line of at most 2,000 characters\n"
        f"  samples[2].index is missing: expected {AN_INDEX}\n"
        '  samples[2].expansion.num_images_for_vggt is "many": expected a whole number from 1 to 400\n'
        "  samples[1].index is 1, which samples[0] has already: expected an index of its own for every sample\n"
        f" ({tmp_path / 'metadata.json'}). {CORRECT_ALL}"
    )


def test_very_many_mistakes_are_counted(tmp_path):
    text = message(tmp_path, {"samples": [{"index": -1} for _ in range(1500)]})
    lines = text.splitlines()
    # 1,500 negative indices, of which 1,499 are repetitions as well
    assert lines[0] == "metadata.json has 2,999 problems:"
    assert lines[1:11] == [f"  samples[{k}].index is -1: expected {AN_INDEX}" for k in range(10)]
    assert lines[11:] == ["  ... and 2,989 more", f" ({tmp_path / 'metadata.json'}). {CORRECT_ALL}"]


def test_other_trajectories_are_known_where_the_caller_says_so(tmp_path):
    document = sample(expansion={"trajectory_order": "spiral"})
    dataset = load(tmp_path, document, trajectory_names=["spiral", "dive"])
    assert dataset.samples[0].expansion.trajectory_order == ["spiral"]
    assert "expected some of the trajectories spiral, dive, each once" in message(
        tmp_path, sample(expansion={"trajectory_order": "in"}), trajectory_names=["spiral", "dive"]
    )


def test_unknown_keys_are_warned_about_once_each(tmp_path):
    samples = [{"index": k, "author": "x", "expansion": {"translation_scale": 3}} for k in range(1200)]
    samples[1]["stylized"] = {"original path": "p.png", "path": "p.png"}
    samples[2]["scaffold"] = {"\x1b[31m": {"deep": 1}}
    dataset = load(tmp_path, {"version": 2, "samples": samples})
    assert dataset.warnings == (
        "unknown key version ignored (at version)",
        "unknown key samples[].author ignored (1,200 times, first at samples[0].author)",
        (
            "unknown key samples[].expansion.translation_scale ignored "
            "(1,200 times, first at samples[0].expansion.translation_scale)"
        ),
        'unknown key samples[].stylized["original path"] ignored (at samples[1].stylized["original path"])',
        'unknown key samples[].scaffold["\\u001b[31m"] ignored (at samples[2].scaffold["\\u001b[31m"])',
    )


def test_very_many_unknown_keys_stay_a_page(tmp_path):
    dataset = load(tmp_path, {"samples": [{"index": k, f"key{k}": 1} for k in range(50)]})
    assert len(dataset.warnings) == 21
    assert dataset.warnings[-1] == "... and warnings of 30 more kinds"


def test_a_variant_that_says_nothing_is_warned_about(tmp_path):
    dataset = load(tmp_path, {"samples": [{"index": 0, "stylized": {}}, {"index": 1, "stylized": {"path": None}}]})
    assert dataset.warnings == (
        "stylized without original_path, path, filename or scaffold_path ignored (2 times, first at samples[0])",
    )
