"""What can be asked of a trained network beyond its score: functions that return rows of numbers.

Floor: study (imports engine). ``MEASURES`` has them by name; ``measurements`` keeps what they find.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from emastudy.datasets import SegmentationDataset, View, corrupt
from emastudy.em import EMResult, expectation_maximization, reconstruct
from emastudy.em.gradients import critical_concentration
from emastudy.engine import MULTI_SCALE, RunConfig, Runtime, Views, cost, evaluate, predict
from emastudy.engine.build import load_dataset
from emastudy.engine.diagnostics import (
    distinct_bases,
    effective_rank,
    em_inputs,
    responsibility_maps,
    unit_input,
    unit_of,
)
from emastudy.engine.features.cache import CachedFeatures, evaluation_features
from emastudy.networks import EMAU, SegmentationNetwork

Row = dict[str, Any]


def scores(
    network: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
    *,
    iterations: Sequence[int] = (0,),
    corruptions: Sequence[str] = ("",),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    splits: Sequence[str] = ("",),
    multi_scale: Sequence[bool] = (False,),
    images: int = 0,
) -> list[Row]:
    """Scores under other circumstances than the record's: every combination is a row.

    Args:
        network: A trained network.
        config: Its run.
        runtime: Where to compute.
        iterations: Numbers of EM iterations; 0 = as trained.
        corruptions: "" (none) and kinds of ``datasets.CORRUPTIONS``.
        severities: 1-5, for the kinds that are not "".
        splits: Splits; "" = the run's own.
        multi_scale: Whether to average over six scales and mirror images.
        images: How many images, evenly spaced; 0 = all.

    Returns:
        Rows with "at.num_iterations", "at.corruption", "at.severity", "at.split",
        "at.multi_scale", "images" (how many), "miou", "pixel_accuracy", "iou", "confusion".
    """
    rows = []
    trained = unit_of(network).num_iterations if any(iterations) else 0
    for split in splits:
        split = split or config.eval_split
        whole = load_dataset(config, split, runtime)
        chosen = evenly_spaced(len(whole), images)
        worse = [("", 0)] * ("" in corruptions) + list(
            itertools.product([kind for kind in corruptions if kind], severities)
        )
        for (kind, severity), count, many in itertools.product(worse, iterations, multi_scale):
            change = partial(corrupt, kind=kind, severity=severity) if kind else None
            data: SegmentationDataset | CachedFeatures = View(whole, chosen, change)
            if config.frozen_backbone and not (kind or many):
                data = evaluation_features(network, config, runtime, split, chosen)
            if any(iterations):
                unit_of(network).num_iterations = count or trained
            found = evaluate(
                network,
                data,
                **runtime.scoring(config),
                views=Views(MULTI_SCALE, flip=True) if many else Views(),
                description=f"{split} {kind} {severity or ''}".strip(),
            )
            rows.append(
                {
                    "at.num_iterations": count,
                    "at.corruption": kind,
                    "at.severity": severity,
                    "at.split": split,
                    "at.multi_scale": many,
                    "images": len(chosen),
                    "miou": found.miou,
                    "pixel_accuracy": found.pixel_accuracy,
                    "iou": found.iou,
                    "confusion": found.confusion.tolist(),
                }
            )
    return rows


def objective(
    network: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
    *,
    iterations: int = 8,
    images: int = 64,
) -> list[Row]:
    """How the unit's objective F moves along its iterations, on features of unseen images.

    Args:
        network: A trained network with an EMA unit.
        config: Its run.
        runtime: Where to compute.
        iterations: How many iterations to follow.
        images: How many images, evenly spaced over the run's split; 0 = all.

    Returns:
        One row: "at.iterations", "images", "falls" (images in which F falls by more than 1e-9 of
        its size at any iteration; in double precision), "largest_fall" (of F's size), and
        "objective" (nats per pixel, mean over images, after 0, 1, … iterations).
    """
    unit = unit_of(network)
    courses, falls = [], []
    for x, start, _ in _inputs(network, config, runtime, images):
        course = _em(unit, x.double(), start.double(), iterations, trace=True).objective
        assert course is not None
        courses.append(course / len(x))
        falls.append(float((-course.diff() / course[1:].abs()).max()))
    return [
        {
            "at.iterations": iterations,
            "images": len(falls),
            "falls": sum(fall > 1e-9 for fall in falls),
            "largest_fall": max(*falls, 0.0),
            "objective": torch.stack(courses).mean(dim=0).tolist(),
        }
    ]


def rank(
    network: SegmentationNetwork, config: RunConfig, runtime: Runtime, *, images: int = 64
) -> list[Row]:
    """Rank of the unit's features X and of their re-estimate X̃, in unseen images.

    Args:
        network: A trained network with an EMA unit.
        config: Its run.
        runtime: Where to compute.
        images: How many images, evenly spaced over the run's split; 0 = all.

    Returns:
        One row of means over images: "rank_x", "rank_estimate" (numerical, in double precision),
        "largest_rank_estimate", "effective_rank_x", "effective_rank_estimate" (see
        ``diagnostics.effective_rank``), "num_bases", and the singular values over the largest,
        "spectrum_x" and "spectrum_estimate".
    """
    unit = unit_of(network)
    spectra: dict[str, list[Tensor]] = {"x": [], "estimate": []}
    ranks: dict[str, list[float]] = {"x": [], "estimate": []}
    effective: dict[str, list[float]] = {"x": [], "estimate": []}
    for x, start, _ in _inputs(network, config, runtime, images):
        result = _em(unit, x.double(), start.double(), unit.num_iterations)
        for name, matrix in (
            ("x", x.double()),
            ("estimate", reconstruct(result.responsibilities, result.bases)),
        ):
            values = torch.linalg.svdvals(matrix)
            spectra[name].append(values / values[0])
            ranks[name].append(float(torch.linalg.matrix_rank(matrix)))
            effective[name].append(float(effective_rank(matrix)))
    row: Row = {"num_bases": unit.num_bases, "largest_rank_estimate": max(ranks["estimate"])}
    for name in spectra:
        row[f"rank_{name}"] = sum(ranks[name]) / len(ranks[name])
        row[f"effective_rank_{name}"] = sum(effective[name]) / len(effective[name])
        length = min(map(len, spectra[name]))
        row[f"spectrum_{name}"] = torch.stack([s[:length] for s in spectra[name]]).mean(0).tolist()
    return [row]


def concepts(
    network: SegmentationNetwork, config: RunConfig, runtime: Runtime, *, images: int = 64
) -> list[Row]:
    r"""How much the bases know of the classes, in unseen images.

    The measure is the mutual information of a pixel's basis, argmax_k z_nk, and its class, over
    the pixels of all images together, so a basis must mean the same in every image to count:

    .. math:: I = \sum_{k,c} p_{kc} \log \frac{p_{kc}}{p_k p_c}

    Args:
        network: A trained network with an EMA unit.
        config: Its run.
        runtime: Where to compute.
        images: How many images, evenly spaced over the run's split; 0 = all.

    Returns:
        One row: "information" (nats, after 1, …, T iterations), "random_bases" (the same from
        random unit vectors, equal for all images, in place of the trained μ^(0)), "matched" (after
        T iterations), "shuffled" (the same with the bases renumbered at random in every image:
        what is left is knowledge of the single image's bases by chance), "entropy" of the classes
        (nats, the most that is possible), and "counts" (K, classes): pixels by basis and class.
    """
    unit = unit_of(network)
    classes = len(load_dataset(config, config.eval_split, runtime).classes)
    generator = torch.Generator().manual_seed(0)
    steps = range(1, unit.num_iterations + 1)
    counts = {
        (kind, step): torch.zeros(unit.num_bases, classes, dtype=torch.float64)
        for kind in ("information", "random_bases", "shuffled")
        for step in steps
    }
    noise = torch.nn.functional.normalize(
        torch.randn(unit.num_bases, unit.conv1.out_channels, generator=generator), dim=-1
    )
    for x, start, labels in _inputs(network, config, runtime, images):
        kept = labels < classes
        numbers = torch.randperm(unit.num_bases, generator=generator)
        for kind, bases in (("information", start), ("random_bases", noise.to(x))):
            for step in steps:
                z = _em(unit, x, bases, step).responsibilities
                chosen = z.argmax(dim=-1).cpu()[kept]
                one = torch.zeros_like(counts[kind, step])
                one.index_put_(
                    (chosen, labels[kept]), torch.ones(1, dtype=one.dtype), accumulate=True
                )
                counts[kind, step] += one
                if kind == "information":
                    counts["shuffled", step] += one[numbers]
    information = {key: mutual_information(table) for key, table in counts.items()}
    final = counts["information", steps[-1]]
    return [
        {
            "information": [information["information", step] for step in steps],
            "random_bases": [information["random_bases", step] for step in steps],
            "matched": information["information", steps[-1]],
            "shuffled": information["shuffled", steps[-1]],
            "entropy": float(torch.special.entr(final.sum(dim=0) / final.sum()).sum()),
            "counts": final.long().tolist(),
        }
    ]


def distinct(
    network: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
    *,
    iterations: int = 8,
    images: int = 64,
) -> list[Row]:
    """How many different bases there are after each iteration, in unseen images, and why.

    Args:
        network: A trained network with an EMA unit.
        config: Its run.
        runtime: Where to compute.
        iterations: How many EM iterations to follow, whatever T the network has.
        images: How many images, evenly spaced over the run's split; 0 = all.

    Returns:
        One row: "num_bases", "distinct" (means over images of ``diagnostics.distinct_bases`` of
        μ^(0), …, μ^(iterations)) and "critical" (``em.gradients.critical_concentration`` of every
        image, for the unit's normalisation).
    """
    unit = unit_of(network)
    counts, critical = [], []
    for x, bases, _ in _inputs(network, config, runtime, images):
        course = [bases]
        for _ in range(iterations):
            course.append(_em(unit, x, course[-1], 1).bases)
        counts.append(distinct_bases(torch.stack(course)))
        critical.append(float(critical_concentration(x.double(), normalization=unit.normalization)))
    means = torch.stack(counts).double().mean(dim=0).tolist()
    return [{"num_bases": unit.num_bases, "distinct": means, "critical": critical}]


def maps(
    network: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
    *,
    pictures: int = 3,
    images: int = 64,
) -> list[Row]:
    """Pictures of the bases: responsibilities of some of them, as maps, and what is predicted.

    The bases are chosen by rule, over ``images`` images. Of those that take at least 1 % of the
    pixels: the most class-pure, max_c p(c|k), and the two whose classes differ most from the
    images', KL(p(c|k) ‖ p(c)), which where one class is everywhere are not the purest; of the
    others, the most used and the least used.

    Args:
        network: A trained network with an EMA unit.
        config: Its run.
        runtime: Where to compute.
        pictures: How many images to draw, the first of the evenly spaced ones.
        images: How many images, evenly spaced over the run's split, to choose the bases by; 0 =
            all.

    Returns:
        One row a picture: "image" (its index), "bases" (their indices), "chosen" (why, one word
        each), "maps" (T, bases, h, w) in 1/255, "entropy" (nats, mean over the pixels, after
        1, …, T iterations), "prediction" (class indices, see :func:`run_lengths`).
    """
    dataset = load_dataset(config, config.eval_split, runtime)
    (found,) = concepts(network, config, runtime, images=images)
    counts = torch.tensor(found["counts"], dtype=torch.float64)
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
    steps = range(1, unit_of(network).num_iterations + 1)
    rows = []
    for index in evenly_spaced(len(dataset), images)[:pictures]:
        z = responsibility_maps(network, dataset, index, steps)
        prediction = predict(
            network, dataset[index][0], dataset, dtype=runtime.autocast_dtype(config)
        )
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


def time(
    network: SegmentationNetwork,
    config: RunConfig,
    runtime: Runtime,
    *,
    sides: Sequence[int] = (33, 49, 65, 97, 129),
    size: int = 513,
    repeats: int = 5,
) -> list[Row]:
    """How long the EMA unit takes, alone and as a share of its network; inference, one image.

    Args:
        network: A network with an EMA unit; its weights do not matter.
        config: Its run.
        runtime: Where to compute.
        sides: Heights and widths of random feature maps for the unit alone; N = side².
        size: Height and width of the random image for the network.
        repeats: Timed passes of each, after one that is not counted; the median counts.

    Returns:
        One row: "pixels" (N of each map), "seconds" (of the unit on each), "network_seconds" (of
        the network on the image), "unit_seconds" (of the unit on that image's features).
    """
    unit = unit_of(network)
    where = next(network.parameters()).device

    def seconds(module: torch.nn.Module, x: Tensor) -> float:
        x = x.to(where).contiguous(memory_format=torch.channels_last)
        return cost.seconds(lambda: module(x), repeats=repeats)

    with torch.inference_mode():
        image = torch.randn(1, 3, size, size)
        maps = [torch.randn(1, unit.conv1.in_channels, side, side) for side in sides]
        return [
            {
                "at.size": size,
                "pixels": [side**2 for side in sides],
                "seconds": [seconds(unit, x) for x in maps],
                "network_seconds": seconds(network, image),
                "unit_seconds": seconds(unit, unit_input(network, image.to(where))),
            }
        ]


def mutual_information(counts: Float[Tensor, "k c"]) -> float:
    """Mutual information of two discrete variables from their joint counts, in nats."""
    joint = counts / counts.sum()
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    return float(torch.special.xlogy(joint, joint / apart.clamp_min(1e-300)).sum())


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """A map of classes (H, W) as lengths and classes of its runs, row after row: much shorter.

    :func:`from_run_lengths` makes it a map again.
    """
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


def evenly_spaced(total: int, count: int) -> list[int]:
    """``count`` of the numbers 0 … total-1, evenly spaced, not picked; 0 or too many = all."""
    count = min(count or total, total)
    return [math.floor(k * total / count) for k in range(count)]


def _em(unit: EMAU, x: Tensor, bases: Tensor, iterations: int, *, trace: bool = False) -> EMResult:
    """EM as the unit runs it, on one image's features from bases of one's choice."""
    return expectation_maximization(
        x,
        bases,
        iterations,
        concentration=unit.concentration,
        normalization=unit.normalization,
        trace=trace,
    )


def _inputs(
    network: SegmentationNetwork, config: RunConfig, runtime: Runtime, images: int
) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    dataset: SegmentationDataset = load_dataset(config, config.eval_split, runtime)
    return em_inputs(network, dataset, evenly_spaced(len(dataset), images))


#: What can be measured, by name.
MEASURES: dict[str, Callable[..., list[Row]]] = {
    "concepts": concepts,
    "distinct": distinct,
    "maps": maps,
    "objective": objective,
    "rank": rank,
    "scores": scores,
    "time": time,
}
