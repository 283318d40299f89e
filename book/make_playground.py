"""The data of the book's playground: a photograph and the features whose EM the reader moves.

``python book/make_playground.py`` writes them. The page reads them as a script of its own, for a
page opened from file:// may not fetch.
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

from emastudy.engine.walkthrough import walk_through
from emastudy.files import write_text
from emastudy.networks import from_pretrained
from emastudy.study.report.inputs import photograph


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


def cat() -> dict[str, Any]:
    """The data as the book has them: a cat on its way through the network of the package."""
    name = "animals-ema"
    walk = walk_through(from_pretrained(name), photograph("chelsea", height=256))
    return playground_data(
        torch.from_numpy(walk.image).permute(2, 0, 1),
        torch.from_numpy(walk.features).T.reshape(-1, *walk.maps.shape[-2:]),
        credit="Chelsea, by Stéfan van der Walt, CC0 (from scikit-image)",
        origin=f"the input of EM in {name}, a network with an EMA unit that comes with emastudy",
    )


def write_playground(path: Path, data: dict[str, Any]) -> None:
    """Write the data as a script that sets ``window.emaPlayground``, one pixel a line."""
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in data["features"])
    head = json.dumps({**data, "features": None}, indent=0)
    filled = head.replace('"features": null', f'"features": [\n{rows}]')
    write_text(path, f"window.emaPlayground = {filled};\n")


if __name__ == "__main__":
    write_playground(Path(__file__).with_name("playground") / "cat.js", cat())
