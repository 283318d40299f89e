"""Features on disk: read back as written, refused where damaged."""

import pytest
import torch

from emastudy.engine.features.store import CachedFeatures, Writer
from emastudy.errors import InputError


def images(number):
    """Feature maps (views, channels, h, w) and masks (H, W) of images of different sizes."""
    generator = torch.Generator().manual_seed(number)
    for n in range(number):
        maps = torch.randn(2, 3, 2 + n, 5, generator=generator)
        yield maps, torch.randint(256, (8 + n, 20), generator=generator, dtype=torch.uint8)


def written(folder, number=5, dtype="float32"):
    with Writer(folder, {"dtype": dtype}) as writer:
        for maps, mask in images(number):
            writer.append(maps, mask)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_was_written_is_read(dtype, tmp_path):
    features = CachedFeatures([written(tmp_path / "a", dtype=dtype)] * 2, ("cat", "dog"))
    assert features.classes == ("cat", "dog")
    assert len(features) == 5
    for (maps, mask), (both, stored) in zip(images(5), features, strict=True):
        for read in both:
            assert torch.equal(read, maps.to(getattr(torch, dtype)))
            assert read.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(stored, mask.long())
    chosen = CachedFeatures([tmp_path / "a"], ("cat", "dog"), indices=[3, 1])
    assert [len(mask) for _, mask in chosen] == [11, 9]


def interrupted(folder, number):
    with Writer(folder, {"dtype": "float32"}) as writer:
        for maps, mask in list(images(5))[:number]:
            writer.append(maps, mask)
        raise ZeroDivisionError


def test_a_writer_that_was_interrupted_counts_whole_chunks_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Writer, "chunk", 2)
    with pytest.raises(ZeroDivisionError):
        interrupted(tmp_path / "a", 3)
    with (tmp_path / "a" / "index.txt").open("a") as file:
        file.write("2 5 5")  # killed in the middle of a line
    with Writer(tmp_path / "a", {"dtype": "float32"}) as writer:
        assert writer.done == 2
        for maps, mask in list(images(5))[2:]:
            writer.append(maps, mask)
    written(tmp_path / "whole")
    for name in ("features.bin", "masks.bin", "index.txt", "manifest.json"):
        resumed, expected = ((tmp_path / f / name).read_bytes() for f in ("a", "whole"))
        assert resumed == expected, name


def test_damage_is_named(tmp_path):
    path = written(tmp_path / "a") / "features.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"features\.bin has \d+ bytes.*delete .*/a and"):
        CachedFeatures([tmp_path / "a"], ())
