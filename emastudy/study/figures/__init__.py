"""Charts and pictures in one style: functions that draw what they are given."""

from emastudy.study.figures import (
    ablations,
    audits,
    bases,
    charts,
    comparisons,
    drawing,
    robustness,
    scenes,
    theory,
    walkthrough,
)

__all__ = [
    "ablations",
    "audits",
    "bases",
    "charts",
    "comparisons",
    "drawing",
    "robustness",
    "scenes",
    "theory",
    "walkthrough",
]
