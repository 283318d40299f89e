import pytest
import torch
from torch.nn import functional as F

from emastudy import networks
from emastudy.networks.backbones import BACKBONES, Backbone

RESNETS = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]


def dilations(stage):
    return [block.conv2.dilation[0] for block in stage]


@pytest.mark.parametrize("name", sorted(BACKBONES))
@pytest.mark.parametrize("stride", [4, 8, 16, 32])
def test_shapes_at_every_output_stride(name, stride):
    with torch.device("meta"):
        backbone = BACKBONES[name]()
        if stride > backbone.native_stride:
            with pytest.raises(ValueError, match=f"output_stride is {stride}; "):
                backbone.set_output_stride(stride)
            return
        backbone.set_output_stride(stride)
        features = backbone(torch.empty(1, 3, 97, 129))
    assert [f.shape[1] for f in features] == list(backbone.channels)
    assert features[-1].shape[-2:] == (96 // stride + 1, 128 // stride + 1)


@pytest.mark.parametrize("name", RESNETS)
def test_parameters_are_torchvisions_without_the_classifier(name):
    from torchvision.models import get_model

    with torch.device("meta"):
        ours, theirs = BACKBONES[name](), get_model(name)
    count = sum(p.numel() for p in theirs.parameters())
    count -= sum(p.numel() for p in theirs.fc.parameters())
    assert sum(p.numel() for p in ours.parameters()) == count


DEEP = {"deep_stem": True, "multi_grid": True}


@pytest.mark.parametrize(
    ("name", "options"),
    [("mobilenet_v2", {}), ("resnet18", DEEP), ("resnet50", {}), ("resnet50", DEEP)],
)
def test_the_dilated_map_subsampled_is_the_undilated_one(name, options):
    torch.manual_seed(0)
    backbone = BACKBONES[name](**options).eval()
    image = torch.randn(1, 3, 129, 161)
    with torch.inference_mode():
        native = backbone(image)[-1]
        for stride in (16, 8):
            backbone.set_output_stride(stride)
            step = backbone.native_stride // stride
            subsampled = backbone(image)[-1][..., ::step, ::step]
            torch.testing.assert_close(subsampled, native, rtol=1e-3, atol=1e-3 * native.std())


@pytest.mark.parametrize(
    ("stride", "layer3", "layer4"), [(16, [1, 1, 1], [1, 4, 8]), (8, [1, 2, 2], [2, 8, 16])]
)
def test_multi_grid_dilates_as_the_released_network(stride, layer3, layer4):
    with torch.device("meta"):
        backbone = BACKBONES["resnet50"](multi_grid=True, deep_stem=True)
    backbone.set_output_stride(stride)
    assert dilations(backbone.stages[2])[:3] == layer3
    assert dilations(backbone.stages[3]) == layer4
    backbone.set_output_stride(32)
    backbone.set_output_stride(stride)
    assert dilations(backbone.stages[3]) == layer4


def test_deep_stem():
    stem = BACKBONES["resnet18"](deep_stem=True).stages[0]
    convs = [layer for layer in stem[0] if isinstance(layer, torch.nn.Conv2d)]
    assert [tuple(c.weight.shape) for c in convs] == [
        (64, 3, 3, 3),
        (64, 64, 3, 3),
        (128, 64, 3, 3),
    ]
    assert [c.stride[0] for c in convs] == [2, 1, 1]
    assert stem(torch.randn(1, 3, 65, 65)).shape == (1, 64, 17, 17)


def test_options_that_do_not_fit_say_so():
    with pytest.raises(ValueError, match="stages is 2"):
        BACKBONES["resnet18"](stages=2)
    with pytest.raises(ValueError, match="needs stages=4"):
        BACKBONES["resnet18"](stages=3, multi_grid=True)
    with pytest.raises(ValueError, match="backbone 'mobilenet_v2' has no option 'deep_stem'"):
        networks.build("emanet_released", backbone="mobilenet_v2", num_classes=2)
    with pytest.raises(ValueError, match=r"there are .*resnet152"):
        networks.build("fcn", backbone="vgg16", num_classes=2)


class TestWeights:
    @pytest.fixture
    def state(self):
        from torchvision.models import resnet18

        return resnet18().state_dict()

    def test_from_a_file_of_torchvisions_names(self, state, tmp_path):
        torch.save(state, tmp_path / "w.pth")
        backbone = BACKBONES["resnet18"](tmp_path / "w.pth", stages=3)
        assert backbone.stages[0][0].weight.equal(state["conv1.weight"])
        assert backbone.stages[2][1].conv2.weight.equal(state["layer3.1.conv2.weight"])

    def test_by_torchvisions_name(self, state, monkeypatch):
        from torchvision.models import ResNet18_Weights

        asked = []
        monkeypatch.setattr(
            ResNet18_Weights, "get_state_dict", lambda self, **_: asked.append(self.name) or state
        )
        for name in ("imagenet", "IMAGENET1K_V1"):
            backbone = BACKBONES["resnet18"](name)
            assert backbone.stages[0][0].weight.equal(state["conv1.weight"])
        assert asked == ["IMAGENET1K_V1"] * 2

    @pytest.mark.parametrize("options", [{"deep_stem": True}, {}])
    def test_of_another_network_are_refused_by_name(self, state, tmp_path, options):
        if not options:
            state["layer2.0.conv1.weight"] = torch.zeros(1)
        torch.save(state, tmp_path / "w.pth")
        name = "conv1.0.weight" if options else "layer2.0.conv1.weight"
        with pytest.raises(ValueError, match=rf"lacks .* {name} the first"):
            BACKBONES["resnet18"](tmp_path / "w.pth", **options)

    def test_of_no_such_file(self):
        with pytest.raises(FileNotFoundError, match=r"no file nowhere.pth; .*IMAGENET1K_V1"):
            BACKBONES["resnet18"]("nowhere.pth")


def test_aspp_rates_follow_the_stride():
    network = networks.build("deeplabv3", backbone="resnet18", num_classes=2, channels=4)
    rates = [[b[0].dilation[0] for b in network.head.aspp.atrous]]
    network.set_output_stride(8)
    rates.append([b[0].dilation[0] for b in network.head.aspp.atrous])
    assert rates == [[6, 12, 18], [12, 24, 36]]
    network.head.aspp.rate = 1
    with pytest.raises(ValueError, match="use a multiple of 2"):
        network.set_output_stride(32)
    with pytest.raises(ValueError, match="allows"):
        network.set_output_stride(5)
    assert network.output_stride == 8
    assert network.backbone(torch.randn(1, 3, 64, 64))[-1].shape[-1] == 8


@pytest.mark.parametrize("pool", [torch.nn.MaxPool2d, torch.nn.AvgPool2d])
def test_pooling_cannot_be_dilated_and_says_so(pool):
    widths = ((3, 4), (4, 4), (4, 4), (4, 6))
    stages = [torch.nn.Sequential(torch.nn.Conv2d(*w, 3, padding=1), pool(2)) for w in widths]
    backbone = Backbone(stages, (4, 4, 4, 6), native_stride=16)
    assert backbone(torch.randn(1, 3, 64, 64))[-1].shape == (1, 6, 4, 4)
    with pytest.raises(ValueError, match="by pooling, which cannot be dilated: take 16"):
        backbone.set_output_stride(8)


def test_bilinear_upsampling_aligns_corners():
    network = networks.build("fcn", backbone="resnet18", num_classes=2, channels=4).eval()
    image = torch.randn(1, 3, 97, 97)
    with torch.inference_mode():
        small = network.head(network.backbone(image))
        large = network(image)
    assert large[..., ::96, ::96].equal(small[..., :: small.shape[-1] - 1, :: small.shape[-1] - 1])
    torch.testing.assert_close(
        large, F.interpolate(small, (97, 97), mode="bilinear", align_corners=True)
    )


def test_a_stage_may_be_a_layer_and_a_stride_may_be_four():
    def patches(*sizes):
        convs = [
            torch.nn.Conv2d(*c, k, stride=k) for c, k in zip(((3, 4), (4, 6)), sizes, strict=True)
        ]
        return Backbone(convs, (4, 6), native_stride=sizes[0] * sizes[1])

    image = torch.randn(1, 3, 64, 32)
    backbone = patches(4, 2)
    assert [m.shape[2:] for m in backbone(image)] == [(16, 8), (8, 4)]
    whole = backbone(image)[-1]
    backbone.set_output_stride(4)
    torch.testing.assert_close(backbone(image)[-1][..., ::2, ::2], whole)
    with pytest.raises(ValueError, match=r"layer stages\.1 goes from stride 4 to 16 at once"):
        patches(4, 4).set_output_stride(8)
    conv = torch.nn.Conv2d(3, 8, 3, stride=4, padding=1)
    assert Backbone([conv], [8], 4)(image)[0].shape == (1, 8, 16, 8)
