"""Every kind of image file is read rightly or refused by its real name."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from layouts import make_folder
from PIL import Image, ImageOps

from emastudy.datasets import DATASETS, check, load, read_image
from emastudy.datasets.images import orientation, read_mask
from emastudy.errors import InputError

# Wider than high, so that a turn shows; all levels that the depth has, 0 and the highest too.
HEIGHT, WIDTH = 8, 32
RAMP = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
DEEP = (RAMP * 257).astype(np.uint16)
COLORS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1).astype(np.uint8)
INDICES = RAMP % 2


def chunk(kind, body):
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(path, bits, color, samples, extra=b"", size=None):
    """A PNG of any depth; ``color`` as in its header (0 grey, 2 RGB, 3 palette, 4 grey + alpha)."""
    width, height = size or (WIDTH, HEIGHT)
    rows = b""
    for row in samples:
        ones = (row.reshape(-1, 1) >> np.arange(bits)[::-1]) & 1
        rows += b"\0" + np.packbits(ones.astype(np.uint8)).tobytes()
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))


def tiff(path, samples, bits, *, photometric=1, numbers=1, planar=1, extra=0):
    """An uncompressed TIFF: (H, W) or (H, W, C) samples of 8, 16 or 32 bits, as bytes."""
    samples = samples.reshape(HEIGHT, WIDTH, -1)
    channels = samples.shape[-1]
    if planar == 2:
        samples = samples.transpose(2, 0, 1)
    data = samples.tobytes()
    plane = len(data) // (channels if planar == 2 else 1)
    parts = channels if planar == 2 else 1
    # tag, type (3 = uint16, 4 = uint32), values
    further_channels = [(338, 3, [0] * extra)] if extra else []
    tags = [
        (256, 4, [WIDTH]), (257, 4, [HEIGHT]), (258, 3, [bits] * channels), (259, 3, [1]),
        (262, 3, [photometric]), (273, 4, [0] * parts), (277, 3, [channels]), (278, 4, [HEIGHT]),
        (279, 4, [plane] * parts), (284, 3, [planar]), *further_channels,
        (339, 3, [numbers] * channels),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    further = b""
    later = sum(len(v) * (2 if t == 3 else 4) for _, t, v in tags if len(v) * (2, 4)[t - 3] > 4)
    entries = b""
    for tag, kind, values in tags:
        if tag == 273:
            values = [start + later + plane * part for part in range(parts)]
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place = struct.pack("<I", start + len(further))
            further += packed
            packed = place
        entries += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    body = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0" + further + data
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + body)


def saved(array, mode=None, **options):
    def write(path):
        picture = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
        picture.save(path, **options)

    return write


def big_endian(path):
    Image.frombytes("I;16B", DEEP.shape[::-1], DEEP.astype(">u2").tobytes()).save(path)


def damaged(path):
    saved(NOISE)(path)
    content = bytearray(path.read_bytes())
    content[900:999] = bytes(99)
    path.write_bytes(content)


def palette(values, colors, **options):
    def write(path):
        picture = Image.frombytes("P", values.shape[::-1], values.astype(np.uint8).tobytes())
        picture.putpalette(colors)
        picture.save(path, **options)

    return write


def raw(content):
    return lambda path: path.write_bytes(content)


def several(**options):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "green")]
    return lambda path: frames[0].save(path, save_all=True, append_images=frames[1:], **options)


def truncated(write):
    def cut(path):
        write(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    return cut


def grey(levels):
    return np.repeat(levels[..., None], 3, axis=-1)


def with_alpha(colors, alpha):
    return np.concatenate([colors, np.full_like(colors[..., :1], alpha)], axis=-1)


RED = np.array([255, 0, 0], dtype=np.uint8) + np.zeros_like(COLORS)
GREYS = [level for level in range(256) for _ in "rgb"]
OPAQUE = np.stack([DEEP, DEEP * 0 + 65535], axis=-1)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

# Name → how it is written, and what is read: colours (H, W, 3), or words of the refusal.
PHOTOGRAPHS = {
    "rgb.png": (saved(COLORS), COLORS),
    "rgb.bmp": (saved(COLORS), COLORS),
    "rgb.tif": (saved(COLORS), COLORS),
    "rgb.webp": (saved(COLORS, lossless=True), COLORS),
    "a png named.jpg": (lambda p: Image.fromarray(COLORS).save(p, "PNG"), COLORS),
    "grey1.png": (lambda p: png(p, 1, 0, INDICES), grey(INDICES * 255)),
    "grey2.png": (lambda p: png(p, 2, 0, RAMP % 4), grey(RAMP % 4 * 85)),
    "grey4.png": (lambda p: png(p, 4, 0, RAMP % 16), grey(RAMP % 16 * 17)),
    "grey8.png": (saved(RAMP.astype(np.uint8)), grey(RAMP)),
    "grey16.png": (saved(DEEP), grey(RAMP)),
    "grey16.tif": (saved(DEEP), grey(RAMP)),
    "grey16 big.tif": (big_endian, grey(RAMP)),
    "grey16 packed.tif": (saved(DEEP, compression="tiff_adobe_deflate"), grey(RAMP)),
    "grey16.pgm": (raw(b"P5 32 8 65535\n" + DEEP.astype(">u2").tobytes()), grey(RAMP)),
    "grey12.pgm": (raw(b"P5 32 8 4095\n" + (RAMP * 4095 // 255).astype(">u2").tobytes()), "near"),
    "rgb16.png": (lambda p: png(p, 16, 2, COLORS.astype(np.uint16) * 257), COLORS),
    "rgb16.tif": (lambda p: tiff(p, COLORS.astype("<u2") * 257, 16, photometric=2), COLORS),
    "grey alpha.png": (saved(RAMP.astype(np.uint8), "LA"), grey(RAMP)),
    "grey alpha 16.png": (lambda p: png(p, 16, 4, OPAQUE), grey(RAMP)),
    "opaque.png": (saved(with_alpha(COLORS, 255)), COLORS),
    "transparent.png": (saved(with_alpha(COLORS, 0)), COLORS * 0 + 255),
    "palette.png": (palette(RAMP, GREYS), grey(RAMP)),
    "palette4.png": (palette(RAMP % 16, [9] * 48, bits=4), COLORS * 0 + 9),
    "clear palette.png": (palette(RAMP * 0, [9] * 768, transparency=0), COLORS * 0 + 255),
    "unused clear.png": (palette(RAMP * 0, [9] * 768, transparency=7), COLORS * 0 + 9),
    "still.gif": (palette(RAMP, GREYS), grey(RAMP)),
    "phone.jpg": (several(format="MPO", quality=100, subsampling=0), "red"),
    "cmyk.jpg": (saved(RED, "CMYK", quality=100), "red"),
    "cmyk.tif": (saved(RED, "CMYK"), "red"),
    # and what is refused
    "grey12.png": (saved((RAMP * 16).astype(np.uint16)), "has 16 bits, but no value above 4,080"),
    "signed.tif": (lambda p: tiff(p, RAMP.astype("<i2"), 16, numbers=2), "holds signed 16-bit int"),
    "bytes.tif": (lambda p: tiff(p, RAMP.astype(np.int8), 8, numbers=2), "holds signed 8-bit num"),
    "int32.tif": (saved(RAMP.astype(np.int32)), "holds 32-bit integers, of which nothing says"),
    "float.tif": (saved(RAMP.astype(np.float32)), "holds floating-point numbers, of which nothing"),
    "planes16.tif": (
        lambda p: tiff(p, COLORS.astype("<u2") * 257, 16, photometric=2, planar=2),
        "stores channels of 16 bits one after the other",
    ),
    "bands.tif": (
        lambda p: tiff(p, with_alpha(with_alpha(COLORS, 1), 1), 8, photometric=2, extra=2),
        "has 5 channels: keep grey, RGB",
    ),
    "double.tif": (lambda p: tiff(p, RAMP * 1.0, 64, numbers=3), "kind that Pillow does not read"),
    "moving.gif": (several(), "holds 2 pages or frames"),
    "moving.png": (several(), "holds 2 pages or frames"),
    "moving.webp": (several(), "holds 2 pages or frames"),
    "pages.tif": (several(), "holds 2 pages or frames"),
    "empty.jpg": (raw(b""), "cannot be read as an image: it is empty (0 bytes)"),
    "zeros.jpg": (raw(b"\0" * 999), "it is nothing but zeros"),
    "phone heic.jpg": (raw(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "is an HEIC file, named .jpg"),
    "phone.heic": (raw(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"), "is an HEIC file; save it as PNG"),
    "avif.jpg": (raw(b"\0\0\0\x18ftypavif\0\0\0\0"), "AVIF"),
    "film.jpg": (raw(b"\0\0\0\x18ftypisom\0\0\0\0"), "is a video, named .jpg"),
    "lfs.jpg": (raw(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer"),
    "page.jpg": (raw(b"\n<!DOCTYPE html><html>404"), "is a web page, named .jpg"),
    "array.png": (raw(b"\x93NUMPY\1\0"), "is a NumPy (npy) file, named .png"),
    "text.png": (raw(b"no image at all"), "is of no kind that Pillow knows"),
    "header.png": (raw(b"\x89PNG\r\n\x1a\nIHDR"), "is a PNG file with a damaged header"),
    "cut.png": (truncated(saved(NOISE)), "truncated"),
    "cut.jpg": (truncated(saved(NOISE)), "truncated"),
    "cut.tif": (truncated(saved(NOISE)), "cannot be read as an image"),
    "flipped.png": (damaged, "cannot be read as an image"),
    "bomb.png": (lambda p: png(p, 8, 0, RAMP, size=(14000, 13000)), "is too large: Image size"),
    "large.png": (lambda p: png(p, 8, 0, RAMP, size=(10000, 9000)), "is too large: 10000×9000 pix"),
    "folder.jpg": (lambda p: p.mkdir(), "cannot be read as an image: it is a folder"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs(name, tmp_path):
    write, expected = PHOTOGRAPHS[name]
    path = tmp_path / name
    write(path)
    if isinstance(expected, str) and expected not in ("red", "near"):
        with pytest.raises(InputError) as error:
            read_image(path)
        message = str(error.value)
        assert message.startswith(f"{path} ")
        assert expected in message
        assert "\n" not in message
        return
    pixels = read_image(path).permute(1, 2, 0).numpy()
    assert pixels.dtype == np.uint8
    if isinstance(expected, str):  # lossy
        target = {"red": RED, "near": grey(RAMP)}[expected]
        assert np.abs(pixels.astype(int) - target).max() <= 2
    else:
        np.testing.assert_array_equal(pixels, expected)


# Name → how it is written, and the indices (H, W), or words of the refusal.
MASKS = {
    "grey1.png": (saved((INDICES * 255).astype(np.uint8), "1"), INDICES),
    "grey1.tif": (saved((INDICES * 255).astype(np.uint8), "1"), INDICES),
    "grey1.bmp": (saved((INDICES * 255).astype(np.uint8), "1"), INDICES),
    "grey2.png": (lambda p: png(p, 2, 0, RAMP % 4), RAMP % 4),
    "grey4.png": (lambda p: png(p, 4, 0, RAMP % 16), RAMP % 16),
    "grey8.png": (saved(RAMP.astype(np.uint8)), RAMP),
    "grey8.bmp": (saved(RAMP.astype(np.uint8)), RAMP),
    "grey8.tif": (saved(RAMP.astype(np.uint8), compression="tiff_lzw"), RAMP),
    "grey16.png": (saved(DEEP), DEEP),
    "grey16.tif": (saved(DEEP), DEEP),
    "grey16 big.tif": (big_endian, DEEP),
    "palette1.png": (palette(INDICES, [7] * 6, bits=1), INDICES),
    "palette2.png": (palette(RAMP % 4, [7] * 12, bits=2), RAMP % 4),
    "palette4.png": (palette(RAMP % 16, [7] * 48, bits=4), RAMP % 16),
    "palette8.png": (palette(RAMP, [7] * 768), RAMP),
    "palette8.tif": (palette(RAMP, [7] * 768), RAMP),
    "palette8.bmp": (palette(RAMP, [7] * 768), RAMP),
    "clear palette.png": (palette(RAMP, [7] * 768, transparency=0), RAMP),
    # and what is refused
    "alpha.png": (saved(RAMP.astype(np.uint8), "LA"), "has an alpha channel beside its val"),
    "rgba.png": (saved(with_alpha(COLORS, 255)), "has an alpha channel beside its values (RGBA)"),
    "rgb.png": (saved(COLORS), "is a RGB image; expected one class index per pixel"),
    "three equal.png": (saved(grey(INDICES).astype(np.uint8)), "Its channels are equal: if they"),
    "rgb16.png": (lambda p: png(p, 16, 2, grey(DEEP)), "is a RGB image; expected one class index"),
    "int32.tif": (saved(INDICES.astype(np.int32)), "holds 32-bit integers: save the indices as 8-"),
    "signed.tif": (lambda p: tiff(p, RAMP.astype("<i2"), 16, numbers=2), "holds signed 16-bit int"),
    "float.tif": (saved(INDICES.astype(np.float32)), "holds floating-point numbers: save the ind"),
    "white is 0.tif": (lambda p: tiff(p, INDICES.astype(np.uint8), 8, photometric=0), "white as 0"),
    "two.tif": (
        lambda p: tiff(p, np.stack([RAMP, RAMP], -1).astype(np.uint8), 8, extra=1),
        "two.tif",  # Pillow 10 does not know it; later versions read the first channel
    ),
    "lossy.jpg": (saved((INDICES * 200).astype(np.uint8)), "is stored as JPEG, which smears class"),
    "jpeg named.png": (
        lambda p: Image.fromarray(INDICES.astype(np.uint8)).save(p, "JPEG"),
        "named.png is stored as JPEG, which smears",
    ),
    "lossy.tif": (saved(RAMP.astype(np.uint8), compression="jpeg"), "is stored as TIFF (jpeg)"),
    "mask.webp": (saved(RAMP.astype(np.uint8), lossless=True), "is stored as WEBP"),
    "mask.gif": (saved((INDICES * 200).astype(np.uint8)), "is stored as GIF, which may renumber"),
    "mask.pgm": (raw(b"P5 32 8 15\n" + INDICES.astype(np.uint8).tobytes()), "is stored as PPM"),
    "array.npy": (raw(b"\x93NUMPY\1\0"), "is a NumPy (npy) file; save it as PNG"),
    "pages.tif": (several(), "holds 2 pages or frames"),
    "empty.png": (raw(b""), "it is empty (0 bytes)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks(name, tmp_path):
    write, expected = MASKS[name]
    path = tmp_path / name
    write(path)
    if isinstance(expected, str):
        with pytest.raises(InputError) as error:
            read_mask(path)
        message = str(error.value)
        assert message.startswith(f"{path} ")
        assert expected in message
        assert "\n" not in message
    else:
        values = read_mask(path)
        assert values.dtype in (np.uint8, np.uint16)
        np.testing.assert_array_equal(values, expected)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_limit_of_pixels_can_be_raised(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(COLORS).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(ValueError, match="the limit is 255"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(path).shape == (3, HEIGHT, WIDTH)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read \(Permission denied\)"):
        read_image(tmp_path / "a.jpg")
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match=r"there is no .*a\.jpg"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_photographs_stand_upright(name, turned, tmp_path):
    """As Pillow's own exif_transpose turns what the file stores."""
    exif = Image.Exif()
    exif[0x0112] = turned
    stored = Image.fromarray(COLORS)
    stored.save(tmp_path / name, exif=exif)
    stored.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(stored))
    pixels = read_image(tmp_path / name).permute(1, 2, 0).numpy()
    assert pixels.shape == upright.shape
    # Of lossy files: the ramps point the same way.
    most = 20 if name in ("a.jpg", "a.webp") else 0
    assert np.abs(pixels.astype(int) - upright).mean() <= most
    assert orientation(tmp_path / name) == turned


def test_masks_are_turned_by_the_same_rule(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode, values in (("L", RAMP.astype(np.uint8)), (None, DEEP)):
        picture = Image.fromarray(values) if mode is None else Image.fromarray(values).convert(mode)
        picture.save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), np.rot90(values, -1))


def test_damaged_exif_data_turn_nothing(tmp_path):
    Image.fromarray(COLORS).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pixels = read_image(tmp_path / "a.png").permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, COLORS)


def test_a_mask_drawn_on_the_photograph_as_stored_is_told(tmp_path):
    """Sizes show a quarter turn; where they do not, the check says what cannot be seen."""
    root = make_folder(tmp_path)
    path = root / "images" / "train" / "a.jpg"
    exif = Image.Exif()
    for turned, size in ((6, (30, 20)), (3, (30, 20))):
        exif[0x0112] = turned
        Image.new("RGB", size).save(path, exif=exif)
        report = check(DATASETS["folder"], root)
        if turned == 6:
            (problem,) = report.problems
            assert "is 30×20 pixels but" in problem
            assert "turned upright by its EXIF orientation, 6" in problem
            with pytest.raises(ValueError, match="EXIF orientation, 6"):
                load("folder", "train", root=root)[0]
        else:
            assert report.problems == []
        (warning,) = report.warnings
        assert "photographs are turned upright by their EXIF orientation (1, a.jpg the" in warning
