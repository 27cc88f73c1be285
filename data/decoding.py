"""Decode one picture file to the size and colours that a data set or a network wants."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from l2lnp.errors import InputError

MOST_PIXELS = 100_000_000  # of a picture as it is stored; more are refused before they are decoded
FORMATS = ("JPEG", "PNG")

_OF_SIXTEEN_BITS = ("PNG", "PPM")  # formats whose whole numbers have no more, whatever Pillow reads them as
_DRAFT = 2  # a JPEG is decoded at a reduced size that is at least this many times the wanted one


def decode(content: bytes, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return the picture in a JPEG or PNG file's ``content`` as (H, W, C) uint8 (`fitted`).

    Raises
    ------
    InputError
        If it is no picture, is damaged, or has more than `MOST_PIXELS` pixels.
    """
    try:
        return _decode(content, image_shape)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"cannot be decoded (it is no {' or '.join(FORMATS)})") from None
    except Exception as error:  # Pillow raises nearly every type there is on damaged files
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"cannot be decoded ({reason})") from None


def _decode(content: bytes, image_shape: tuple[int, int, int]) -> np.ndarray:
    with opened(io.BytesIO(content), FORMATS) as image:
        return fitted(image, image_shape)


def fitted(image: Image.Image, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Return ``image`` as (H, W, C) uint8.

    The largest centred part with the proportions of (H, W) is resized (bilinear, with
    antialiasing) to it: the shorter side is fitted, the longer one cropped. C = 3 turns
    grey, CMYK and palettes to red, green, blue; C = 1 turns colours to grey. Orientation
    in EXIF is ignored, as the official pipelines do; transparency is dropped.
    """
    height, width, n_channels = image_shape
    image.draft(None, (_DRAFT * width, _DRAFT * height))
    picture = with_channels(image, n_channels)
    scale = min(picture.width / width, picture.height / height)
    left, top = max(0, (picture.width - scale * width) / 2), max(0, (picture.height - scale * height) / 2)
    right, bottom = picture.width - left, picture.height - top
    resized = picture.resize((width, height), Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.asarray(resized, np.uint8).reshape(image_shape)


@contextmanager
def opened(file: Path | BinaryIO, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """Give the picture in ``file``, of one of the ``formats`` (None: of all that Pillow reads).

    Raises
    ------
    InputError
        If it has more than `MOST_PIXELS` pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on odd but readable files
        try:
            image = Image.open(file, formats=formats)
        except Image.DecompressionBombError:
            raise InputError(f"has more than {MOST_PIXELS} pixels") from None
        with image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"has {image.width} x {image.height} pixels, more than {MOST_PIXELS}")
            yield image


def with_channels(image: Image.Image, n_channels: int) -> Image.Image:
    """Return ``image`` in grey (1) or in red, green and blue (3), of 8 bits each.

    Raises
    ------
    InputError
        If it holds numbers that have no greatest one, so that nobody knows what white is.
    """
    if image.mode == "F":
        raise InputError("holds floating-point numbers: store it with 8 or 16 bits a pixel")
    if image.mode == "I" and image.format not in _OF_SIXTEEN_BITS:
        raise InputError("holds numbers of 32 bits, or with a sign: store it with 8 or 16 bits a pixel")
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("RGB" if n_channels == 3 else "L")
