"""What trained networks predict, for pages that draw it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from emastudy.datasets import SegmentationDataset, View
from emastudy.engine import RunConfig, Runtime, load_dataset, train
from emastudy.study.figures import drawing
from emastudy.study.measures import evenly_spaced, per_image
from emastudy.study.runs import lock_run


@dataclass(frozen=True)
class Predictions:
    """The classes that several networks give to the pixels of some images."""

    images: SegmentationDataset
    #: Method → predicted classes (H, W), one array an image.
    classes: Mapping[str, Sequence[np.ndarray]]
    scores: pd.DataFrame  #: Index = image, one column a method: the image's own mIoU, percent.

    @classmethod
    def of(
        cls, configs: Mapping[str, RunConfig], runtime: Runtime, *, split: str = "", count: int = 0
    ) -> "Predictions":
        """Predict with the networks of runs, which are trained where they have no checkpoint.

        Args:
            configs: Method → run; all of one dataset.
            count: How many images, evenly spaced; 0 = all.
        """
        first = next(iter(configs.values()))
        whole = load_dataset(first, split or first.eval_split, runtime)
        images = View(whole, evenly_spaced(len(whole), count))
        classes, scores = {}, {}
        for method, one in configs.items():
            with lock_run(one, None, runtime):
                network = train(one, runtime).network
            classes[method], scores[method] = per_image.predictions(network, images, one, runtime)
        return cls(images, classes, pd.DataFrame(scores))

    def draw(self, chosen: Sequence[int], title: str) -> None:
        """A row an image: photograph, truth, every method's prediction and errors."""
        pictures, masks = _pictures(self.images, chosen)
        guesses = {method: [every[n] for n in chosen] for method, every in self.classes.items()}
        classes = self.images.classes
        drawing.prediction_rows(
            pictures,
            masks,
            guesses,
            classes=classes,
            colors=self.images.palette,
            labels=[
                ", ".join(f"{m} {x:.0f}" for m, x in self.scores.loc[n].items()) for n in chosen
            ],
            title=title,
        )

    def draw_overlays(self) -> None:
        """A row an image: photograph, truth and every method's prediction laid over it."""
        chosen = range(len(self.images))
        pictures, masks = _pictures(self.images, chosen)
        palette = self.images.palette
        columns = {"truth": masks, **self.classes}
        _, axes = drawing.gallery(len(chosen), 1 + len(columns), size=1.7)
        for row, index in zip(axes, chosen, strict=True):
            row[0].imshow(pictures[index])
            for ax, masks_drawn in zip(row[1:], columns.values(), strict=True):
                ax.imshow(drawing.overlay(pictures[index], masks_drawn[index], palette))
        for ax, title in zip(axes[0], ("photograph", *columns), strict=True):
            ax.set_title(title, fontsize=8)


def map_pictures(
    config: RunConfig, maps: pd.DataFrame, runtime: Runtime
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The images that maps were made of and their truth, coloured by class.

    Photographs that are not on this machine are grey.
    """
    if config.dataset != "scenes" and not runtime.data_root:
        grey = [np.full((*one["shape"], 3), 128, np.uint8) for one in maps["prediction"]]
        return grey, grey
    dataset = load_dataset(config, config.eval_split, runtime)
    pictures, masks = _pictures(dataset, maps["image"])
    return pictures, [drawing.colorize(mask, dataset.palette) for mask in masks]


def _pictures(
    images: SegmentationDataset, chosen: Iterable[int]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pairs = [images[index] for index in chosen]
    pictures = [image.permute(1, 2, 0).numpy() for image, _ in pairs]
    return pictures, [mask.numpy() for _, mask in pairs]


def how_to_draw(notebook: str, folder: str, *, data_root: str, complete: bool) -> str:
    """What a page says in place of pictures that it could not draw; "" where it drew them all.

    Args:
        folder: What the folder of the dataset holds; ``data_root`` is the one that was given.
        complete: Whether all the networks lie on this machine.
    """
    if data_root and complete:
        return ""
    reason = "No photographs were given, so none are drawn."
    if data_root:
        reason = "Checkpoints of some runs are absent here."
    return (
        f"{reason} `emastudy study {notebook} --data-root FOLDER --set retrain=true` trains what "
        f"is missing and draws, FOLDER being {folder}."
    )
