"""How few directions the re-estimated features have."""

import torch
from torch import Tensor

from emastudy.em import reconstruct
from emastudy.engine.diagnostics import effective_rank
from emastudy.errors import InputError
from emastudy.options import NonNegativeInt
from emastudy.study.measures.subject import Row, Subject, register


@register("rank")
def rank(subject: Subject, *, images: NonNegativeInt = 64) -> list[Row]:
    """Rank of the unit's features X and of their re-estimate X̃, in unseen images.

    Returns:
        One row of means over images: "rank_x", "rank_estimate" (numerical, in double precision),
        "largest_rank_estimate", "effective_rank_x", "effective_rank_estimate" (see
        ``diagnostics.effective_rank``), "num_bases", and the singular values over the largest,
        "spectrum_x" and "spectrum_estimate".
    """
    unit = subject.unit_of_one_head
    if unit.value is not None:
        raise InputError(
            "the network's EMA unit has value_conv=True and re-estimates values; this compares X "
            "with its own re-estimate: take a network with value_conv=False"
        )
    found: dict[str, list[tuple[float, float, Tensor]]] = {"x": [], "estimate": []}
    for x, start, _ in subject.inputs(images):
        result = subject.em(x.double(), start.double(), unit.num_iterations)
        estimate = reconstruct(result.responsibilities, result.bases)
        for name, matrix in (("x", x.double()), ("estimate", estimate)):
            count, values = torch.linalg.matrix_rank(matrix), torch.linalg.svdvals(matrix)
            found[name].append((float(count), float(effective_rank(matrix)), values / values[0]))
    largest = max(count for count, _, _ in found["estimate"])
    row: Row = {"num_bases": unit.num_bases, "largest_rank_estimate": largest}
    for name, several in found.items():
        ranks, effective, spectra = zip(*several, strict=True)
        row[f"rank_{name}"] = sum(ranks) / len(ranks)
        row[f"effective_rank_{name}"] = sum(effective) / len(effective)
        length = min(map(len, spectra))
        row[f"spectrum_{name}"] = torch.stack([s[:length] for s in spectra]).mean(0).tolist()
    return [row]
