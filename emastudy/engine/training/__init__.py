"""Training: the loop, its division over processes and parts, its curves, and what may stop it."""

from emastudy.engine.training.history import NonFiniteLossError
from emastudy.engine.training.trainer import Training, train

__all__ = ["NonFiniteLossError", "Training", "train"]
