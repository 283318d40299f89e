"""The generative model of scenes."""

import numpy as np
import pytest
import torch

from emastudy.datasets import Scenes, load


def test_scenes_are_deterministic_in_seed_split_and_index():
    a, b = Scenes(seed=3)[5], Scenes(seed=3)[5]
    torch.testing.assert_close(a[0], b[0])
    torch.testing.assert_close(a[1], b[1])
    for other in (Scenes(seed=4)[5], Scenes(seed=3)[6], Scenes("val", seed=3)[5]):
        assert not torch.equal(other[0], a[0])


def test_the_length_does_not_change_the_images():
    torch.testing.assert_close(Scenes(num_images=10)[7][0], Scenes(num_images=2000)[7][0])


def test_sizes_types_and_labels():
    image, mask = Scenes(num_classes=5, size=48, num_regions=30)[0]
    assert image.shape == (3, 48, 48)
    assert image.dtype == mask.dtype == torch.uint8
    assert mask.shape == (48, 48)
    assert set(mask.unique().tolist()) <= set(range(5))
    assert len(Scenes(num_classes=5).classes) == len(Scenes(num_classes=5).palette)


def test_labels_are_exact():
    """Without noise, style and clipping a class shows its own colours only, in every image."""
    scenes = Scenes(noise=0.0, style=0.0)
    colors = {}
    for index in range(20):
        image, mask = scenes[index]
        for c in mask.unique().tolist():
            colors.setdefault(c, []).append(image.numpy()[:, mask.numpy() == c].mean(axis=1))
    means = {c: np.mean(v, axis=0) for c, v in colors.items()}
    for c, values in colors.items():
        for value in values:
            # Small regions do not see a whole period of the grating; they stay nearest to
            # their own class within its tint.
            assert np.abs(value - means[c]).max() < 26  # 0.1 of 255


def test_noise_and_style_have_the_stated_size():
    quiet, noisy = Scenes(noise=0.0, style=0.0), Scenes(noise=0.1, style=0.0)
    a, b = quiet[0][0].float() / 255, noisy[0][0].float() / 255
    inner = (a > 0.35) & (a < 0.65)  # away from clipping
    assert float((b - a)[inner].std()) == pytest.approx(0.1, rel=0.05)
    shifts = []
    for index in range(200):
        a, b = quiet[index][0].float() / 255, Scenes(noise=0.0, style=0.05)[index][0].float() / 255
        shift = (b - a).mean(dim=(1, 2))
        shifts.append(shift)
        assert (b - a - shift[:, None, None]).abs().max() < 0.1  # the same for all pixels
    assert float(torch.stack(shifts).std()) == pytest.approx(0.05, rel=0.15)


def test_a_pixel_is_ambiguous_and_all_pixels_of_a_class_are_not():
    """Nearest class colour: poor for single pixels, right for the means over classes' pixels."""
    scenes, clean = Scenes(), Scenes(noise=0.0, style=0.0)
    sums, counts = np.zeros((8, 3)), np.zeros(8)
    for index in range(50):
        image, mask = clean[index]
        for c in range(8):
            chosen = image.numpy()[:, mask.numpy() == c]
            sums[c] += chosen.sum(axis=1)
            counts[c] += chosen.shape[1]
    prototypes = sums / counts[:, None]

    def nearest(colors):
        return np.linalg.norm(colors[:, None] - prototypes, axis=2).argmin(axis=1)

    single, pooled = [], []
    for index in range(50):
        image, mask = scenes[index]
        for c in mask.unique().tolist():
            chosen = image.numpy()[:, mask.numpy() == c].T.astype(float)
            if len(chosen) > 100:
                single.append((nearest(chosen) == c).mean())
                pooled.append(nearest(chosen.mean(axis=0, keepdims=True))[0] == c)
    assert np.mean(single) < 0.4
    assert np.mean(pooled) > 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 0}, "num_images is 0"),
        ({"num_classes": 1}, "num_classes is 1"),
        ({"size": 4}, "size is 4"),
        ({"num_regions": 0}, "num_regions is 0"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"noise": float("inf")}, "noise is inf"),
        ({"style": -1.0}, "style is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"brightness": 2}, "brightness"),
        ({"split": "dev"}, "train, val, test"),
    ],
)
def test_bad_knobs_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load("scenes", **options)


def test_unknown_dataset_lists_the_known():
    with pytest.raises(ValueError, match="there are .*scenes, voc2012"):
        load("cityscapes")
