"""Charts and pictures in one style: functions that draw what they are given."""

from emastudy.study.figures import ablations, charts, drawing

__all__ = ["ablations", "charts", "drawing"]
