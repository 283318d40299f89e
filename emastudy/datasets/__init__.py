"""What a network sees: images with pixel labels, and the transforms between them and a tensor.

Imports torch and torchvision; knows nothing of networks. ``load(name, ...)`` opens a dataset.
"""

from emastudy.datasets.base import IGNORE, SegmentationDataset, View
from emastudy.datasets.camvid import CamVid
from emastudy.datasets.corruptions import CORRUPTIONS, corrupt
from emastudy.datasets.files import read_image
from emastudy.datasets.load import DATASETS, load
from emastudy.datasets.scenes import Scenes
from emastudy.datasets.transforms import (
    TrainingStream,
    evaluation_transform,
    pad_to_grid,
    training_transform,
    whole_image_transform,
)
from emastudy.datasets.voc import VOC2012

__all__ = [
    "CORRUPTIONS",
    "DATASETS",
    "IGNORE",
    "VOC2012",
    "CamVid",
    "Scenes",
    "SegmentationDataset",
    "TrainingStream",
    "View",
    "corrupt",
    "evaluation_transform",
    "load",
    "pad_to_grid",
    "read_image",
    "training_transform",
    "whole_image_transform",
]
