"""Corruptions: as strong as stated, the same every time, images only."""

import numpy as np
import pytest
import torch
from torchvision.tv_tensors import Image

from emastudy.datasets import CORRUPTIONS, Scenes, View, corrupt
from emastudy.study.report import photograph


@pytest.fixture(scope="module")
def picture():
    return Image((255 * photograph("chelsea", height=96)).round().to(torch.uint8))


def distance(picture, kind, severity):
    worse = corrupt(picture, 3, kind=kind, severity=severity)
    return float((worse.float() - picture.float()).square().mean().sqrt())


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_every_severity_is_worse_than_the_one_before(picture, kind):
    distances = [distance(picture, kind, severity) for severity in range(1, 6)]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert len(set(distances)) == 5


def test_noise_has_the_stated_deviation_and_follows_the_index():
    grey = Image(torch.full((3, 64, 64), 128, dtype=torch.uint8))
    worse = corrupt(grey, 0, kind="noise", severity=1)
    assert worse.float().std() / 255 == pytest.approx(0.08, rel=0.05)
    assert torch.equal(worse, corrupt(grey, 0, kind="noise", severity=1))
    assert not torch.equal(worse, corrupt(grey, 1, kind="noise", severity=1))


def test_contrast_pulls_every_pixel_to_the_mean(picture):
    pixels = picture.numpy().astype(float)
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    expected = np.round(mean + 0.2 * (pixels - mean))
    ours = corrupt(picture, 0, kind="contrast", severity=3).numpy()
    assert np.abs(ours - expected).max() <= 1


def test_blur_grows_with_the_image():
    # A single bright pixel spreads over a width that is a share of the image.
    for side in (112, 224):
        dot = torch.zeros(3, side, side, dtype=torch.uint8)
        dot[:, side // 2, side // 2] = 255
        spread = corrupt(Image(dot), 0, kind="blur", severity=3).float()[0]
        place = torch.arange(side) - side // 2
        variance = float((spread.sum(0) * place**2).sum() / spread.sum())
        assert variance**0.5 == pytest.approx(3 * side / 224, rel=0.2)


@pytest.mark.parametrize(
    ("kind", "severity", "message"),
    [
        ("fog", 1, "corruption is 'fog'"),
        ("noise", 0, "severity is 0"),
        ("jpeg", 6, "severity is 6"),
    ],
)
def test_unknown_kinds_and_severities_are_named(picture, kind, severity, message):
    with pytest.raises(ValueError, match=message):
        corrupt(picture, 0, kind=kind, severity=severity)


def test_a_view_chooses_and_changes_images_and_leaves_masks():
    scenes = Scenes("val", num_images=5)
    seen = []

    def darken(image, index):
        seen.append(index)
        return Image(image // 2)

    view = View(scenes, [4, 1], darken)
    assert len(view) == 2
    image, mask = view[0]
    assert torch.equal(image, scenes[4][0] // 2)
    assert torch.equal(mask, scenes[4][1])
    view[1]
    assert seen == [4, 1]
    assert view.classes == scenes.classes
    assert view.palette == scenes.palette
    assert torch.equal(View(scenes)[2][0], scenes[2][0])
