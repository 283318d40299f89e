"""Checkpoints of the released EMANet: into ``build("emanet_released", ...)`` and back.

The released network names its tensors ``extractor.{0,1,4,5,6,7}`` (stem, its last batch norm,
layer1 to layer4, within which torchvision's names hold), ``fc0`` (3×3 conv), ``emau``,
``fc1`` (the extra 3×3 conv) and ``fc2`` (classifier). The bases are ``emau.mu`` (1, C, K), the
transpose of ours.

Source: names and shapes of the code at github.com/XiaLiPKU/EMANet.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from emastudy.errors import InputError
from emastudy.networks.build import SegmentationNetwork
from emastudy.networks.state_dicts import unwrap

#: Beginning of a name: (ours, released).
_NAMES = (
    ("backbone.stages.0.0.", "extractor.0."),
    ("backbone.stages.0.1.", "extractor.1."),
    ("backbone.stages.0.4.", "extractor.4."),
    ("backbone.stages.1.", "extractor.5."),
    ("backbone.stages.2.", "extractor.6."),
    ("backbone.stages.3.", "extractor.7."),
    ("head.reduce.0.", "fc0.conv."),
    ("head.reduce.1.", "fc0.bn."),
    ("head.context.bases", "emau.mu"),
    ("head.context.conv1.", "emau.conv1."),
    ("head.context.conv2.", "emau.conv2.0."),
    ("head.context.norm.", "emau.conv2.1."),
    ("head.extra.0.", "fc1.0.conv."),
    ("head.extra.1.", "fc1.0.bn."),
    ("head.classifier.1.", "fc2."),
)
_BASES = "head.context.bases"
# Batch norm's count of updates matters only with momentum=None; older torch did not store it.
_COUNT = "num_batches_tracked"


def load_official_state_dict(network: SegmentationNetwork, state_dict: Mapping[str, Any]) -> None:
    """Fill a network from a state dict of the released EMANet.

    Args:
        network: Made by ``build("emanet_released", backbone=..., num_classes=...)`` with the
            backbone and classes of the checkpoint; any output stride.
        state_dict: Tensors under the released names, or what others have wrapped around them, such
            as ``{"net": ...}`` or "module." before each name. A copy is made of each.

    Raises:
        InputError: A tensor is missing, unknown or of another shape; the message names it. The
            network is then as before.
    """
    own = network.state_dict()
    names = {_official_name(name): name for name in own}
    required = [name for name in names if not name.endswith(_COUNT)]
    try:
        tensors = unwrap(state_dict, required)
    except InputError as error:
        raise InputError(f"the state dict cannot be used: {error}") from error
    for fault, found in (
        ("lacks", [name for name in required if name not in tensors]),
        ("has unknown", [name for name in tensors if name not in names]),
    ):
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise InputError(
                f"the state dict {fault} {', '.join(found[:3])}{more}; it must be of the released "
                "EMANet with this network's backbone, see build('emanet_released', ...)"
            )
    state = {}
    for official, value in tensors.items():
        name = names[official]
        state[name] = value[0].T if name == _BASES and value.ndim == 3 else value
        if state[name].shape != own[name].shape:
            raise InputError(
                f"{official} has shape {tuple(value.shape)}, which does not fit this network's "
                f"{name} of {tuple(own[name].shape)}; build it with the checkpoint's backbone, "
                "num_classes, num_bases and channels"
            )
    network.load_state_dict({**own, **state})


def export_official_state_dict(network: SegmentationNetwork) -> dict[str, Tensor]:
    """The reverse of :func:`load_official_state_dict`: tensors under the released names.

    The bases are (1, C, K). Tensors share the network's memory.

    Raises:
        InputError: A tensor has no place in the released network, or its unit has several heads.
    """
    exported = {}
    for name, value in network.state_dict().items():
        if name == _BASES:
            if value.ndim != 2:
                raise InputError("the released EMANet has one head; build the network with heads=1")
            value = value.T.unsqueeze(0)
        exported[_official_name(name)] = value
    return exported


def _official_name(name: str) -> str:
    for ours, official in _NAMES:
        if name.startswith(ours):
            return official + name.removeprefix(ours)
    raise InputError(
        f"{name} has no place in the released EMANet; build the network with "
        "build('emanet_released', backbone='resnet50', 'resnet101' or 'resnet152', ...)"
    )
