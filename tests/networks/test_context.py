"""The context modules against their equations, written out pixel by pixel."""

import pytest
import torch

from emastudy import em, networks
from emastudy.engine import cost


def ready(module):
    """In evaluation mode, with the batch norm that starts at zero switched on."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def flat(conv, x):
    """A 1×1 conv's output as (B, N, channels)."""
    return conv(x).flatten(2).transpose(1, 2)


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 8, 5, 7)


@pytest.mark.parametrize("kernel", ["embedded_gaussian", "dot"])
def test_non_local(x, kernel):
    block = ready(networks.NonLocal(8, kernel=kernel))
    similarity = flat(block.query, x) @ flat(block.key, x).transpose(1, 2)
    weights = similarity.softmax(2) if kernel == "embedded_gaussian" else similarity / 35
    y = (weights @ flat(block.value, x)).transpose(1, 2).unflatten(2, (5, 7))
    torch.testing.assert_close(block(x), x + block.norm(block.out(y)), rtol=1e-4, atol=1e-5)


def test_double_attention(x):
    block = ready(networks.DoubleAttention(8, num_bases=3))
    gathered = flat(block.gather, x).softmax(1).transpose(1, 2) @ flat(block.value, x)
    y = (flat(block.distribute, x).softmax(2) @ gathered).transpose(1, 2).unflatten(2, (5, 7))
    torch.testing.assert_close(block(x), x + block.norm(block.out(y)), rtol=1e-4, atol=1e-5)


def test_double_attention_is_one_em_iteration_with_the_m_steps_weights(x):
    pixels, bases = flat(torch.nn.Identity(), x), torch.randn(3, 8)
    z = em.responsibilities(pixels, bases)
    gathered = (z / z.sum(1, keepdim=True)).transpose(1, 2) @ pixels
    result = em.expectation_maximization(pixels, bases, 1, normalization="none")
    torch.testing.assert_close(z @ gathered, em.reconstruct(*result[:2]), rtol=1e-5, atol=1e-5)


def test_the_control_is_the_unit_whose_every_pixel_is_its_own_basis():
    """EM with K = N bases that start on the pixels and a sharp softmax gives the pixels back."""
    torch.manual_seed(0)
    unit = networks.EMAU(8, 12, maintenance="grid", normalization="gaussian", concentration=1e4)
    control = networks.NoAttention(8)
    control.load_state_dict(unit.state_dict())
    x = torch.randn(2, 8, 3, 4)
    torch.testing.assert_close(control.eval()(x), unit.eval()(x))


def test_the_control_changes_every_pixel_by_itself(x):
    block = ready(networks.NoAttention(8))
    other = x.clone()
    other[:, :, 2, 3] += 1
    changed = (block(other) != block(x)).any(1)
    assert changed[:, 2, 3].all()
    assert changed.sum() == len(x)


@pytest.mark.parametrize("flow", ["collect", "distribute", "both"])
@pytest.mark.parametrize("window", [3, 9])
def test_point_wise_spatial_attention(x, flow, window):
    module = ready(networks.PointwiseSpatialAttention(8, 4, flow, window))
    small = (3, 4)
    places = [(r, c) for r in range(small[0]) for c in range(small[1])]
    contexts = []
    for name, reduce in module.reduce.items():
        source = torch.nn.functional.interpolate(
            reduce(x), small, mode="bilinear", align_corners=True
        )
        logits = module.attention[name](source)
        context = torch.zeros_like(source)
        for r, c in places:
            reached, values = [], []
            for s, d in places:
                down, right = (s - r, d - c) if name == "collect" else (r - s, c - d)
                if max(abs(down), abs(right)) <= window // 2:
                    channel = (down + window // 2) * window + right + window // 2
                    row, column = (r, c) if name == "collect" else (s, d)
                    values.append(logits[:, channel, row, column])
                    reached.append(source[:, :, s, d])
            weights = torch.stack(values, 1).softmax(1)
            context[:, :, r, c] = (torch.stack(reached, 1) * weights[..., None]).sum(1)
        contexts.append(context)
    projected = module.project(torch.cat(contexts, 1))
    expected = torch.nn.functional.interpolate(
        projected, (5, 7), mode="bilinear", align_corners=True
    )
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["hooked", "replaced"])
def test_point_wise_spatial_attention_calls_a_last_conv_that_is_more_than_its_weight(x, change):
    module, seen = ready(networks.PointwiseSpatialAttention(8, 4, "both", 9)), []
    plain = module(x)
    for attention in module.attention.values():
        attention[1].register_forward_hook(lambda *call: seen.append(call[2].shape[1]))
        if change == "replaced":
            attention[1] = torch.nn.Sequential(attention[1])
    torch.testing.assert_close(module(x), plain, rtol=1e-5, atol=1e-6)
    assert seen == [81, 81]


@pytest.mark.parametrize("make", [networks.EMAU, networks.DoubleAttention])
def test_no_matrix_of_all_pixel_pairs(make):
    side, channels = 65, 16
    x = torch.randn(1, channels, side, side)
    unit = make(channels, num_bases=8).eval()
    with torch.no_grad():
        peak = cost.peak_bytes(lambda: unit(x), x, *unit.parameters(), *unit.buffers())
    assert peak < 10 * x.nbytes < 4 * side**4 / 20
    if isinstance(unit, networks.EMAU):
        unrolled = make(channels, num_bases=8, gradient="unrolled")
        kept = cost.measure(unrolled, (side, side), channels=channels).activation_bytes
        assert kept < 20 * x.nbytes < 4 * side**4 / 10


@pytest.mark.parametrize("channels_last", [False, True])
def test_fused_non_local_stores_no_matrix_of_all_pixel_pairs(channels_last):
    x = torch.randn(1, 16, 65, 65)
    block = networks.NonLocal(16).eval()
    if channels_last:
        x, block = (a.to(memory_format=torch.channels_last) for a in (x, block))
    with torch.no_grad():
        assert cost.peak_bytes(lambda: block(x), x, *block.parameters()) < 10 * x.nbytes
    assert cost.measure(block, (65, 65), channels=16).peak_bytes > 4 * 65**4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.NonLocal(7), "channels is 7; .* even C"),
        pytest.param(
            lambda: networks.NonLocal(8, kernel="rbf"),
            "kernel is 'rbf'; expected one of",
            marks=pytest.mark.unchecked,
        ),
        (lambda: networks.DoubleAttention(6), "channels is 6; .* multiple of 4"),
        pytest.param(
            lambda: networks.PointwiseSpatialAttention(8, flow="up"),
            "flow is 'up'",
            marks=pytest.mark.unchecked,
        ),
        (lambda: networks.PointwiseSpatialAttention(8, window=4), "window is 4; .* odd"),
    ],
)
def test_arguments_out_of_range_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("head", ["non_local", "a2", "efficient", "nystrom", "ema", "no_attention"])
def test_a_block_whose_norm_starts_at_zero_begins_as_the_identity(x, head):
    features = x.relu()  # as the conv before it gives them, and EMA's unit ends with a ReLU
    for zero_init in (True, False):
        network = networks.build(head, num_classes=2, channels=8, zero_init=zero_init)
        block = network.head.context.train()
        assert block(features).equal(features) == zero_init
