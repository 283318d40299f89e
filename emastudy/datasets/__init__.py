"""What a network sees: images with pixel labels, and the transforms between them and a tensor.

Imports torch, and torchvision where it is used; knows nothing of networks. ``load(name, ...)``
opens a dataset.
"""

from emastudy.datasets.base import IGNORE, SegmentationDataset, View
from emastudy.datasets.camvid import CamVid
from emastudy.datasets.check import Report, check, check_own, describe, report_text
from emastudy.datasets.coco_stuff import CocoStuff, CocoStuff164k
from emastudy.datasets.corruptions import CORRUPTIONS, corrupt
from emastudy.datasets.download import download
from emastudy.datasets.files import FileDataset
from emastudy.datasets.fingerprint import Fingerprint, differences, require_same
from emastudy.datasets.folder import Folder
from emastudy.datasets.images import read_image
from emastudy.datasets.labels import learnable
from emastudy.datasets.lists import Pair, image_files
from emastudy.datasets.load import DATASETS, find, load
from emastudy.datasets.pascal_context import PascalContext
from emastudy.datasets.scenes import Scenes
from emastudy.datasets.transforms import (
    TrainingStream,
    evaluation_transform,
    misalignment,
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
    "CocoStuff",
    "CocoStuff164k",
    "FileDataset",
    "Fingerprint",
    "Folder",
    "Pair",
    "PascalContext",
    "Report",
    "Scenes",
    "SegmentationDataset",
    "TrainingStream",
    "View",
    "check",
    "check_own",
    "corrupt",
    "describe",
    "differences",
    "download",
    "evaluation_transform",
    "find",
    "image_files",
    "learnable",
    "load",
    "misalignment",
    "pad_to_grid",
    "read_image",
    "report_text",
    "require_same",
    "training_transform",
    "whole_image_transform",
]
