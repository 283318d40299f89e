"""``emastudy predict``: photographs segmented."""

import sys
from pathlib import Path

import tyro
from tqdm.auto import tqdm

from emastudy.engine import predict_files
from emastudy.engine.runtime import Machine


def command(
    images: tyro.conf.Positional[tuple[Path, ...]],
    checkpoint: str = "animals-ema",
    output: Path = Path("predictions"),
    window: int = 0,
    save_probabilities: bool = False,
    machine: Machine = Machine(),  # noqa: B008 - frozen
) -> None:
    """Segment photographs: NAME_mask.png (palette, class indices) and NAME_overlay.png each.

    For example: emastudy predict photo.jpg, or
    emastudy predict holiday/ "scans/*.tif" --checkpoint runs/ID --window 513

    Args:
        images: Image files, folders of them, and patterns. An image that cannot be read stops no
            other one; the exit status is then 1.
        checkpoint: Folder runs/ID, runs/ID/best (where the run was validated) or
            runs/ID/checkpoint-NNNNNN, or one that save_pretrained wrote. The default comes with the
            package and knows cat, cow, dog, horse, sheep and person.
        output: Folder for the pictures.
        window: Side of a window that slides over larger images, pixels; windows overlap by a third
            and are averaged there. 0 = the network sees every image whole.
        save_probabilities: Also write NAME_probabilities.npz: the softmax, float16, classes first.
        machine: What computes.
    """
    outcomes = predict_files(
        images, checkpoint, output, machine, window=window, save_probabilities=save_probabilities
    )
    done, failed = 0, 0
    for outcome in outcomes:
        if outcome.error:
            failed += 1
            tqdm.write(f"emastudy: {outcome.error}", file=sys.stderr)
        else:
            done += 1
            shares = (f"{name} {share:.1%}" for name, share in outcome.shares.items())
            tqdm.write(f"{outcome.path}: {', '.join(shares)}")
    if done:
        print(f"pictures in {output}")
    if failed:
        sys.exit(f"emastudy: {failed} of {done + failed} images failed")
