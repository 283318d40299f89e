"""Predictions: padding, views and windows against slow references."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine.tiny import network
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import resize

from emastudy import networks
from emastudy.datasets import Scenes, evaluation_transform
from emastudy.engine import MULTI_SCALE, Views, predict
from emastudy.engine.scoring.predict import _starts, classify, forward, predict_probabilities
from emastudy.errors import InputError


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 65), (66, 71), (97, 40)])
def test_images_are_padded_to_8k_plus_1_and_logits_cut_back(height, width):
    seen = []
    net = network()
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    logits = forward(net, torch.randn(1, 3, height, width))
    assert logits.shape == (1, 8, height, width)
    assert all(
        size % 8 == 1 and 0 <= size - side < 8
        for size, side in zip(seen[0], (height, width), strict=True)
    )


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_corners_of_image_and_feature_map_coincide_at_every_stride(stride):
    """With the column's number for an image, what is upsampled is the column's number again."""

    class Columns(Pointwise):
        output_stride = stride

        def forward(self, image):
            kept = image[..., ::stride, ::stride]
            return F.interpolate(kept, image.shape[-2:], mode="bilinear", align_corners=True)

    # Three strides and a pixel need no padding; three pixels less need it in the last stride.
    width = 3 * max(8, stride) + 1
    image = torch.arange(float(width)).expand(1, 3, width, width)
    assert (forward(Columns(), image) - image).abs().max() < 1e-3
    cut = image[..., :-3]
    inner = cut.shape[-1] - stride
    assert (forward(Columns(), cut) - cut)[..., :inner].abs().max() < 1e-3


def test_predict_is_the_argmax_of_evaluation():
    scenes, net = Scenes("val", num_images=1), network()
    image, _ = scenes[0]
    x = evaluation_transform(scenes)(*scenes[0])[0]
    expected = forward(net, x[None])[0].argmax(0)
    assert (predict(net, image, scenes) == expected).float().mean() > 0.999


class Pointwise(networks.SegmentationNetwork):
    """Logits that depend on the pixel alone, so that a window sees what the whole image does."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        torch.manual_seed(0)
        self.map = torch.nn.Conv2d(3, 8, 1)

    def forward(self, image):
        return self.map(image)


def test_views_are_averaged_as_probabilities():
    """An independent, slow average in float64 over scales and mirror images."""
    net, image = network(), torch.randn(1, 3, 66, 90, generator=torch.Generator().manual_seed(1))
    total = torch.zeros(8, 66, 90, dtype=torch.float64)
    for scale in MULTI_SCALE:
        size = [round(66 * scale), round(90 * scale)]
        view = resize(image, size, antialias=True)
        padded = F.pad(view, (0, -(size[1] - 1) % 8, 0, -(size[0] - 1) % 8))
        mirror = F.pad(view.flip(3), (0, -(size[1] - 1) % 8, 0, -(size[0] - 1) % 8))
        for x, back in ((padded, False), (mirror, True)):
            with torch.no_grad():
                logits = net(x)[..., : size[0], : size[1]]
            p = resize(logits.double().softmax(1), [66, 90], antialias=True)[0]
            total += p.flip(2) if back else p
    seen = classify(net, image, Views(scales=MULTI_SCALE, flip=True))
    top = total.topk(2, dim=0)
    clear = top.values[0] - top.values[1] > 1e-4  # of 12: elsewhere rounding decides
    assert clear.float().mean() > 0.99
    torch.testing.assert_close(seen[0][clear], top.indices[0][clear])
    plain = classify(net, image)
    assert (plain != seen).any()


def test_every_scale_is_padded_to_8k_plus_1():
    seen, net = [], network()
    net.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    classify(net, torch.randn(1, 3, 64, 100), Views(scales=(0.5, 1.0, 1.75), flip=True))
    assert seen == [size for size in ((33, 57), (65, 105), (113, 177)) for _ in "of"]


def test_mirroring_the_image_mirrors_flip_averaged_classes():
    net, image = network(), torch.randn(1, 3, 65, 65)
    options = {"scales": (1.0, 1.5), "flip": True}
    once = classify(net, image, Views(**options))
    again = classify(net, image.flip(-1), Views(**options)).flip(-1)
    assert (once == again).float().mean() > 0.999
    alone = classify(net, image)
    assert (classify(net, image.flip(-1)).flip(-1) != alone).any()


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 9, 9), r"a float32 tensor of shape \(3, 9, 9\); expected a uint8 tensor"),
        (torch.zeros(9, 9, 3).byte(), r"shape \(9, 9, 3\); expected .* \(3, H, W\)"),
        (torch.zeros(1, 3, 9, 9).byte(), r"shape \(1, 3, 9, 9\)"),
        (torch.zeros(4, 9, 9).byte(), r"shape \(4, 9, 9\)"),
        (np.zeros((3, 9, 9), np.uint8), "image is a uint8 array"),
    ],
)
def test_what_is_no_photograph_is_named(image, message):
    with pytest.raises(InputError, match=message):
        predict(network(), image, Scenes)


def test_smaller_logits_are_upsampled_as_in_training():
    class Quarter(Pointwise):
        def forward(self, image):
            return super().forward(image)[..., ::4, ::4]

    image = torch.randn(1, 3, 65, 65)
    quarter = Quarter()
    seen = forward(quarter, image)
    expected = F.interpolate(quarter(image), (65, 65), mode="bilinear", align_corners=True)
    torch.testing.assert_close(seen, expected)


def test_what_is_no_network_of_these_classes_is_named():
    image = torch.randn(1, 3, 65, 65)
    with pytest.raises(InputError, match="makes 8 logits, and the dataset has 9 classes"):
        classify(network(), image, num_classes=9)

    class Both(Pointwise):
        def forward(self, image):
            return {"out": super().forward(image)}

    with pytest.raises(InputError, match="the network returns a dict; expected logits"):
        classify(Both(), image)


def test_a_network_that_answers_in_bfloat16_is_averaged_in_float32():
    network = torch.nn.Conv2d(3, 4, 1)
    image = torch.randint(0, 256, (3, 33, 41), dtype=torch.uint8)
    options = {"views": Views((0.5, 1.0), flip=True), "dtype": torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.rand(1, 3, 5, 5)).dtype == torch.bfloat16
    total = predict_probabilities(network, image, Scenes, **options).sum(dim=0)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, torch.ones(33, 41), rtol=0, atol=1e-5)


def test_one_scale_without_mirror_is_the_argmax_of_the_logits_bitwise():
    net, image = network(), torch.randn(1, 3, 40, 64)
    expected = forward(net, image).argmax(1)
    for options in ({}, {"scales": (1.0,)}, {"window": 64}, {"window": 1000}):
        torch.testing.assert_close(classify(net, image, Views(**options)), expected, rtol=0, atol=0)
    options = {"scales": (0.5, 1.0), "flip": True}
    whole = classify(net, image, Views(**options))
    covered = classify(net, image, Views(**options, window=64))
    torch.testing.assert_close(covered, whole, rtol=0, atol=0)


@pytest.mark.parametrize("window", [17, 32, 39])
def test_windows_meet_every_pixel_where_it_lies(window):
    net, image = Pointwise(), torch.randn(1, 3, 40, 77)
    whole = classify(net, image)
    seen = classify(net, image, Views(window=window))
    assert (seen == whole).float().mean() > 0.999  # a mean of equal numbers may round


def test_overlapping_windows_are_averaged():
    """Two windows of 33 on 33×49: alone at the ends, both in the middle."""
    net, image = network(), torch.randn(1, 3, 33, 49, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        left, right = (net(image[..., a : a + 33]).softmax(1)[0] for a in (0, 16))
    expected = torch.cat(
        [left[..., :16], (left[..., 16:] + right[..., :17]) / 2, right[..., 17:]], dim=-1
    )
    seen = classify(net, image, Views(window=33))[0]
    assert (seen == expected.argmax(0)).float().mean() > 0.999


@given(st.integers(1, 3000), st.integers(1, 600))
def test_windows_cover_a_side_and_overlap_by_a_third(side, window):
    starts = list(_starts(side, window))
    assert starts[0] == 0
    assert starts[-1] == max(0, side - window)
    assert all(0 < b - a <= window - window // 3 for a, b in pairwise(starts))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, r"scales is \(\); expected at least one"),
        ({"scales": (1.0, 0.0)}, "scales is"),
        ({"scales": (float("inf"),)}, "scales is"),
        ({"window": -1}, "window is -1"),
    ],
)
def test_bad_views_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        classify(network(), torch.randn(1, 3, 64, 64), Views(**options))
