"""Pictures of the bases, kept as numbers."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emastudy.engine import predict
from emastudy.engine.diagnostics import responsibility_maps
from emastudy.options import NonNegativeInt, PositiveInt
from emastudy.study.measures.concepts import concepts
from emastudy.study.measures.subject import Row, Subject, evenly_spaced, register


@register("maps")
def maps(subject: Subject, *, pictures: PositiveInt = 3, images: NonNegativeInt = 64) -> list[Row]:
    """Pictures of the bases: responsibilities of some of them, as maps, and what is predicted.

    The bases are chosen by rule, over ``images`` images. Of those that take at least 1 % of the
    pixels: the most class-pure, max_c p(c|k), and the two whose classes differ most from the
    images', KL(p(c|k) ‖ p(c)), which where one class is everywhere are not the purest; of the
    others, the most used and the least used. The first ``pictures`` of the images are drawn.

    Returns:
        One row a picture: "image" (its index), "bases" (their indices), "chosen" (why, one word
        each), "maps" (T, bases, h, w) in 1/255, "entropy" (nats, mean over the pixels, after
        1, …, T iterations), "prediction" (class indices, see :func:`run_lengths`).
    """
    network, dataset = subject.network, subject.dataset
    (found,) = concepts(subject, images=images)
    chosen = _choose(torch.tensor(found["counts"], dtype=torch.float64))
    steps = range(1, subject.unit.num_iterations + 1)
    dtype = subject.runtime.autocast_dtype(subject.config)
    rows = []
    for index in evenly_spaced(len(dataset), images)[:pictures]:
        z = responsibility_maps(network, dataset, index, steps)
        prediction = predict(network, dataset[index][0], dataset, dtype=dtype)
        rows.append(
            {
                "image": index,
                "bases": list(chosen),
                "chosen": list(chosen.values()),
                "maps": (255 * z[:, list(chosen)]).round().int().tolist(),
                "entropy": torch.special.entr(z).sum(dim=1).mean(dim=(1, 2)).tolist(),
                "prediction": run_lengths(prediction.numpy()),
            }
        )
    return rows


def _choose(counts: Float[Tensor, "k c"]) -> dict[int, str]:
    """Basis → why it is drawn, by the rule of :func:`maps`, from pixels by basis and class."""
    usage = counts.sum(dim=1) / counts.sum()
    classes = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    everywhere = counts.sum(dim=0) / counts.sum()
    divergence = torch.special.xlogy(classes, classes / everywhere.clamp_min(1e-300)).sum(dim=1)
    chosen: dict[int, str] = {}
    for why, rank, count in (
        ("pure", torch.where(usage >= 0.01, classes.amax(dim=1), 0), 1),
        ("telling", torch.where(usage >= 0.01, divergence, 0), 2),
        ("used", usage, 1),
        ("least used", -usage, 1),
    ):
        others = [k for k in rank.argsort(descending=True, stable=True).tolist() if k not in chosen]
        chosen |= dict.fromkeys(others[:count], why)
    return chosen


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """A map of classes (H, W) as lengths and classes of its runs, row after row: much shorter."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 1))
    return {
        "shape": list(mask.shape),
        "lengths": np.diff(starts, append=flat.size).tolist(),
        "classes": flat[starts].tolist(),
    }


def from_run_lengths(runs: Mapping[str, list[int]]) -> np.ndarray:
    """The map of classes (H, W) that :func:`run_lengths` was given."""
    return np.repeat(runs["classes"], runs["lengths"]).reshape(runs["shape"])
