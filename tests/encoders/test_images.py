"""Any bytes become upright 8-bit RGB, or an ImageError that says why not."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from encoders.errors import ImageError
from encoders.images import Limits, Photo, load_photo, read_image

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 160, 40), (30, 40, 190), (255, 255, 255)


def quadrants(width: int = 48, height: int = 32) -> Image.Image:
    """Four colours, so that each turn and mirror image is told apart: red green / blue white."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The four quadrants' colours, row by row."""
    width, height = image.size
    return [image.getpixel((x, y)) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def assert_colours(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int = 12) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=tolerance)


FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"] + (["AVIF"] if features.check("avif") else [])


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_photo(format):
    image = read_image(encoded(quadrants(), format))
    assert (image.mode, image.size) == ("RGB", (48, 32))
    assert_colours(corners(image), [RED, GREEN, BLUE, WHITE])


def test_path_string_bytes_image_and_array_give_one_photo(tmp_path):
    path = tmp_path / "Grüße aus Köln.png"
    quadrants().save(path)
    expected = load_photo(path, 16)
    assert (expected.width, expected.height) == (48, 32)
    for source in (str(path), path.read_bytes(), quadrants(), np.asarray(quadrants())):
        photo = load_photo(source, 16)
        np.testing.assert_array_equal(photo.pixels, expected.pixels)
        assert (photo.width, photo.height) == (48, 32)


def test_a_photo_is_stretched_to_the_square():
    photo = load_photo(quadrants(200, 40), 20)
    assert photo.pixels.shape == (20, 20, 3)
    assert photo.pixels.dtype == np.uint8
    assert_colours([tuple(photo.pixels[y, x]) for y in (5, 15) for x in (5, 15)], [RED, GREEN, BLUE, WHITE])


def test_an_array_of_the_right_size_passes_untouched():
    array = np.asarray(quadrants(16, 16))
    assert load_photo(array, 16).pixels is array


def test_the_callers_image_is_left_alone():
    image = Image.open(io.BytesIO(encoded(quadrants(800, 800), "JPEG")))
    load_photo(image, 32)
    assert image.size == (800, 800)


# Orientation: each row is how the stored pixels must be disturbed for the tag to put them right again.
DISTURBED = {
    1: lambda i: i,
    2: lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda i: i.transpose(Image.Transpose.ROTATE_180),
    4: lambda i: i.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda i: i.transpose(Image.Transpose.TRANSPOSE),
    6: lambda i: i.transpose(Image.Transpose.ROTATE_90),
    7: lambda i: i.transpose(Image.Transpose.TRANSVERSE),
    8: lambda i: i.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize("tag", sorted(DISTURBED))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_exif_orientation(tag, format):
    exif = Image.Exif()
    exif[0x0112] = tag
    data = encoded(DISTURBED[tag](quadrants(480, 320)), format, exif=exif)
    assert read_image(data).size == (480, 320)
    assert_colours(corners(read_image(data)), [RED, GREEN, BLUE, WHITE])
    photo = load_photo(data, 32)  # drafted, where it is a JPEG
    assert (photo.width, photo.height) == (480, 320)
    assert_colours(corners(Image.fromarray(photo.pixels)), [RED, GREEN, BLUE, WHITE])


def test_damaged_exif_costs_no_photo():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(quadrants(), "JPEG", exif=exif)
    at = data.index(b"Exif\0\0") + 6
    for damage in (b"\xff" * 8, b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\xff\xff"):
        damaged = data[:at] + damage + data[at + 8 :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns, and here warnings are errors
            assert read_image(damaged).size == (48, 32)


def test_cmyk_with_and_without_adobes_inversion():
    image = quadrants().convert("CMYK")
    jpeg = encoded(image, "JPEG", quality=95)
    assert b"Adobe" in jpeg
    assert Image.open(io.BytesIO(jpeg)).mode == "CMYK"
    assert_colours(corners(read_image(jpeg)), [RED, GREEN, BLUE, WHITE])
    assert_colours(corners(read_image(encoded(image, "TIFF"))), [RED, GREEN, BLUE, WHITE])


def test_16_bit_gray_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    expected = np.round(ramp / 257.0)
    for data in (encoded(Image.fromarray(ramp), "PNG"), encoded(Image.fromarray(ramp), "TIFF")):
        np.testing.assert_allclose(np.asarray(read_image(data))[..., 0], expected, atol=1)


def test_a_dark_16_bit_photo_stays_dark():
    dark = np.full((8, 8), 200, dtype=np.uint16)
    assert np.asarray(read_image(encoded(Image.fromarray(dark), "PNG"))).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535, 32768, 13107]], dtype=np.int32), [0, 255, 128, 51]),
        (np.array([[0, 255, 100, -5]], dtype=np.int32), [0, 255, 100, 0]),
        (np.array([[0, 2_000_000, 1_000_000, 400_000]], dtype=np.int32), [0, 255, 128, 51]),
        (np.array([[0.0, 1.0, 0.5, np.nan]], dtype=np.float32), [0, 255, 128, 0]),
        (np.array([[0.0, 255.0, 100.0, np.inf]], dtype=np.float32), [0, 255, 100, 0]),
        (np.zeros((1, 4), dtype=np.float32), [0, 0, 0, 0]),
    ],
)
def test_32_bit_and_float_gray(values, expected):
    image = read_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_allclose(np.asarray(image)[0, :, 0], expected, atol=1)


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (4, 1))
    image.putdata([(200, 0, 0, 255), (200, 0, 0, 0), (0, 0, 0, 128), (9, 9, 9, 0)])
    for data in (encoded(image, "PNG"), encoded(image, "TIFF"), encoded(image, "WEBP", lossless=True, exact=True)):
        assert_colours(
            [tuple(pixel) for pixel in np.asarray(read_image(data))[0]],
            [(200, 0, 0), WHITE, (127, 127, 127), WHITE],
            1,
        )


def test_palette_gray_alpha_one_bit_and_key_colour():
    palette = quadrants().quantize(8)
    background = palette.getpixel((2, 2))
    image = read_image(encoded(palette, "PNG", transparency=background))
    assert_colours(corners(image), [WHITE, GREEN, BLUE, WHITE])
    assert_colours(corners(read_image(encoded(palette, "GIF", transparency=background))), [WHITE, GREEN, BLUE, WHITE])
    assert read_image(encoded(Image.new("LA", (2, 2), (0, 0)), "PNG")).getpixel((0, 0)) == WHITE
    assert read_image(encoded(Image.new("1", (2, 2), 1), "PNG")).getpixel((0, 0)) == WHITE
    assert read_image(encoded(Image.new("L", (2, 2), 77), "PNG")).getpixel((0, 0)) == (77, 77, 77)
    assert read_image(encoded(Image.new("RGB", (2, 2), RED), "PNG", transparency=RED)).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_of_an_animation(format):
    frames = [quadrants(), Image.new("RGB", (48, 32), BLUE)]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert_colours(corners(read_image(data)), [RED, GREEN, BLUE, WHITE])


def test_a_colour_profile_is_ignored_not_fatal():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_colours(corners(read_image(encoded(quadrants(), "JPEG", icc_profile=profile))), [RED, GREEN, BLUE, WHITE])


# Draft


@pytest.mark.parametrize(
    ("width", "height", "size", "scale"),
    [(1792, 1792, 224, 8), (1791, 1792, 224, 4), (4000, 450, 224, 2), (447, 4000, 224, 1), (100, 90, 224, 1)],
)
def test_a_draft_is_never_smaller_than_asked(width, height, size, scale):
    data = encoded(quadrants(width, height), "JPEG")
    image = read_image(data, draft=size)
    assert image.size == (-(-width // scale), -(-height // scale))
    photo = load_photo(data, size)
    assert (photo.width, photo.height, photo.pixels.shape) == (width, height, (size, size, 3))


def test_a_draft_looks_as_the_whole():
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((1280, 960), Image.Resampling.BICUBIC)
    data = encoded(image, "JPEG", quality=95)
    whole = read_image(data).resize((100, 100), Image.Resampling.BILINEAR)
    difference = np.abs(load_photo(data, 100).pixels.astype(int) - np.asarray(whole).astype(int))
    assert difference.mean() < 2


# Bad input


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims its size in the header, with hardly a byte behind it."""
    body = zlib.compress(b"\0" * 1000)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(40_000, 40_000), (10_001, 10_000)])
def test_a_bomb_is_refused_by_its_header(width, height, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded before it was checked"))
    with pytest.raises(ImageError, match=rf"{width} x {height} pixels, over the limit of 100000000; scale it down"):
        read_image(bomb(width, height))


def test_a_higher_ceiling_is_the_callers_to_set_whatever_pillows_own():
    """Pillow would warn from 89 million pixels on and refuse twice that."""
    image = Image.new("1", (14_000, 13_000))
    data = encoded(image, "PNG", compress_level=1)
    assert load_photo(data, 8, limits=Limits(max_pixels=200_000_000)).width == 14_000


def test_pixel_ceiling_holds_for_images_and_arrays():
    for source in (quadrants(), np.asarray(quadrants()), encoded(quadrants(), "GIF")):
        with pytest.raises(ImageError, match="48 x 32 pixels, over the limit of 1000"):
            read_image(source, limits=Limits(max_pixels=1000))


def test_byte_ceiling_before_reading(tmp_path):
    path = tmp_path / "sparse.jpg"
    with open(path, "wb") as file:
        file.truncate(10 * 2**40 if os.name == "posix" else 2**27)  # ten terabytes that take no room
    with pytest.raises(ImageError, match=r"sparse\.jpg: \d+ bytes, over the limit of 67108864; save it smaller"):
        read_image(path)
    with pytest.raises(ImageError, match="over the limit of 10"):
        read_image(encoded(quadrants(), "PNG"), limits=Limits(max_bytes=10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.jpg: empty \(0 bytes\); fetch it again"),
        (b"hello, this is text\n", r"x\.jpg: not a photo in a known format; convert it to one of JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not a photo in a known format"),
        (b"P6 1 1 255 abc", "not a photo in a known format"),
        (b"\xff\xd8\xff\xe0", r"x\.jpg: cannot be decoded \(.+\); the file is damaged or truncated"),
        (b"\x89PNG\r\n\x1a\n", "cannot be decoded"),
        (b"GIF89a", "cannot be decoded"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "cannot be decoded"),
    ],
)
def test_what_is_no_photo(tmp_path, content, message):
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(ImageError, match="no such file; check the path"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="a directory, not a photo"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("nul\0.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("x" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")


def test_what_is_no_source():
    with pytest.raises(ImageError, match="<int>: not a photo; give a path, bytes"):
        read_image(7)
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ImageError, match=r"expected \(H, W, 3\) uint8 RGB"):
            read_image(array)
    with pytest.raises(ImageError, match="0 x 4 holds no pixels"):
        load_photo(np.zeros((4, 0, 3), np.uint8), 8)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_photo_is_an_error(format, part):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, format)
    with pytest.raises(ImageError, match=r"damaged or truncated|not a photo"):
        read_image(data[: int(len(data) * part)])


VALID = {format: encoded(quadrants(), format) for format in FORMATS}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    format=st.sampled_from(FORMATS),
    patches=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), max_size=6),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_corruption_raises_nothing_but_image_error(format, patches, cut):
    data = bytearray(VALID[format])
    for place, patch in patches:
        at = int(place * len(data))
        data[at : at + len(patch)] = patch
    if cut is not None:
        del data[int(cut * len(data)) :]
    try:
        photo = load_photo(bytes(data), 16, limits=Limits(max_pixels=1_000_000))
    except ImageError:
        return
    assert isinstance(photo, Photo)
    assert photo.pixels.shape == (16, 16, 3)


@given(st.binary(max_size=200))
def test_noise_raises_nothing_but_image_error(data):
    with pytest.raises(ImageError):
        read_image(data)
