"""Where things lie: in the checkout that one works in, or else in the working directory."""

from pathlib import Path

from emastudy.errors import MissingFileError


def records_folder(profile: str = "") -> Path:
    """``experiments/records/PROFILE`` of the checkout that the working directory lies in.

    Outside a checkout it is ``records/PROFILE`` in the working directory. It need not exist.
    """
    checkout = _checkout()
    root = checkout / "experiments" if checkout else Path.cwd()
    return root / "records" / profile


def recorded_folder(profile: str = "") -> Path:
    """:func:`records_folder` for those who want to read: there are records in it.

    Raises:
        MissingFileError: There are none; the message says where was looked, and what there is.
    """
    folder, root = records_folder(profile), records_folder()
    if any(folder.glob("*.json" if profile else "*/*.json")):
        return folder
    profiles = sorted({path.parent.name for path in root.glob("*/*.json")})
    if profiles:
        fix = f"there are records of {', '.join(profiles)}"
    elif _checkout():
        fix = "train runs first, e.g. by make study"
    else:
        fix = (
            "outside a checkout of emastudy they are looked for in the working directory: change "
            "into the checkout, or train a run here first, e.g. emastudy train scenes"
        )
    raise MissingFileError(f"no records lie in {folder}; {fix}")


def runs_folder() -> Path:
    """Folder ``runs`` beside ``experiments``: checkpoints and logs."""
    return (_checkout() or Path.cwd()) / "runs"


def benchmark_results(name: str) -> Path:
    """``benchmarks/results/NAME.json``, what a benchmark keeps, likewise. It need not exist."""
    return (_checkout() or Path.cwd()) / "benchmarks" / "results" / f"{name}.json"


def experiments_folder() -> Path:
    """Folder ``experiments`` of the checkout: the notebooks, their profiles, the records.

    Raises:
        MissingFileError: The working directory lies in no checkout.
    """
    checkout = _checkout()
    if checkout is None:
        raise MissingFileError(
            f"no folder experiments/records lies in {Path.cwd()} or above it, so there are no "
            "notebooks here; change into a checkout of emastudy, where they are"
        )
    return checkout / "experiments"


def _checkout() -> Path | None:
    here = Path.cwd()
    places = (
        folder for folder in (here, *here.parents) if (folder / "experiments/records").is_dir()
    )
    return next(places, None)
