"""The paper's tables, ours beside the published.

Floor: study.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from emastudy import networks
from emastudy.engine import RunConfig, cost
from emastudy.engine.build import build_network
from emastudy.study import published
from emastudy.study.measures import load_measurements
from emastudy.study.recipes import PROTOCOLS

#: Rows of Table 1: head and its options. All stand on the released ResNet-101 (deep stem).
TABLE1_HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "DeepLabV3": ("deeplabv3", {}),
    "DeepLabV3+": ("deeplabv3plus", {}),
    "PSANet": ("psanet", {}),
    "EMANet (256)": ("emanet", {"channels": 256}),
    "EMANet (512)": ("emanet", {}),
}

#: Tables 2-4: the recipes behind them, each run starting from the last, and their classes.
PAPER_RUNS: dict[str, dict[str, int]] = {
    "Table 2": {"voc_test_coco": 21, "voc_test_trainaug": 21, "voc_test": 21},
    "Table 3": {"pascal_context": 60},
    "Table 4": {"coco_stuff": 171},
}
#: The published Tables 2-4, by the same names.
PUBLISHED: dict[str, Callable[[], pd.DataFrame]] = {
    "Table 2": published.table2,
    "Table 3": published.table3,
    "Table 4": published.table4,
}
#: What a GPU is assumed to sustain in training, multiply-adds a second: see ``protocols``.
SUSTAINED_MACS = 25e12


def table1(
    heads: dict[str, tuple[str, dict[str, Any]]] | None = None, *, size: int = 513
) -> pd.DataFrame:
    """Table 1's costs, counted by ``engine.cost`` on the meta device, beside the published.

    Args:
        heads: Method → (head, options); default: the paper's rows.
        size: Height and width of the input.

    Returns:
        Index = method; the first row is the backbone, the others are what a head adds. Columns:
        "gmacs", "convolution_gmacs", "mparams", "kept_mib" (tensors kept for the backward pass of
        one image), "peak_mib" (of the whole network, at inference), and, where the method is in
        the published table, "published_gmacs", "published_mparams" and "published_memory_mb".
    """
    rows = {}
    for method, (head, options) in (heads or TABLE1_HEADS).items():
        with torch.device("meta"):
            network = networks.build(
                head,
                backbone="resnet101",
                num_classes=21,
                output_stride=8,
                backbone_options={"deep_stem": True},
                **options,
            )
        whole = cost.measure(network, (size, size))
        rows["ResNet-101"] = _row(whole.parts["backbone"])
        rows[method] = _row(whole.parts["head"])
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    theirs = published.table1()[["gmacs", "mparams", "memory_mb"]].add_prefix("published_")
    return frame.join(theirs)


def _row(part: cost.Cost) -> dict[str, float]:
    return {
        "gmacs": part.macs / 1e9,
        "convolution_gmacs": part.convolution_macs / 1e9,
        "mparams": part.params / 1e6,
        "kept_mib": part.activation_bytes / 2**20,
        "peak_mib": part.peak_bytes / 2**20,
    }


def margin(name: str, backbone: str = "ResNet-101") -> str:
    """What a published table says of EMANet, in a sentence: its score, and the next best one's.

    Args:
        name: Key of ``PUBLISHED``.
        backbone: Only methods known to stand on it are compared.
    """
    table = PUBLISHED[name]()
    table = table[(table["backbone"] == backbone) & (table["confidence"] == "confirmed")]
    ours = float(table["miou"].loc["EMANet"])
    others = table.drop(index="EMANet")["miou"]
    best = ", ".join(others.index[others == others.max()])
    return (
        f"{name}: EMANet ({backbone}) {ours:.1f} % mIoU, {ours - others.max():+.1f} against the "
        f"best other {backbone} ({best}, {others.max():.1f})."
    )


def plan(*, macs_per_second: float = SUSTAINED_MACS) -> pd.DataFrame:
    """What it takes to run the paper's Tables 2-4.

    Args:
        macs_per_second: What the GPU sustains in training.

    Returns:
        Index ("table", "recipe"). "dataset", "batch", "iterations"; "peta_macs" (10¹⁵
        multiply-adds of the whole run, see ``cost.training_macs``); "gpu_hours" that they take;
        "memory_gib": what training keeps of a batch in float32, to which weights, gradients and
        momentum add three times the parameters; "command".
    """
    rows = {}
    for table, recipes in PAPER_RUNS.items():
        for recipe, num_classes in recipes.items():
            config = PROTOCOLS[recipe]()
            macs = cost.training_macs(config, num_classes)
            with torch.device("meta"):
                network = build_network(config, num_classes)
            one = cost.measure(network, (config.crop_size, config.crop_size))
            kept = config.batch_size * one.activation_bytes + 3 * 4 * one.params
            weights = " --weights-path FILE" if config.pretrained else ""
            rows[table, recipe] = {
                "dataset": config.dataset,
                "batch": config.batch_size,
                "iterations": config.iterations,
                "peta_macs": macs / 1e15,
                "gpu_hours": macs / macs_per_second / 3600,
                "memory_gib": kept / 2**30,
                "command": f"emastudy train {recipe} --data-root FOLDER{weights}",
            }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index = pd.MultiIndex.from_tuples(frame.index, names=["table", "recipe"])
    return frame


def paper_scores(folder: Path) -> pd.DataFrame:
    """Our own scores under the paper's protocol, as far as they were measured.

    Args:
        folder: Records of the profile "paper"; need not exist.

    Returns:
        One row a score of the last run of a table's chain: "table", "seed", "at.split",
        "at.multi_scale", "miou", and "published" for EMANet on the same backbone.
    """
    columns = ["table", "seed", "at.split", "at.multi_scale", "miou", "published"]
    found = load_measurements(folder, "scores")
    if found.empty:
        return pd.DataFrame(columns=columns)
    plain = found[(found["at.corruption"] == "") & (found["at.num_iterations"] == 0)]
    tables = []
    for table, recipes in PAPER_RUNS.items():
        recipe = PROTOCOLS[list(recipes)[-1]]
        ids = {recipe(seed=int(seed)).id for seed in plain["seed"].unique()}
        theirs = PUBLISHED[table]().query("backbone == 'ResNet-101'")["miou"].loc["EMANet"]
        tables.append(plain[plain["id"].isin(ids)].assign(table=table, published=theirs))
    return pd.concat(tables)[columns].reset_index(drop=True)


def rehearsal(*, seed: int, scale: float = 1.0) -> list[RunConfig]:
    """Table 2's chain on scenes: as many runs, each starting from the last.

    Learning rates fall, and lengths differ, by the factors of the paper's chain.

    Args:
        seed: Of all the runs.
        scale: Share of the iterations of the recipe ``scenes``, which the first run has.
    """
    paper = [PROTOCOLS[recipe]() for recipe in PAPER_RUNS["Table 2"]]
    first = PROTOCOLS["scenes"]("ema", seed=seed, scale=scale)
    chain = [first]
    for step in paper[1:]:
        share = step.iterations / paper[0].iterations
        chain.append(
            replace(
                first,
                start_from=chain[-1].id,
                iterations=max(2, round(first.iterations * share)),
                learning_rate=first.learning_rate * step.learning_rate / paper[0].learning_rate,
            )
        )
    return chain
