"""``emastudy study``: the notebooks."""

from pathlib import Path
from typing import Annotated

import tyro

from emastudy import options
from emastudy.commands import Pairs
from emastudy.study import parse_executor
from emastudy.study.report import write_includes
from emastudy.study.report.notebooks import run_notebooks
from emastudy.study.runs import experiments_folder


def command(
    notebooks: tyro.conf.Positional[tuple[str, ...]] = (),
    profile: str = "quick",
    data_root: str = "",
    weights_path: str = "",
    executor: str = "",
    parameters: Annotated[Pairs, tyro.conf.arg(name="set")] = (),
    output: Path | None = None,
    jobs: int = 1,
) -> None:
    """Run the notebooks through papermill; those that are up to date are left alone.

    Args:
        notebooks: Names, or their beginnings; default all.
        profile: File of experiments/profiles.
        data_root: Folder of the dataset, for notebooks that read one.
        weights_path: File with the backbone's ImageNet weights.
        executor: Where runs are trained: local, slurm, or none, which uses only what is recorded.
            "slurm partition=gpu gpus_per_node=1" tells Slurm what a run needs.
        parameters: Further parameters of the notebooks.
        output: Folder for the executed notebooks; default book/notebooks of this checkout.
        jobs: Notebooks executed at a time; those that measure times run last, one at a time.
    """
    parse_executor(executor or "local")  # a slip shows now, not in the first notebook
    experiments = experiments_folder()
    book = experiments.parent / "book"
    places = {"data_root": data_root, "weights_path": weights_path}
    given = {name: str(Path(value).absolute()) for name, value in places.items() if value}
    outcomes = run_notebooks(
        experiments,
        output or book / "notebooks",
        profile,
        only=notebooks,
        parameters={**given, "executor": executor, **options.parse(parameters)},
        jobs=jobs,
    )
    for outcome in outcomes:
        time = "up to date" if outcome.skipped else f"{outcome.seconds:6.1f} s"
        print(f"{outcome.name:<32} {time}")
    print(f"{'all notebooks':<32} {sum(o.seconds for o in outcomes):6.1f} s")
    if book.is_dir():
        write_includes(experiments / "records", book / "generated")
