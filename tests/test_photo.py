"""Image files: what their headers say, what their pixels become, and what is said of files that are none."""

from __future__ import annotations

import io
import logging
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from worldexplorer.errors import InfrastructureError, UserError, classify
from worldexplorer.photo import MAXIMUM_PIXELS, MINIMUM_SIDE, PhotoHeader, check_header, load_photo

REPLACE = "replace it by a whole copy"
SAVE_AS = "save it as PNG or JPEG"
WIDTH, HEIGHT = 80, 70


def picture(height=HEIGHT, width=WIDTH, channels=3, seed=0):
    """Noise: nothing about it survives by luck."""
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth():
    """What lossy formats keep within a few levels."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([50 + x, 60 + y, 200 - x], axis=2).astype(np.uint8)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width, height, bit_depth, colour_type, rows, *chunks):
    """A PNG file put together by hand; `rows` are the unfiltered bytes of all rows."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0))
    stride = len(rows) // height
    lines = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height)) if rows else b""
    body = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.fixture
def stored(tmp_path):
    def store(data, name="photo"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return store


def message(check, path):
    with pytest.raises(UserError) as caught:
        check(path)
    assert caught.value.where == str(path)
    return str(caught.value)


FRAMES = [Image.fromarray(picture(seed=1)), Image.fromarray(picture(seed=2))]
FILES = {
    "png": (encode(picture(), "PNG"), "png", False),
    "apng": (encode(picture(), "PNG", save_all=True, append_images=FRAMES), "png", True),
    "jpeg": (encode(picture(), "JPEG"), "jpeg", False),
    "progressive": (encode(picture(), "JPEG", progressive=True), "jpeg", False),
    "webp": (encode(picture(), "WEBP"), "webp", False),
    "lossless webp": (encode(picture(), "WEBP", lossless=True), "webp", False),
    "webp with alpha": (encode(picture(channels=4), "WEBP"), "webp", False),
    "animated webp": (encode(picture(), "WEBP", save_all=True, append_images=FRAMES), "webp", True),
    "bmp": (encode(picture(), "BMP"), "bmp", False),
    "tiff": (encode(picture(), "TIFF"), "tiff", False),
    "big tiff": (encode(picture(), "TIFF", big_tiff=True), "tiff", False),
    "compressed tiff": (encode(picture(), "TIFF", compression="tiff_deflate"), "tiff", False),
    "tiff of pages": (encode(picture(), "TIFF", save_all=True, append_images=FRAMES), "tiff", True),
    "gif": (encode(picture(), "GIF"), "gif", False),
    "animated gif": (encode(picture(), "GIF", save_all=True, append_images=FRAMES), "gif", True),
    "mpo": (encode(picture(), "MPO", save_all=True, append_images=FRAMES), "jpeg", True),
}


@pytest.mark.parametrize("name", FILES)
def test_headers_of_all_formats(stored, name):
    data, kind, animated = FILES[name]
    assert check_header(stored(data, "no-ending")) == PhotoHeader(WIDTH, HEIGHT, kind, animated)


@pytest.mark.parametrize("name", FILES)
def test_the_first_frame_is_taken(stored, name):
    data, _, _ = FILES[name]
    photo = load_photo(stored(data))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(np.float64)
    on_white = expected[:, :, :3] * expected[:, :, 3:] / 255 + 255 - expected[:, :, 3:]
    assert photo.dtype == np.uint8 and photo.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(photo - on_white).max() <= 1.0


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the missing end of a TIFF file
@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_has_a_header_but_no_pixels(stored, name):
    data, kind, several_frames = FILES[name]
    if kind != "tiff":  # a TIFF file's header may lie at its end
        assert check_header(stored(data[: len(data) // 5])).width == WIDTH
    path = stored(data[: len(data) // 5] if several_frames else data[: -len(data) // 10])
    text = message(load_photo, path)
    assert text.startswith("the image is damaged or cut short: ")
    assert text.endswith(f" ({path}). What to do: {REPLACE}")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the same
@pytest.mark.parametrize("name", FILES)
def test_a_header_that_breaks_off_is_damage(stored, name):
    data, kind, _ = FILES[name]
    path = stored(data[: 12 if kind == "gif" else 20])
    text = message(check_header, path)
    assert text.startswith("the image is damaged or cut short: ")
    assert text.endswith(f" ({path}). What to do: {REPLACE}")


@pytest.mark.parametrize("check", [check_header, load_photo])
def test_files_that_are_no_images(stored, tmp_path, check):
    path = stored(b"")
    assert message(check, path) == f"the image file is empty ({path}). What to do: {REPLACE}"
    path = stored(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "photo.png")
    assert message(check, path) == f"the file is not an image ({path}). What to do: {SAVE_AS}"
    path = stored(b"\0\0\0\x18ftypheic" + b"\0" * 40, "phone.jpg")
    assert message(check, path) == (
        f"the file is a HEIC or AVIF image, which this program does not read ({path}). What to do: {SAVE_AS}"
    )
    path = tmp_path / "gone.png"
    assert message(check, path) == f"the image does not exist ({path}). What to do: correct its path or put it there"
    path = tmp_path / "folder.png"
    path.mkdir()
    assert message(check, path) == f"the image is not a file ({path}). What to do: name an image file"
    path = tmp_path / "pipe.png"
    os.mkfifo(path)  # opening it would wait for ever
    assert message(check, path) == f"the image is not a file ({path}). What to do: name an image file"


def webp_canvas(width, height):
    """A WebP file that claims a canvas and holds nothing."""
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize("check", [check_header, load_photo])
@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(8001, 8000, 8, 2, b""), "8001x8000"),
        (png(60_000, 60_000, 8, 2, b""), "60000x60000"),
        (
            b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
            "65535x65535",
        ),
        (webp_canvas(16_000, 16_000), "16000x16000"),
    ],
    ids=["png", "bomb", "gif", "webp"],
)
def test_too_many_pixels_are_refused_unread(stored, check, data, size):
    path = stored(data)
    assert message(check, path) == (
        f"the image has {size} pixels, over 64 megapixels ({path}). "
        "What to do: scale it down; views are at most 576 pixels wide"
    )


def test_64_megapixels_are_the_most(stored):
    assert MAXIMUM_PIXELS == 64_000_000
    assert check_header(stored(png(8000, 8000, 8, 2, b""))).width == 8000


@pytest.mark.parametrize("check", [check_header, load_photo])
def test_too_few_pixels_are_refused(stored, check):
    path = stored(encode(picture(1, 1), "PNG"))
    assert message(check, path) == (
        f"the image has 1x1 pixels, under 64 on a side ({path}). What to do: use a larger one"
    )
    path = stored(encode(picture(MINIMUM_SIDE - 1, 200), "WEBP"))
    assert message(check, path) == (
        f"the image has 200x63 pixels, under 64 on a side ({path}). What to do: use a larger one"
    )
    check(stored(encode(picture(MINIMUM_SIDE, MINIMUM_SIDE), "PNG")))


@pytest.mark.parametrize("offset", [2**62, 2**63, 2**64 - 1])
def test_an_offset_that_no_file_has_is_damage(stored, offset):
    path = stored(b"II+\0\x08\0\0\0" + struct.pack("<Q", offset) + b"\0" * 40)
    assert message(check_header, path).startswith("the image is damaged or cut short: ")


def test_errors_of_the_machine_are_not_the_photos_fault(stored, monkeypatch):
    def fails(self):
        raise OSError(5, "Input/output error")

    path = stored(encode(picture(), "PNG"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fails)
    with pytest.raises(OSError, match="Input/output error") as caught:
        load_photo(path)
    assert not isinstance(caught.value, UserError)
    assert classify(caught.value) is InfrastructureError.error_class


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_keep_every_pixel(stored, kind, options):
    np.testing.assert_array_equal(load_photo(stored(encode(picture(), kind, **options))), picture())


def test_greys_and_palettes(stored):
    grey = picture(channels=0)
    np.testing.assert_array_equal(load_photo(stored(encode(grey, "PNG"))), np.repeat(grey[:, :, None], 3, axis=2))
    bilevel = grey > 128
    photo = load_photo(stored(encode(Image.fromarray(bilevel), "PNG")))
    np.testing.assert_array_equal(photo, np.repeat(bilevel[:, :, None] * np.uint8(255), 3, axis=2))
    colours = picture(1, 256)[0]
    indexed = Image.fromarray(grey).convert("P")
    indexed.putpalette(colours.tobytes())
    np.testing.assert_array_equal(load_photo(stored(encode(indexed, "PNG"))), colours[np.asarray(indexed)])
    indexed.info["transparency"] = 7
    photo = load_photo(stored(encode(indexed, "PNG", transparency=7)))
    colours[7] = 255
    np.testing.assert_array_equal(photo, colours[np.asarray(indexed)])


def test_what_is_transparent_lies_on_white(stored):
    rgba = picture(channels=4)
    alpha = rgba[:, :, 3:].astype(np.float64) / 255
    expected = rgba[:, :, :3] * alpha + 255 * (1 - alpha)
    assert np.abs(load_photo(stored(encode(rgba, "PNG"))) - expected).max() <= 1.0
    grey = np.ascontiguousarray(rgba[:, :, [0, 3]])
    expected = np.repeat(rgba[:, :, :1] * alpha + 255 * (1 - alpha), 3, axis=2)
    assert np.abs(load_photo(stored(encode(grey, "PNG"))) - expected).max() <= 1.0


def test_16_bit_greys_are_scaled_not_clipped(stored):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    expected = np.repeat(np.round(values / 257.0).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(load_photo(stored(encode(values, "PNG"))), expected)
    np.testing.assert_array_equal(load_photo(stored(encode(values, "TIFF"))), expected)
    rows = values.astype(">u2").tobytes()
    key = int(values[3, 4])
    photo = load_photo(stored(png(WIDTH, HEIGHT, 16, 0, rows, (b"tRNS", struct.pack(">H", key)))))
    expected[values == key] = 255
    np.testing.assert_array_equal(photo, expected)


def test_16_bit_colours_are_scaled_not_clipped(stored):
    values = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    photo = load_photo(stored(png(WIDTH, HEIGHT, 16, 2, values.astype(">u2").tobytes())))
    assert np.abs(photo - values / 257.0).max() <= 1.0


def test_cmyk_becomes_rgb(stored):
    rgb = smooth()
    cmyk = Image.fromarray(rgb).convert("CMYK")
    for kind, tolerance in (("TIFF", 1), ("JPEG", 8)):
        photo = load_photo(stored(encode(cmyk, kind, **({"quality": 95} if kind == "JPEG" else {}))))
        assert np.abs(photo.astype(int) - rgb).max() <= tolerance


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_pixels_without_a_range_are_refused(stored, dtype, mode):
    path = stored(encode(Image.fromarray(picture(channels=0).astype(dtype)), "TIFF"))
    check_header(path)
    assert message(load_photo, path) == (
        f"the image's pixels are of the kind {mode}, which has no defined look ({path}). "
        "What to do: save it as an RGB image with 8 or 16 bits a channel"
    )


# What the values of the EXIF orientation mean: where the stored first row and first column lie in the upright picture.
STORED_AS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_the_rotation_in_the_exif_data_is_honoured(stored, orientation, kind, options):
    upright = picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = stored(encode(np.ascontiguousarray(STORED_AS[orientation](upright)), kind, exif=exif, **options))
    np.testing.assert_array_equal(load_photo(path), upright)


def test_a_jpeg_on_its_side_is_turned_and_its_header_is_not(stored):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = stored(encode(np.ascontiguousarray(STORED_AS[6](smooth())), "JPEG", exif=exif, quality=95))
    header = check_header(path)
    assert (header.width, header.height) == (HEIGHT, WIDTH)
    assert np.abs(load_photo(path).astype(int) - smooth()).max() <= 8


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the same
@pytest.mark.parametrize(
    ("exif", "warnings"),
    [
        (b"Exif\0\0MM\0*\0\0\0\x08\0", 0),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", 0),
        (b"Exif\0\0garbage", 1),
    ],
)
def test_broken_exif_data_do_no_harm(stored, caplog, exif, warnings):
    path = stored(encode(picture(), "PNG", exif=exif))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(load_photo(path), picture())
    expected = f"{path}: the EXIF data are broken, so the image is taken as it is stored: "
    assert [text.startswith(expected) for text in caplog.messages] == [True] * warnings


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile():
    """sRGB whose red and green primaries have changed places."""
    return srgb_profile().replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")


def test_a_colour_profile_is_converted_to_srgb(stored):
    photo = load_photo(stored(encode(picture(), "PNG", icc_profile=swapped_profile())))
    assert np.abs(photo.astype(int) - picture()[:, :, [1, 0, 2]]).max() <= 2
    rgba = picture(channels=4)
    rgba[:, :, 3] = 255 * (rgba[:, :, 3] > 128)
    photo = load_photo(stored(encode(rgba, "PNG", icc_profile=swapped_profile())))
    expected = np.where(rgba[:, :, 3:] > 0, rgba[:, :, [1, 0, 2]], 255)
    assert np.abs(photo.astype(int) - expected).max() <= 2


def test_an_srgb_profile_changes_nothing(stored, caplog):
    grey = picture(channels=0)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(
            load_photo(stored(encode(picture(), "PNG", icc_profile=srgb_profile()))), picture()
        )
        np.testing.assert_array_equal(
            load_photo(stored(encode(grey, "PNG", icc_profile=srgb_profile()))), np.repeat(grey[:, :, None], 3, axis=2)
        )
    assert caplog.messages == []


def test_a_profile_that_does_not_fit_is_ignored_with_a_warning(stored, caplog):
    path = stored(encode(picture(), "PNG", icc_profile=b"no profile at all"))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(load_photo(path), picture())
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{path}: its colour profile is broken and was ignored: ")
    caplog.clear()
    cmyk = Image.fromarray(smooth()).convert("CMYK")
    path = stored(encode(cmyk, "TIFF", icc_profile=srgb_profile()))
    with caplog.at_level(logging.WARNING):
        assert np.abs(load_photo(path).astype(int) - smooth()).max() <= 1
    assert caplog.messages == [f"{path}: its colour profile is for RGB, not for its pixels; ignored"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFF tags
def test_damage_anywhere_is_an_answer_or_a_user_error(stored):
    rng = np.random.default_rng(5)
    for name, (data, _, _) in FILES.items():
        for _ in range(12):
            damaged = bytearray(data)
            for place in rng.integers(0, min(len(data), 400), 3):
                damaged[place] = rng.integers(0, 256)
            path = stored(bytes(damaged), name)
            for read in (check_header, load_photo):
                try:
                    result = read(path)
                except UserError as error:
                    assert error.where == str(path) and error.remedy
                else:
                    assert isinstance(result, (PhotoHeader, np.ndarray))
