"""Whatever is wrong with the data set or the command is one clear line; a bad picture is its own job's failure."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from e2e.program import Program, landscape, write_dataset
from PIL import Image

from worldexplorer.cli import main

# ------------------------------------------------------------ the structure: one line, exit 2, nothing written


def sample(**more):
    return {"index": 0, "photorealistic": {"path": "0.png"}, **more}


STRUCTURE = {
    "not JSON": ('{"samples": [', "not JSON", "line 1"),
    "not text": (b"\xff\xfe\x00", "not UTF-8", "byte 1"),
    "no object": ("[]", "expected", "metadata.json"),
    "no samples": ("{}", "samples", "metadata.json"),
    "empty samples": ({"samples": []}, "samples", "at least one"),
    "samples of another kind": ({"samples": {"0": {}}}, "samples", "list"),
    "no index": ({"samples": [{"photorealistic": {"path": "0.png"}}]}, "samples[0].index", "whole number"),
    "index true": ({"samples": [sample(index=True)]}, "samples[0].index is true", "whole number"),
    "index negative": ({"samples": [sample(index=-1)]}, "samples[0].index is -1", "whole number"),
    "index twice": ({"samples": [sample(), sample()]}, "samples[1].index", "0"),
    "variant a string": ({"samples": [sample(stylized="a.png")]}, "samples[0].stylized", "an object"),
    "path a number": ({"samples": [sample(stylized={"path": 3})]}, "samples[0].stylized.path is 3", "path of an image"),
    "path with NUL": ({"samples": [sample(stylized={"path": "a\0.png"})]}, "samples[0].stylized.path", "control"),
    "three prompts": ({"samples": [sample(scaffold={"prompts": ["a"] * 3})]}, "samples[0].scaffold.prompts", "4 texts"),
    "an empty prompt": (
        {"samples": [sample(scaffold={"prompts": ["a", "b", "c", " "]})]},
        "samples[0].scaffold.prompts[3]",
        "4 texts",
    ),
    "a prompt of 100 kB": (
        {"samples": [sample(scaffold={"prompts": ["a", "b", "c", "d" * 100_000]})]},
        "samples[0].scaffold.prompts[3]",
        "2,000",
    ),
    "factor zero": (
        {"samples": [sample(expansion={"translation_scaling_factor": 0})]},
        "samples[0].expansion.translation_scaling_factor is 0",
        "above 0",
    ),
    "factor infinite": (
        '{"samples": [{"index": 0, "expansion": {"translation_scaling_factor": 1e999}}]}',
        "samples[0].expansion.translation_scaling_factor",
        "finite",
    ),
    "unknown trajectory": (
        {"samples": [sample(expansion={"trajectory_order": "in back"})]},
        "samples[0].expansion.trajectory_order",
        "in, left, right, up",
    ),
    "401 images": (
        {"samples": [sample(expansion={"num_images_for_vggt": 401})]},
        "samples[0].expansion.num_images_for_vggt is 401",
        "1 to 400",
    ),
    "a scaffold beside a variant": (
        {"samples": [sample(scaffold={"scaffold_path": "s"})]},
        "samples[0].scaffold.scaffold_path",
        "samples[0].photorealistic.scaffold_path",
    ),
    "nothing to start from": ({"samples": [{"index": 0}]}, "No jobs to run", "images/"),
    "only missing images": ({"samples": [{"index": 0, "stylized": {"path": "no.png"}}]}, "No jobs to run", "no.png"),
}


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Runs a command that must be refused in one line; returns the line."""
    monkeypatch.delenv("WORLDEXPLORER_DEBUG", raising=False)

    def run(*words: object) -> str:
        output = tmp_path / "out"
        code = main(["batch", "--engine", "preview", "--output_base", str(output), *map(str, words)])
        shown = capsys.readouterr()
        assert (code, shown.out) == (2, "")
        assert shown.err.startswith("error: ")
        assert shown.err.count("\n") == 1
        assert shown.err.endswith("\n")
        assert "Traceback" not in shown.err
        assert ". What to do: " in shown.err
        assert not output.exists()
        return shown.err

    return run


@pytest.mark.parametrize("name", STRUCTURE)
def test_a_wrong_data_set_is_refused_in_one_line(name, refused, tmp_path):
    content, *expected = STRUCTURE[name]
    data = tmp_path / "data"
    data.mkdir()
    text = json.dumps(content) if isinstance(content, dict) else content
    (data / "metadata.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    Image.fromarray(landscape(0)).save(data / "0.png")
    line = refused("--dataset_dir", data)
    assert str(data / "metadata.json") in line
    for part in expected:
        assert part in line


def test_a_metadata_file_of_64_mib_is_refused_unread(refused, tmp_path):
    (tmp_path / "data").mkdir()
    with (tmp_path / "data/metadata.json").open("wb") as file:
        file.truncate(64 * 2**20)
    assert "67,108,864 bytes" in refused("--dataset_dir", tmp_path / "data")


def test_no_folder_and_no_metadata_are_two_different_things(refused, tmp_path):
    assert "Dataset directory not found" in refused("--dataset_dir", tmp_path / "no")
    (tmp_path / "data").mkdir()
    assert "metadata.json" in refused("--dataset_dir", tmp_path / "data")


FLAGS = {
    "--indices 7": "7",
    "--indices 3-1": "3-1",
    "--indices x": "x",
    "--only_stages 4": "choose from 1, 2, 3",
    "--scaffold_method magic": "single_image, scaffold_gen",
    "--scaffold_mode slow": "fast, automatic, manual",
    "--traj_prior zigzag": "pan-in-place",
    "--num_seva_frames 12": "use 8 or 16",
    "--num_targets 368": "use 360",
    "--cfg 4.0": "two positive numbers",
    "--cfg 4.0,-1": "two positive numbers",
    "--cfg a,b": "4.0,2.0",
    "--translation_scaling_factor 0": "above 0",
    "--translation_scaling_factor nan": "above 0",
    "--trajectory_order in out": "in left right up",
    "--num_images_for_vggt 0": "1 to 400",
    "--root_dir nowhere": "nowhere",
    "--hfov 5": "10 to 150",
    "--preset huge": "smoke, quick, default, quality",
    "--engine other": "full, preview",
    "--seed -1": "0 to 4294967295",
    "--workers 0": "from 1",
    "--log_format xml": "auto, rich, text, json",
    "--engin preview": "--engine",
}


@pytest.mark.parametrize("words", FLAGS)
def test_a_wrong_flag_is_refused_in_one_line(words, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(landscape(0)).save(tmp_path / "0.png")
    write_dataset(tmp_path, [sample()])
    line = refused("--dataset_dir", tmp_path, *words.split())
    assert words.split()[0].removeprefix("--") in line or words.startswith("--num_targets")
    assert FLAGS[words] in line


def test_two_values_for_the_two_names_of_the_frame_count_are_refused(refused, tmp_path):
    line = refused("--dataset_dir", tmp_path, "--num_targets", "16", "--num_seva_frames", "8")
    assert "--num_seva_frames is 8 and --num_targets is 16" in line


# ------------------------------------------------------------ pictures


def huge_png() -> bytes:
    """A PNG whose header promises 10,000 x 10,000 pixels."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def write_pictures(folder):
    """Bad and unusual pictures of one and the same scene, by file name in the order of their samples."""
    photo = landscape(5)
    picture = Image.fromarray(photo)
    folder.mkdir()
    picture.save(folder / "plain.png")
    whole = (folder / "plain.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(folder / "one_pixel.png")
    (folder / "text.png").write_text("this is no picture\n")
    (folder / "huge.png").write_bytes(huge_png())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right for showing
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=95, exif=exif)
    picture.convert("CMYK").save(folder / "cmyk.tif")
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "sixteen_bit.png")
    picture.save(folder / "moving.webp", save_all=True, append_images=[Image.new("RGB", picture.size)], lossless=True)
    picture.putalpha(255)
    picture.save(folder / "alpha.png")


BAD = {"truncated.png": "cut short", "one_pixel.png": "1x1", "text.png": "", "huge.png": "64 megapixels"}
GOOD = ("plain.png", "turned.jpg", "cmyk.tif", "sixteen_bit.png", "moving.webp", "alpha.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "data"
    write_pictures(folder)
    samples = [{"index": index, "photorealistic": {"path": name}} for index, name in enumerate([*BAD, *GOOD])]
    return write_dataset(folder, samples)


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("finished"))
    program.done = program.run("--dataset_dir", pictures, "--only_stages", "1", "--continue_on_error")
    return program


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_fails_its_job_alone(finished, name):
    result = finished.result(list(BAD).index(name))
    assert (result["status"], result["stages_completed"]) == ("failed", [])
    error = result["error"]
    assert (error["stage"], error["class"]) == ("scaffold", "user")
    assert BAD[name] in error["message"]
    assert name in error["where"]
    assert error["remedy"]
    assert "Traceback" not in finished.done.errors


@pytest.mark.slow
def test_the_others_succeed_and_the_failed_ones_are_ready_to_paste(finished):
    summary = finished.summary()
    assert finished.done.code == 1
    assert (summary["success"], summary["failed"], summary["skipped"]) == (len(GOOD), len(BAD), 0)
    assert summary["failed_indices"] == "0-3"


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD[1:])
def test_an_unusual_picture_is_seen_as_it_is_meant(finished, name):
    """View 000 shows the same scene, the right way up, as that of the plain file."""
    plain, other = (
        np.asarray(
            Image.open(finished.job("scaffold/final/000.png", len(BAD) + GOOD.index(one))).convert(
                "L" if name == "sixteen_bit.png" else "RGB"
            ),
            dtype=float,
        )
        for one in ("plain.png", name)
    )
    error = np.sqrt(np.mean((plain - other) ** 2))
    assert error < 6.0
    assert plain.std() > 3 * error


@pytest.mark.slow
def test_without_continue_on_error_the_first_failure_stops_the_rest(pictures, tmp_path):
    program = Program(tmp_path)
    done = program.run("--dataset_dir", pictures, "--only_stages", "1", "--indices", "2", "4")
    assert done.code == 1
    assert program.result(2)["status"] == "failed"
    left = program.result(4)
    assert (left["status"], left["reason"]) == (
        "skipped",
        "an earlier job failed, and --continue_on_error was not given",
    )
    assert not program.job("records", 4).exists()
