"""Scoring anybody's network: predictions, one confusion matrix over a set, files for a server."""

from emastudy.engine.scoring.evaluate import Scores, evaluate
from emastudy.engine.scoring.predict import MULTI_SCALE, Views, predict

__all__ = ["MULTI_SCALE", "Scores", "Views", "evaluate", "predict"]
