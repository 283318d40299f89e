"""Feature vectors to look at EM with: of scenes, of photographs, of a trained network."""

from pathlib import Path
from typing import Any

import skimage.data
import skimage.transform
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.tv_tensors import Image

from emastudy.datasets import Scenes, corrupt, evaluation_transform, read_image
from emastudy.engine import Runtime, load_network, train
from emastudy.engine.diagnostics import unit_input, unit_of
from emastudy.networks import SegmentationNetwork
from emastudy.study.recipes import scenes
from emastudy.study.runs import lock_run


def photograph(
    name: str = "astronaut", *, height: int = 128, noise: int = 0
) -> Float[Tensor, "3 h w"]:
    """A photograph that scikit-image carries in its package, or any other, as RGB from 0 to 1.

    Args:
        name: "astronaut" (square), "coffee", "chelsea" (a cat), or an image file.
        height: Height to shrink it to, pixels; multiples of 4 suit the networks.
        noise: Severity of the noise laid over it, see ``datasets.corrupt``; 0 = none.

    Source: scikit-image's data folder; its three are in the public domain (CC0).
    """
    if name in ("astronaut", "coffee", "chelsea"):
        image = getattr(skimage.data, name)()
    else:
        image = read_image(Path(name)).permute(1, 2, 0).numpy()
    width = 4 * round(image.shape[1] / image.shape[0] * height / 4)
    resize: Any = skimage.transform.resize
    small = resize(image, (height, width), anti_aliasing=True)
    made = torch.from_numpy(small).float().permute(2, 0, 1)
    if noise:
        grains = corrupt(Image((255 * made).round().byte()), 0, kind="noise", severity=noise)
        made = grains.as_subclass(Tensor).float() / 255
    return made


def scene_images(count: int) -> tuple[Float[Tensor, "b 3 h w"], UInt8[Tensor, "b h w"]]:
    """Validation scenes as a network sees them (zero mean, unit variance), and their masks."""
    dataset = Scenes("val", num_images=count)
    transform = evaluation_transform(dataset)
    pairs = [dataset[index] for index in range(count)]
    images = torch.stack([transform(image, mask)[0].as_subclass(Tensor) for image, mask in pairs])
    return images, torch.stack([mask.as_subclass(Tensor) for _, mask in pairs])


def scene_network(scale: float, runtime: Runtime, **options: Any) -> SegmentationNetwork:
    """The scenes recipe's EMA network, trained on first use and loaded afterwards."""
    config = scenes("ema", scale=scale, **options)
    with lock_run(config, None, runtime):
        train(config, runtime)
    # Loaded rather than taken from the training, which may compute in bfloat16.
    return load_network(runtime.run_dir(config))[0]


@torch.no_grad()
def unit_features(
    network: SegmentationNetwork, images: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, "b n c"]:
    """What the EM of a network's unit works on: its first 1×1 conv's output, pixel by pixel."""
    x, _ = unit_of(network).em_input(unit_input(network, images))
    return x.contiguous()
