"""How it runs: configs, training with exact resume, scoring, prediction.

``train(config)`` trains a run, ``load_network(folder)`` opens what it left, ``score`` scores a
run's network as the run is scored and ``evaluate(network, dataset)`` any network.
"""

from emastudy.engine.build import build_network, load_dataset
from emastudy.engine.checkpoints import load_network
from emastudy.engine.config import NUMBERS_VERSION, RunConfig
from emastudy.engine.runtime import Runtime
from emastudy.engine.scoring import (
    MULTI_SCALE,
    Scores,
    Views,
    evaluate,
    predict,
    predict_files,
    score,
)
from emastudy.engine.training import Training, train

__all__ = [
    "MULTI_SCALE",
    "NUMBERS_VERSION",
    "RunConfig",
    "Runtime",
    "Scores",
    "Training",
    "Views",
    "build_network",
    "evaluate",
    "load_dataset",
    "load_network",
    "predict",
    "predict_files",
    "score",
    "train",
]
