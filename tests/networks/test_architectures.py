"""What every backbone and every head can do: one class, inherited by both."""

import copy
import functools

import pytest
import torch

from emastudy import networks
from emastudy.networks.backbones import BACKBONES
from emastudy.networks.heads import HEADS

CLASSES = 3
# Small enough for a laptop; whatever is not named here keeps its default.
SMALL = {
    "a2": {"channels": 16, "num_bases": 8},
    "criss_cross": {"channels": 16},
    "deeplabv3": {"channels": 8},
    "deeplabv3plus": {"channels": 8, "detail_channels": 4},
    "efficient": {"channels": 16},
    "ema": {"channels": 16, "num_bases": 8},
    "emanet_released": {"channels": 16, "num_bases": 8, "extra_channels": 8},
    "external": {"channels": 16, "num_memories": 8},
    "fcn": {"channels": 16},
    "hamburger": {"channels": 16, "num_bases": 8},
    "no_attention": {"channels": 16},
    "non_local": {"channels": 16},
    "nystrom": {"channels": 16, "grid": 2},
    "ocr": {"channels": 16},
    "psanet": {"channels": 8, "attention_channels": 8, "window": 15},
    "pspnet": {"channels": 8},
    "slots": {"channels": 16, "num_slots": 8},
    "windowed_ema": {"channels": 16, "num_bases": 8},
}
# Parameters that require no gradient, and why.
FROZEN = {
    "ema": {"head.context.conv1.weight", "head.context.conv1.bias"},  # EM under no_grad: detached
    "emanet_released": {"head.context.conv1.weight", "head.context.conv1.bias"},
}


class Architecture:
    """Inherit, and define the fixture ``network`` (on the CPU, 16 pixels per feature)."""

    def test_any_image_size_and_a_batch_of_one(self, network):
        network.eval()
        for size in ((97, 131), (64, 48)):
            with torch.inference_mode():
                logits = network(torch.randn(1, 3, *size))
            assert logits.shape == (1, CLASSES, *size)
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()

    def test_every_parameter_gets_a_finite_gradient(self, network, frozen):
        logits = network.train()(torch.randn(2, 3, 97, 131))
        assert logits.requires_grad
        logits.square().mean().backward()
        names = {name for name, p in network.named_parameters() if not p.requires_grad}
        assert names == frozen
        for name, parameter in network.named_parameters():
            if name not in frozen:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name

    def test_training_moves_statistics_and_evaluation_does_not(self, network):
        image = torch.randn(2, 3, 65, 65)
        before = copy.deepcopy(dict(network.named_buffers()))
        with torch.no_grad():
            network.eval()(image)
            assert all(before[name].equal(b) for name, b in network.named_buffers())
            network.train()(image)
        assert not all(before[name].equal(b) for name, b in network.named_buffers())

    def test_evaluation_is_deterministic_and_ignores_the_other_images(self, network):
        images = torch.randn(3, 3, 65, 65)
        network.eval()
        with torch.inference_mode():
            together, again = network(images), network(images)
            alone = network(images[1:2])
        assert together.equal(again)
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)

    def test_state_dict_round_trip(self, network):
        other = copy.deepcopy(network)
        for value in other.state_dict().values():
            value.zero_()
        other.load_state_dict(network.state_dict())
        image = torch.randn(1, 3, 65, 65)
        with torch.inference_mode():
            assert network.eval()(image).equal(other.eval()(image))

    def test_bf16_autocast(self, network):
        image = torch.randn(2, 3, 65, 65)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.train()(image)
        assert logits.dtype == torch.float32
        logits.square().mean().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)

    def test_a_new_output_stride_keeps_the_weights(self, network):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        image = torch.randn(1, 3, 65, 65)
        network.eval().set_output_stride(8)
        with torch.inference_mode():
            assert network.backbone(image)[-1].shape[-2:] == (9, 9)
            assert network(image).shape == (1, CLASSES, 65, 65)
        assert all(before[name].equal(value) for name, value in network.state_dict().items())

    def test_export(self, network):
        network.eval()
        image = torch.randn(1, 3, 65, 81)
        with torch.no_grad():
            exported = torch.export.export(network, (image,), strict=False).module()
            torch.testing.assert_close(exported(image), network(image), rtol=1e-4, atol=1e-4)


def build(head, backbone, **options):
    torch.manual_seed(0)
    return networks.build(
        head, backbone=backbone, num_classes=CLASSES, output_stride=16, **SMALL[head], **options
    )


@functools.cache
def untouched(head):
    """To be copied: to draw a network's weights takes longer."""
    return build(head, "resnet18")


class TestHead(Architecture):
    @pytest.fixture(params=sorted(HEADS))
    def head(self, request):
        return request.param

    @pytest.fixture
    def network(self, head):
        return copy.deepcopy(untouched(head))

    @pytest.fixture
    def frozen(self, head):
        return FROZEN.get(head, set())

    def test_the_same_seed_makes_the_same_network(self, head, network):
        first, second = network, build(head, "resnet18")
        image = torch.randn(1, 3, 65, 65)
        with torch.inference_mode():
            assert first.eval()(image).equal(second.eval()(image))

    @pytest.mark.unchecked
    def test_compile_without_graph_breaks(self, network):
        torch.compiler.reset()  # one forward, many networks: more than its cache takes
        # "eager" captures the graph as inductor would, and skips the slow compilation of it.
        compiled = torch.compile(network.eval(), fullgraph=True, backend="eager")
        image = torch.randn(1, 3, 65, 65)
        with torch.no_grad():
            torch.testing.assert_close(compiled(image), network(image), rtol=1e-4, atol=1e-4)


class TestHeadWithDecoder(Architecture):
    @pytest.fixture
    def network(self):
        return build("ema", "resnet18", detail_channels=4)

    @pytest.fixture
    def frozen(self):
        return FROZEN["ema"]

    def test_the_decoder_is_deeplabv3plus_own(self, network):
        other = build("deeplabv3plus", "resnet18").head.decoder.state_dict()
        shapes = {name: tuple(value.shape) for name, value in other.items()}
        wider = networks.build(
            "ema", backbone="resnet18", num_classes=CLASSES, channels=8, detail_channels=4
        )
        own = wider.head.decoder.state_dict()
        assert {name: tuple(value.shape) for name, value in own.items()} == shapes

    def test_it_adds_the_first_map_to_what_the_head_sees(self, network):
        plain = build("ema", "resnet18").eval()
        first, *_, last = plain.backbone(torch.randn(1, 3, 65, 65))
        with torch.inference_mode():
            assert plain.head([-first, last]).equal(plain.head([first, last]))
            logits = network.eval().head([first, last])
            assert logits.shape[-2:] == first.shape[-2:]
            assert not network.head([-first, last]).allclose(logits)
            assert not network.head([first, -last]).allclose(logits)


class TestBackbone(Architecture):
    # Deeper ones are the same code with more blocks: see test_backbones.py, on the meta device.
    @pytest.fixture(params=["mobilenet_v2", "resnet50", "deep stem", "three stages"])
    def network(self, request):
        options = {
            "deep stem": {"deep_stem": True, "multi_grid": True},
            "three stages": {"stages": 3},
        }.get(request.param)
        name = "resnet18" if options else request.param
        return build("fcn", name, backbone_options=options)

    @pytest.fixture
    def frozen(self):
        return set()


def test_every_head_and_backbone_is_known_here():
    assert set(SMALL) == set(HEADS)
    assert set(BACKBONES) == {"mobilenet_v2", "small_resnet"} | {
        f"resnet{depth}" for depth in (18, 34, 50, 101, 152)
    }


@pytest.mark.parametrize("gradient", ["detached", "one_step", "unrolled"])
@pytest.mark.unchecked
def test_the_unit_compiled_to_machine_code_learns_from_maps_of_two_sizes(gradient):
    """From the second on sizes are symbols to the compiler."""
    torch.compiler.reset()
    torch.manual_seed(0)
    unit = networks.EMAU(8, 4, gradient=gradient).train()
    plain = copy.deepcopy(unit)
    compiled = torch.compile(unit, fullgraph=True)
    for size in ((5, 7), (8, 6)):
        x = torch.randn(2, 8, *size)
        gradients = []
        for module in (compiled, plain):
            module.zero_grad()
            features = x.clone().requires_grad_()
            module(features).square().mean().backward()
            gradients.append([features.grad, *(p.grad for p in module.parameters())])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(unit.bases, plain.bases)


@pytest.mark.unchecked
def test_a_compiled_unit_maintains_its_bases():
    torch.manual_seed(0)
    unit = networks.EMAU(8, 4).train()
    plain = copy.deepcopy(unit)
    compiled = torch.compile(unit, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 8, 5, 7)
    torch.testing.assert_close(compiled(x), plain(x))
    torch.testing.assert_close(unit.bases, plain.bases)
