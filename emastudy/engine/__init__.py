"""How it runs: configs, training with exact resume, evaluation, prediction.

Imports networks, datasets and em. ``train(config)`` then ``evaluate(config, network)``;
``load_network(folder)`` opens what training left.
"""

from emastudy.engine.checkpoints import CheckpointError, load_network
from emastudy.engine.config import NUMBERS_VERSION, RunConfig, Runtime
from emastudy.engine.features.cache import CachedFeatures, evaluation_data
from emastudy.engine.scoring.evaluate import MULTI_SCALE, Scores, evaluate, predict
from emastudy.engine.training.history import NonFiniteLossError
from emastudy.engine.training.trainer import Training, train

__all__ = [
    "MULTI_SCALE",
    "NUMBERS_VERSION",
    "CachedFeatures",
    "CheckpointError",
    "NonFiniteLossError",
    "RunConfig",
    "Runtime",
    "Scores",
    "Training",
    "evaluate",
    "evaluation_data",
    "load_network",
    "predict",
    "train",
]
