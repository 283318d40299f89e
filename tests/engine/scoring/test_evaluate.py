"""Scores against scikit-learn's counts."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from engine.tiny import TINY, network, runtime
from sklearn.metrics import confusion_matrix, jaccard_score

from emastudy import networks
from emastudy.datasets import Scenes, evaluation_transform, load
from emastudy.engine import Scores, Views, evaluate, predict, score, train
from emastudy.engine.scoring import metrics
from emastudy.errors import InputError


def test_scores_follow_from_the_counts():
    confusion = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    scores = Scores(confusion, ("a", "b", "c"))
    assert scores.iou["a"] == pytest.approx(3 / 4)
    assert scores.iou["b"] == pytest.approx(2 / 3)
    assert scores.iou["c"] is None  # neither present nor predicted
    assert scores.miou == pytest.approx(100 * (3 / 4 + 2 / 3) / 2)
    assert scores.means["pixel_accuracy"] == pytest.approx(100 * 5 / 6)


def test_evaluation_agrees_with_scikit_learn():
    scenes, net = Scenes("val", num_images=4), network()
    scores = evaluate(net, scenes)
    truth, guess = [], []
    for image, mask in scenes:
        x = evaluation_transform(scenes)(image, mask)[0]
        padded = F.pad(x[None], (0, 1, 0, 1))  # 64 → 65 = 8·8 + 1
        guess.append(net(padded)[..., :64, :64].argmax(1).flatten())
        truth.append(mask.flatten())
    every_truth, every_guess = torch.cat(truth).numpy(), torch.cat(guess).numpy()
    np.testing.assert_array_equal(
        scores.confusion, confusion_matrix(every_truth, every_guess, labels=range(8))
    )
    jaccard = jaccard_score(
        every_truth, every_guess, labels=range(8), average=None, zero_division=0
    )
    np.testing.assert_allclose(
        [v for v in scores.iou.values() if v == v],
        [j for j, v in zip(jaccard, scores.iou.values(), strict=True) if v == v],
    )
    assert scores.confusion.dtype == torch.int64
    images = metrics.matrices(metrics.unpack(metrics.pack(scores.by_image)), 8)
    alone = [confusion_matrix(t, g, labels=range(8)) for t, g in zip(truth, guess, strict=True)]
    np.testing.assert_array_equal(images, alone)


def test_ignored_pixels_and_mixed_sizes(voc_root):
    dataset = load("voc2012", "train", root=voc_root)
    scores = evaluate(network(21, "mobilenet_v2"), dataset, output_stride=16)
    labelled = sum(int((mask != 255).sum()) for _, mask in dataset)
    assert int(scores.confusion.sum()) == labelled


def test_a_split_without_labels_is_refused_before_training_and_when_it_is_scored(
    my_module, tmp_path
):
    getitem = """
    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        return image, mask if self.split == "train" else mask.fill_(255)
"""
    my_module.write_text(my_module.read_text() + getitem)
    config = dataclasses.replace(
        TINY, dataset="my_module:Few", dataset_options={"num_images": 3}, eval_images=0
    )
    with pytest.raises(InputError, match="split 'val': no pixel of its 3 masks belongs to a class"):
        train(config, runtime(tmp_path))
    with pytest.raises(InputError, match="no pixel of split 'val' belongs to a class, all are 255"):
        score(network(3), config, runtime(tmp_path))


def test_a_network_is_scored_at_another_stride_and_left_as_it_was():
    net, sides = networks.build("fcn", num_classes=8, output_stride=32, channels=16), []
    net.train()
    net.backbone.stages[0].eval()  # frozen, say
    modes = [module.training for module in net.modules()]
    hook = net.backbone.register_forward_hook(lambda *x: sides.append(x[2][-1].shape[-1]))
    evaluate(net, Scenes("val", num_images=1), output_stride=8)
    hook.remove()
    assert sides == [9]
    assert [module.training for module in net.modules()] == modes
    assert net.output_stride == 32
    assert net.backbone(torch.randn(1, 3, 65, 65))[-1].shape[-2:] == (3, 3)


def test_any_network_of_images_to_logits_is_scored():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Dropout())
    scores = evaluate(net, Scenes("val", num_images=2))
    assert scores.confusion.sum() == 2 * 64 * 64
    assert net.training
    with pytest.raises(ValueError, match="output_stride is 8, but Sequential is no network of"):
        evaluate(net, Scenes("val", num_images=2), output_stride=8)


def test_borders_are_scored_where_asked(voc_root):
    dataset = load("voc2012", "train", root=voc_root)
    net = network(21, "mobilenet_v2")
    assert "boundary_f" not in evaluate(net, dataset, output_stride=16).means
    scores = evaluate(net, dataset, output_stride=16, boundary=True)
    assert 0 <= scores.means["boundary_f"] <= 100
    assert set(scores.means) == {
        "miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "boundary_f",
    }  # fmt: skip


def test_predictions_are_handed_on_with_their_index():
    scenes, net, kept = Scenes("val", num_images=3), network(), {}
    evaluate(net, scenes, views=Views(flip=True), keep=kept.__setitem__)
    assert list(kept) == [0, 1, 2]
    for index, classes in kept.items():
        expected = predict(net, scenes[index][0], scenes, views=Views(flip=True))
        assert (classes == expected).float().mean() > 0.999


SCRIPT = """
import sys, torch
from emastudy import networks
from emastudy.datasets import Scenes
from emastudy.engine import evaluate
from emastudy.engine.scoring import metrics
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group(
    "gloo", init_method="file://" + store, rank=rank, world_size=2
)
torch.manual_seed(0)
net = networks.build("fcn", backbone="small_resnet", num_classes=8, output_stride=4, channels=16)
kept = []
scores = evaluate(
    net, Scenes("val", num_images=5), boundary=True, keep=lambda index, _: kept.append(index),
)
one = evaluate(net, Scenes("val", num_images=1))
assert torch.equal(one.confusion, metrics.matrices(one.by_image, 8)[0]), "a process without images"
torch.save((scores.confusion, scores.border, kept, scores.by_image), f"{out}/{rank}")
torch.distributed.destroy_process_group()
"""


def test_two_processes_count_an_odd_set_once(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store"), str(tmp_path)])
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    alone = evaluate(network(), Scenes("val", num_images=5), boundary=True)
    assert alone.confusion.sum() == 5 * 64 * 64
    for rank, share in ((0, [0, 2, 4]), (1, [1, 3])):
        confusion, border, kept, images = torch.load(tmp_path / str(rank), weights_only=True)
        assert kept == share
        torch.testing.assert_close(confusion, alone.confusion, rtol=0, atol=0)
        torch.testing.assert_close(border, alone.border)
        assert torch.equal(images, alone.by_image)
