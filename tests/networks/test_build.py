"""Whole networks: names, strides, weights."""

import ssl
from hashlib import sha256
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2, resnet18

from emastudy import networks
from emastudy.errors import DownloadError

BACKBONES = {"small_resnet": 4, "mobilenet_v2": 32, "resnet18": 32}


def make(head="fcn", **options):
    torch.manual_seed(0)
    return networks.build(head, **{"num_classes": 3, "channels": 16, **options})


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18"])
def test_dilation_is_the_strided_network_at_more_places(backbone):
    """À trous: subsampling the dense features gives the strided ones, whatever the weights."""
    network = make(backbone=backbone, output_stride=32).eval()
    for module in network.modules():  # default initialisation starves deep layers of signal
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    image = torch.randn(1, 3, 97, 129)
    coarse = network.backbone(image)[-1]
    for stride in (16, 8):
        network.backbone.set_output_stride(stride)
        dense = network.backbone(image)[-1]
        step = 32 // stride
        torch.testing.assert_close(dense[..., ::step, ::step], coarse, rtol=1e-3, atol=1e-4)
    network.backbone.set_output_stride(32)
    torch.testing.assert_close(network.backbone(image)[-1], coarse)


@pytest.mark.parametrize("head", ["fcn", "ema", "non_local"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_logits_have_the_image_size_and_the_stride_is_as_asked(head, backbone):
    network = make(head, backbone=backbone, output_stride=4 if backbone == "small_resnet" else 16)
    image = torch.randn(2, 3, 97, 65)
    assert network(image).shape == (2, 3, 97, 65)
    if backbone != "small_resnet":
        for stride, size in ((8, (13, 9)), (16, (7, 5))):
            network.backbone.set_output_stride(stride)
            assert network.backbone(image)[-1].shape[-2:] == size


def test_feature_maps_have_the_channels_that_the_backbone_states():
    for backbone in BACKBONES:
        trunk = make(backbone=backbone, output_stride=4).backbone
        features = trunk(torch.randn(1, 3, 64, 64))
        assert tuple(f.shape[1] for f in features) == trunk.channels


def test_changing_the_stride_keeps_every_weight():
    network = make(backbone="mobilenet_v2", output_stride=16)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.backbone.set_output_stride(8)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_parameters_that_require_a_gradient_get_a_finite_one():
    for head in ("fcn", "ema", "non_local"):
        network = make(head, backbone="small_resnet", output_stride=4)
        network(torch.randn(2, 3, 32, 32)).square().mean().backward()
        wrong = {
            name
            for name, p in network.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
        }
        assert wrong == set()
        frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
        # The released EMANet's first conv: a random projection for ever.
        expected = {"head.context.conv1.weight", "head.context.conv1.bias"}
        assert frozen == (expected if head == "ema" else set())


@pytest.mark.parametrize(
    ("name", "maker", "cut"),
    [
        ("mobilenet_v2", mobilenet_v2, lambda m, x: m.features[:18](x)),
        (
            "resnet18",
            resnet18,
            lambda m, x: m.layer4(
                m.layer3(m.layer2(m.layer1(m.maxpool(m.relu(m.bn1(m.conv1(x)))))))
            ),
        ),
    ],
)
def test_weights_from_a_file_give_torchvisions_features(tmp_path, name, maker, cut):
    torch.manual_seed(1)
    original = maker().eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    network = make(backbone=name, weights=tmp_path / "weights.pth", output_stride=32).eval()
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(network.backbone(image)[-1], cut(original, image))


def test_shared_mobilenet_weights_load(mobilenet_weights):
    make(backbone="mobilenet_v2", weights=mobilenet_weights)


def test_a_resnet_may_end_at_stage_3(tmp_path):
    state = {k: v for k, v in resnet18().state_dict().items() if not k.startswith(("layer4", "fc"))}
    torch.save(state, tmp_path / "w.pth")
    network = make(backbone="resnet18", weights=tmp_path / "w.pth", backbone_options={"stages": 3})
    assert network.backbone.channels[-1] == 256
    with pytest.raises(ValueError, match="lacks .* of this backbone"):
        make(backbone="resnet18", weights=tmp_path / "w.pth")


def test_bn_momentum_reaches_every_batch_norm():
    network = make("ema", backbone="mobilenet_v2", bn_momentum=3e-4)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {m.momentum for m in norms} == {3e-4}
    assert len(norms) > 50


def test_non_local_starts_as_the_identity_and_matches_its_equation():
    torch.manual_seed(0)
    block = networks.NonLocal(6).double().eval()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), x)
    torch.nn.init.ones_(block.norm.weight)
    q, k, v = (
        torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]
        for conv in (block.query, block.key, block.value)
    )
    weights = torch.einsum("bchw,bcij->bhwij", q, k).flatten(3).softmax(-1).unflatten(3, (4, 5))
    y = torch.einsum("bhwij,bcij->bchw", weights, v)
    expected = x + block.norm(torch.einsum("oc,bchw->bohw", block.out.weight[:, :, 0, 0], y))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "crf"}, "there are .*ema, .*fcn, .*non_local"),
        ({"backbone": "vgg16"}, "there are mobilenet_v2, .*resnet18, .*small_resnet"),
        ({"num_bases": 3}, "head 'fcn' .* 'num_bases'; it has channels, detail_channels, dropout"),
        ({"output_stride": 12}, "allows 4, 8, 16, 32"),
        ({"backbone": "small_resnet", "output_stride": 8}, "allows 4"),
        ({"backbone": "small_resnet", "weights": "imagenet"}, "no pretrained weights"),
        ({"head": "non_local", "channels": 15}, "channels is 15"),
        ({"backbone": "resnet18", "backbone_options": {"stages": 2}}, "stages is 2"),
        ({"num_classes": -3}, "num_classes is -3; expected a whole number ≥ 1"),
        ({"bn_momentum": float("nan")}, "bn_momentum is nan"),
        ({"dropout": 2.0}, "head 'fcn': dropout is 2.0"),
        ({"head": "deeplabv3", "rate": 0}, "head 'deeplabv3': rate is 0"),
        ({"head": "psanet", "window": -1}, "head 'psanet': window is -1"),
    ],
)
def test_bad_names_and_options_list_what_exists(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_missing_and_truncated_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        make(weights=tmp_path / "none.pth")
    torch.save(mobilenet_v2().state_dict(), tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"w\.pth is no readable state dict .* truncated"):
        make(weights=tmp_path / "w.pth")


def test_a_failed_download_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere")
    monkeypatch.setattr("os.makedirs", lambda *_, **__: None)
    with pytest.raises(ConnectionError, match="could not be downloaded .*weights_path"):
        make(weights="imagenet")


@pytest.fixture
def proxied(tmp_path, monkeypatch, proxy):
    """The proxy between this machine and a server that has ImageNet weights."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("urllib.request._opener", None)  # asks for proxies once, when it is made
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", proxy.address)
    monkeypatch.setenv("https_proxy", proxy.address.replace("//", "//me:secret@"))
    torch.save(mobilenet_v2().state_dict(), tmp_path / "w.pth")
    digest = sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    (tmp_path / "w.pth").rename(tmp_path / f"w-{digest[:8]}.pth")
    choice = MobileNet_V2_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(choice, "url", f"http://weights.invalid/w-{digest[:8]}.pth")
    return SimpleNamespace(proxy=proxy, choice=choice, file=tmp_path / f"w-{digest[:8]}.pth")


def test_weights_come_by_way_of_the_proxy(proxied):
    make(weights="imagenet")
    assert proxied.proxy.asked == [f"GET {proxied.choice.url}"]


def test_hosts_of_no_proxy_are_asked_themselves(proxied, monkeypatch):
    monkeypatch.setenv("no_proxy", ".invalid")
    with pytest.raises(DownloadError, match="weights.invalid/.* could not be downloaded"):
        make(weights="imagenet")
    assert proxied.proxy.asked == []


def test_a_proxy_that_refuses_is_named_without_its_password(proxied, monkeypatch):
    url = proxied.choice.url.replace("http:", "https:")
    monkeypatch.setattr(proxied.choice, "url", url)
    with pytest.raises(DownloadError, match=r"403 .*https_proxy=http://…@127.0.0.1") as caught:
        make(weights="imagenet")
    assert "secret" not in str(caught.value)
    assert proxied.proxy.asked == ["CONNECT weights.invalid:443"]


def test_weights_that_come_damaged_or_lie_damaged_in_the_cache_are_refused(proxied, tmp_path):
    data = proxied.file.read_bytes()
    proxied.file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DownloadError, match="damaged there .invalid hash value"):
        make(weights="imagenet")
    kept = tmp_path / "cache" / "hub" / "checkpoints" / proxied.file.name
    kept.write_bytes(data[: len(data) // 2])
    with pytest.raises(DownloadError, match=rf"{tmp_path / 'cache'}.* damaged there .*--weights-"):
        make(weights="imagenet")


def test_a_certificate_that_is_not_trusted_is_the_reason(monkeypatch, tmp_path):
    def guarded(*_, **__):
        raise URLError(ssl.SSLCertVerificationError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"))

    monkeypatch.setattr(torch.hub, "download_url_to_file", guarded)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DownloadError, match=r"VERIFY_FAILED\] self-signed.*variable SSL_CERT_FILE"):
        make(weights="imagenet")


def test_an_image_smaller_than_the_stride_says_how_large_it_must_be():
    with pytest.raises(ValueError, match="sees 20×97 pixels .* at least 32×32"):
        make()(torch.randn(1, 3, 20, 97))
