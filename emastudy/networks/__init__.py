"""What EMA is put in: the unit, its relatives, backbones, heads and whole networks.

Imports the floor em; knows nothing of datasets. ``build(head, backbone=..., num_classes=...)``
makes a network, ``EMAU`` is the unit alone.
"""

from emastudy.networks.build import SegmentationNetwork, build, head_defaults
from emastudy.networks.context import NonLocal
from emastudy.networks.emau import EMAU

__all__ = ["EMAU", "NonLocal", "SegmentationNetwork", "build", "head_defaults"]
