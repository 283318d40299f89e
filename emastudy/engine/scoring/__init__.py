"""Scoring: predictions, one confusion matrix over a set, files for a server.

``evaluate`` takes anybody's network and dataset; ``score`` scores the network of a run.
"""

from emastudy.engine.scoring.evaluate import Scores, evaluate, score
from emastudy.engine.scoring.pictures import PredictedFile, predict_files
from emastudy.engine.scoring.predict import MULTI_SCALE, Views, predict

__all__ = [
    "MULTI_SCALE",
    "PredictedFile",
    "Scores",
    "Views",
    "evaluate",
    "predict",
    "predict_files",
    "score",
]
