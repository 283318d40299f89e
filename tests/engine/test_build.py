"""From configs to networks and optimisers."""

import dataclasses

import pytest
from engine.tiny import TINY, runtime
from layouts import make_folder

from emastudy import networks
from emastudy.engine import RunConfig, train
from emastudy.engine.build import build_accelerator, build_network, load_dataset, parameter_groups
from emastudy.errors import InputError, UnknownSplitError


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


def test_the_released_network_brings_its_backbones_options_along():
    config = RunConfig(head="emanet_released", backbone="resnet18", output_stride=16)
    network = build_network(config, 3)
    assert network.backbone.multi_grid == (1, 2)
    assert network.backbone.stages[0][0][0].kernel_size == (3, 3)
    shallow = RunConfig(
        head="emanet_released",
        backbone="resnet18",
        backbone_options={"deep_stem": False},
        output_stride=16,
    )
    assert build_network(shallow, 3).backbone.stages[0][0].kernel_size == (7, 7)
    assert shallow.id != config.id
    assert RunConfig.from_dict(shallow.to_dict()) == shallow


def test_fp16_wants_a_gpu(tmp_path):
    with pytest.raises(InputError, match="'fp16', which wants a GPU; use 'bf16'"):
        train(dataclasses.replace(TINY, precision="fp16"), runtime(tmp_path))


def test_a_dataset_of_files_has_the_images_that_it_has(tmp_path):
    """By name, though what is missing is an option of the dataset's constructor."""
    config = dataclasses.replace(TINY, dataset="folder", dataset_options={})
    words = r"eval_images is 3, .*'folder' has as many .* \(--eval-images 0 .* all of split 'val'"
    with pytest.raises(InputError, match=words):
        train(config, runtime(tmp_path / "runs", data_root=str(tmp_path)))


@pytest.mark.parametrize(
    ("split", "option", "fix"),
    [
        ("trainaug", "", "--train-split"),
        ("dev", "", "--eval-split"),
        ("trainaug", "split", "--split"),
    ],
)
def test_a_split_that_is_not_there_is_told_with_its_option(tmp_path, split, option, fix):
    config = RunConfig(dataset="folder", train_split="trainaug", eval_split="dev")
    place = runtime(tmp_path / "runs", data_root=str(make_folder(tmp_path / "data")))
    words = rf"split is '{split}'; .*data has train, val\. Choose with .* \({fix} for the command\)"
    with pytest.raises(UnknownSplitError, match=words):
        load_dataset(config, split, place, option=option)


def test_a_folder_that_tensorboard_cannot_name_in_this_locale_is_refused():
    """As an 8-bit locale, or none, makes of a letter that the file system has in UTF-8."""
    with pytest.raises(InputError, match=r"the folder of runs.* does not write as UTF-8: set PYTH"):
        build_accelerator(TINY, runtime("r\udcc3\udcbcns"))
