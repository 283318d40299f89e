"""The data of the book's playground: a photograph and the features whose EM the reader moves.

Floor: study (imports networks and pillow). The page's script reads it as a script of its own, for
a page opened from file:// may not fetch:

    write_playground(Path("book/playground/astronaut.js"), astronaut("mobilenet_v2.pth"))
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from emastudy.datasets import SegmentationDataset
from emastudy.files import write_text
from emastudy.networks.backbones import mobilenet_v2
from emastudy.study.report.inputs import photograph

_BEFORE, _AFTER = "window.emaPlayground = ", ";\n"


def playground_data(
    image: Float[Tensor, "3 height width"],
    features: Float[Tensor, "d h w"],
    *,
    credit: str,
    origin: str,
    channels: int = 12,
) -> dict[str, Any]:
    r"""What the page needs, small enough for a page.

    The features are projected on the directions that hold most of their squared length (of the
    second moments, not the covariance: EM sees inner products, whose origin matters), and turned so
    that the weakest of these directions is :math:`(1, \dots, 1)/\sqrt C`. LayerNorm takes exactly
    that direction away. In a unit, whose hundreds of channels are random mixtures, it takes away a
    direction without meaning; among a dozen channels it could be the most important one.

    Args:
        image: The photograph, from 0 to 1.
        features: Any feature map of it, as EM shall see it; its grid is laid over the photograph.
        credit: Whose photograph it is and under which licence, for the page.
        origin: Where the features come from, for the page.
        channels: C.

    Returns:
        Ready for JSON: "photograph" (a JPEG as data URI), "credit", "origin", "height" and "width"
        of the grid, "share" of the squared length that is kept, "features" as N rows of C
        integers, hundredths.
    """
    x = features.flatten(1).T.double()
    _, lengths, directions = torch.linalg.svd(x, full_matrices=False)
    kept = lengths[:channels].square().sum() / lengths.square().sum()
    ones_first = torch.cat([x.new_ones(channels, 1), torch.eye(channels).to(x)[:, :-1]], dim=1)
    turned = x @ directions[:channels].flip(0).T @ torch.linalg.qr(ones_first).Q.T
    file = io.BytesIO()
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return {
        "credit": credit,
        "origin": origin,
        "height": features.shape[1],
        "width": features.shape[2],
        "share": round(kept.item(), 3),
        "features": (100 * turned).round().int().tolist(),
        "photograph": f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}",
    }


def as_new_unit_sees(features: Float[Tensor, "d h w"]) -> Float[Tensor, "d h w"]:
    r"""A feature map as it comes to the EM of a unit that has just been put behind it.

    Each channel gets mean 0 and variance 1 over the image, as by batch norm, and is cut at 0, as by
    a ReLU. The unit's first convolution, with its initial weights of variance 2/C, multiplies inner
    products by 2 on average, here exactly.
    """
    mean, std = features.mean(dim=(1, 2), keepdim=True), features.std(dim=(1, 2), keepdim=True)
    return 2**0.5 * ((features - mean) / std.clamp_min(1e-6)).relu()


@torch.no_grad()
def astronaut(weights: str | Path) -> dict[str, Any]:
    """The data as the book has them: the photograph of Eileen Collins through MobileNetV2.

    Args:
        weights: File of torchvision's ImageNet weights of MobileNetV2.
    """
    from torchvision.transforms.v2.functional import normalize

    image = photograph("astronaut", height=320)
    network = mobilenet_v2(weights).eval()
    network.set_output_stride(8)
    seen = normalize(image, SegmentationDataset.mean, SegmentationDataset.std)
    features = network(seen[None])[-1][0]
    return playground_data(
        image,
        as_new_unit_sees(features),
        credit="Eileen Collins, by NASA, in the public domain (from scikit-image)",
        origin="MobileNetV2 (torchvision's ImageNet weights), last bottleneck, output stride 8",
    )


def write_playground(path: Path, data: dict[str, Any]) -> None:
    """Write the data as a script that sets ``window.emaPlayground``, one pixel a line."""
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in data["features"])
    head = json.dumps({**data, "features": None}, indent=0)
    write_text(path, _BEFORE + head.replace('"features": null', f'"features": [\n{rows}]') + _AFTER)


def read_playground(path: Path) -> dict[str, Any]:
    """Read back what :func:`write_playground` wrote."""
    data: dict[str, Any] = json.loads(
        path.read_text(encoding="utf-8").removeprefix(_BEFORE).removesuffix(_AFTER)
    )
    return data
