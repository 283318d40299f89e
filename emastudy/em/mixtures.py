r"""The mixtures behind EM attention: Gaussian, von Mises-Fisher, and their limit K-means.

Letters and shapes are those of :mod:`emastudy.em`; each batch dimension has a mixture of its own. A
*mixture* says which densities are mixed; its parameters θ live in :class:`MixtureParameters`, so
that every step is a pure function of tensors and gradients flow through all of them::

    fitted = fit(x, bases, GaussianMixture(covariance="diagonal"))
    fitted.parameters.bases, fitted.objective

Source: Dempster, Laird, Rubin, "Maximum likelihood from incomplete data via the EM algorithm",
JRSS B 1977; Eqs 1-7 of the paper.
"""

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from emastudy.em.iteration import normalize
from emastudy.em.steps import EMResult, update_bases
from emastudy.em.von_mises_fisher import log_vmf_normalizer, solve_scale
from emastudy.errors import InputError, require

Covariance = Literal["full", "diagonal", "isotropic", "identity"]
Concentration = Literal["shared", "per_sample"]

_POSITIVE = "a finite number > 0"


class ConvergenceWarning(UserWarning):
    """EM stopped while it was still climbing."""


class MixtureParameters(NamedTuple):
    """θ of a mixture of K components."""

    bases: Float[Tensor, "*b k c"]  #: μ: means, or unit mean directions (von Mises-Fisher).
    #: Gaussian: covariances Σ_k, (…, K, C, C) if full, else variances (…, K, C or 1). Von
    #: Mises-Fisher: λ, (…).
    spread: Float[Tensor, "..."]
    weights: Float[Tensor, "*b k"]  #: π, (…, K), sums to 1.


class MixtureFit(NamedTuple):
    """What :func:`fit` leaves behind."""

    parameters: MixtureParameters  #: θ^(T).
    responsibilities: Float[Tensor, "*b n k"]  #: The posterior under θ^(T), (…, N, K).
    #: Log-likelihood of θ^(0), …, θ^(T), nats per image, (…, T+1).
    objective: Float[Tensor, "*b t"]
    converged: bool  #: Whether the last iteration gained no more than the tolerance in every image.


class Mixture(ABC):
    """A family of densities p(x|k) with an E step, an M step and a likelihood."""

    @abstractmethod
    def start(self, bases: Float[Tensor, "*b k c"]) -> MixtureParameters:
        """θ^(0) from the bases μ^(0): equal weights and the family's own initial spread."""

    @abstractmethod
    def log_joint(
        self, x: Float[Tensor, "*b n c"], parameters: MixtureParameters
    ) -> Float[Tensor, "*e n k"]:
        r""":math:`\log \pi_k + \log p(x_n \mid k)`, (…, N, K), in nats."""

    @abstractmethod
    def m_step(self, x: Float[Tensor, "*b n c"], z: Float[Tensor, "*b n k"]) -> MixtureParameters:
        r""":math:`\arg\max_\theta \sum_{nk} z_{nk} \log(\pi_k\, p(x_n \mid k))`."""

    def e_step(
        self, x: Float[Tensor, "*b n c"], parameters: MixtureParameters
    ) -> Float[Tensor, "*e n k"]:
        """The posterior z_nk = p(k | x_n), (…, N, K)."""
        return torch.softmax(self.log_joint(x, parameters), dim=-1)

    def log_likelihood(
        self, x: Float[Tensor, "*b n c"], parameters: MixtureParameters
    ) -> Float[Tensor, "*e"]:
        r""":math:`\sum_n \log \sum_k \pi_k\, p(x_n \mid k)`, nats, one number per image."""
        value: Tensor = torch.logsumexp(self.log_joint(x, parameters), dim=-1).sum(dim=-1)
        return value

    def free_energy(
        self, x: Float[Tensor, "*b n c"], z: Float[Tensor, "*b n k"], parameters: MixtureParameters
    ) -> Float[Tensor, "*e"]:
        r"""The bound that EM climbs in turns, over z (E step) and over θ (M step).

        .. math:: \mathcal F(z, \theta) = \sum_{nk} z_{nk} \big(\log(\pi_k\, p(x_n \mid k))
            - \log z_{nk}\big) = \log p(X \mid \theta) - \sum_n
            \mathrm{KL}\big(z_n \,\|\, p(\cdot \mid x_n)\big)

        Source: Neal and Hinton, "A view of the EM algorithm that justifies incremental, sparse,
        and other variants", 1998.
        """
        entropy: Tensor = torch.special.entr(z)
        return (z * self.log_joint(x, parameters) + entropy).sum(dim=(-2, -1))

    def check(self, x: Tensor, bases: Tensor) -> None:
        """Raise InputError where x and bases cannot be fitted, and say what to do about it."""
        if x.shape[-1] != bases.shape[-1]:
            raise InputError(
                f"x has {x.shape[-1]} channels and bases have {bases.shape[-1]}; "
                "both end in the feature dimension C: x (…, N, C), bases (…, K, C)"
            )
        if bases.shape[-2] > x.shape[-2]:
            raise InputError(
                f"there are K = {bases.shape[-2]} bases for N = {x.shape[-2]} pixels; more "
                "than N different ones are never needed, and a fit asks for K ≤ N: pass fewer "
                "bases or a larger image"
            )
        for name, tensor in (("x", x), ("bases", bases)):
            if not torch.isfinite(tensor).all():
                raise InputError(
                    f"{name} holds NaN or infinite values; drop those rows or fix what made them "
                    "(a diverged network, a division by zero)"
                )


@dataclass(frozen=True)
class GaussianMixture(Mixture):
    r"""Mixture of Gaussians, :math:`p(x \mid k) = \mathcal N(x \mid \mu_k, \Sigma_k)`.

    With ``covariance="identity"`` and ``learn_weights=False`` it is the mixture whose EM is
    ``expectation_maximization(..., normalization="gaussian")``, and with ``unit_means=True`` on
    top the one whose EM is ``normalization="l2"``.

    Args:
        covariance: "full", "diagonal", "isotropic" (σ_k² I) or "identity" (I/λ, not learnt).
        learn_weights: Learn π (N_k/N) or hold it at 1/K, as the paper does.
        concentration: λ > 0; Σ_k starts at I/λ.
        floor: ≥ 0, added to the variances in every M step: the likelihood of covariances of one's
            own has no upper bound (a component on a single point), and this keeps EM from looking
            for it. The M step is then exact, and the likelihood monotone, up to this much.
        unit_means: Hold the means at ‖μ_k‖ = 1; wants ``covariance="identity"``.

    Raises:
        InputError: An argument out of its range, named in the message.

    Source: Eqs 3-7 of the paper, with the prior left in where asked.
    """

    covariance: Covariance = "full"
    learn_weights: bool = True
    concentration: float = 1.0
    floor: float = 1e-6
    unit_means: bool = False

    def __post_init__(self) -> None:
        kinds = get_args(Covariance)
        require(self.covariance in kinds, "covariance", self.covariance, ", ".join(kinds))
        require(0 < self.concentration < math.inf, "concentration", self.concentration, _POSITIVE)
        require(self.floor >= 0, "floor", self.floor, "a number ≥ 0")
        if self.unit_means and self.covariance != "identity":
            raise InputError(
                f"unit_means with covariance={self.covariance!r} has no M step in closed form; "
                "use covariance='identity'"
            )

    def start(self, bases: Float[Tensor, "*b k c"]) -> MixtureParameters:
        """Means at the bases (their directions, for unit means), Σ_k = I/λ, π_k = 1/K."""
        channels = bases.shape[-1]
        bases = normalize(bases, "l2" if self.unit_means else "none")
        if self.covariance == "full":
            spread = torch.eye(channels, dtype=bases.dtype, device=bases.device)
            spread = spread.expand(*bases.shape[:-1], channels, channels)
        else:
            spread = torch.ones_like(bases if self.covariance == "diagonal" else bases[..., :1])
        return MixtureParameters(bases, spread / self.concentration, _equal_weights(bases))

    def log_joint(
        self, x: Float[Tensor, "*b n c"], parameters: MixtureParameters
    ) -> Float[Tensor, "*e n k"]:
        """See :meth:`Mixture.log_joint`."""
        bases, spread, weights = parameters
        if self.covariance == "full":
            root = torch.linalg.cholesky(spread)
            offsets = x.unsqueeze(-3) - bases.unsqueeze(-2)  # (…, K, N, C)
            white = torch.linalg.solve_triangular(root, offsets.mT, upper=False)
            distance = white.square().sum(dim=-2).mT
            half_log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
        else:
            # Expanded squares, about the bases' mean: cheap, and nothing large to cancel.
            origin = bases.mean(dim=-2, keepdim=True)
            x, bases = x - origin, bases - origin
            precision = (1 / spread).expand_as(bases)
            distance = (
                x.square() @ precision.mT
                - 2 * x @ (bases * precision).mT
                + (bases.square() * precision).sum(dim=-1).unsqueeze(-2)
            )
            half_log_det = 0.5 * spread.expand_as(bases).log().sum(dim=-1)
        constant: Tensor = weights.log() - half_log_det - x.shape[-1] / 2 * math.log(2 * math.pi)
        joint: Tensor = constant.unsqueeze(-2) - distance / 2
        return joint

    def m_step(self, x: Float[Tensor, "*b n c"], z: Float[Tensor, "*b n k"]) -> MixtureParameters:
        r"""Weighted means, covariances about them, and shares of the pixels; Eqs 6 and 7.

        For unit means :math:`-\tfrac12\sum_n z_{nk}\lVert x_n - \mu_k\rVert^2` is
        :math:`s_k^\top\mu_k` up to a constant: the direction of the weighted mean is the best.
        """
        mass = z.sum(dim=-2).clamp_min(torch.finfo(z.dtype).tiny).unsqueeze(-1)  # N_k, (…, K, 1)
        bases = normalize((z.mT @ x) / mass, "l2" if self.unit_means else "none")
        if self.covariance == "full":
            offsets = x.unsqueeze(-3) - bases.unsqueeze(-2)
            spread = (z.mT.unsqueeze(-1) * offsets).mT @ offsets / mass.unsqueeze(-1)
            spread = spread + self.floor * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        elif self.covariance == "identity":
            spread = torch.full_like(bases[..., :1], 1 / self.concentration)
        else:
            origin = x.mean(dim=-2, keepdim=True)
            square = z.mT @ (x - origin).square() / mass
            spread = (square - (bases - origin).square()).clamp_min(0) + self.floor
            if self.covariance == "isotropic":
                spread = spread.mean(dim=-1, keepdim=True)
        weights = mass.squeeze(-1) / x.shape[-2] if self.learn_weights else _equal_weights(bases)
        return MixtureParameters(bases, spread, weights)


@dataclass(frozen=True)
class VonMisesFisherMixture(Mixture):
    r"""Mixture of von Mises-Fisher densities on the unit sphere of :math:`\mathbb R^C`.

    .. math:: p(\hat x_n \mid k) = c_C(\kappa_n)\, \exp(\kappa_n\, \hat x_n^\top \mu_k),\qquad
        \hat x_n = x_n / \lVert x_n \rVert,\quad \lVert\mu_k\rVert = 1

    It models directions only: lengths are given, not explained.

    "shared": :math:`\kappa_n = \lambda`, features count by their direction alone. "per_sample":
    :math:`\kappa_n = \lambda \lVert x_n \rVert`, so that
    :math:`\kappa_n \hat x_n^\top \mu_k = \lambda x_n^\top \mu_k`. The second with equal weights and
    λ held fixed is the mixture whose EM is ``expectation_maximization(..., normalization="l2")``:
    what the Gaussian mixture with unit means says of directions once lengths are known.

    Args:
        concentration: "shared" or "per_sample".
        scale: λ > 0, or its initial value where it is learnt.
        learn_scale: Set λ to its maximum-likelihood value in every M step.
        learn_weights: Learn π or hold it at 1/K.

    Raises:
        InputError: λ ≤ 0 or an unknown concentration.

    Source: Banerjee, Dhillon, Ghosh, Sra, "Clustering on the unit hypersphere using von
    Mises-Fisher distributions", JMLR 2005, Section 3; concentrations per sample are ours.
    """

    concentration: Concentration = "per_sample"
    scale: float = 1.0
    learn_scale: bool = False
    learn_weights: bool = False

    def __post_init__(self) -> None:
        both = get_args(Concentration)
        require(self.concentration in both, "concentration", self.concentration, " or ".join(both))
        require(0 < self.scale < math.inf, "scale", self.scale, _POSITIVE)

    def start(self, bases: Float[Tensor, "*b k c"]) -> MixtureParameters:
        """Directions of the bases, the given λ, π_k = 1/K."""
        scale = torch.full_like(bases[..., 0, 0], self.scale)
        return MixtureParameters(F.normalize(bases, dim=-1), scale, _equal_weights(bases))

    def log_joint(
        self, x: Float[Tensor, "*b n c"], parameters: MixtureParameters
    ) -> Float[Tensor, "*e n k"]:
        """See :meth:`Mixture.log_joint`; a density with respect to area on the sphere."""
        bases, scale, weights = parameters
        x = self._features(x)
        scale = scale[..., None, None]
        constant = log_vmf_normalizer(scale.squeeze(-1) * x.norm(dim=-1), x.shape[-1])
        return constant.unsqueeze(-1) + scale * (x @ bases.mT) + weights.log().unsqueeze(-2)

    def m_step(self, x: Float[Tensor, "*b n c"], z: Float[Tensor, "*b n k"]) -> MixtureParameters:
        r"""Normalised weighted sums; λ from :math:`\sum_n r_n A_C(\lambda r_n) = R`.

        :math:`r_n` is ‖x_n‖ (1 if shared), :math:`R = \sum_k \lVert \sum_n z_{nk} x_n \rVert`.
        """
        x = self._features(x)
        bases = update_bases(x, z, normalization="l2")
        weights = z.mean(dim=-2) if self.learn_weights else _equal_weights(bases)
        weights = weights.clamp_min(torch.finfo(weights.dtype).tiny)
        if self.learn_scale:
            resultant = (z.mT @ x).norm(dim=-1).sum(dim=-1)
            scale = solve_scale(x.norm(dim=-1), resultant, x.shape[-1])
        else:
            scale = torch.full_like(bases[..., 0, 0], self.scale)
        return MixtureParameters(bases, scale, weights)

    def check(self, x: Tensor, bases: Tensor) -> None:
        """See :meth:`Mixture.check`; zero vectors have no direction."""
        super().check(x, bases)
        if x.shape[-1] < 2:
            raise InputError("x has 1 channel; directions need C ≥ 2: use a GaussianMixture")
        for name, tensor in (("x", x), ("bases", bases)):
            zeros = int((tensor == 0).all(dim=-1).sum())
            if zeros:
                raise InputError(
                    f"{name} holds {zeros} zero vectors, which have no direction; drop those rows "
                    "(they say nothing about the bases), or use a GaussianMixture"
                )

    def _features(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.concentration == "shared" else x


def fit(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*d k c"],
    mixture: Mixture,
    *,
    num_iterations: int = 100,
    tolerance: float | None = 1e-6,
) -> MixtureFit:
    """Maximise a mixture's likelihood by EM from the bases μ^(0).

    Args:
        x: Features, (…, N, C).
        bases: μ^(0), (…, K, C), K ≤ N.
        mixture: What to fit.
        num_iterations: Iterations at most.
        tolerance: Stop when no image gains more nats per pixel in one iteration. None runs all
            iterations and never warns.

    Returns:
        θ, posterior, the whole trace of the log-likelihood, and whether it converged.

    Raises:
        InputError: Data or bases that cannot be fitted (the message says what to do), T < 1.

    Warns:
        ConvergenceWarning: The last iteration still gained more than the tolerance.
    """
    mixture.check(x, bases)
    if num_iterations < 1:
        raise InputError(f"num_iterations is {num_iterations}; EM needs at least 1 iteration")
    parameters = mixture.start(bases)
    joint = mixture.log_joint(x, parameters)
    objective = [torch.logsumexp(joint, dim=-1).sum(dim=-1)]
    gain = math.inf
    for _ in range(num_iterations):
        parameters = mixture.m_step(x, torch.softmax(joint, dim=-1))
        joint = mixture.log_joint(x, parameters)
        objective.append(torch.logsumexp(joint, dim=-1).sum(dim=-1))
        if tolerance is not None:
            gain = float((objective[-1] - objective[-2]).detach().max()) / x.shape[-2]
            if gain <= tolerance:
                break
    converged = tolerance is not None and gain <= tolerance
    if tolerance is not None and not converged:
        warnings.warn(
            f"EM still gained {gain:.2g} nats per pixel in the last of {num_iterations} "
            f"iterations, more than the tolerance of {tolerance:.2g}; raise num_iterations or the "
            "tolerance, or start nearer to a solution (for instance from kmeans)",
            ConvergenceWarning,
            stacklevel=2,
        )
    posterior = torch.softmax(joint, dim=-1)
    return MixtureFit(parameters, posterior, torch.stack(objective, dim=-1), converged)


def kmeans(
    x: Float[Tensor, "*b n c"],
    bases: Float[Tensor, "*d k c"],
    num_iterations: int = 100,
    *,
    spherical: bool = False,
) -> EMResult:
    r"""The limit λ → ∞ of EM: every pixel belongs to its nearest basis.

    Of several that are equally near, EM lets all share the pixel at any λ and this takes the first;
    so bases that coincide stay together under EM, while here all but at most one become zero
    vectors.

    Args:
        spherical: Nearest by the inner product, bases normalised (the limit of "l2"), instead of
            by Euclidean distance (the limit of "gaussian").

    Returns:
        z of zeros and ones from μ^(T-1), μ^(T), and the trace of F/λ in the limit: of
        :math:`\sum_n \max_k x_n^\top\mu_k` if spherical, else of
        :math:`-\tfrac12 \sum_n \min_k \lVert x_n - \mu_k \rVert^2`, which lacks the constant
        :math:`\tfrac12 \sum_n \lVert x_n \rVert^2`. It never falls (if spherical,
        from bases with ‖μ_k‖ ≤ 1); a basis without a pixel becomes the zero vector.

    Source: Lloyd, "Least squares quantization in PCM", 1982; Dhillon and Modha, "Concept
    decompositions for large sparse text data using clustering", 2001, for the spherical one.
    """
    if num_iterations < 1:
        raise InputError(f"num_iterations is {num_iterations}; K-means needs at least 1 iteration")
    objective = []
    z = torch.empty(0)
    for step in range(num_iterations + 1):
        score = x @ bases.mT
        if not spherical:
            score = (
                score
                - 0.5 * bases.square().sum(dim=-1).unsqueeze(-2)
                - 0.5 * x.square().sum(dim=-1, keepdim=True)
            )
        best = score.max(dim=-1)
        objective.append(best.values.sum(dim=-1))
        if step < num_iterations:
            z = F.one_hot(best.indices, bases.shape[-2]).to(x.dtype)
            bases = update_bases(x, z, normalization="l2" if spherical else "none")
    return EMResult(z, bases, torch.stack(objective, dim=-1))


def _equal_weights(bases: Tensor) -> Tensor:
    return torch.full_like(bases[..., 0], 1 / bases.shape[-2])
