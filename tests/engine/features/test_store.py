"""Features on disk: read back as written, refused where damaged."""

import pytest
import torch

from emastudy.engine.features import store
from emastudy.engine.features.store import CachedFeatures
from emastudy.errors import InputError


def images(number):
    """Feature maps (views, channels, h, w) and masks (H, W) of images of different sizes."""
    generator = torch.Generator().manual_seed(number)
    for n in range(number):
        maps = torch.randn(2, 3, 2 + n, 5, generator=generator)
        yield maps, torch.randint(256, (8 + n, 20), generator=generator, dtype=torch.uint8)


def written(folder, number=5, dtype=torch.float32):
    for index, (maps, mask) in enumerate(images(number)):
        store.write(folder, index, maps, mask, dtype)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_written_is_read(dtype, tmp_path):
    features = CachedFeatures([written(tmp_path / "a", dtype=dtype)] * 2, ("cat", "dog"))
    assert features.classes == ("cat", "dog")
    assert len(features) == store.written(tmp_path / "a") == 5
    for (maps, mask), (both, stored) in zip(images(5), features, strict=True):
        for read in both:
            assert torch.equal(read, maps.to(dtype))
            assert read.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(stored, mask.long())
    chosen = CachedFeatures([tmp_path / "a"], ("cat", "dog"), indices=[3, 1])
    assert [len(mask) for _, mask in chosen] == [11, 9]


def test_damage_is_named(tmp_path):
    features = CachedFeatures([written(tmp_path / "a")], ())
    path = tmp_path / "a" / "000002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"000002\.safetensors is damaged.*delete .*/a and"):
        features[2]
    path.unlink()
    with pytest.raises(InputError, match="is damaged"):
        features[2]
