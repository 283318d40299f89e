"""The figures of the chapters of theory that one plotting cell cannot hold."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from torch import Tensor

from emastudy import em
from emastudy.em.mixtures import GaussianMixture, MixtureParameters
from emastudy.study.figures import drawing


def clusters(
    x: Float[Tensor, "n 2"], mixture: GaussianMixture, states: Sequence[MixtureParameters]
) -> bytes:
    """A mixture of Gaussians on its way to the clusters, and the likelihood that it climbs: a GIF.

    Points have the mixed colours of the Gaussians, with full covariances, that share them.
    ``states`` are the parameters after 0, 1, … iterations.
    """
    figure, (points, curve) = plt.subplots(1, 2, figsize=(8, 3.6), width_ratios=(3, 2))
    trace = [mixture.log_likelihood(x, state).item() for state in states]
    left, bottom = (x.min(dim=0).values - 1).tolist()
    right, top = (x.max(dim=0).values + 1).tolist()

    def draw(frame: int) -> None:
        points.clear()
        curve.clear()
        state = states[frame]
        drawing.gaussians(points, x.numpy(), mixture.e_step(x, state).numpy(), state)
        points.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        points.set_title(f"iteration {frame}")
        curve.plot(trace, color="0.8")
        curve.plot(trace[: frame + 1], "o-", color="C0", markersize=4)
        curve.set(xlabel="iteration", ylabel="log-likelihood, nats")

    return drawing.animate(figure, draw, len(states), per_second=4)


def sphere(
    cloud: Float[Tensor, "n 3"], path: Float[Tensor, "t 3 3"], concentration: float
) -> bytes:
    """Three bases on their way over the sphere, and the likelihood that they climb: a GIF.

    The pixels are coloured by the basis that is most responsible; ``path`` has the bases after 0,
    1, … iterations.
    """
    figure = plt.figure(figsize=(7.6, 3.9))
    globe, curve = figure.add_subplot(1, 2, 1, projection="3d"), figure.add_subplot(1, 2, 2)
    theta, phi = np.mgrid[0 : np.pi : 19j, 0 : 2 * np.pi : 25j]
    wires = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    trace = em.objective(cloud, path, concentration=concentration)

    def draw(frame: int) -> None:
        globe.clear()
        curve.clear()
        globe.plot_wireframe(*wires, color="0.85", linewidth=0.4)
        owner = em.responsibilities(cloud, path[frame], concentration=concentration).argmax(dim=1)
        globe.scatter(*cloud.T, c=[f"C{k}" for k in owner], s=8, depthshade=False)
        for k in range(3):
            globe.plot(*path[: frame + 1, k].T, color=f"C{k}", linewidth=1)
            globe.quiver(0, 0, 0, *path[frame, k], color=f"C{k}", linewidth=2.5)
        globe.set_box_aspect((1, 1, 1), zoom=1.25)
        globe.set(title=f"iteration {frame}", xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), zlim=(-0.8, 0.8))
        globe.view_init(elev=48, azim=-40)
        globe.set_axis_off()
        curve.plot(trace, color="0.8")
        curve.plot(trace[: frame + 1], "o-", color="C0")
        curve.set(xlabel="iteration", ylabel="F(μ), nats", title="likelihood")

    return drawing.animate(figure, draw, len(path), per_second=2, dpi=90)
