"""Pictures: every kind becomes (H, W, C) bytes, everything else one sentence."""

import struct
import zlib

import numpy as np
import pytest
from data_files import FUZZ, encoded, is_sentence, outcome, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from l2lnp.data import decoding
from l2lnp.data.decoding import decode
from l2lnp.errors import InputError


def test_a_picture_of_the_right_size_is_kept_as_it_is():
    image = picture(0, (16, 12))
    np.testing.assert_array_equal(decode(encoded(image, "PNG"), (12, 16, 3)), np.asarray(image))


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (20, 20)])
def test_the_shorter_side_is_fitted_and_the_centre_cut_out(width, height):
    """Resizing first and cutting then, as the official pipelines do, gives the same within rounding."""
    image = picture(1, (width, height))
    scale = 10 / min(width, height)
    whole = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (whole.width - 10) // 2, (whole.height - 10) // 2
    expected = np.asarray(whole.crop((left, top, left + 10, top + 10))).astype(int)
    assert np.abs(decode(encoded(image, "PNG"), (10, 10, 3)) - expected).max() <= 3


def test_sizes_need_not_be_square():
    image = picture(2, (30, 30))
    assert decode(encoded(image, "PNG"), (8, 16, 3)).shape == (8, 16, 3)


def test_grey_and_cmyk_become_colours():
    grey = picture(3, mode="L")
    out = decode(encoded(grey), (16, 20, 3))
    assert (out == out[..., :1]).all()
    assert np.abs(out[..., 0].astype(int) - np.asarray(grey)).mean() < 2
    cmyk = picture(4).convert("CMYK")
    close = np.abs(decode(encoded(cmyk), (16, 20, 3)).astype(int) - np.asarray(cmyk.convert("RGB")))
    assert close.mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_other_modes_become_colours_without_a_warning(mode):
    image = picture(5).convert(mode)
    transparency = {"transparency": bytes([0] * 256)} if mode == "P" else {}
    out = decode(encoded(image, "PNG", **transparency), (16, 20, 3))
    expected = image.convert("RGBA").convert("RGB") if mode == "P" else image.convert("RGB")
    np.testing.assert_array_equal(out, np.asarray(expected))


def test_sixteen_bits_keep_the_upper_eight():
    values = np.linspace(0, 65535, 20 * 16).astype(np.uint16).reshape(16, 20)
    out = decode(encoded(Image.fromarray(values), "PNG"), (16, 20, 1))
    np.testing.assert_array_equal(out[..., 0], values >> 8)


def test_colours_become_grey_where_grey_is_wanted():
    image = picture(6)
    np.testing.assert_array_equal(
        decode(encoded(image, "PNG"), (16, 20, 1))[..., 0], np.asarray(image.convert("L"))
    )


def test_exif_orientation_is_ignored():
    image = picture(7)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    np.testing.assert_array_equal(
        decode(encoded(image, exif=exif), (16, 20, 3)), decode(encoded(image), (16, 20, 3))
    )


def test_large_photos_are_decoded_at_a_reduced_size_that_changes_little(monkeypatch):
    content = encoded(picture(8, (900, 700)))
    reduced = decode(content, (32, 32, 3)).astype(int)
    monkeypatch.setattr(decoding, "_DRAFT", 1000)
    assert np.abs(reduced - decode(content, (32, 32, 3))).max() <= 3


def png_of_size(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be decoded"),
        (b"GIF89a", "cannot be decoded"),
        (encoded(picture(0))[:300], "cannot be decoded"),
        (encoded(picture(0), "PNG")[:-40], "cannot be decoded"),
        (encoded(picture(0), "BMP"), "cannot be decoded"),
        (png_of_size(11_000, 10_000), "has 11000 x 10000 pixels, more than"),
        (png_of_size(1 << 30, 1 << 30), "has more than 100000000 pixels"),
        (png_of_size(10, 10), "cannot be decoded"),
    ],
)
def test_refuses_what_is_no_picture(content, message):
    with pytest.raises(InputError, match=message):
        decode(content, (8, 8, 3))


def test_thin_pictures_take_no_more_memory_than_others():
    """One pixel by a hundred thousand: the centre is cut out before it is enlarged."""
    assert decode(encoded(Image.new("L", (100_000, 1)), "PNG"), (224, 224, 3)).shape == (224, 224, 3)


SOURCES = [
    encoded(picture(9)),
    encoded(picture(9), progressive=True),
    encoded(picture(9), "PNG"),
    encoded(picture(9).convert("P"), "PNG"),
    encoded(picture(9).convert("CMYK")),
]


def check_mutated(seed, n_changes):
    rng = np.random.default_rng(seed)
    content = bytearray(SOURCES[seed % len(SOURCES)])
    for _ in range(n_changes):
        content[rng.integers(len(content))] = rng.integers(256)
    found = outcome(
        decode, bytes(content[: rng.integers(len(content)) if seed % 7 == 0 else None]), (8, 8, 3)
    )
    assert is_sentence(found) or found.shape == (8, 8, 3)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_every_mutation_is_decoded_or_refused(seed, n_changes):
    check_mutated(seed, n_changes)


@pytest.mark.slow
@settings(max_examples=2_000 * FUZZ)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_very_many_mutations(seed, n_changes):
    check_mutated(seed, n_changes)
