"""The command ``emastudy``: it parses and prints. Tests freeze the options of its subcommands."""

import dataclasses
import inspect
import io
import logging
import shlex
import signal
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import tyro
from tqdm.contrib.logging import logging_redirect_tqdm

from emastudy import datasets, networks, options
from emastudy.engine import (
    MULTI_SCALE,
    RunConfig,
    Runtime,
    Views,
    cost,
    evaluate,
    load_network,
    predict_files,
)
from emastudy.engine.config import Option
from emastudy.engine.runtime import Machine, ScoringRuntime
from emastudy.engine.scoring import metrics
from emastudy.engine.scoring.submission import VOCSubmission
from emastudy.errors import EmastudyError, InputError, bug_report
from emastudy.files import write_text
from emastudy.study import STATES, parse_executor, records_folder, run_one, runs_folder, survey
from emastudy.study.recipes import RECIPES
from emastudy.study.runs import TOLERANCE, State, audit, experiments_folder, recorded_folder

app = tyro.extras.SubcommandApp()

# VALUE is read as YAML, so 3 is a number and true a truth value.
Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=VALUE ...]")]


@dataclass(frozen=True)
class Fields(RunConfig):
    """A config without its tables of options, which are given as NAME=VALUE pairs instead."""

    dataset_options: tyro.conf.Suppress[dict[str, Option]] = field(default_factory=dict)
    head_options: tyro.conf.Suppress[dict[str, Option]] = field(default_factory=dict)
    backbone_options: tyro.conf.Suppress[dict[str, Option]] = field(default_factory=dict)
    sources: tyro.conf.Suppress[dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """A recipe and what is changed of it."""

    config: Fields
    #: Where the run happens.
    runtime: Runtime = Runtime(runs_dir="")  # noqa: RUF009 - frozen
    #: Further options of the head, e.g. num_bases=32 gradient=one_step.
    head_options: Pairs = ()
    #: Further options of the backbone, e.g. deep_stem=true.
    backbone_options: Pairs = ()
    #: Further options of the dataset, e.g. noise=0.2.
    dataset_options: Pairs = ()
    #: Folder for the record; default experiments/records/command of this checkout.
    records: str = ""
    #: The recipe's name.
    recipe: tyro.conf.Suppress[str] = ""

    def changed(self) -> RunConfig:
        """The config that was ordered, with the options that the recipe has for its head."""
        usual = RECIPES[self.recipe](self.config.head)
        tables = {
            name: {**getattr(usual, name), **options.parse(getattr(self, name))}
            for name in ("head_options", "backbone_options", "dataset_options")
        }
        return RunConfig(**{**vars(self.config), **tables})


def _recipes() -> Any:
    """A type for the command line: one subcommand for every recipe, with its values as defaults."""
    # Options of the head come last, when it is known which head it is.
    configs = {name: Fields(**{**vars(r()), "head_options": {}}) for name, r in RECIPES.items()}
    return tyro.extras.subcommand_type_from_defaults(
        {name: Order(config, recipe=name) for name, config in configs.items()},
        {name: inspect.getdoc(recipe) or "" for name, recipe in RECIPES.items()},
    )


@app.command(name="train")
def _train(order: Annotated[Order, tyro.conf.arg(constructor=_recipes())]) -> None:
    """Train one run, score it and keep its record. Interrupted, it resumes where it stopped.

    For example: emastudy train scenes --seed 1 --head-options num_iterations=5 gradient=unrolled

    Args:
        order: The recipe to start from; every option replaces one of its fields.
    """
    config, runtime = order.changed(), order.runtime
    runtime = dataclasses.replace(runtime, runs_dir=runtime.runs_dir or str(runs_folder()))
    folder = Path(order.records or records_folder("command"))
    record = run_one(config, folder, runtime)
    _say(metrics.table(record.iou, record.metrics))
    _say(f"record      {folder / config.id}.json\ncheckpoint  {runtime.run_dir(config)}")


@app.command(name="evaluate")
def _evaluate(
    checkpoint: tyro.conf.Positional[str],
    split: str = "",
    scales: tuple[float, ...] = (1.0,),
    multi_scale: bool = False,
    flip: bool = False,
    window: int = 0,
    boundary: bool = False,
    submit: Path | None = None,
    runtime: ScoringRuntime = ScoringRuntime(),  # noqa: B008 - frozen
) -> None:
    """Score a trained network on a split of the dataset it was trained for.

    For example: emastudy evaluate runs/ID --multi-scale --flip --data-root VOC2012

    Args:
        checkpoint: Folder runs/ID or runs/ID/checkpoint-NNNNNN.
        split: Split to score on; default the run's own.
        scales: Scales of the image to average over.
        multi_scale: Average over the scales 0.5, 0.75, 1, 1.25, 1.5 and 1.75.
        flip: Average over the image and its mirror image, at every scale.
        window: Side of a window that slides over larger images, pixels; 0 = none.
        boundary: Score the classes' borders too.
        submit: Folder for the files of PASCAL VOC's test server: PNGs and a tar to upload.
        runtime: Where to compute.
    """
    if multi_scale and scales != (1.0,):
        raise InputError("scales and multi_scale are both given; choose one")
    views = Views(MULTI_SCALE if multi_scale else scales, flip, window)
    network, manifest = load_network(checkpoint)
    dataset = manifest.load_dataset(split, runtime)
    submission = VOCSubmission(dataset, submit) if submit else None
    scores = evaluate(
        network.to(runtime.start()),
        dataset,
        **runtime.scoring(manifest.config),
        views=views,
        boundary=boundary,
        keep=submission,
    )
    if scores.confusion.any():
        _say(metrics.table(scores.iou, scores.means))
    else:
        _say("no pixel of this split is labelled: nothing to score")
    if submission:
        _say(f"to upload   {submission.finish()}")


@app.command(name="predict")
def _predict(
    images: tyro.conf.Positional[tuple[Path, ...]],
    checkpoint: str,
    output: Path = Path("predictions"),
    machine: Machine = Machine(),  # noqa: B008 - frozen
) -> None:
    """Segment photographs: NAME_mask.png (palette, class indices) and NAME_overlay.png each.

    Args:
        images: Image files.
        checkpoint: Folder runs/ID or runs/ID/checkpoint-NNNNNN.
        output: Folder for the pictures.
        machine: What computes.
    """
    for path, shares in predict_files(images, checkpoint, output, machine):
        _say(f"{path}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    _say(f"pictures in {output}")


@app.command(name="cost")
def _cost(
    network: tyro.conf.Positional[str],
    size: int = 513,
    backbone: str = "resnet101",
    num_classes: int = 21,
    output_stride: int = 8,
    head_options: Pairs = (),
    backbone_options: Pairs = (),
    repeats: int = 0,
) -> None:
    """Count a network's multiply-adds, parameters and activation memory, whole and by part.

    For example: emastudy cost emanet --size 513 --backbone-options deep_stem=true

    Args:
        network: Name of the head or network, see networks.build.
        size: Height and width of the image, pixels.
        backbone: Name of the backbone.
        num_classes: Number of logits.
        output_stride: Image pixels per feature pixel.
        head_options: Options of the head, e.g. channels=256.
        backbone_options: Options of the backbone, e.g. deep_stem=true.
        repeats: Forward passes to time on this machine's CPU; 0 = only count, without running.
    """
    with torch.device("cpu" if repeats else "meta"):
        built = networks.build(
            network,
            backbone=backbone,
            num_classes=num_classes,
            output_stride=output_stride,
            backbone_options=options.parse(backbone_options),
            **options.parse(head_options),
        )
    _say(cost.table(built, size, repeats=repeats))


@app.command(name="records")
def _records(
    profile: tyro.conf.Positional[str] = "",
    state: tuple[State, ...] = (),
    verbose: bool = False,
    runs_dir: str = "",
) -> None:
    """Show the state of every profile's runs: finished, outdated, running, interrupted, failed.

    For example: emastudy records scenes --state failed

    Args:
        profile: Folder of experiments/records; default all.
        state: List the runs that are in one of these states.
        verbose: List all runs.
        runs_dir: Folder of checkpoints and logs; default runs of this checkout.
    """
    runs = survey(records_folder(""), Path(runs_dir) if runs_dir else runs_folder())
    runs = runs[runs["profile"] == profile] if profile else runs
    if runs.empty:
        raise InputError(f"no run is known in {records_folder(profile)}; train one: make study")
    counts = pd.crosstab(runs["profile"], runs["state"])
    _say(counts[[s for s in STATES if s in counts]].rename_axis(columns="").to_string())
    _say("\n" + "\n".join(f"{s}: {what}" for s, what in STATES.items() if s in counts))
    for name in STATES:
        listed = runs[runs["state"] == name].drop(columns="state")
        if len(listed) and (verbose or name in state):
            shown = listed.dropna(axis="columns", how="all").round(2).fillna("")
            _say(f"\n{name}\n{shown.to_string(index=False)}")


@dataclass(frozen=True)
class AuditRuntime(Runtime):
    """Where an audit happens: it keeps one checkpoint of a run, and that until the run is done."""

    runs_dir: str = ""
    keep_checkpoints: tyro.conf.Suppress[int] = 1
    validate_every: tyro.conf.Suppress[int] = 0


@app.command(name="audit")
def _audit(
    profile: tyro.conf.Positional[str],
    ids: tyro.conf.Positional[tuple[str, ...]] = (),
    sample: int = 8,
    seed: int = 0,
    executor: str = "local",
    runtime: AuditRuntime = AuditRuntime(),
) -> None:
    """Train recorded runs anew and say whether their records hold; exit status 1 if one does not.

    For example: emastudy audit scenes --sample 25

    Args:
        profile: Folder of experiments/records.
        ids: Runs to audit in any case.
        sample: Without ids: runs to draw at random from those that no audit covers yet; 0 only
            shows the audits there are.
        seed: Of the draw.
        executor: Where runs are trained, as for the command study.
        runtime: Where to compute; runs_dir defaults to runs/audit of this checkout.
    """
    runs_dir = runtime.runs_dir or str(runs_folder() / "audit")
    found = audit(
        recorded_folder(profile),
        Runtime(**{**vars(runtime), "runs_dir": runs_dir}),
        sample=0 if ids else sample,
        seed=seed,
        ids=ids,
        executor=executor,
    )
    if found.empty:
        _say(f"no run of {profile} has been audited")
        return
    rounded = found.round({"recorded": 2, "again": 2, "difference": 3, "loss": 4})
    held = int(found["holds"].sum())
    _say(
        f"{rounded.to_string(index=False)}\n\n"
        f"{held} of {len(found)} hold: within {TOLERANCE['miou']} mIoU and a mean distance of "
        f"the loss curves of {TOLERANCE['loss']} nats"
    )
    if held < len(found):
        sys.exit(1)


@app.command(name="claims")
def _claims(
    ids: tyro.conf.Positional[tuple[str, ...]] = (), profile: str = "", verbose: bool = False
) -> None:
    """Print the ledger: each claim of the paper and what the records say of it.

    For example: emastudy claims C11 C13 --verbose

    Args:
        ids: Claims to judge; default all.
        profile: Judge the records of this profile alone; default scenes and photographs.
        verbose: Show the rules, and the numbers and gaps behind every verdict.
    """
    from emastudy.study import claims, report  # slow

    recorded_folder()  # outside a checkout it says where records are looked for
    evidence = claims.load_evidence(profiles=[profile]) if profile else claims.load_evidence()
    _say(report.ledger_text(claims.judge(evidence, ids), verbose=verbose))


@app.command(name="findings")
def _findings(
    page: tyro.conf.Positional[int] = 0, write: bool = False, check: bool = False
) -> None:
    """Print what was found, from the committed records; or put it into README and the book.

    For example: emastudy findings 31

    Args:
        page: Number of a notebook; 0 = all.
        write: Write the findings into README.md and the files that the book includes.
        check: Exit with status 1 if these differ from what the records say.
    """
    from emastudy.study.report import findings  # slow
    from emastudy.study.report.includes import results_as_shown

    experiments = experiments_folder()
    if not (write or check):
        _say(findings.findings_text(findings.committed(experiments, page)))
        return
    for path, text in results_as_shown(experiments.parent).items():
        there = path.is_file()
        if there and path.read_text(encoding="utf-8") == text:
            continue
        if write:
            write_text(path, text)
            _say(f"written: {path}")
        elif there:
            raise InputError(
                f"{path} differs from what the records say; run: emastudy findings --write"
            )


@app.command(name="study")
def _study(
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
        jobs: Notebooks executed at a time; more than one only where they train nothing.
    """
    # papermill and matplotlib are slow, and extras
    from emastudy.study.report import write_includes
    from emastudy.study.report.notebooks import run_notebooks

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
        _say(f"{outcome.name:<32} {time}")
    _say(f"{'all notebooks':<32} {sum(o.seconds for o in outcomes):6.1f} s")
    if book.is_dir():
        write_includes(experiments / "records", book / "generated")


@app.command(name="data")
def _data(
    name: tyro.conf.Positional[str] = "",
    root: Path | None = None,
    download: bool = False,
    dataset_options: Pairs = (),
) -> None:
    """List the datasets, describe one, or check its files (which are never changed).

    For example: emastudy data voc2012 --root data --download

    Args:
        name: Name of the dataset; default: list them all.
        root: The dataset's folder: check counts, pairs, sizes and mask values, report every
            problem, and fail if there is one. Without it the dataset is only described.
        download: First fetch what is public into root and unpack it there.
        dataset_options: Further options of the dataset, e.g. background=true.
    """
    if not name:
        _say("\n".join(f"{known:<16} {kind.title}" for known, kind in datasets.DATASETS.items()))
        return
    kind = datasets.find(name)
    if root is None:
        if download:
            raise InputError("download needs root: the folder to put the dataset in")
        _say(datasets.describe(kind))
        return
    if not issubclass(kind, datasets.FileDataset):
        raise InputError(f"dataset {name!r} is drawn, not read: it has no root")
    if download:
        if not kind.archives:
            raise InputError(f"{name} has no public address; lay it out by hand: {kind.layout}")
        datasets.download(kind.archives, root)
        if kind.by_hand:
            _say(f"by hand: {kind.by_hand}")
    report = datasets.check(kind, root, options.parse(dataset_options))
    _say(datasets.report_text(kind, report))
    if report.problems:
        sys.exit(f"emastudy: {root}: {len(report.problems):,} problems")
    _say(f"{root}: no problems")


def main() -> None:
    """Entry point of the command."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for name in ("accelerate", "papermill", "submitit"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a narrow encoding lacks is shown as "?"
    arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
    try:
        with logging_redirect_tqdm():
            app.cli(
                prog="emastudy",
                description=(
                    "Train, score and inspect EM attention networks, and run the study's "
                    "notebooks. Try: emastudy train scenes. With --traceback, anywhere, an error "
                    "shows where it came from."
                ),
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except EmastudyError as error:
        if "--traceback" in sys.argv:
            traceback.print_exc()
        sys.exit(f"emastudy: {error}")
    except KeyboardInterrupt:
        sys.stderr.write(
            "emastudy: stopped; finished runs are kept, run the same command to resume\n"
        )
        sys.exit(128 + signal.SIGINT)
    except Exception:
        traceback.print_exc()
        sys.exit(bug_report(shlex.join(["emastudy", *arguments])))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
