"""Training curves, and the check that stops a diverged run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from emastudy.engine.checkpoints import Manifest
from emastudy.engine.config import RunConfig
from emastudy.errors import NonFiniteLossError
from emastudy.networks import EMAU


class History:
    """The curves of a run so far, name → list of (iteration, value), and the values since then.

    Args:
        manifest: Of the checkpoint that the run resumes from, if it does.
    """

    def __init__(
        self,
        config: RunConfig,
        manifest: Manifest | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.config = config
        self.curves: dict[str, list[tuple[int, float]]] = {"loss": [], "learning_rate": []}
        self._recent: dict[str, list[Tensor]] = defaultdict(list)
        if manifest:
            self.curves = manifest.curves
            for name, values in manifest.pending.items():
                self._recent[name] = list(torch.tensor(values, device=device))

    def note(self, name: str, value: Tensor) -> None:
        """Keep one iteration's value, a scalar tensor on its device, for the next mean."""
        self._recent[name].append(value)

    def means(self) -> dict[str, float]:
        """Mean of every name's values since the last call."""
        values = {name: float(torch.stack(values).mean()) for name, values in self._recent.items()}
        self._recent.clear()
        return values

    def pending(self) -> dict[str, list[float]]:
        """The values since the last call of :meth:`means`, for a checkpoint."""
        return {name: torch.stack(values).tolist() for name, values in self._recent.items()}

    def add(self, iteration: int, values: Mapping[str, float]) -> None:
        """Append to the curves."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append((iteration, value))

    def highest(self, name: str) -> float:
        """Highest value of a curve, -∞ where it has none."""
        return max((value for _, value in self.curves.get(name, [])), default=float("-inf"))

    def check(self, iteration: int) -> None:
        """Raise NonFiniteLossError where one of the recent values is not finite."""
        for name, recent in self._recent.items():
            values = torch.stack(recent)
            wrong = ~values.isfinite()
            if wrong.any():
                first = iteration - len(recent) + 1 + int(wrong.int().argmax())
                raise _non_finite(f"{name} became {values[wrong][0].item()}", first, self.config)


def _non_finite(what: str, iteration: int, config: RunConfig) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"the {what} at iteration {iteration} of run {config.id}; checkpoints from before are "
        f"kept. Lower the learning rate ({config.learning_rate}) or look at the data. Config: "
        f"{config.canonical_json()}"
    )


def check_weights(network: nn.Module, iteration: int, config: RunConfig) -> None:
    """Raise NonFiniteLossError where a weight or buffer is not finite.

    A loss shows broken weights one iteration late: too late for the checkpoint.
    """
    for name, tensor in network.state_dict().items():
        if not tensor.isfinite().all():
            raise _non_finite(f"tensor {name} has become NaN or infinite", iteration, config)


def watched_parameters(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Curve → the parameters of EMA units whose gradient's norm it shows."""
    units = [module for module in network.modules() if isinstance(module, EMAU)]
    bases = [unit.bases for unit in units if isinstance(unit.bases, nn.Parameter)]
    conv1 = [weight for unit in units for weight in unit.conv1.parameters()]
    found = {"bases_gradient": bases, "conv1_gradient": conv1}
    learnt = {name: [w for w in weights if w.requires_grad] for name, weights in found.items()}
    return {name: weights for name, weights in learnt.items() if weights}


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of the gradients of parameters, those without one left out; a scalar."""
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
