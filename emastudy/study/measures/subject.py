"""A trained network that is asked questions, and the measures, which are the questions.

A measure is a function ``measure(subject, *, option=default, …)`` of a module of this folder; it
returns rows of numbers. Its name in ``MEASURES`` is part of the names of committed files. Where it
looks at images, ``images`` of them, evenly spaced over the run's split, are enough; 0 = all.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from emastudy.datasets import SegmentationDataset
from emastudy.em import EMResult, expectation_maximization
from emastudy.engine import RunConfig, Runtime, load_dataset
from emastudy.engine.diagnostics import em_inputs, unit_of, unit_of_one_head
from emastudy.networks import EMAU, SegmentationNetwork

Row = dict[str, Any]
Measure = Callable[..., list[Row]]

#: What can be measured, by name.
MEASURES: dict[str, Measure] = {}


def register(name: str) -> Callable[[Measure], Measure]:
    """Make the decorated function the measure of that name."""

    def add(measure: Measure) -> Measure:
        MEASURES[name] = measure
        return measure

    return add


@dataclass(frozen=True)
class Subject:
    """A trained network with what is needed to ask it."""

    network: SegmentationNetwork  #: The network, in evaluation mode, on its device.
    config: RunConfig
    runtime: Runtime

    @property
    def unit(self) -> EMAU:
        """The network's EMA unit, or a ValueError."""
        return unit_of(self.network)

    @property
    def unit_of_one_head(self) -> EMAU:
        """The network's EMA unit, or a ValueError where it has several heads."""
        return unit_of_one_head(self.network)

    @cached_property
    def dataset(self) -> SegmentationDataset:
        """The split that the run is scored on, which the network has not been trained on."""
        return load_dataset(self.config, self.config.eval_split, self.runtime)

    def inputs(self, images: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What the unit's EM works on, image by image, see ``diagnostics.em_inputs``."""
        return em_inputs(self.network, self.dataset, evenly_spaced(len(self.dataset), images))

    @torch.no_grad()  # a learnt λ would want one
    def em(self, x: Tensor, bases: Tensor, iterations: int, *, trace: bool = False) -> EMResult:
        """EM as the unit runs it, on one image's features from bases of one's choice."""
        return expectation_maximization(
            x,
            bases,
            iterations,
            concentration=self.unit.concentrations(x),
            normalization=self.unit.normalization,
            trace=trace,
        )


def evenly_spaced(total: int, count: int) -> list[int]:
    """``count`` of the numbers 0 … total-1, evenly spaced, not picked; 0 or too many = all."""
    count = min(count or total, total)
    return [math.floor(k * total / count) for k in range(count)]
