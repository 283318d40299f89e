"""Training: the paper's optimiser, exact resume, and what happens when things go wrong."""

import dataclasses
import logging

import pytest
import torch

from emastudy import networks
from emastudy.engine import (
    CheckpointError,
    NonFiniteLossError,
    RunConfig,
    Runtime,
    load_network,
    train,
)
from emastudy.engine.build import build_network
from emastudy.engine.training import parallel as module
from emastudy.engine.training.parallel import segmentation_loss
from emastudy.engine.training.throughput import Timed
from emastudy.engine.training.trainer import parameter_groups

# Float32: resuming must be exact to the last bit. Dropout is on, so random states matter too.
TINY = RunConfig(
    head="ema",
    head_options={"channels": 16, "num_bases": 4, "gradient": "one_step", "dropout": 0.3},
    crop_size=32,
    batch_size=2,
    iterations=24,
    eval_images=3,
    scales=(0.75, 1.0, 1.25),
    precision="float32",
    learning_rate=0.05,
)


def runtime(tmp_path, **options):
    return Runtime(runs_dir=str(tmp_path / "runs"), device="cpu", threads=1, **options)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, msg=name)


def test_the_same_run_twice_is_the_same_run(tmp_path):
    first = train(TINY, runtime(tmp_path / "a"))
    second = train(TINY, runtime(tmp_path / "b"))
    assert first.curves == second.curves
    assert_same(weights(first.network), weights(second.network))
    other = train(dataclasses.replace(TINY, seed=1), runtime(tmp_path / "a"))
    assert other.curves["loss"] != first.curves["loss"]


def test_a_stopped_run_goes_on_bitwise(tmp_path, monkeypatch):
    whole = train(TINY, runtime(tmp_path / "whole"))
    place = runtime(tmp_path / "stopped", checkpoint_seconds=0.0)

    class Stop(Exception):
        pass

    losses = []

    def stopping(*inputs):
        losses.append(1)
        if len(losses) == 15:
            raise Stop
        return segmentation_loss(*inputs)

    with monkeypatch.context() as patch:
        patch.setattr(module, "segmentation_loss", stopping)
        with pytest.raises(Stop):
            train(TINY, place)
    resumed = train(TINY, place)
    assert resumed.resumed_from == 10
    assert resumed.curves == whole.curves
    assert_same(weights(resumed.network), weights(whole.network))
    again = train(TINY, place)  # complete: nothing is trained, nothing downloaded
    assert again.resumed_from == TINY.iterations
    assert_same(weights(again.network), weights(whole.network))


def test_a_damaged_checkpoint_falls_back_loudly(tmp_path, caplog):
    place = runtime(tmp_path, checkpoint_seconds=0.0)
    whole = train(TINY, place)
    folder = place.run_dir(TINY)
    newest = folder / "checkpoint-000024"
    assert sorted(p.name for p in folder.glob("checkpoint-*")) == [
        "checkpoint-000020",
        newest.name,
    ]
    model = newest / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
        load_network(newest)
    with caplog.at_level(logging.WARNING):
        resumed = train(TINY, place)
    assert "damaged: model.safetensors" in caplog.text
    assert resumed.resumed_from == 20
    assert_same(weights(resumed.network), weights(whole.network))

    for checkpoint in folder.glob("checkpoint-*"):
        (checkpoint / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        load_network(folder)


def test_load_network_gives_the_trained_network(tmp_path):
    training = train(TINY, runtime(tmp_path))
    network, manifest = load_network(runtime(tmp_path).run_dir(TINY))
    assert manifest.config == TINY
    assert manifest.iteration == 24
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network(image), training.network.eval()(image))


def test_a_nan_loss_stops_and_keeps_what_was_saved(tmp_path, monkeypatch):
    place = runtime(tmp_path, checkpoint_seconds=0.0)
    calls = []

    def poisoned(*inputs):
        calls.append(1)
        return segmentation_loss(*inputs) * (float("nan") if len(calls) == 17 else 1)

    monkeypatch.setattr(module, "segmentation_loss", poisoned)
    with pytest.raises(NonFiniteLossError, match=r"nan at iteration 17 of run scenes-ema-.*Config"):
        train(TINY, place)
    assert [p.name for p in place.run_dir(TINY).glob("checkpoint-*")] == ["checkpoint-000010"]
    network, manifest = load_network(place.run_dir(TINY))
    assert all(v.isfinite().all() for v in network.state_dict().values())


def test_training_lowers_the_loss_and_moves_the_bases(tmp_path):
    training = train(dataclasses.replace(TINY, iterations=60), runtime(tmp_path))
    loss = [value for _, value in training.curves["loss"]]
    assert sum(loss[-2:]) < 0.95 * sum(loss[:2])
    fresh = build_network(TINY, 8)
    bases = training.network.head.context.bases
    assert not torch.allclose(bases, fresh.head.context.bases)
    assert (bases.norm(dim=-1) <= 1 + 1e-5).all()  # a mean of unit vectors


def test_poly_schedule(tmp_path):
    rates = dict(train(TINY, runtime(tmp_path)).curves["learning_rate"])
    assert rates[10] == pytest.approx(0.05 * (1 - 10 / 24) ** 0.9)
    assert rates[20] == pytest.approx(0.05 * (1 - 20 / 24) ** 0.9)


def test_tensorboard_scalars_are_written(tmp_path):
    train(TINY, runtime(tmp_path))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = runtime(tmp_path).run_dir(TINY) / "tensorboard"
    events = EventAccumulator(str(folder)).Reload()
    assert {"loss", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("loss")] == [10, 20, 24]


def test_parameter_groups_are_the_papers():
    network = networks.build("ema", num_classes=3, channels=8, maintenance="learned",
                             gradient="unrolled")  # fmt: skip
    weights_, norms, biases = parameter_groups(network, 0.009, 1e-4)
    names = {id(p): name for name, p in network.named_parameters()}
    kinds = [{names[id(p)] for p in group["params"]} for group in (weights_, norms, biases)]
    assert set().union(*kinds) == set(names.values())
    assert "head.context.bases" in kinds[0]
    assert "head.reduce.0.weight" in kinds[0]
    assert "head.reduce.1.weight" in kinds[1]
    assert {"head.reduce.1.bias", "head.classifier.1.bias"} <= kinds[2]
    settings = [(g["lr"], g["weight_decay"]) for g in (weights_, norms, biases)]
    assert settings == [(0.009, 1e-4), (0.009, 0.0), (0.018, 0.0)]


def test_frozen_parameters_are_in_no_group():
    network = networks.build("ema", num_classes=3, channels=8)
    grouped = {id(p) for g in parameter_groups(network, 0.1, 0.0) for p in g["params"]}
    assert id(network.head.context.conv1.weight) not in grouped


def test_the_loss_ignores_255_and_survives_a_crop_without_labels():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    mask = torch.tensor([[[0, 255], [2, 255]]])
    expected = -logits.log_softmax(1)[0, [0, 2], [0, 1], [0, 0]].mean()
    torch.testing.assert_close(segmentation_loss(logits, mask), expected)
    nothing = segmentation_loss(logits, torch.full((1, 2, 2), 255))
    nothing.backward()
    assert nothing == 0
    assert (logits.grad == 0).all()


def test_the_loss_over_all_pixels_is_the_released_codes():
    logits = torch.randn(2, 3, 4, 4)
    mask = torch.randint(3, (2, 4, 4))
    mask[0, :3] = 255
    expected = torch.nn.functional.cross_entropy(
        logits, mask, ignore_index=255, reduction="none"
    ).mean()
    every = torch.tensor(mask.numel())
    torch.testing.assert_close(segmentation_loss(logits, mask, every), expected)


def test_training_averages_the_loss_as_the_config_says(tmp_path):
    """Crops larger than the scenes are padded: a known share of their pixels is ignored."""
    config = dataclasses.replace(TINY, crop_size=80, scales=(1.0,), iterations=1)
    labelled, everything = (
        train(dataclasses.replace(config, loss_over=over), runtime(tmp_path)).curves["loss"][0][1]
        for over in ("labelled", "all")
    )
    assert everything == pytest.approx(labelled * (64 / 80) ** 2, rel=1e-6)


def test_a_run_starts_from_anothers_weights(tmp_path):
    place = runtime(tmp_path)
    first = train(TINY, place)
    # So slow that parameters stay; bases and batch norm's statistics move.
    still = dataclasses.replace(
        TINY, start_from=TINY.id, learning_rate=1e-30, weight_decay=0.0, iterations=1, seed=1
    )
    second = train(still, place)
    assert_same(dict(second.network.named_parameters()), dict(first.network.named_parameters()))
    assert train(still, place).resumed_from == 1  # its own checkpoint comes first


def test_a_start_that_is_not_there_unfinished_or_another_network_is_named(tmp_path, monkeypatch):
    place = runtime(tmp_path, checkpoint_seconds=0.0)
    follower = dataclasses.replace(TINY, start_from=TINY.id, seed=1)
    with pytest.raises(CheckpointError, match="holds no whole checkpoint; train that run first"):
        train(follower, place)
    train(TINY, place)
    with pytest.raises(CheckpointError, match=r"8 classes\) is not built like this one"):
        train(dataclasses.replace(follower, dataset_options={"num_classes": 4}), place)
    (place.run_dir(TINY) / "checkpoint-000024").rename(tmp_path / "away")
    with pytest.raises(CheckpointError, match="stopped at iteration 20 of 24; finish it first"):
        train(follower, place)


def test_time_spent_waiting_for_data_is_told_from_the_rest(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def loader():
        for batch in range(5):
            now[0] += 1.0
            yield batch

    timed = Timed(loader())
    for _ in timed:
        now[0] += 3.0
    assert (timed.count, timed.waiting, timed.working) == (5, 5.0, 15.0)
    assert timed.summary(8.0).startswith("2.0 images/s, 25% of the time waiting for data; more")
    assert Timed([]).summary(8.0) == "no batch was loaded"


def test_bad_data_in_mid_run_names_the_file(voc_root, tmp_path):
    config = dataclasses.replace(
        TINY, dataset="voc2012", backbone="mobilenet_v2", output_stride=16, crop_size=64
    )
    (voc_root / "JPEGImages" / "2007_000002.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    with pytest.raises(ValueError, match=r"2007_000002\.jpg cannot be read"):
        train(config, runtime(tmp_path, data_root=str(voc_root)))
