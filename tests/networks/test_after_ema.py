"""The modules that came after EMA, each against another way of writing it down."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from emastudy import networks
from emastudy.engine import cost
from emastudy.errors import InputError
from emastudy.networks.after_ema import OCRHead, pseudo_inverse, update_shares

H, W = 5, 7
UNITS = {
    networks.Hamburger: {"num_bases": 3},
    networks.ExternalAttention: {"num_memories": 3},
    networks.EfficientAttention: {},
    networks.NystromAttention: {"grid": 2},
    networks.SlotAttention: {"num_slots": 3},
    networks.CrissCrossAttention: {},
}


def ready(module):
    """In evaluation mode, with the norms and factors that start at zero switched on."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def flat(conv, x):
    """A 1×1 conv's output as (B, N, channels)."""
    return conv(x).flatten(2).transpose(1, 2)


def added(block, x, y, out="out"):
    """x + BN(W y), for y (B, N, channels)."""
    return x + block.norm(getattr(block, out)(y.transpose(1, 2).unflatten(2, (H, W))))


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(2, 8, H, W)


def test_hamburger_rebuilds_what_it_has_factorised(x):
    unit = ready(networks.Hamburger(8, num_bases=3))
    matrix = F.relu(unit.lower(x)).flatten(2)
    bases, shares = unit.factorize(matrix)
    numerator = torch.einsum("bcr,bcn->brn", bases, matrix)
    denominator = torch.einsum("bcr,bcs,bsn->brn", bases, bases, shares)
    rebuilt = bases @ (shares * numerator / (denominator + 1e-6))
    torch.testing.assert_close(unit(x), added(unit, x, rebuilt.transpose(1, 2), "upper"))
    assert (bases >= 0).all()
    assert (shares >= 0).all()


def test_hamburgers_updates_never_increase_the_error(x):
    unit = networks.Hamburger(8, num_bases=3)
    matrix = x.abs().double().flatten(2)
    errors = []
    for unit.num_iterations in range(1, 40):
        bases, shares = unit.factorize(matrix)
        errors.append((matrix - bases @ shares).square().sum())
        errors.append((matrix - bases @ update_shares(matrix, bases, shares)).square().sum())
    assert all(later <= former + 1e-9 for former, later in itertools.pairwise(errors))
    assert errors[-1] < 0.9 * errors[0]


def test_hamburger_finds_a_factorisation_that_exists():
    torch.manual_seed(0)
    matrix = torch.rand(1, 6, 2).double() @ torch.rand(1, 2, 40).double()
    unit = networks.Hamburger(6, num_bases=2, num_iterations=4000)
    bases, shares = unit.factorize(matrix)
    torch.testing.assert_close(bases @ shares, matrix, atol=1e-2, rtol=0)


def test_hamburgers_gradient_is_that_of_the_last_update(x):
    unit = ready(networks.Hamburger(8, num_bases=3))
    matrix = F.relu(unit.lower(x)).flatten(2).detach().requires_grad_()
    bases, shares = unit.factorize(matrix)
    update_shares(matrix, bases, shares).sum().backward()
    expected = bases @ (shares / (bases.mT @ bases @ shares + 1e-6))
    torch.testing.assert_close(matrix.grad, expected)


def test_external_attention(x):
    unit = ready(networks.ExternalAttention(8, num_memories=3))
    keys, values = unit.keys.weight[..., 0, 0], unit.values.weight[..., 0, 0].T  # (S, C) each
    attention = (flat(unit.query, x) @ keys.T).softmax(dim=1)
    attention = attention / attention.sum(dim=2, keepdim=True)
    expected = F.relu(added(unit, x, attention @ values))
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-5)


def test_external_attention_is_normalised_twice(x):
    unit = networks.ExternalAttention(8, num_memories=3)
    attention = unit.attention(x)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2, H, W))
    similarity = unit.keys(unit.query(x)).flatten(2)
    # The second normalisation divides what the first gave by one factor a pixel.
    ratio = attention.flatten(2) / similarity.softmax(dim=2)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4, atol=0)
    torch.testing.assert_close(unit.values.weight, unit.keys.weight.transpose(0, 1))


def test_efficient_attention_is_a_product_of_all_pairs_of_pixels(x):
    unit = ready(networks.EfficientAttention(8))
    pairs = flat(unit.query, x).softmax(dim=2) @ flat(unit.key, x).softmax(dim=1).mT
    torch.testing.assert_close(pairs.sum(dim=2), torch.ones(2, H * W))
    expected = added(unit, x, pairs @ flat(unit.value, x))
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-5)


def full_attention(unit, x):
    query, key = flat(unit.query, x), flat(unit.key, x)
    return (query @ key.mT / query.shape[2] ** 0.5).softmax(dim=2)


def test_nystrom_is_full_attention_where_every_pixel_is_a_landmark(x):
    unit = ready(networks.NystromAttention(8, grid=8, num_iterations=60)).double()
    x = x.double()
    expected = added(unit, x, full_attention(unit, x) @ flat(unit.value, x))
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-4)


def test_nystrom_by_its_three_matrices(x):
    unit = ready(networks.NystromAttention(8, grid=1)).double()
    unit.grid, x = 2, torch.randn(2, 8, 4, 6).double()
    query, key, value = (conv(x) for conv in (unit.query, unit.key, unit.value))
    cells = [
        (slice(r, r + 2), slice(c, c + 3)) for r in (0, 2) for c in (0, 3)
    ]  # the quarters of the map
    near_query, near_key = (
        torch.stack([m[..., rows, columns].mean((2, 3)) for rows, columns in cells], dim=1)
        for m in (query, key)
    )
    query, key, value = (m.flatten(2).mT for m in (query, key, value))
    first, among, last = (
        (q @ k.mT / 2).softmax(dim=2)
        for q, k in ((query, near_key), (near_query, near_key), (near_query, key))
    )
    unit.num_iterations = 60
    y = (first @ torch.linalg.pinv(among) @ last @ value).mT.unflatten(2, (4, 6))
    torch.testing.assert_close(unit(x), x + unit.norm(unit.out(y)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_pseudo_inverse_is_torchs(size):
    torch.manual_seed(0)
    a = torch.randn(4, size, size).double().softmax(dim=2)
    torch.testing.assert_close(pseudo_inverse(a, 60), torch.linalg.pinv(a), rtol=1e-6, atol=1e-6)
    errors = [(a @ pseudo_inverse(a, n) @ a - a).norm() for n in (0, 2, 4, 6)]
    assert errors == sorted(errors, reverse=True)


def test_slots_are_refined_as_in_the_papers_algorithm(x):
    """Slot by slot and gate by gate, with torch's order of the gates: reset, update, new."""
    unit = ready(networks.SlotAttention(8, num_slots=3, num_iterations=2))
    inputs = F.layer_norm(flat(torch.nn.Identity(), x), (8,), *unit.norm_pixels.parameters())
    key, value = inputs @ unit.key.weight.T, inputs @ unit.value.weight.T
    slots = unit.queries.expand(2, -1, -1)
    for _ in range(2):
        normed = F.layer_norm(slots, (4,), *unit.norm_slots.parameters())
        z = torch.einsum("bnd,bkd->bnk", key, normed @ unit.query.weight.T) / 2
        z = z.softmax(dim=2)
        refined = []
        for k in range(3):
            weights = z[:, :, k] / z[:, :, k].sum(dim=1, keepdim=True)
            update = (weights[:, :, None] * value).sum(dim=1)
            gates = F.linear(update, unit.recurrent.weight_ih, unit.recurrent.bias_ih).chunk(3, 1)
            kept = F.linear(slots[:, k], unit.recurrent.weight_hh, unit.recurrent.bias_hh)
            kept = kept.chunk(3, 1)
            reset, stay = (torch.sigmoid(gates[i] + kept[i]) for i in (0, 1))
            new = torch.tanh(gates[2] + reset * kept[2])
            slot = stay * slots[:, k] + (1 - stay) * new
            hidden = F.layer_norm(slot, (4,), *unit.norm_mlp.parameters())
            hidden = F.relu(F.linear(hidden, unit.mlp[0].weight, unit.mlp[0].bias))
            refined.append(slot + F.linear(hidden, unit.mlp[2].weight, unit.mlp[2].bias))
        slots = torch.stack(refined, dim=1)
    torch.testing.assert_close(unit(x), added(unit, x, z @ slots), rtol=1e-4, atol=1e-5)


def test_slots_have_no_order(x):
    unit = ready(networks.SlotAttention(8, num_slots=5))
    before = unit(x)
    with torch.no_grad():
        unit.queries.copy_(unit.queries[torch.randperm(5)])
    torch.testing.assert_close(unit(x), before, rtol=1e-4, atol=1e-5)


def test_criss_cross_attention_is_full_attention_with_a_mask(x):
    unit = ready(networks.CrissCrossAttention(8, num_recurrences=1))
    rows, columns = torch.arange(H).repeat_interleave(W), torch.arange(W).repeat(H)
    seen = (rows == rows[:, None]) | (columns == columns[:, None])
    assert seen.sum(dim=1).tolist() == [H + W - 1] * (H * W)
    similarity = flat(unit.query, x) @ flat(unit.key, x).mT
    weights = similarity.masked_fill(~seen, -math.inf).softmax(dim=2)
    y = (weights @ flat(unit.value, x)).mT.unflatten(2, (H, W))
    torch.testing.assert_close(unit(x), x + unit.gamma * y, rtol=1e-4, atol=1e-5)
    once = unit(x)
    unit.num_recurrences = 2
    twice = unit(x)
    unit.num_recurrences = 1
    torch.testing.assert_close(twice, unit(once))


@pytest.mark.parametrize(("recurrences", "reached"), [(1, H + W - 1), (2, H * W)])
def test_twice_criss_cross_every_pixel_has_heard_from_all(x, recurrences, reached):
    unit = ready(networks.CrissCrossAttention(8, num_recurrences=recurrences))
    x.requires_grad_()
    unit(x)[0, :, 2, 3].sum().backward()
    assert int((x.grad[0].abs().sum(dim=0) > 0).sum()) == reached


def test_object_context_by_its_equations(x):
    unit, coarse = ready(networks.ObjectContext(8)), torch.randn(2, 3, H, W)
    shares = coarse.flatten(2).softmax(dim=2)
    regions = torch.einsum("bkn,bcn->bkc", shares, x.flatten(2))
    as_map = regions.mT[..., None]
    query, key = flat(unit.pixel, x), flat(unit.region, as_map)
    weights = (query @ key.mT / 2).softmax(dim=2)
    y = (weights @ flat(unit.value, as_map)).mT.unflatten(2, (H, W))
    expected = unit.fuse(torch.cat([unit.up(y), x], dim=1))
    torch.testing.assert_close(unit(x, coarse), expected, rtol=1e-4, atol=1e-5)


def test_ocrs_coarse_logits_learn_from_the_final_loss():
    """Had they no path of their own, what reaches them would come through the regions alone."""
    torch.manual_seed(0)
    head = OCRHead([4], 3, channels=8, dropout=0.0).train()
    torch.nn.init.zeros_(head.classifier[1].weight)  # no path through the context
    head([torch.randn(2, 4, H, W)])[:, 0].sum().backward()
    per_class = head.coarse.bias.grad
    torch.testing.assert_close(per_class, torch.tensor([2.0 * H * W, 0.0, 0.0]))


@pytest.mark.parametrize("kind", UNITS, ids=lambda kind: kind.__name__)
def test_permuted_pixels_give_permuted_results(x, kind):
    """None but those that know rows, columns or cells see where a pixel lies."""
    unit = ready(kind(8, **UNITS[kind]))
    order = torch.randperm(H * W)
    permuted = x.flatten(2)[:, :, order].unflatten(2, (H, W))
    same = torch.allclose(
        unit(permuted), unit(x).flatten(2)[:, :, order].unflatten(2, (H, W)), atol=1e-4
    )
    assert same == (kind not in (networks.NystromAttention, networks.CrissCrossAttention))


@pytest.mark.parametrize(
    "kind",
    [networks.EfficientAttention, networks.NystromAttention, networks.SlotAttention,
     networks.CrissCrossAttention],
)  # fmt: skip
def test_those_that_start_at_zero_start_as_the_identity(x, kind):
    torch.testing.assert_close(kind(8)(x), x)


@pytest.mark.parametrize("kind", UNITS, ids=lambda kind: kind.__name__)
def test_bfloat16_is_near_to_float32(x, kind):
    torch.manual_seed(0)
    unit = ready(kind(8, **UNITS[kind]))
    expected = unit(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(unit(x).float(), expected, rtol=0.1, atol=0.1)
    torch.testing.assert_close(unit.bfloat16()(x.bfloat16()).float(), expected, rtol=0.1, atol=0.15)


@pytest.mark.parametrize("kind", [*UNITS, networks.NonLocal], ids=lambda kind: kind.__name__)
def test_costs_are_counted_and_linear_but_for_those_of_pairs(kind):
    macs = [cost.measure(kind(64), (32, width), channels=64).macs for width in (32, 64, 96)]
    first, second = (more - less for less, more in itertools.pairwise(macs))
    assert (first == second) == (kind not in (networks.NonLocal, networks.CrissCrossAttention))
    assert first > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.EfficientAttention(7), "channels is 7; .* even"),
        (lambda: networks.NystromAttention(8, grid=0), "grid is 0; expected a whole number ≥ 1"),
        (lambda: networks.SlotAttention(7), "channels is 7; .* even"),
        (lambda: networks.SlotAttention(8, num_iterations=0), "num_iterations is 0"),
        (lambda: networks.CrissCrossAttention(12), "channels is 12; .* multiple of 8"),
        (lambda: networks.CrissCrossAttention(8, num_recurrences=0), "num_recurrences is 0"),
        (lambda: networks.Hamburger(8, num_bases=0), "num_bases is 0"),
        (lambda: networks.Hamburger(8, num_iterations=0), "num_iterations is 0"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
