"""Which networks a ``RunConfig`` can name, and that naming them leaves older run ids alone."""

import pytest

from emastudy.engine import RunConfig
from emastudy.engine.build import build_network


def test_a_second_name_makes_the_same_run():
    assert RunConfig(head="emanet") == RunConfig(head="ema")
    assert RunConfig(head="emanet").id == RunConfig().id


def test_stating_a_backbones_default_makes_no_other_run():
    plain = RunConfig(backbone="resnet18")
    assert RunConfig(backbone="resnet18", backbone_options={"deep_stem": False}).id == plain.id
    assert RunConfig(backbone="resnet18", backbone_options={"deep_stem": True}).id != plain.id
    assert "backbone_options" not in plain.canonical_json()


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "vgg"}, "backbone is 'vgg'; there are mobilenet_v2, "),
        ({"backbone_options": {"depth": 3}}, "backbone 'small_resnet' has no option 'depth'"),
        ({"head": "emanet_released"}, "backbone 'small_resnet' has no option 'deep_stem'"),
        ({"head": "pspnet", "head_options": {"num_bases": 3}}, "head 'pspnet' has no option"),
    ],
)
def test_unknown_names_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**fields)
