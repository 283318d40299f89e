"""Charts and pictures in one style: functions that draw what they are given."""

from emastudy.study.figures import ablations, charts, comparisons, drawing, scenes

__all__ = ["ablations", "charts", "comparisons", "drawing", "scenes"]
