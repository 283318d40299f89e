"""Transforms move image and mask alike, and the stream is the same however it is read."""

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.tv_tensors import Image, Mask

from emastudy.datasets import (
    Scenes,
    SegmentationDataset,
    TrainingStream,
    evaluation_transform,
    training_transform,
)


class Gradient(SegmentationDataset):
    """Pixel (row, column) shows its own coordinates in red and green; the mask is the row's tens.

    Smooth, so that resampling image (bilinear) and mask (nearest) can be compared.
    """

    name, classes = "gradient", tuple("abcdefghij")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows, columns = torch.meshgrid(torch.arange(100), torch.arange(80), indexing="ij")
        image = torch.stack([rows, columns, torch.full_like(rows, 255)]).to(torch.uint8)
        return Image(image), Mask((rows // 10).to(torch.uint8))


def stream(dataset, *, start=0, stop=24, seed=0, scales=(0.5, 1.0, 2.0), crop_size=65):
    transform = training_transform(dataset, scales=scales, crop_size=crop_size)
    return TrainingStream(dataset, transform, seed=seed, start=start, stop=stop)


def test_image_and_mask_undergo_the_same_geometry():
    for image, mask in stream(Gradient()):
        assert image.shape == (3, 65, 65)
        assert mask.shape == (65, 65)
        shown = (image[2] > 0.99) & (mask != 255)  # blue is full inside the photograph
        row = 255 * image[0][shown]
        # A mask value m covers rows 10m to 10m + 9; bilinear and nearest differ by at most a
        # pixel of the original at scale 0.5.
        assert shown.float().mean() > 0.3
        assert (row - 10 * mask[shown]).min() > -2
        assert (row - 10 * mask[shown]).max() < 12


def test_padding_is_the_mean_colour_and_ignored():
    for image, mask in stream(Gradient(), scales=(0.5,), crop_size=129):
        padded = mask == 255
        assert padded.sum() == 129 * 129 - 50 * 40
        assert (image[:, padded] == 0).all()


def test_the_smallest_scale_leaves_something_to_crop():
    for image, mask in stream(Gradient(), stop=2, scales=(0.01,), crop_size=8):
        assert image.isfinite().all()
        assert (mask != 255).sum() == 4


def test_scales_are_used_and_flips_happen():
    crops = [image for image, _ in stream(Gradient(), stop=60, crop_size=33)]
    columns = [float(255 * (image[1, 16, 20] - image[1, 16, 12])) for image in crops]
    assert min(columns) < -1 < 1 < max(columns)  # some are mirrored
    steps = {round(8 / abs(c), 1) for c in columns if abs(c) > 0.5}
    assert {0.5, 1.0, 2.0} <= steps


def test_scale_one_leaves_scenes_sharp():
    scenes = Scenes(num_images=5)
    whole = [evaluation_transform(scenes)(*scenes[index]) for index in range(5)]
    transform = training_transform(scenes, scales=(1.0,), crop_size=64)
    mirrored = set()
    for image, mask in TrainingStream(scenes, transform, seed=0, start=0, stop=5):
        found = [
            (index, turned)
            for index, (x, classes) in enumerate(whole)
            for turned in (False, True)
            if torch.equal(image, x.flip(-1) if turned else x)
            and torch.equal(mask, classes.flip(-1) if turned else classes)
        ]
        assert len(found) == 1
        mirrored |= set(found)
    assert sorted(index for index, _ in mirrored) == list(range(5))
    assert {turned for _, turned in mirrored} == {False, True}


def test_every_epoch_shows_every_image_once_in_another_order():
    class Indexed(Gradient):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return Image(torch.full((3, 8, 8), index, dtype=torch.uint8)), Mask(
                torch.zeros(8, 8, dtype=torch.uint8)
            )

    seen = [
        round(255 * image[0, 0, 0].item())
        for image, _ in stream(Indexed(), scales=(1.0,), crop_size=8)
    ]
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_goes_on_as_if_never_stopped(workers):
    whole = list(DataLoader(stream(Scenes(), scales=(0.75, 1.25)), batch_size=4))
    rest = list(
        DataLoader(
            stream(Scenes(), start=12, scales=(0.75, 1.25)), batch_size=4, num_workers=workers
        )
    )
    assert len(rest) == 3
    for (a, m), (b, n) in zip(whole[3:], rest, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        torch.testing.assert_close(m, n, rtol=0, atol=0)


def test_reading_does_not_disturb_the_global_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    stream(Scenes())[0]
    torch.testing.assert_close(torch.rand(3), expected)


def test_a_sample_depends_on_its_position_alone():
    """Neither on the order of reading nor on anybody's random state."""
    forwards = [*stream(Scenes(), stop=6)]
    samples = stream(Scenes(), stop=6)
    for place in (5, 0, 3, 3, 1):
        torch.manual_seed(place)
        for a, b in zip(samples[place], forwards[place], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_an_image_is_augmented_anew_in_every_epoch():
    class One(Gradient):
        def __len__(self):
            return 1

    crops = [image for image, _ in stream(One(), stop=8, crop_size=33)]
    different = {crop.numpy().tobytes() for crop in crops}
    assert len(different) >= 7  # 80 columns leave room for chance, not for repetition


def test_another_seed_is_another_course():
    a, b = stream(Scenes(), seed=0)[0][0], stream(Scenes(), seed=1)[0][0]
    assert not torch.equal(a, b)
