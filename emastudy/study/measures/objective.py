"""The objective that EM climbs, or should."""

import torch

from emastudy import em
from emastudy.options import NonNegativeInt, PositiveInt
from emastudy.study.measures.subject import Row, Subject, register


@register("objective")
def objective(
    subject: Subject, *, iterations: PositiveInt = 8, images: NonNegativeInt = 64
) -> list[Row]:
    """How the unit's objective F moves along ``iterations``, on features of unseen images.

    Returns:
        One row: "at.iterations", "images", "falls" (images in which F falls at any iteration, see
        ``em.falls``), "largest_fall" (of F's size), and
        "objective" (nats per pixel, mean over images, after 0, 1, … iterations). Heads climb an F
        each; it falls where one of them does, and "objective" is their sum.
    """
    courses, falls, largest = [], 0, 0.0
    for x, start, _ in subject.inputs(images):
        course = subject.em(x.double(), start.double(), iterations, trace=True).objective
        assert course is not None
        courses.append(course.reshape(-1, iterations + 1).sum(dim=0) / x.shape[-2])
        falls += bool(em.falls(course).any())
        largest = max(largest, float((-course.diff() / course[..., 1:].abs()).max()))
    return [
        {
            "at.iterations": iterations,
            "images": len(courses),
            "falls": falls,
            "largest_fall": largest,
            "objective": torch.stack(courses).mean(dim=0).tolist(),
        }
    ]
