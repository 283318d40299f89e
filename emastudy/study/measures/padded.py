"""What padding does: scores with images as they are, and padded as in training."""

from emastudy.engine import load_dataset, score
from emastudy.errors import InputError
from emastudy.options import NonNegativeInt
from emastudy.study.measures.subject import Row, Subject, evenly_spaced, register


@register("padded")
def padded(subject: Subject, *, side: NonNegativeInt = 0, images: NonNegativeInt = 0) -> list[Row]:
    """Scores of images as they are and of the same padded to squares, at one output stride.

    A head on frozen features learns from padded squares and is scored on images as they are. What
    mixes all pixels of a map mixes padding in, and learns with it.

    Args:
        side: Side of the squares, no smaller than any image; 0 = those of training (the crop size).
        images: How many images, evenly spaced; 0 = all.

    Returns:
        One row with "images" (how many), "padding" (percent of the squares), "miou" and "padded"
        (mIoU as they are and padded), "confusion" and "padded_confusion".

    Raises:
        InputError: An image is larger than the squares, so that it would be shrunk.
    """
    config, side = subject.config, side or subject.config.crop_size
    dataset = load_dataset(config, config.eval_split, subject.runtime)
    chosen = evenly_spaced(len(dataset), images)
    sizes = [dataset[index][1].shape[-2:] for index in chosen]
    if (largest := max(map(max, sizes))) > side:
        raise InputError(
            f"side is {side}, and an image of {config.eval_split} has {largest} pixels on its "
            f"longer side; take side={largest + (1 - largest) % 8} or more"
        )
    share = 100 * (1 - sum(h * w for h, w in sizes) / (len(sizes) * side**2))
    plain, squares = (
        score(
            subject.network,
            config,
            subject.runtime,
            indices=chosen,
            square=square,
            description="padded" if square else "as they are",
        )
        for square in (0, side)
    )
    row = {
        "images": len(chosen),
        "padding": share,
        "miou": plain.miou,
        "padded": squares.miou,
        "confusion": plain.confusion.tolist(),
        "padded_confusion": squares.confusion.tolist(),
    }
    return [row]
