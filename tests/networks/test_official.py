"""Checkpoints of the released EMANet, against the network written down a second time."""

import pytest
import torch
from torch.nn import functional as F

from emastudy import networks

DILATIONS = {16: ([1], [1, 4, 8]), 8: ([1, 2], [2, 8, 16])}


def build(backbone="resnet50", stride=16, **options):
    return networks.build(
        "emanet_released", backbone=backbone, num_classes=21, output_stride=stride, **options
    )


def released_forward(state, image, stride):
    """The released network in evaluation mode, as facts about it say, from its own names."""

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    def bottleneck(x, name, step, dilation):
        y = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
        y = conv(y, f"{name}.conv2", stride=step, dilation=dilation, padding=dilation)
        y = norm(y, f"{name}.bn2").relu()
        y = norm(conv(y, f"{name}.conv3"), f"{name}.bn3")
        if f"{name}.downsample.0.weight" in state:
            x = norm(conv(x, f"{name}.downsample.0", stride=step), f"{name}.downsample.1")
        return (x + y).relu()

    x = conv(image, "extractor.0.0", stride=2, padding=1)
    x = conv(norm(x, "extractor.0.1").relu(), "extractor.0.3", padding=1)
    x = conv(norm(x, "extractor.0.4").relu(), "extractor.0.6", padding=1)
    x = F.max_pool2d(norm(x, "extractor.1").relu(), 3, 2, 1)
    layer3, layer4 = DILATIONS[stride]
    for layer, step, pattern in (
        (4, 1, [1]),
        (5, 2, [1]),
        (6, 2 if stride == 16 else 1, layer3),
        (7, 1, layer4),
    ):
        block = 0
        while f"extractor.{layer}.{block}.conv1.weight" in state:
            dilation = pattern[min(block, len(pattern) - 1)]
            name = f"extractor.{layer}.{block}"
            x = bottleneck(x, name, step if block == 0 else 1, dilation)
            block += 1

    x = norm(conv(x, "fc0.conv", padding=1), "fc0.bn").relu()
    pixels = conv(x, "emau.conv1").flatten(2)  # B, C, N
    mu = state["emau.mu"].expand(len(x), -1, -1)  # B, C, K
    for _ in range(3):
        z = torch.einsum("bcn,bck->bnk", pixels, mu).softmax(2)
        mu = torch.einsum("bcn,bnk->bck", pixels, z / (1e-6 + z.sum(1, keepdim=True)))
        mu = mu / (1e-6 + mu.norm(dim=1, keepdim=True))
    estimate = torch.einsum("bck,bnk->bcn", mu, z).view_as(x).relu()
    x = (x + norm(conv(estimate, "emau.conv2.0"), "emau.conv2.1")).relu()

    x = norm(conv(x, "fc1.0.conv", padding=1), "fc1.0.bn").relu()
    return F.interpolate(conv(x, "fc2"), image.shape[-2:], mode="bilinear", align_corners=True)


@pytest.fixture(scope="module")
def checkpoint():
    """A network whose batch norms and biases are nowhere trivial, under the released names."""
    torch.manual_seed(0)
    network = build()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.2)
                module.bias.normal_(0, 0.1)
    exported = networks.export_official_state_dict(network)
    return {name: value.clone().contiguous() for name, value in exported.items()}


@pytest.mark.parametrize("stride", [8, 16])
def test_the_loaded_network_gives_the_released_networks_logits(checkpoint, stride):
    torch.manual_seed(1)
    network = build(stride=stride)
    networks.load_official_state_dict(network, checkpoint)
    image = torch.randn(2, 3, 97, 129)
    with torch.inference_mode():
        ours = network.eval()(image)
        theirs = released_forward(checkpoint, image, stride)
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_round_trip_is_exact(checkpoint):
    network = build()
    networks.load_official_state_dict(network, checkpoint)
    again = networks.export_official_state_dict(network)
    assert again.keys() == checkpoint.keys()
    assert all(again[name].equal(value) for name, value in checkpoint.items())


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "resnet152"])
def test_names_and_shapes(backbone):
    with torch.device("meta"):
        state = networks.export_official_state_dict(build(backbone))
    assert {name.split(".")[0] for name in state} == {"extractor", "fc0", "emau", "fc1", "fc2"}
    expected = {
        "extractor.0.0.weight": (64, 3, 3, 3),
        "extractor.0.3.weight": (64, 64, 3, 3),
        "extractor.0.6.weight": (128, 64, 3, 3),
        "extractor.1.running_var": (128,),
        "extractor.4.0.conv1.weight": (64, 128, 1, 1),
        "extractor.7.2.conv3.weight": (2048, 512, 1, 1),
        "fc0.conv.weight": (512, 2048, 3, 3),
        "fc0.bn.weight": (512,),
        "emau.mu": (1, 512, 64),
        "emau.conv1.weight": (512, 512, 1, 1),
        "emau.conv1.bias": (512,),
        "emau.conv2.0.weight": (512, 512, 1, 1),
        "emau.conv2.1.bias": (512,),
        "fc1.0.conv.weight": (256, 512, 3, 3),
        "fc1.0.bn.weight": (256,),
        "fc2.weight": (21, 256, 1, 1),
        "fc2.bias": (21,),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected
    assert "emau.conv2.0.bias" not in state


@pytest.fixture(scope="module")
def network():
    return build()


class TestRefusals:
    def refused(self, network, state, message):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            networks.load_official_state_dict(network, state)
        assert all(before[name].equal(v) for name, v in network.state_dict().items())

    def test_missing(self, network, checkpoint):
        state = {k: v for k, v in checkpoint.items() if k != "emau.conv1.bias"}
        self.refused(network, state, r"lacks emau\.conv1\.bias;")

    def test_unknown(self, network, checkpoint):
        state = checkpoint | {"extractor.6.6.conv1.weight": torch.zeros(1)}
        self.refused(network, state, r"has unknown extractor\.6\.6\.conv1\.weight;")

    @pytest.mark.parametrize("name", ["fc2.weight", "emau.mu"])
    def test_shape(self, network, checkpoint, name):
        state = checkpoint | {name: checkpoint[name].flatten()}
        self.refused(network, state, rf"{name} has shape .*, which does not fit")

    def test_another_architecture_has_no_official_names(self):
        with torch.device("meta"):
            other = networks.build("deeplabv3", backbone="resnet50", num_classes=21)
        with pytest.raises(ValueError, match=r"head\.aspp.* has no place in the released EMANet"):
            networks.export_official_state_dict(other)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"heads": 4}, "the released EMANet has one head; build the network with heads=1"),
            ({"value_conv": True}, r"head\.context\.value\.weight has no place in the released"),
        ],
    )
    def test_what_the_released_unit_lacks_has_no_official_names(self, options, message):
        with torch.device("meta"):
            other = build(**options)
        with pytest.raises(ValueError, match=message):
            networks.export_official_state_dict(other)

    def test_counts_of_batches_may_be_absent(self, network, checkpoint):
        state = {k: v for k, v in checkpoint.items() if not k.endswith("num_batches_tracked")}
        networks.load_official_state_dict(network, state)
