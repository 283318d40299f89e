"""Whatever hangs on the unit's first conv acts on maps of every size, though it can be folded."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from emastudy import EMAU


class LowRank(nn.Module):
    """An adapter in the conv's place, which shows the conv's own attributes."""

    def __init__(self, base):
        super().__init__()
        self.base, self.down = base, nn.Conv2d(8, 2, 1, bias=False)
        self.up = nn.Conv2d(2, 8, 1, bias=False)

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Negated(nn.Conv2d):
    def forward(self, x):
        return -super().forward(x)


def forward_hook(unit):
    unit.conv1.register_forward_hook(lambda module, inputs, output: 0.1 * output)


def pre_hook(unit):
    unit.conv1.register_forward_pre_hook(lambda module, inputs: (3 * inputs[0],))


def replaced_forward(unit):
    forward = unit.conv1.forward
    unit.conv1.forward = lambda x: 3 * forward(x)


def pruned(unit):
    prune.l1_unstructured(unit.conv1, "weight", 0.5)
    unit.conv1.weight_orig.data.mul_(3)  # read by a hook before the conv runs


def normed_by_hook(unit):
    nn.utils.weight_norm(unit.conv1)
    unit.conv1.weight_g.data.mul_(3)


def normed(unit):
    parametrizations.weight_norm(unit.conv1)
    unit.conv1.parametrizations.weight.original0.data.mul_(3)


def spectrally_normed(unit):
    parametrizations.spectral_norm(unit.conv1)


def adapted(unit):
    unit.conv1 = LowRank(unit.conv1)


def subclassed(unit):
    unit.conv1 = Negated(8, 8, 1)


def without_bias(unit):
    unit.conv1 = nn.Conv2d(8, 8, 1, bias=False)


def wide(unit):
    unit.conv1 = nn.Conv2d(8, 8, 3, padding=1)


def grouped(unit):
    unit.conv1 = nn.Conv2d(8, 8, 1, groups=2)


def another_kind(unit):
    unit.conv1 = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))


def absent(unit):
    unit.conv1 = nn.Identity()


CHANGES = [
    forward_hook, pre_hook, replaced_forward, pruned, normed_by_hook, normed, spectrally_normed,
    adapted, subclassed, without_bias, wide, grouped, another_kind, absent,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("training", [True, False])
def test_it_acts_on_large_maps_as_on_small_ones(change, training):
    features = torch.randn(2, 8, 9, 9)
    found = []
    for fold in (True, False):
        torch.manual_seed(0)
        unit = EMAU(8, 4).train(training)
        change(unit)
        unit.fold = fold
        with torch.no_grad():
            found.append((unit.attend(features).responsibilities, unit(features), unit.bases))
    for folded, unfolded in zip(*found, strict=True):
        assert folded.equal(unfolded)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("change", [pruned, normed_by_hook, normed], ids=lambda c: c.__name__)
def test_taken_off_again_it_is_folded_again(change):
    torch.manual_seed(0)
    unit = EMAU(8, 4).eval()
    features = torch.randn(2, 8, 9, 9)
    change(unit)
    with torch.no_grad():
        hung = unit(features)
        if change is pruned:
            prune.remove(unit.conv1, "weight")
        elif change is normed:
            nn.utils.parametrize.remove_parametrizations(unit.conv1, "weight")
        else:
            nn.utils.remove_weight_norm(unit.conv1)
        torch.testing.assert_close(unit(features), hung)
        calls = []
        unit.conv1.weight.data.mul_(2)
        handle = unit.conv1.register_forward_hook(lambda *_: calls.append(1))
        ran = unit(features)
        handle.remove()
        torch.testing.assert_close(unit(features), ran)
        assert calls == [1]


def test_hooks_that_only_count_do_not_change_what_is_counted():
    with torch.device("meta"):
        unit = EMAU(8, 4).eval()
        features = torch.empty(1, 8, 9, 9)
    ran = []
    unit.conv1.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        unit(features)
    assert not ran
