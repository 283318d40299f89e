"""Cached features: what a head learns and scores on them is what it would in the whole network."""

import dataclasses
import threading
from pathlib import Path

import pytest
import torch
from engine.tiny import at_loss
from PIL import Image
from torchvision import tv_tensors
from torchvision.models import mobilenet_v2

from emastudy.datasets import (
    Scenes,
    TrainingStream,
    View,
    evaluation_transform,
    load,
    whole_image_transform,
)
from emastudy.engine import (
    RunConfig,
    Runtime,
    Views,
    evaluate,
    load_dataset,
    load_network,
    score,
    train,
)
from emastudy.engine.build import build_network, parameter_groups
from emastudy.engine.features import HeadNetwork, scoring_features, training_samples
from emastudy.engine.features.cache import either_view
from emastudy.engine.scoring.predict import forward
from emastudy.engine.training.loss import segmentation_loss
from emastudy.errors import InputError
from emastudy.networks import evaluation_mode
from emastudy.study import run_one

CONFIG = RunConfig(
    dataset_options={"num_images": 10},
    head="ema",
    head_options={"channels": 16, "num_bases": 4, "dropout": 0.0},
    backbone="mobilenet_v2",
    pretrained=True,
    frozen_backbone=True,
    output_stride=16,
    eval_output_stride=8,
    crop_size=65,
    batch_size=4,
    iterations=14,
    eval_images=3,
    precision="float32",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights in place of ImageNet's; statistics of scenes keep every channel alive."""
    torch.manual_seed(7)
    features = mobilenet_v2().features
    path = tmp_path_factory.mktemp("weights") / "features.pth"
    for layer in features.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    scenes = Scenes("test", num_images=8)
    features(torch.stack([evaluation_transform(scenes)(*sample)[0] for sample in scenes]))
    torch.save(features.state_dict(), path)
    return path


@pytest.fixture
def runtime(tmp_path, weights):
    return Runtime(
        runs_dir=str(tmp_path / "runs"), device="cpu", threads=1, weights_path=str(weights)
    )


def built(config, runtime, classes=8):
    torch.manual_seed(0)
    return build_network(config, classes, runtime.weights_path).eval()


def learned_from(network, config, runtime):
    return training_samples(
        network, load_dataset(config, config.train_split, runtime), config, runtime
    )[0]


def scored_on(network, config, runtime, indices=None):
    split = config.eval_split
    dataset = load_dataset(config, split, runtime)
    return scoring_features(network, dataset, split, config, runtime, indices)


def folders(runtime):
    return sorted(p for p in (Path(runtime.runs_dir) / "features").iterdir() if p.is_dir())


@pytest.mark.parametrize(
    ("head", "options"), [("ema", {}), ("ema", {"detail_channels": 4}), ("deeplabv3plus", {})]
)
@pytest.mark.parametrize(("precision", "stride"), [("float32", 8), ("bf16", 8), ("float32", 16)])
def test_scores_are_those_of_the_whole_network(voc_root, runtime, head, options, precision, stride):
    """Images of different sizes, bit for bit: the cache keeps the backbone's own numbers."""
    config = dataclasses.replace(
        CONFIG, dataset="voc2012", dataset_options={}, head=head,
        head_options={"channels": 16, **options},
        eval_split="train", eval_images=0, precision=precision, eval_output_stride=stride,
    )  # fmt: skip
    runtime = dataclasses.replace(runtime, data_root=str(voc_root))
    network, dataset = built(config, runtime, 21), load("voc2012", "train", root=voc_root)
    features, head = scored_on(network, config, runtime), HeadNetwork(network)
    assert len(features) == len(dataset)
    transform, dtype = evaluation_transform(dataset), runtime.autocast_dtype(config)
    for sample, (maps, stored) in zip(dataset, features, strict=True):
        image, mask = (x.as_subclass(torch.Tensor) for x in transform(*sample))
        with evaluation_mode(network, config.eval_output_stride):
            whole = forward(network, image[None], dtype)
            with torch.autocast("cpu", dtype, enabled=dtype is not None), torch.inference_mode():
                assert torch.equal(whole, head(maps, tuple(mask.shape), stride))
        assert torch.equal(mask, stored)
        assert maps[-1].dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
        assert all(level.data_ptr() % 64 == 0 for level in maps)
    how = runtime.scoring(config)
    scores = evaluate(network, dataset, **how)
    assert torch.equal(scores.confusion, score(network, config, runtime).confusion)
    assert scores.confusion.sum() > 0
    padded = score(network, config, runtime, square=129).confusion
    assert torch.equal(evaluate(network, dataset, **how, square=129).confusion, padded)
    assert padded.sum() == scores.confusion.sum()
    assert not torch.equal(padded, scores.confusion)
    chosen = [len(dataset) - 1]
    some = score(network, config, runtime, indices=chosen).confusion
    assert torch.equal(evaluate(network, View(dataset, chosen), **how).confusion, some)
    assert not torch.equal(some, scores.confusion)


def test_training_is_that_of_the_whole_network_on_whole_images(runtime):
    """The run, against a plain loop over images, mirror images and the whole network."""
    training = train(CONFIG, runtime)
    torch.manual_seed(CONFIG.seed)
    network = build_network(CONFIG, 8, runtime.weights_path)
    scenes = Scenes("train", num_images=10)
    square = whole_image_transform(scenes, 65)

    def sample(image, mask):
        image, mask = square(image, mask)
        mirror = torch.rand(()) < 0.5
        image, mask = (x.as_subclass(torch.Tensor) for x in (image, mask))
        return (image.flip(-1), mask.flip(-1)) if mirror else (image, mask)

    stream = TrainingStream(scenes, sample, seed=0, start=0, stop=14 * 4)
    optimizer = torch.optim.SGD(parameter_groups(network, 0.009, 1e-4), lr=0.009, momentum=0.9)
    network.train()
    network.backbone.eval()
    rates = [group["lr"] for group in optimizer.param_groups]
    losses = []
    for iteration in range(14):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - iteration / 14) ** 0.9
        batch = [stream[4 * iteration + k] for k in range(4)]
        image, mask = (torch.stack(column) for column in zip(*batch, strict=True))
        loss = segmentation_loss(network(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    curve = [value for _, value in training.curves["loss"]]
    assert curve == pytest.approx([sum(losses[:10]) / 10, sum(losses[10:]) / 4], rel=1e-4)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(
            training.network.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name
        )


def test_whole_images_are_learnt_from_without_a_square(runtime, tmp_path):
    """Scenes of 64 pixels on a grid of 65 are what squares of 65 hold."""
    whole = dataclasses.replace(CONFIG, crop_size=0)
    assert whole.id != CONFIG.id
    curve = train(whole, runtime).curves["loss"]
    assert curve == train(CONFIG, runtime).curves["loss"]


def test_whole_images_of_several_sizes_are_refused(voc_root, runtime):
    config = dataclasses.replace(
        CONFIG, dataset="voc2012", dataset_options={}, crop_size=0, eval_split="train",
        eval_images=0,
    )  # fmt: skip
    runtime = dataclasses.replace(runtime, data_root=str(voc_root))
    with pytest.raises(InputError, match=r"crop_size is 0, and images of voc2012 train differ"):
        train(config, runtime)


def test_only_the_head_learns_and_the_checkpoint_is_a_whole_network(runtime, tmp_path):
    record = run_one(CONFIG, tmp_path / "records", runtime)
    network, _ = load_network(runtime.run_dir(CONFIG))
    fresh = built(CONFIG, runtime)
    for name, value in fresh.backbone.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], value), name
    assert not torch.equal(network.head.reduce[0].weight, fresh.head.reduce[0].weight)
    assert not torch.equal(network.head.context.bases, fresh.head.context.bases)
    whole = evaluate(network, Scenes("val", num_images=3), **runtime.scoring(CONFIG))
    assert whole.confusion.tolist() == record.confusion
    tuned = dataclasses.replace(CONFIG, frozen_backbone=False)
    assert scored_on(network, tuned, runtime) is None
    assert score(network, tuned, runtime).confusion.tolist() == record.confusion


def test_a_stopped_run_goes_on_bitwise(runtime, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, head_options={"channels": 16, "dropout": 0.3})
    whole = train(config, runtime)
    place = dataclasses.replace(runtime, runs_dir=str(tmp_path / "stopped"), checkpoint_seconds=0.0)

    with monkeypatch.context() as patch:
        at_loss(patch, 12, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, place)
    resumed = train(config, place)
    assert resumed.resumed_from == 10
    assert resumed.curves == whole.curves
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name


def test_both_views_and_their_masks(runtime):
    network = built(CONFIG, runtime)
    features = learned_from(network, CONFIG, runtime)
    scenes = Scenes("train", num_images=10)
    image, mask = whole_image_transform(scenes, 65)(*scenes[3])
    (maps,), stored = features[3]
    assert torch.equal(stored, mask)
    with torch.inference_mode():
        for view, x in enumerate((image, image.flip(-1))):
            expected = network.backbone(x[None].as_subclass(torch.Tensor))[-1][0]
            torch.testing.assert_close(maps[view], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(maps[0], maps[1])
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        (chosen,), labels = either_view([maps], stored)
        mirrored = torch.equal(labels, mask.flip(-1))
        assert mirrored or torch.equal(labels, mask)
        assert torch.equal(chosen, maps[int(mirrored)])
        seen.add(mirrored)
    assert seen == {True, False}


def test_heads_share_features_and_anything_else_does_not(runtime, weights, tmp_path):
    def make(runtime=runtime, **changes):
        config = dataclasses.replace(CONFIG, **changes)
        learned_from(built(config, runtime), config, runtime)
        return len(folders(runtime))

    assert make() == 1
    assert make(head="fcn", head_options={"channels": 8}, seed=3, iterations=2) == 1
    assert make(head="deeplabv3plus", head_options={"channels": 8}) == 2  # + the first map
    assert make(output_stride=8) == 3
    assert make(crop_size=81) == 4
    assert make(dataset_options={"num_images": 10, "seed": 1}) == 5
    assert make(precision="bf16") == 6
    state = torch.load(weights, weights_only=True)
    state["0.1.running_mean"] += 1
    torch.save(state, tmp_path / "other.pth")
    assert make(dataclasses.replace(runtime, weights_path=str(tmp_path / "other.pth"))) == 7


def test_other_photographs_under_the_same_names_are_not_confused(voc_root, runtime):
    config = dataclasses.replace(CONFIG, dataset="voc2012", dataset_options={}, eval_images=0)
    runtime = dataclasses.replace(runtime, data_root=str(voc_root))
    network = built(config, runtime, 21)
    learned_from(network, config, runtime)
    image, _ = load("voc2012", "train", root=voc_root)[0]
    Image.fromarray(255 - image.permute(1, 2, 0).numpy()).save(
        voc_root / "JPEGImages" / "2007_000001.jpg"
    )
    learned_from(network, config, runtime)
    assert len(folders(runtime)) == 2


def test_of_two_at_a_time_one_builds(runtime):
    passes, results = [], []
    barrier = threading.Barrier(2)

    def work():
        network = built(CONFIG, runtime)
        network.backbone.stages[0].register_forward_pre_hook(lambda *_: passes.append(1))
        barrier.wait()
        results.append(learned_from(network, CONFIG, runtime))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passes) == 10
    for (a, mask_a), (b, mask_b) in zip(*results, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(mask_a, mask_b)


def test_what_features_cannot_answer_is_asked_of_the_whole_network(runtime):
    """Several views of an image, and images that are changed."""
    network = built(CONFIG, runtime)
    scenes, how = Scenes("val", num_images=3), runtime.scoring(CONFIG)
    for options in ({"scales": (0.5, 1.0)}, {"flip": True}, {"window": 33}):
        views = Views(**options)
        expected = evaluate(network, scenes, **how, views=views).confusion
        assert torch.equal(score(network, CONFIG, runtime, views=views).confusion, expected)

    def darken(image, index):
        return tv_tensors.Image(image // (index + 2))

    dark = evaluate(network, View(scenes, None, darken), **how).confusion
    assert torch.equal(score(network, CONFIG, runtime, change=darken).confusion, dark)
    assert not Path(runtime.runs_dir).exists()  # nothing was cached


def test_an_interrupted_builder_is_taken_over(runtime, tmp_path):
    network = built(CONFIG, runtime)
    whole = dataclasses.replace(runtime, runs_dir=str(tmp_path / "whole"))
    learned_from(network, CONFIG, whole)
    passes = []

    def count(_, inputs):
        passes.append(len(inputs[0]))
        if len(passes) == 7:
            raise KeyboardInterrupt

    hook = network.backbone.stages[0].register_forward_pre_hook(count)
    with pytest.raises(KeyboardInterrupt):
        learned_from(network, CONFIG, runtime)
    (partial,) = folders(runtime)
    assert partial.suffix == ".partial"
    learned_from(network, CONFIG, runtime)
    hook.remove()
    assert len(passes) == 7 + (10 - 6)  # the first six were kept
    (resumed,), (expected,) = folders(runtime), folders(whole)
    names = [path.name for path in sorted(expected.iterdir())]
    assert names == [path.name for path in sorted(resumed.iterdir())]
    for name in names:
        assert (resumed / name).read_bytes() == (expected / name).read_bytes(), name


def test_a_folder_that_lost_an_image_is_named(runtime):
    network = built(CONFIG, runtime)
    learned_from(network, CONFIG, runtime)
    (folder,) = folders(runtime)
    (folder / "000009.safetensors").unlink()
    with pytest.raises(InputError, match="holds 9 of 10 images; delete it"):
        learned_from(network, CONFIG, runtime)
