"""The loop: the paper's schedule, exact resume, validation, and what it refuses."""

import dataclasses
import shutil

import pytest
import torch
from engine.tiny import TINY, assert_same, at_loss, end, runtime
from layouts import make_folder, photograph

from emastudy.datasets import TrainingStream, training_transform
from emastudy.engine import Runtime, load_dataset, train
from emastudy.engine.build import build_network
from emastudy.engine.training.loss import segmentation_loss
from emastudy.errors import InputError


def test_the_same_run_twice_is_the_same_run(tmp_path):
    first = train(TINY, runtime(tmp_path / "a"))
    second = train(TINY, runtime(tmp_path / "b"))
    assert first.curves == second.curves
    assert_same(first.network.state_dict(), second.network.state_dict())
    other = train(dataclasses.replace(TINY, seed=1), runtime(tmp_path / "a"))
    assert other.curves["loss"] != first.curves["loss"]


def test_a_stopped_run_goes_on_bitwise(tmp_path, monkeypatch):
    whole = train(TINY, runtime(tmp_path / "whole"))
    place = runtime(tmp_path / "stopped")

    with monkeypatch.context() as patch:
        at_loss(patch, 15, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(TINY, place)
    resumed = train(TINY, place)
    assert resumed.resumed_from == 10
    assert resumed.curves == whole.curves
    assert_same(resumed.network.state_dict(), whole.network.state_dict())
    again = train(TINY, place)  # complete: nothing is trained, nothing downloaded
    assert again.resumed_from == TINY.iterations
    assert_same(again.network.state_dict(), whole.network.state_dict())


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


def test_training_averages_the_loss_as_the_config_says(tmp_path):
    """Crops larger than the scenes are padded: a known share of their pixels is ignored."""
    config = dataclasses.replace(TINY, crop_size=40, scales=(1.0,), iterations=1)
    labelled, everything = (
        train(dataclasses.replace(config, loss_over=over), runtime(tmp_path)).curves["loss"][0][1]
        for over in ("labelled", "all")
    )
    assert everything == pytest.approx(labelled * (32 / 40) ** 2, rel=1e-6)


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


def test_bad_data_in_mid_run_names_the_file(voc_root, tmp_path):
    config = dataclasses.replace(
        TINY,
        dataset="voc2012",
        dataset_options={},
        eval_images=0,
        backbone="mobilenet_v2",
        output_stride=16,
        crop_size=64,
    )
    (voc_root / "JPEGImages" / "2007_000002.jpg").write_bytes(b"\xff\xd8 not a jpeg")
    with pytest.raises(ValueError, match=r"2007_000002\.jpg cannot be read"):
        train(config, runtime(tmp_path, data_root=str(voc_root)))


def test_validation_leaves_no_trace_in_training(undisturbed, tmp_path):
    """Every third iteration, so also between two looks; at another output stride."""
    place = runtime(tmp_path, validate_every=3)
    train(TINY, place)
    files, curves, pending = end(place)
    validation = curves.pop("validation_miou")
    assert [iteration for iteration, _ in validation] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert len({value for _, value in validation}) > 1
    assert (files, curves, pending) == undisturbed


def test_gradients_of_bases_and_first_conv_are_recorded_where_they_are(tmp_path):
    learned = {**TINY.head_options, "maintenance": "learned"}
    config = dataclasses.replace(TINY, head_options=learned, iterations=1)
    curves = train(config, runtime(tmp_path)).curves
    # The same gradients by hand: one iteration from the same weights, data and dropout.
    torch.manual_seed(config.seed)
    network = build_network(config, 8).to(memory_format=torch.channels_last).train()
    stream = TrainingStream(
        load_dataset(config, "train", Runtime()),
        training_transform(
            load_dataset(config, "train", Runtime()), scales=config.scales, crop_size=32
        ),
        seed=0,
        start=0,
        stop=2,
    )
    image, mask = (torch.stack(parts) for parts in zip(*stream, strict=True))
    segmentation_loss(network(image.to(memory_format=torch.channels_last)), mask).backward()
    unit = network.head.context
    assert curves["bases_gradient"] == [(1, pytest.approx(unit.bases.grad.norm().item()))]
    conv = torch.cat([p.grad.flatten() for p in unit.conv1.parameters()]).norm().item()
    assert curves["conv1_gradient"] == [(1, pytest.approx(conv))]
    detached = dataclasses.replace(config, head_options={"channels": 16})
    assert set(train(detached, runtime(tmp_path)).curves) == {"loss", "learning_rate"}


def folder_run(root, place):
    config = dataclasses.replace(
        TINY, dataset="folder", dataset_options={}, eval_images=0, batch_size=2, crop_size=32
    )
    return config, runtime(place, data_root=str(root))


def test_a_run_goes_on_with_its_own_data_alone(tmp_path):
    root = make_folder(tmp_path / "data")
    config, place = folder_run(root, tmp_path / "runs")
    train(config, place)
    train(config, place)  # the same: nothing to say
    shutil.copytree(root, tmp_path / "copy")
    train(config, dataclasses.replace(place, data_root=str(tmp_path / "copy")))
    photograph(root / "images" / "train" / "a.jpg", 20, 30, seed=5)
    with pytest.raises(
        InputError, match=r"saw other data(.|\n)*other content, e.g. a(.|\n)*delete"
    ):
        train(config, place)


def test_labels_are_looked_at_before_anything_is_trained(tmp_path, caplog):
    root = make_folder(tmp_path / "data", "classes: [sound, crack, rust]\n")
    config, place = folder_run(root, tmp_path / "runs")
    train(config, place)
    assert "'rust', occur in none of its 2 masks" in caplog.text
    (root / "dataset.yaml").write_text("classes: {sound: 0}\nignore: [1, 255]\n")
    with pytest.raises(InputError, match="one class, 'sound'"):
        train(dataclasses.replace(config, seed=1), place)
    assert len(list((tmp_path / "runs").glob("folder-*"))) == 1
