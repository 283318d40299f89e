"""Scores against a plain numpy count, and the evaluation's geometry."""

import dataclasses
import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score
from torchvision.transforms.v2.functional import resize

from emastudy import networks
from emastudy.datasets import Scenes, evaluation_transform, load
from emastudy.engine import RunConfig, Runtime, Scores, evaluate, predict
from emastudy.engine.scoring.evaluate import MULTI_SCALE, _starts, classify, forward

CONFIG = RunConfig(head="fcn", precision="float32")
VOC = dataclasses.replace(CONFIG, dataset="voc2012", eval_output_stride=16)


def network(classes=8, backbone="small_resnet"):
    torch.manual_seed(0)
    return networks.build(
        "fcn", backbone=backbone, num_classes=classes, output_stride=4, channels=16
    ).eval()


def test_scores_follow_from_the_counts():
    confusion = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    scores = Scores(confusion, ("a", "b", "c"))
    assert scores.iou["a"] == pytest.approx(3 / 4)
    assert scores.iou["b"] == pytest.approx(2 / 3)
    assert math.isnan(scores.iou["c"])  # neither present nor predicted
    assert scores.miou == pytest.approx(100 * (3 / 4 + 2 / 3) / 2)
    assert scores.pixel_accuracy == pytest.approx(100 * 5 / 6)


def test_evaluation_agrees_with_scikit_learn():
    scenes, net = Scenes("val", num_images=4), network()
    scores = evaluate(net, scenes, CONFIG)
    truth, guess = [], []
    for image, mask in scenes:
        x = evaluation_transform(scenes)(image, mask)[0]
        padded = F.pad(x[None], (0, 1, 0, 1))  # 64 → 65 = 8·8 + 1
        guess.append(net(padded)[..., :64, :64].argmax(1).flatten())
        truth.append(mask.flatten())
    truth, guess = torch.cat(truth).numpy(), torch.cat(guess).numpy()
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(truth, guess, labels=range(8)))
    jaccard = jaccard_score(truth, guess, labels=range(8), average=None, zero_division=0)
    np.testing.assert_allclose(
        [v for v in scores.iou.values() if v == v],
        [j for j, v in zip(jaccard, scores.iou.values(), strict=True) if v == v],
    )
    assert scores.confusion.dtype == torch.int64


def test_ignored_pixels_and_mixed_sizes(voc_root):
    dataset = load("voc2012", "train", root=voc_root)
    scores = evaluate(network(21, "mobilenet_v2"), dataset, VOC)
    labelled = sum(int((mask != 255).sum()) for _, mask in dataset)
    assert int(scores.confusion.sum()) == labelled


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 65), (66, 71), (97, 40)])
def test_images_are_padded_to_8k_plus_1_and_logits_cut_back(height, width):
    seen = []
    net = network()
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    logits = forward(net, torch.randn(1, 3, height, width), CONFIG, Runtime())
    assert logits.shape == (1, 8, height, width)
    assert all(
        size % 8 == 1 and 0 <= size - side < 8
        for size, side in zip(seen[0], (height, width), strict=True)
    )


def test_predict_is_the_argmax_of_evaluation():
    scenes, net = Scenes("val", num_images=1), network()
    image, _ = scenes[0]
    x = evaluation_transform(scenes)(*scenes[0])[0]
    expected = forward(net, x[None], CONFIG, Runtime())[0].argmax(0)
    assert (predict(net, image, scenes, CONFIG) == expected).float().mean() > 0.999


def test_the_evaluation_stride_is_set():
    net = networks.build("fcn", num_classes=8, output_stride=32, channels=16)
    config = dataclasses.replace(CONFIG, eval_output_stride=8)
    evaluate(net, Scenes("val", num_images=1), config)
    assert net.backbone(torch.randn(1, 3, 65, 65))[-1].shape[-2:] == (9, 9)


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
    seen = classify(net, image, CONFIG, Runtime(), scales=MULTI_SCALE, flip=True)
    top = total.topk(2, dim=0)
    clear = top.values[0] - top.values[1] > 1e-4  # of 12: elsewhere rounding decides
    assert clear.float().mean() > 0.99
    torch.testing.assert_close(seen[0][clear], top.indices[0][clear])
    plain = classify(net, image, CONFIG, Runtime())
    assert (plain != seen).any()


def test_every_scale_is_padded_to_8k_plus_1():
    seen, net = [], network()
    net.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    classify(net, torch.randn(1, 3, 64, 100), CONFIG, Runtime(), scales=(0.5, 1.0, 1.75), flip=True)
    assert seen == [size for size in ((33, 57), (65, 105), (113, 177)) for _ in "of"]


def test_mirroring_the_image_mirrors_flip_averaged_classes():
    net, image = network(), torch.randn(1, 3, 65, 65)
    options = {"scales": (1.0, 1.5), "flip": True}
    once = classify(net, image, CONFIG, Runtime(), **options)
    again = classify(net, image.flip(-1), CONFIG, Runtime(), **options).flip(-1)
    assert (once == again).float().mean() > 0.999
    alone = classify(net, image, CONFIG, Runtime())
    assert (classify(net, image.flip(-1), CONFIG, Runtime()).flip(-1) != alone).any()


def test_one_scale_without_mirror_is_the_argmax_of_the_logits_bitwise():
    net, image = network(), torch.randn(1, 3, 40, 64)
    expected = forward(net, image, CONFIG, Runtime()).argmax(1)
    for options in ({}, {"scales": (1.0,)}, {"window": 64}, {"window": 1000}):
        torch.testing.assert_close(
            classify(net, image, CONFIG, Runtime(), **options), expected, rtol=0, atol=0
        )
    options = {"scales": (0.5, 1.0), "flip": True}
    whole = classify(net, image, CONFIG, Runtime(), **options)
    covered = classify(net, image, CONFIG, Runtime(), **options, window=64)
    torch.testing.assert_close(covered, whole, rtol=0, atol=0)


@pytest.mark.parametrize("window", [17, 32, 39])
def test_windows_meet_every_pixel_where_it_lies(window):
    net, image = Pointwise(), torch.randn(1, 3, 40, 77)
    whole = classify(net, image, CONFIG, Runtime())
    seen = classify(net, image, CONFIG, Runtime(), window=window)
    assert (seen == whole).float().mean() > 0.999  # a mean of equal numbers may round


def test_overlapping_windows_are_averaged():
    """Two windows of 33 on 33×49: alone at the ends, both in the middle."""
    net, image = network(), torch.randn(1, 3, 33, 49, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        left, right = (net(image[..., a : a + 33]).softmax(1)[0] for a in (0, 16))
    expected = torch.cat(
        [left[..., :16], (left[..., 16:] + right[..., :17]) / 2, right[..., 17:]], dim=-1
    )
    seen = classify(net, image, CONFIG, Runtime(), window=33)[0]
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
        ({"scales": ()}, r"scales are \(\); expected positive factors"),
        ({"scales": (1.0, 0.0)}, "scales are"),
        ({"window": -1}, "window is -1"),
    ],
)
def test_bad_views_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        classify(network(), torch.randn(1, 3, 64, 64), CONFIG, Runtime(), **options)


def test_borders_are_scored_where_asked(voc_root):
    dataset = load("voc2012", "train", root=voc_root)
    net = network(21, "mobilenet_v2")
    assert evaluate(net, dataset, VOC).boundary_f is None
    scores = evaluate(net, dataset, VOC, boundary=True)
    assert 0 <= scores.boundary_f <= 100
    assert set(scores.means) == {
        "miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "boundary_f",
    }  # fmt: skip


def test_predictions_are_handed_on_with_their_index():
    scenes, net, kept = Scenes("val", num_images=3), network(), {}
    evaluate(net, scenes, CONFIG, flip=True, keep=kept.__setitem__)
    assert list(kept) == [0, 1, 2]
    for index, classes in kept.items():
        expected = predict(net, scenes[index][0], scenes, CONFIG, flip=True)
        assert (classes == expected).float().mean() > 0.999


SCRIPT = """
import sys, torch
from emastudy import networks
from emastudy.datasets import Scenes
from emastudy.engine import RunConfig, evaluate
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group(
    "gloo", init_method="file://" + store, rank=rank, world_size=2
)
torch.manual_seed(0)
net = networks.build("fcn", backbone="small_resnet", num_classes=8, output_stride=4, channels=16)
kept = []
scores = evaluate(
    net, Scenes("val", num_images=5), RunConfig(head="fcn", precision="float32"),
    boundary=True, keep=lambda index, _: kept.append(index),
)
torch.save((scores.confusion, scores.border, kept), f"{out}/{rank}")
torch.distributed.destroy_process_group()
"""


def test_two_processes_count_an_odd_set_once(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store"), str(tmp_path)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    alone = evaluate(network(), Scenes("val", num_images=5), CONFIG, boundary=True)
    assert alone.confusion.sum() == 5 * 64 * 64
    for rank, share in ((0, [0, 2, 4]), (1, [1, 3])):
        confusion, border, kept = torch.load(tmp_path / str(rank), weights_only=True)
        assert kept == share
        torch.testing.assert_close(confusion, alone.confusion, rtol=0, atol=0)
        torch.testing.assert_close(border, alone.border)


class Stop(Exception):
    pass


def stopping_after(images):
    def keep(index, _):
        if index == images:
            raise Stop

    return keep


def test_a_stopped_evaluation_goes_on(tmp_path):
    scenes, seen = Scenes("val", num_images=6), []
    place = Runtime(runs_dir=str(tmp_path), checkpoint_seconds=0.0)
    place.run_dir(CONFIG).mkdir()

    def stopped(net, **options):
        with pytest.raises(Stop):
            evaluate(net, scenes, CONFIG, place, keep=stopping_after(3), **options)
        (file,) = place.run_dir(CONFIG).iterdir()
        return file

    def indices(net, **options):
        seen.clear()
        keep = lambda index, _: seen.append(index)  # noqa: E731
        scores = evaluate(net, scenes, CONFIG, place, keep=keep, **options)
        whole = evaluate(net, scenes, CONFIG, **options)
        torch.testing.assert_close(scores.confusion, whole.confusion, rtol=0, atol=0)
        if scores.border is not None:
            torch.testing.assert_close(scores.border, whole.border, rtol=0, atol=0)
        return list(seen)

    stopped(network(), boundary=True)
    assert indices(network(), boundary=True) == [3, 4, 5]
    assert not list(place.run_dir(CONFIG).iterdir())  # removed when finished
    assert indices(network()) == [0, 1, 2, 3, 4, 5]

    # Another evaluation does not take those counts up: other views, weights, or network options.
    file = stopped(network())
    assert indices(network(), flip=True) == [0, 1, 2, 3, 4, 5]
    other = network()
    other.head.classifier[1].bias.data += 0.1
    assert indices(other) == [0, 1, 2, 3, 4, 5]
    assert file.is_file()
    assert indices(network()) == [3, 4, 5]


def test_short_evaluations_and_networks_without_a_run_leave_no_file(tmp_path):
    place = Runtime(runs_dir=str(tmp_path), checkpoint_seconds=0.0)
    evaluate(network(), Scenes("val", num_images=2), CONFIG, place)
    assert not list(tmp_path.iterdir())
    place = dataclasses.replace(place, checkpoint_seconds=60.0)
    place.run_dir(CONFIG).mkdir()
    with pytest.raises(Stop):
        evaluate(network(), Scenes("val", num_images=2), CONFIG, place, keep=stopping_after(1))
    assert not list(place.run_dir(CONFIG).iterdir())
