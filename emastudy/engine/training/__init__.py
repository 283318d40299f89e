"""Training: the loop, how a batch is divided, the loss, the curves, and what may stop a run."""

from emastudy.engine.training.trainer import Trainer, Training, train

__all__ = ["Trainer", "Training", "train"]
