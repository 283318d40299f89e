"""The whole image in a square: where its pixels go, and what fills the rest."""

import re

import pytest
import torch
import torch.nn.functional as F
from torchvision.tv_tensors import Image, Mask

from emastudy.datasets import (
    Scenes,
    evaluation_transform,
    misalignment,
    pad_to_grid,
    whole_image_transform,
)

SCENES = Scenes("train", num_images=1)


def test_a_small_image_keeps_its_pixels_and_its_corner():
    image, mask = SCENES[0]
    square, labels = whole_image_transform(SCENES, 97)(image, mask)
    plain, truth = evaluation_transform(SCENES)(image, mask)
    assert square.shape == (3, 97, 97)
    assert labels.shape == (97, 97)
    torch.testing.assert_close(square[:, :64, :64], plain)
    assert torch.equal(labels[:64, :64], truth)
    assert square[:, 64:].abs().sum() == square[:, :, 64:].abs().sum() == 0
    assert (labels[64:] == 255).all()
    assert (labels[:, 64:] == 255).all()


@pytest.mark.parametrize(
    ("size", "inside"), [((200, 100), (33, 16)), ((30, 330), (3, 33)), ((33, 33), (33, 33))]
)
def test_a_large_image_is_shrunk_to_its_longest_side(size, inside):
    image = Image(torch.full((3, *size), 255, dtype=torch.uint8))
    mask = Mask(torch.full(size, 2, dtype=torch.uint8))
    square, labels = whole_image_transform(SCENES, 33)(image, mask)
    height, width = inside
    assert square.shape == (3, 33, 33)
    torch.testing.assert_close(
        square[:, :height, :width].as_subclass(torch.Tensor), torch.full((3, height, width), 2.0)
    )
    assert (labels[:height, :width] == 2).all()
    assert (labels == 2).sum() == height * width
    assert (labels == 255).sum() == 33 * 33 - height * width
    assert labels.dtype == torch.int64


@pytest.mark.parametrize(("size", "grid"), [((30, 64), (33, 65)), ((33, 65), (33, 65))])
def test_without_a_square_there_is_the_grid_and_nothing_else(size, grid):
    image = Image(torch.full((3, *size), 255, dtype=torch.uint8))
    mask = Mask(torch.full(size, 2, dtype=torch.uint8))
    whole, labels = whole_image_transform(SCENES, 0)(image, mask)
    (expected,) = pad_to_grid(evaluation_transform(SCENES)(image, mask)[0][None])
    assert torch.equal(whole.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))
    assert labels.shape == grid
    assert (labels[: size[0], : size[1]] == 2).all()
    assert (labels == 255).sum() == grid[0] * grid[1] - size[0] * size[1]


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_corners_coincide_at_the_stride_of_training(stride):
    image = Image(torch.zeros(3, 40, 70, dtype=torch.uint8))
    mask = Mask(torch.zeros(40, 70, dtype=torch.uint8))
    _, labels = whole_image_transform(SCENES, 0, stride)(image, mask)
    for length, before in zip(labels.shape, (40, 70), strict=True):
        assert (length - 1) % stride == 0
        assert 0 <= length - before < stride


def test_padding_to_the_grid_adds_less_than_8_and_only_right_and_below():
    image = torch.randn(1, 3, 66, 64)
    padded = pad_to_grid(image)
    assert padded.shape == (1, 3, 73, 65)
    assert torch.equal(padded[..., :66, :64], image)
    assert padded.abs().sum() == pytest.approx(image.abs().sum())


def drift(side, stride):
    """How far off, in pixels, every stride-th pixel's own column is after upsampling."""
    columns = torch.arange(side, dtype=torch.float64).expand(1, 1, 2, side)
    size = columns.shape[-2:]
    back = F.interpolate(columns[..., ::stride], size=size, mode="bilinear", align_corners=True)
    return round(float((back - columns).abs().max()))


@pytest.mark.parametrize(
    ("side", "stride"), [(512, 16), (320, 16), (64, 4), (16, 16), (30, 32), (500, 8), (513, 8)]
)
def test_a_crop_whose_labels_drift_gets_a_warning_with_the_sides_that_do_not(side, stride):
    off = drift(side, stride)
    if not off:
        assert misalignment(side, stride) == []
        return
    (warning,) = misalignment(side, stride)
    assert f"up to {off} pixels" in warning
    good = re.search(r"labels; ([\d or]+) is without", warning)[1].split(" or ")
    for other in map(int, good):
        assert abs(other - side) < stride
        assert drift(other, stride) == 0
        assert misalignment(other, stride) == []


@pytest.mark.parametrize(("side", "stride"), [(0, 16), (513, 16), (321, 16), (481, 16)])
def test_whole_images_and_the_recipes_on_photographs_do_not_drift(side, stride):
    assert misalignment(side, stride) == []


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_images_are_scored_on_the_grid_of_their_stride(stride):
    padded = pad_to_grid(torch.zeros(1, 3, 70, 40), stride)
    for length, before in zip(padded.shape[-2:], (70, 40), strict=True):
        assert (length - 1) % stride == 0
        assert 0 <= length - before < max(8, stride)
