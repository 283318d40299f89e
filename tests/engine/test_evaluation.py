"""Scores against a plain numpy count, and the evaluation's geometry."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix, jaccard_score

from emastudy import networks
from emastudy.datasets import Scenes, evaluation_transform, load
from emastudy.engine import RunConfig, Runtime, Scores, evaluate, predict
from emastudy.engine.evaluation import forward

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
