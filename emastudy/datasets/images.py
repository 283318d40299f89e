"""The one door for image files: what is read how, and what is refused, by its real name.

Photographs (:func:`read_image`) become 8-bit RGB:

* grey, palettes, CMYK and YCbCr are converted by Pillow, without colour management;
* 16 bits are scaled by their depth (the upper 8 are kept), never clipped. Grey images whose values
  need 12 bits or fewer, a camera's or a microscope's, are refused, for they would be black;
* transparent pixels lie on white, as a viewer shows them;
* of the pictures in a phone's MPO file the first counts. Animations and several pages are refused;
* 32-bit integers, signed and floating-point numbers have no full scale, and are refused; so are
  channels beyond RGB and alpha.

Masks (:func:`read_mask`) are PNG, TIFF or BMP files with one class index per pixel: palette indices
or grey values as stored, in 1, 2, 4, 8 or 16 bits. Lossy files, alpha, colours, 32-bit and
floating-point numbers are refused, and so are three equal channels: black alone may be an index or
a colour.

Photographs and masks are both turned upright as their EXIF orientation says, if they have one.
Masks hardly ever do, so a mask has to show its photograph as a viewer does.

No picture may have more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, ImageOps, UnidentifiedImageError
from PIL import Image as PILImage

from emastudy.datasets.base import as_image
from emastudy.errors import InputError, MissingFileError

#: Endings of the files that count as images or masks; anything else in a folder is passed over.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
#: Endings of further pictures, read or refused by name where there is no file of the first kinds.
RARE_SUFFIXES = (
    *(".jfif", ".gif", ".avif", ".jp2", ".pgm", ".ppm", ".heic", ".heif", ".dng", ".cr2", ".nef"),
    *(".arw", ".psd", ".svg", ".npy", ".dcm"),
)

_MASK_FORMATS = ("PNG", "TIFF", "BMP")
_LOSSY_FORMATS = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
# Pillow spreads grey levels of 2 and 4 bits over 0-255; the index is the level as stored.
_SPREAD = {"L;2": 85, "L;4": 17}
_SMALLER = "Shrink it, cut it into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS"
# How files begin that Pillow does not read, or not always. The first that fits counts.
_BEGINNINGS = (
    (r"....ftyp(heic|heix|heim|heis|hevc|mif1|msf1)", "an HEIC file"),
    (r"....ftyp(avif|avis)", "an AVIF file"),
    (r"....ftyp", "a video"),
    (r"version https://git-lfs", "a Git LFS pointer (git lfs pull fetches the file itself)"),
    (r"\s*<(!doctype|html)", "a web page"),
    (r"\s*<(\?xml|svg)", "an SVG or XML file"),
    (r"\s*[{\[]", "a JSON file"),
    (r"%PDF", "a PDF file"),
    (r"PK\x03\x04", "a ZIP archive"),
    (r"\x1f\x8b", "a gzip archive"),
    (r"\x93NUMPY", "a NumPy (npy) file"),
    (r"\x89HDF", "an HDF5 file"),
    (r"MATLAB", "a MATLAB file"),
    (r"8BPS", "a Photoshop file"),
    (r"\x00\x05\x16\x07", "a resource fork of macOS"),
    (r".{128}DICM", "a DICOM file"),
    (r"(II\*\x00|MM\x00\*)", "a TIFF file that is damaged or of a kind that Pillow does not read"),
    (r"\x89PNG", "a PNG file with a damaged header"),
    (r"\xff\xd8", "a JPEG file with a damaged header"),
    (r"\x00+$", "nothing but zeros"),
)  # fmt: skip


class _Unfit(Exception):
    """Why a picture is refused, and what to do about it."""


def read_image(path: Path) -> torch.Tensor:
    """An image file as (3, H, W) uint8 RGB, upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no image, or of a kind that would not be read rightly.
    """
    with _opened(path) as (image, stored):
        if _has_16_bits(image, stored):
            values = np.asarray(image)
            if 0 < values.max() < 2**12 and values.min() < values.max():
                raise _Unfit(
                    f"has 16 bits, but no value above {values.max():,} of 65,535: scaled by its "
                    "depth it would be black. Save it with its values spread over the whole range"
                )
            image = PILImage.fromarray((values >> 8).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise _Unfit(
                f"holds {_numbers(image, stored)}, of which nothing says what is white: save it "
                "with 8 or 16 bits"
            )
        elif image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            white = PILImage.new("RGBA", image.size, "white")
            image = PILImage.alpha_composite(white, image.convert("RGBA"))
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    return as_image(pixels.permute(2, 0, 1).contiguous())


def read_mask(path: Path) -> np.ndarray:
    """A mask picture as (H, W) class indices, uint8 or uint16, upright.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or of a kind that does not hold one index per pixel.
    """
    with _opened(path) as (image, stored):
        _require_indices(image, stored)
        values = np.array(image)
    values = values.astype(np.uint8 if values.dtype.itemsize == 1 else np.uint16, copy=False)
    spread = _SPREAD.get(stored.removesuffix("R"), 1)
    return values if spread == 1 else values // spread


def orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1 (upright) to 8; 1 where it says nothing."""
    with _opened(path, decode=False) as (image, _):
        return _orientation(image)


@contextmanager
def _opened(path: Path, *, decode: bool = True) -> Iterator[tuple[PILImage.Image, str]]:
    """A picture, upright, with Pillow's name for how its pixels are stored.

    Whatever is wrong with it is a ValueError that names it.
    """
    try:
        with PILImage.open(path) as image:
            _require_readable(image)
            # Decoding forgets it.
            arguments = image.tile[0][3] if image.tile else ""
            first = arguments[0] if isinstance(arguments, tuple) else arguments
            stored = first if isinstance(first, str) else ""
            if decode:
                image.load()
                # Pillow turns TIFF files itself.
                if image.format != "TIFF" and _orientation(image) != 1:
                    ImageOps.exif_transpose(image, in_place=True)
            yield image, stored
    except FileNotFoundError:
        raise MissingFileError(f"there is no {path}") from None
    except _Unfit as error:
        raise InputError(f"{path} {error}") from None
    except IsADirectoryError:
        raise InputError(f"{path} cannot be read as an image: it is a folder") from None
    except PILImage.DecompressionBombError as error:
        size = str(error).partition(",")[0]
        raise InputError(f"{path} is too large: {size}. {_SMALLER}") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path} cannot be read as an image: it is {_real_kind(path)}; save it as PNG, or "
            "fetch it again"
        ) from None
    # What Pillow raises on damaged files is not documented: struct.error, SyntaxError, ...
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"{path} cannot be read ({error.strerror})") from error
        raise InputError(
            f"{path} cannot be read as an image ({error or type(error).__name__}); it may be "
            "truncated, or of a kind that Pillow does not read: fetch it again, or save it as PNG"
        ) from error


def _require_readable(image: PILImage.Image) -> None:
    """Refuse, by its header, what Pillow would decode in part, wrongly or into too much memory."""
    width, height = image.size
    limit = PILImage.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise _Unfit(f"is too large: {width}×{height} pixels, the limit is {limit:,}. {_SMALLER}")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise _Unfit(f"holds {frames} pages or frames: save the one that counts as its own file")
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        samples, bits = tags.get(277, 1), tags.get(258, (1,))
        if samples > len(image.getbands()):
            raise _Unfit(f"has {samples} channels: keep grey, RGB or RGB and alpha alone")
        if samples > 1 and tags.get(284) == 2 and set(bits) != {8}:
            # Pillow reads the two bytes of a sample as two pixels.
            raise _Unfit(
                f"stores channels of {bits[0]} bits one after the other: save them interleaved"
            )
        if 2 in tags.get(339, ()) and image.mode == "L":
            raise _Unfit("holds signed 8-bit numbers: save it with numbers from 0 up")


def _require_indices(image: PILImage.Image, stored: str) -> None:
    compression = str(image.info.get("compression", ""))
    if image.format in _LOSSY_FORMATS or "jpeg" in compression or "webp" in compression:
        kind = image.format if image.format in _LOSSY_FORMATS else f"TIFF ({compression})"
        raise _Unfit(
            f"is stored as {kind}, which smears class indices: export the mask again as PNG; "
            "converting this file keeps the damage"
        )
    if image.format not in _MASK_FORMATS:
        raise _Unfit(
            f"is stored as {image.format}, which may renumber or rescale its values: masks are "
            f"read from {', '.join(_MASK_FORMATS)}"
        )
    fix = "save the indices as 8- or 16-bit greyscale PNG"
    if re.search(r";\d*I", stored):
        raise _Unfit(f"stores white as 0, so that its values may be meant either way: {fix}")
    if image.mode in ("LA", "PA", "RGBA", "RGBa"):
        raise _Unfit(f"has an alpha channel beside its values ({image.mode}): {fix}")
    if image.mode in ("1", "L", "P") or _has_16_bits(image, stored):
        return
    if image.mode in ("I", "F"):
        raise _Unfit(f"holds {_numbers(image, stored)}: {fix}")
    channels = {image.getchannel(band).tobytes() for band in image.getbands()}
    raise _Unfit(
        f"is a {image.mode} image; expected one class index per pixel (palette or greyscale PNG). "
        + (
            f"Its channels are equal: if they hold indices and not colours, {fix}"
            if len(channels) == 1
            else "Was it saved by a tool that turned indices into colours?"
        )
    )


def _has_16_bits(image: PILImage.Image, stored: str) -> bool:
    """Whether the pixels are unsigned, 0 to 65535; Pillow may hold them in 32 bits."""
    held = image.mode == "I" and (re.match(r"I;16[BLN]?$", stored) or image.format == "PPM")
    return image.mode.startswith("I;16") or bool(held)


def _numbers(image: PILImage.Image, stored: str) -> str:
    if image.mode == "F":
        return "floating-point numbers"
    return "signed 16-bit integers" if stored.startswith("I;16") else "32-bit integers"


def _orientation(image: PILImage.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    # Damaged EXIF data say nothing; viewers pass over them too.
    except Exception:
        return 1


def _real_kind(path: Path) -> str:
    """What a file is that Pillow does not know, by its first bytes."""
    with path.open("rb") as file:
        head = file.read(256).decode("latin-1")
    if not head:
        return "empty (0 bytes)"
    for pattern, kind in _BEGINNINGS:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            ending = path.suffix.lower()
            told = ending[1:].replace("jpg", "jpeg") in kind.lower()
            return kind if told else f"{kind}, named {ending}"
    return "of no kind that Pillow knows"
