"""Scoring: one confusion matrix over a whole set, and predictions for single images.

Floor: engine.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassConfusionMatrix
from tqdm.auto import tqdm

from emastudy.datasets import IGNORE, SegmentationDataset, evaluation_transform
from emastudy.engine.config import RunConfig, Runtime
from emastudy.networks import SegmentationNetwork


@dataclass(frozen=True)
class Scores:
    """Counts over a set, and what follows from them.

    Attributes:
        confusion: (classes, classes) int64; entry (i, j) counts pixels of class i predicted as j.
            Ignored pixels are in none.
        classes: Class names.
    """

    confusion: Int[Tensor, "c c"]
    classes: tuple[str, ...]

    @property
    def iou(self) -> dict[str, float]:
        """Intersection over union per class, 0-1; NaN for a class neither present nor predicted."""
        hits = self.confusion.diagonal().double()
        union = self.confusion.sum(0) + self.confusion.sum(1) - self.confusion.diagonal()
        return dict(zip(self.classes, (hits / union).tolist(), strict=True))

    @property
    def miou(self) -> float:
        """Mean IoU in percent, over the classes that are present or predicted."""
        values = torch.tensor(list(self.iou.values()), dtype=torch.float64)
        return 100 * float(values.nanmean())

    @property
    def pixel_accuracy(self) -> float:
        """Share of scored pixels with the right class, in percent."""
        return 100 * float(self.confusion.diagonal().sum() / self.confusion.sum())


class _Prepared(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset, self.transform = dataset, evaluation_transform(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.transform(*self.dataset[index])
        return image.as_subclass(Tensor), mask.as_subclass(Tensor)


def evaluate(
    network: SegmentationNetwork,
    dataset: SegmentationDataset,
    config: RunConfig,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
    *,
    description: str = "evaluate",
) -> Scores:
    """Score a network on a dataset: single scale, one whole image at a time.

    Images may differ in size. The network's output stride is set to
    ``config.eval_output_stride`` and left there.

    Args:
        network: Network to score; it is left in evaluation mode.
        dataset: What to score it on.
        config: Gives precision and evaluation stride.
        runtime: Gives the number of loading processes.
        description: Label of the progress bar.
    """
    device = next(network.parameters()).device
    network.eval()
    network.set_output_stride(config.eval_output_stride)
    confusion = MulticlassConfusionMatrix(
        len(dataset.classes), ignore_index=IGNORE, sync_on_compute=False
    ).to(device)
    loader = DataLoader(_Prepared(dataset), batch_size=1, num_workers=runtime.workers)
    for image, mask in tqdm(loader, desc=description, unit="image", leave=False):
        logits = forward(network, image.to(device), config, runtime)
        confusion.update(logits.argmax(dim=1), mask.to(device))
    return Scores(confusion.compute().cpu().long(), dataset.classes)


@torch.inference_mode()
def forward(
    network: SegmentationNetwork,
    image: Float[Tensor, "b 3 h w"],
    config: RunConfig,
    runtime: Runtime,
) -> Float[Tensor, "b c h w"]:
    """Logits of normalised images, padded with the mean colour to 8k+1 a side for the pass.

    With sides of 8k+1 the corners of image and feature map coincide at every stride, which is what
    bilinear upsampling with aligned corners assumes.

    Source: the released code's evaluation.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -(width - 1) % 8, 0, -(height - 1) % 8))
    padded = padded.contiguous(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=runtime.use_bf16(config)):
        logits: Tensor = network(padded)
    return logits[..., :height, :width]


def predict(
    network: SegmentationNetwork,
    image: Integer[Tensor, "3 h w"],
    dataset: type[SegmentationDataset] | SegmentationDataset,
    config: RunConfig,
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
) -> Int[Tensor, "h w"]:
    """Class index per pixel of one image.

    Args:
        network: Network in evaluation mode.
        image: (3, H, W) uint8 RGB.
        dataset: Gives mean and standard deviation that the network was trained with.
        config: Gives the precision.
        runtime: Gives the device.
    """
    device = next(network.parameters()).device
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (dataset.mean, dataset.std))
    normalised = (image.to(device).float() / 255 - mean) / std
    return forward(network, normalised[None], config, runtime)[0].argmax(dim=0).cpu()
