"""The unit against a transcription of the released one, and its life in training."""

import math
import pickle
import socket

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from emastudy import EMAU, em, networks
from emastudy.errors import InputError


def make(**options):
    torch.manual_seed(0)
    return EMAU(8, 4, **options)


def released_unit(unit, features):
    """The released unit's forward pass in its own terms: channels first, bmm, 1e-6 in divisions."""
    batch, channels, height, width = features.shape
    x = F.conv2d(features, unit.conv1.weight, unit.conv1.bias).view(batch, channels, -1)
    mu = unit.bases.T[None].repeat(batch, 1, 1)
    for _ in range(3):
        z = F.softmax(torch.bmm(x.transpose(1, 2), mu), dim=2)
        mu = torch.bmm(x, z / (1e-6 + z.sum(dim=1, keepdim=True)))
        mu = mu / (1e-6 + mu.norm(dim=1, keepdim=True))
    estimate = F.relu(torch.bmm(mu, z.transpose(1, 2)).view(features.shape))
    norm = unit.norm
    y = F.batch_norm(
        F.conv2d(estimate, unit.conv2.weight), norm.running_mean, norm.running_var, norm.weight,
        norm.bias, training=False,
    )  # fmt: skip
    return F.relu(y + features)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_evaluation_equals_the_released_unit(layout):
    unit = make().eval()
    features = torch.randn(3, 8, 7, 5).contiguous(memory_format=layout)
    torch.testing.assert_close(unit(features), released_unit(unit, features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gradient", ["detached", "unrolled"])
def test_both_layouts_train_alike_and_are_kept(gradient):
    outputs, gradients = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        unit = make(gradient=gradient).to(memory_format=layout)
        torch.manual_seed(1)
        features = torch.randn(3, 8, 7, 5).contiguous(memory_format=layout).requires_grad_()
        output = unit(features)
        assert output.is_contiguous(memory_format=layout)
        output.square().sum().backward()
        outputs.append(output)
        gradients.append([features.grad, *(p.grad for p in unit.parameters() if p.requires_grad)])
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_evaluation_leaves_the_bases_alone():
    unit = make().eval()
    before = unit.bases.clone()
    unit(torch.randn(2, 8, 5, 5))
    torch.testing.assert_close(unit.bases, before, rtol=0, atol=0)


def test_training_moves_the_bases_by_one_minus_momentum_in_place():
    unit = make(momentum=0.9).train()
    before, address = unit.bases.clone(), unit.bases.data_ptr()
    features = torch.randn(2, 8, 5, 5)
    ended = unit.attend(features).bases
    unit(features)
    assert unit.bases.data_ptr() == address
    torch.testing.assert_close(unit.bases, 0.9 * before + 0.1 * ended.mean(dim=0))


def test_fixed_and_learned_bases_are_not_averaged():
    for options in ({"maintenance": "fixed"}, {"maintenance": "learned", "gradient": "unrolled"}):
        unit = make(**options).train()
        before = unit.bases.detach().clone()
        unit(torch.randn(2, 8, 5, 5))
        torch.testing.assert_close(unit.bases.detach(), before, rtol=0, atol=0)


def test_images_do_not_see_each_other():
    unit = make().eval()
    features = torch.randn(4, 8, 6, 6)
    apart = torch.cat([unit(one[None]) for one in features])
    torch.testing.assert_close(unit(features), apart)


def without_gradient(unit):
    unit.train()(torch.randn(2, 8, 5, 5, requires_grad=True)).square().sum().backward()
    return {name for name, p in unit.named_parameters() if p.grad is None or not p.grad.any()}


def test_parameters_that_never_learn_are_known_by_name():
    # As in the released code; and they say so, by not requiring a gradient.
    unit = make(gradient="detached")
    assert without_gradient(unit) == {"conv1.weight", "conv1.bias"}
    assert not any(p.requires_grad for p in unit.conv1.parameters())
    assert without_gradient(make(gradient="one_step")) == set()
    assert without_gradient(make(gradient="unrolled")) == set()
    assert without_gradient(make(gradient="unrolled", maintenance="learned")) == set()


def gradient_of(features, gradient, iterations):
    unit = make(gradient=gradient, num_iterations=iterations, maintenance="fixed").double().eval()
    features = features.clone().requires_grad_()
    unit(features).square().sum().backward()
    return features.grad, unit.conv1.weight.grad


def test_one_step_is_unrolled_for_one_iteration_and_not_beyond():
    features = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    for a, b in zip(*(gradient_of(features, g, 1) for g in ("one_step", "unrolled")), strict=True):
        torch.testing.assert_close(a, b)
    ours, full = (gradient_of(features, g, 3)[1] for g in ("one_step", "unrolled"))
    assert not torch.allclose(ours, full, rtol=1e-3)


def test_detached_gradient_flows_through_the_identity_alone():
    unit = make().eval()
    features = torch.randn(1, 8, 4, 4, requires_grad=True)
    out = unit(features)
    out.sum().backward()
    torch.testing.assert_close(features.grad, (out > 0).float())


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("maintenance", ["grid", "pixels"])
def test_one_step_holds_a_start_made_of_the_image_constant(maintenance, iterations):
    torch.manual_seed(0)
    unit = EMAU(8, 4, iterations, gradient="one_step", maintenance=maintenance).eval()
    features = torch.randn(2, 8, 6, 6)
    unit.attend(features).bases.pow(3).sum().backward()
    x, start = unit.em_input(features)
    if iterations > 1:
        start = em.expectation_maximization(x, start, iterations - 1).bases
    last = em.expectation_maximization(x, start.detach(), 1).bases
    (expected,) = torch.autograd.grad(last.pow(3).sum(), unit.conv1.weight)
    torch.testing.assert_close(unit.conv1.weight.grad, expected)


def test_all_regimes_see_the_same_forward_pass():
    features = torch.randn(2, 8, 5, 5)
    outs = [make(gradient=g).eval()(features) for g in ("detached", "one_step", "unrolled")]
    torch.testing.assert_close(outs[0], outs[1])
    torch.testing.assert_close(outs[0], outs[2])


def test_attend_gives_what_the_forward_pass_used():
    unit = make(gradient="one_step").eval()
    features = torch.randn(2, 8, 5, 6)
    result = unit.attend(features, trace=True)
    assert result.responsibilities.shape == (2, 30, 4)
    assert result.objective.shape == (2, 4)
    estimate = (result.responsibilities @ result.bases).transpose(1, 2).reshape(features.shape)
    expected = F.relu(features + unit.norm(unit.conv2(F.relu(estimate))))
    torch.testing.assert_close(unit(features), expected)


# Golden: sums of a training pass, an evaluation pass after it and the input's gradient, of torch
# 2.14 on one thread in float32, folded (9×11 pixels, detached) and not. Records depend on them.
SUMS = {
    ("detached", (3, 4)): (107.556830, 73.928983, 215.113661),
    ("detached", (9, 11)): (953.548089, 650.269529, 1907.096179),
    ("one_step", (3, 4)): (107.556830, 73.928983, 110.445436),
    ("one_step", (9, 11)): (953.548102, 650.269526, 1380.746745),
    ("unrolled", (3, 4)): (107.556830, 73.928983, 190.471681),
    ("unrolled", (9, 11)): (953.548102, 650.269526, 1355.704687),
}


@pytest.mark.parametrize(("gradient", "size"), SUMS)
def test_a_seeded_unit_gives_the_numbers_that_it_always_gave(gradient, size):
    unit = make(gradient=gradient).train()
    features = torch.randn(2, 8, *size, requires_grad=True)
    trained = unit(features)
    trained.square().sum().backward()
    found = (trained, unit.eval()(features), features.grad)
    sums = [tensor.double().sum().item() for tensor in found]
    assert sums == pytest.approx(SUMS[gradient, size], rel=1e-6)


def calls_of_conv1(unit, features):
    with FlopCounterMode(display=False) as counter:
        unit(features)
    return len(counter.get_flop_counts().get("EMAU.conv1", {}))


def test_conv1_is_folded_where_it_saves_work():
    large, small = torch.randn(2, 8, 5, 5), torch.randn(2, 8, 6, 4)  # 2TK = 24 pixels
    for gradient in ("detached", "one_step", "unrolled"):
        assert calls_of_conv1(make(gradient=gradient), large) == 0
        assert calls_of_conv1(make(gradient=gradient), small) == 1
    assert calls_of_conv1(make(maintenance="grid"), large) == 1  # starts from X itself
    unit = make()
    unit.fold = False
    assert calls_of_conv1(unit, large) == 1


def test_networks_of_the_study_keep_the_rounding_of_their_records():
    network = networks.build("ema", num_classes=2, channels=8, gradient="unrolled")
    unit, features = network.head.context, torch.randn(2, 8, 30, 30)
    assert calls_of_conv1(unit, features) == 1
    with torch.no_grad():
        assert calls_of_conv1(unit, features) == 0


@pytest.mark.parametrize("normalization", ["l2", "layer", "none", "gaussian"])
@pytest.mark.parametrize("gradient", ["detached", "one_step", "unrolled"])
@pytest.mark.parametrize("training", [True, False])
def test_folding_conv1_changes_no_output_no_gradient_and_no_bases(
    normalization, gradient, training
):
    features = torch.randn(2, 8, 9, 7, dtype=torch.float64)
    results = []
    for fold in (True, False):
        unit = make(normalization=normalization, gradient=gradient).double().train(training)
        unit.fold = fold
        x = features.clone().requires_grad_()
        out = unit(x)
        out.square().sum().backward()
        learnt = [p.grad for p in unit.parameters() if p.requires_grad]
        results.append([out, x.grad, *learnt, unit.bases])
    for folded, plain in zip(*results, strict=True):
        torch.testing.assert_close(folded, plain)


def test_iterations_can_be_changed_after_training():
    unit = make().eval()
    features = torch.randn(1, 8, 5, 5)
    three = unit(features)
    unit.num_iterations = 6
    assert not torch.allclose(unit(features), three)
    torch.testing.assert_close(unit(features), make(num_iterations=6).eval()(features))


def test_the_state_dict_carries_the_bases():
    unit = make().train()
    unit(torch.randn(2, 8, 5, 5))
    other = EMAU(8, 4)
    other.load_state_dict(unit.state_dict())
    torch.testing.assert_close(other.bases, unit.bases)


def test_it_drops_into_a_network_and_learns():
    torch.manual_seed(0)
    unit = EMAU(8, 4, gradient="one_step")
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), unit, nn.Conv2d(8, 2, 1))
    image, target = torch.randn(4, 3, 9, 9), torch.randint(2, (4, 9, 9))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(network(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_bfloat16_autocast_stays_close():
    unit = make().eval()
    features = torch.randn(2, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        half = unit(features)
    torch.testing.assert_close(half.float(), unit(features), rtol=0.05, atol=0.05)


def _distributed(rank, world, port, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    unit = make().train()
    features = torch.load(f"{folder}/features.pt", weights_only=True)
    unit(features[:2] if rank == 0 else features[2:])  # 2 and 3 images: not the same number
    torch.save(unit.bases, f"{folder}/bases{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_average_as_one_batch(tmp_path):
    features = torch.randn(5, 8, 5, 5)
    torch.save(features, tmp_path / "features.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_distributed, (2, port, str(tmp_path)), nprocs=2)
    unit = make().train()
    unit(features)
    for rank in range(2):
        bases = torch.load(tmp_path / f"bases{rank}.pt", weights_only=True)
        torch.testing.assert_close(bases, unit.bases, rtol=1e-5, atol=1e-6)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("field", "listed"),
    [
        ("normalization", "l2, layer"),
        ("maintenance", "moving_average, learned, fixed"),
        ("gradient", "detached, one_step, unrolled"),
        ("concentration_scale", "fixed, learned, critical"),
    ],
)
def test_unknown_choices_list_the_known(field, listed):
    with pytest.raises(ValueError, match=f"{field} is 'batch'; expected one of {listed}"):
        EMAU(8, **{field: "batch"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bases": 0}, "num_bases is 0"),
        ({"num_iterations": 0}, "num_iterations is 0"),
        ({"channels": 0}, "channels is 0"),
        ({"concentration": -1.0}, "concentration is -1"),
        ({"concentration": math.nan}, "concentration is nan"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"heads": "8"}, "heads is '8'; expected a whole number ≥ 1"),
        ({"num_bases": "64"}, "num_bases is '64'"),
        ({"num_iterations": 1.5}, "num_iterations is 1.5"),
        ({"concentration": math.inf}, "concentration is inf"),
        ({"zero_init": "no"}, "zero_init is 'no'; expected true or false"),
        ({"maintenance": "learned"}, "gradient='unrolled'"),
        ({"concentration_scale": "learned"}, "gradient='one_step' or 'unrolled'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EMAU(**{"channels": 8, **options})


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 6, 4, 4), r"6 channels, this EMAU was made for 8; make it with EMAU\(6"),
        ((8, 4, 4), r"shape \(8, 4, 4\).*\(B, C, H, W\).*features\[None\]"),
        ((8, 4), r"shape \(8, 4\); expected a batch of maps, \(B, C, H, W\)$"),
        ((2, 8, 0, 3), "0×3 pixels; expected at least 1×1"),
        ((1, 8, 1, 1), r"one pixel of one image.*larger map or batch, or unit.norm.eval\(\)"),
    ],
)
def test_input_of_another_shape_is_told_the_fix_before_any_work(shape, message):
    unit = make().train()
    before = unit.bases.clone()
    with pytest.raises(ValueError, match=message):
        unit(torch.randn(shape))
    assert unit.bases.equal(before)


def test_a_map_of_one_pixel_is_a_map():
    for options in ({}, {"maintenance": "grid"}):
        unit = make(**options)
        assert unit.train()(torch.randn(2, 8, 1, 1)).isfinite().all()
        assert unit.eval()(torch.randn(1, 8, 1, 1)).isfinite().all()
    unit.train().norm.eval()
    assert unit(torch.randn(1, 8, 1, 1)).isfinite().all()


def test_weights_of_another_size_say_how_to_make_their_unit():
    network = nn.Sequential(nn.Identity(), make())
    theirs = nn.Sequential(nn.Identity(), EMAU(16, 5)).state_dict()
    message = r"1.bases have shape \(5, 16\), this EMAU's \(4, 8\), .*EMAU\(16, num_bases=5\)"
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=message):
            network.load_state_dict(theirs, strict=strict)


def test_grid_bases_start_from_the_image_itself():
    unit = make(maintenance="grid", num_iterations=1).eval()
    assert unit.bases is None
    assert set(unit.state_dict()) == set(make().state_dict()) - {"bases"}
    # One colour per quadrant: every cell's mean is that colour, and EM has nothing to move.
    colors = torch.randn(2, 8, 2, 2)
    features = colors.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    x = unit.conv1(colors).flatten(2).transpose(1, 2)
    expected = torch.softmax(
        unit.conv1(features).flatten(2).transpose(1, 2) @ F.normalize(x, dim=-1).transpose(1, 2), -1
    )
    torch.testing.assert_close(unit.attend(features).responsibilities, expected)


def test_grid_is_as_square_as_k_allows_and_lies_along_the_longer_side():
    torch.manual_seed(0)
    unit = EMAU(4, 6, 1, maintenance="grid", normalization="none").eval()
    for height, width, rows, columns in ((4, 9, 2, 3), (9, 4, 3, 2)):
        features = torch.randn(1, 4, height, width)
        means = F.adaptive_avg_pool2d(unit.conv1(features), (rows, columns))
        z = torch.softmax(unit.conv1(features).flatten(2).mT @ means.flatten(2), dim=-1)
        torch.testing.assert_close(unit.attend(features).responsibilities, z)


def test_pixel_bases_are_drawn_in_training_and_the_same_in_evaluation():
    unit = make(maintenance="pixels")
    features = torch.randn(2, 8, 6, 6)
    first, second = (unit.eval().attend(features).responsibilities for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    first, second = (unit.train().attend(features).responsibilities for _ in range(2))
    assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match="1×3 pixels, fewer than the 4 bases"):
        unit(torch.randn(2, 8, 1, 3))


def test_input_scale_is_a_hidden_concentration_while_conv1_is_frozen():
    features = torch.randn(2, 8, 6, 6)
    scaled, concentrated = make(input_scale=4.0).train(), make(concentration=4.0).train()
    for _ in range(3):
        torch.testing.assert_close(scaled(features), concentrated(features))
    torch.testing.assert_close(scaled.bases, concentrated.bases)


def test_the_recommended_unit_is_one_call_and_can_be_changed():
    unit = EMAU.recommended(8)
    assert (unit.num_bases, unit.num_iterations, unit.gradient) == (64, 2, "unrolled")
    assert EMAU.recommended(8, 4, num_iterations=3, momentum=0.5).num_iterations == 3
    with pytest.raises(ValueError, match="num_iterations is 0"):
        EMAU.recommended(8, num_iterations=0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 5, 6, 8), r"give features.permute\(0, 3, 1, 2\)"),
        ((2, 30, 8), r"of tokens \(B, N, C\) give features.mT.unflatten"),
        ((8, 5, 6), r"for a single one \(C, H, W\) give features\[None\]"),
        ((2, 7, 6, 5), r"make it with EMAU\(7, ...\)"),
    ],
)
@pytest.mark.unchecked
def test_other_layouts_are_told_apart(shape, message):
    with pytest.raises(InputError, match=message):
        EMAU(8, num_bases=4)(torch.randn(shape))


@pytest.mark.parametrize(("name", "value"), [("num_bases", 8), ("gradient", "unrolled")])
def test_what_parameters_were_made_for_cannot_be_changed(name, value):
    unit = EMAU(8, num_bases=4)
    message = rf"{name} is .* and stays so, .*another EMAU with {name}={value!r} and its other"
    with pytest.raises(InputError, match=message):
        setattr(unit, name, value)
    setattr(unit, name, getattr(unit, name))
    unit.num_iterations = 5
    assert pickle.loads(pickle.dumps(unit)).num_iterations == 5
