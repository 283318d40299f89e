"""How it runs: configs, training with exact resume, scoring, prediction.

``train(config)`` trains a run, ``evaluate(network, dataset)`` scores any network, and
``load_network(folder)`` opens what training left.
"""

from emastudy.engine.build import build_network, load_dataset
from emastudy.engine.checkpoints import CheckpointError, load_network
from emastudy.engine.config import NUMBERS_VERSION, RunConfig
from emastudy.engine.features.cache import CachedFeatures, evaluation_data
from emastudy.engine.runtime import Runtime
from emastudy.engine.scoring import MULTI_SCALE, Scores, Views, evaluate, predict
from emastudy.engine.training import NonFiniteLossError, Training, train

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
    "Views",
    "build_network",
    "evaluate",
    "evaluation_data",
    "load_dataset",
    "load_network",
    "predict",
    "train",
]
