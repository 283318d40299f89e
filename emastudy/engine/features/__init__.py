"""Features of a frozen backbone: computed once per image, read by every run that trains a head."""

from emastudy.engine.features.cache import (
    HeadNetwork,
    scoring_features,
    trained_part,
    training_samples,
)
from emastudy.engine.features.store import CachedFeatures

__all__ = ["CachedFeatures", "HeadNetwork", "scoring_features", "trained_part", "training_samples"]
