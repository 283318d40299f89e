import pytest
import torch
from torch import nn

from emastudy import networks
from emastudy.engine import cost


def test_counts_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    counted = cost.measure(net, (5, 7))
    assert counted.macs == counted.convolution_macs == 35 * (8 * 27 + 4 * 8)
    assert counted.params == 8 * 27 + 8 + 32
    # Kept: ReLU's output, which the second conv reads too. Alive at once: two maps.
    assert counted.activation_bytes == 4 * 35 * 8
    assert counted.peak_bytes == 4 * 35 * (8 + 8)
    assert [part.macs for part in counted.parts.values()] == [35 * 216, 0, 35 * 32]
    assert sum(part.activation_bytes for part in counted.parts.values()) == 4 * 35 * 8


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_units_multiply_adds_and_bases(iterations):
    c, k, n = 16, 4, 35
    counted = cost.measure(networks.EMAU(c, k, iterations), (5, 7), channels=c)
    assert counted.macs == 2 * n * c * c + (2 * iterations + 1) * n * k * c
    assert counted.convolution_macs == 2 * n * c * c
    assert counted.params == 2 * c * c + c + 2 * c + k * c
    learned = networks.EMAU(c, k, maintenance="learned", gradient="unrolled")
    assert cost.count_parameters(learned) == counted.params


def test_the_folded_unit_applies_its_first_conv_to_bases():
    c, k, t, n = 16, 4, 2, 35
    counted = cost.measure(networks.EMAU(c, k, t), (5, 7), channels=c, folded=True)
    assert counted.macs == n * c * c + (2 * t + 1) * n * k * c + 2 * t * k * c * c
    assert counted.convolution_macs == n * c * c


@pytest.mark.parametrize("heads", [2, 4])
def test_heads_cost_what_one_costs_and_own_values_a_conv(heads):
    c, k, t, n = 16, 4, 2, 35
    one = cost.measure(networks.EMAU(c, k, t), (5, 7), channels=c)
    counted = cost.measure(networks.EMAU(c, k, t, heads=heads), (5, 7), channels=c)
    assert (counted.macs, counted.params) == (one.macs, one.params)
    unit = networks.EMAU(c, k, t, heads=heads, value_conv=True)
    counted = cost.measure(unit, (5, 7), channels=c)
    # A conv, and the weighted sums of its output.
    assert counted.macs == one.macs + n * c * c + n * k * c
    assert counted.params == one.params + c * c + c


def test_folded_heads_apply_the_convs_to_bases():
    c, k, t, n, heads = 32, 2, 2, 35, 2
    unit = networks.EMAU(c, k, t, heads=heads, value_conv=True)
    counted = cost.measure(unit, (5, 7), channels=c, folded=True)
    uses = (2 * t + 1) * (heads * n * k * c + k * c * c)
    assert counted.macs == uses + n * k * c + n * c * c
    # The map of the pixels is read by all heads: none has a copy of its own.
    assert counted.peak_bytes < 4 * (2 * n * c + 8 * heads * n * k + 8 * heads * k * c)


def test_the_products_of_any_call_are_counted():
    a, b = torch.empty(3, 5, device="meta"), torch.empty(5, 7, device="meta")
    assert cost.multiply_adds(lambda: (a @ b).relu()) == 3 * 5 * 7


def test_counting_leaves_the_network_as_it_is():
    network = networks.build("ema", backbone="resnet18", num_classes=2, channels=8, num_bases=4)
    network.train().backbone.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    cost.measure(network, (65, 65))
    assert [module.training for module in network.modules()] == modes
    assert all(before[name].equal(value) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_parts_add_up():
    with torch.device("meta"):
        network = networks.build("deeplabv3plus", backbone="resnet50", num_classes=21)
    whole = cost.measure(network, (129, 129))
    for quantity in ("macs", "params", "activation_bytes"):
        parts = [getattr(whole.parts[name], quantity) for name in ("backbone", "head")]
        assert sum(parts) == getattr(whole, quantity)
    assert whole.peak_bytes == max(whole.parts[name].peak_bytes for name in ("backbone", "head"))


def test_counting_agrees_with_running():
    network = networks.build("a2", backbone="resnet18", num_classes=2, channels=16).eval()
    image = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        ran = cost.peak_bytes(
            lambda: network(image), image, *network.parameters(), *network.buffers()
        )
    assert cost.measure(network, (65, 65)).peak_bytes == pytest.approx(ran, rel=0.02)


def test_a_network_of_any_size_needs_no_memory():
    with torch.device("meta"):
        network = networks.build("psanet", backbone="resnet152", num_classes=21, output_stride=8)
    assert cost.measure(network, (1025, 1025)).activation_bytes > 8 * 2**30


def test_seconds_takes_the_median_and_not_the_first_call(monkeypatch):
    clock = iter([0, 100, 100, 103, 103, 104, 104, 106])
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock))
    assert cost.seconds(lambda: None, repeats=3) == 2
