"""What EMA is put in: the unit, its relatives, backbones, heads and whole networks.

Imports the floor em; knows nothing of datasets. ``build(head, backbone=..., num_classes=...)``
makes a network, ``EMAU`` is the unit alone.
"""

from emastudy.networks.after_ema import (
    CrissCrossAttention,
    EfficientAttention,
    ExternalAttention,
    Hamburger,
    NystromAttention,
    ObjectContext,
    SlotAttention,
)
from emastudy.networks.backbones import Backbone
from emastudy.networks.build import (
    SegmentationNetwork,
    backbone_defaults,
    build,
    check_options,
    evaluation_mode,
    head_defaults,
)
from emastudy.networks.context import DoubleAttention, NoAttention, NonLocal
from emastudy.networks.emau import EMAU
from emastudy.networks.heads import ALIASES
from emastudy.networks.official import export_official_state_dict, load_official_state_dict
from emastudy.networks.pretrained import SHIPPED, from_pretrained, save_pretrained
from emastudy.networks.psa import PointwiseSpatialAttention
from emastudy.networks.pyramids import ASPP, PyramidPooling
from emastudy.networks.windows import WindowedEMAU

__all__ = [
    "ALIASES",
    "ASPP",
    "EMAU",
    "SHIPPED",
    "Backbone",
    "CrissCrossAttention",
    "DoubleAttention",
    "EfficientAttention",
    "ExternalAttention",
    "Hamburger",
    "NoAttention",
    "NonLocal",
    "NystromAttention",
    "ObjectContext",
    "PointwiseSpatialAttention",
    "PyramidPooling",
    "SegmentationNetwork",
    "SlotAttention",
    "WindowedEMAU",
    "backbone_defaults",
    "build",
    "check_options",
    "evaluation_mode",
    "export_official_state_dict",
    "from_pretrained",
    "head_defaults",
    "load_official_state_dict",
    "save_pretrained",
]
