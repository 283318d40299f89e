"""The command ``emastudy``: train, evaluate, predict, cost, records, audit, claims, study, data.

Floor: cli (may import everything). The options of ``train`` are the fields of ``RunConfig`` and
``Runtime``; a test freezes their names.
"""

import dataclasses
import inspect
import logging
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import tyro
import yaml
from PIL import Image
from tqdm.contrib.logging import logging_redirect_tqdm

from emastudy import datasets
from emastudy.engine import (
    MULTI_SCALE,
    CheckpointError,
    NonFiniteLossError,
    RunConfig,
    Runtime,
    Views,
    evaluate,
    load_network,
    predict,
)
from emastudy.engine.build import load_dataset
from emastudy.study import (
    STATES,
    RecordError,
    SweepError,
    parse_executor,
    records_folder,
    run_one,
    runs_folder,
    survey,
)
from emastudy.study.recipes import PROTOCOLS
from emastudy.study.runs import State

app = tyro.extras.SubcommandApp()

# VALUE is read as YAML, so 3 is a number and true a truth value.
Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=VALUE ...]")]


@dataclass(frozen=True)
class _Order:
    config: RunConfig
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


def _order(name: str) -> _Order:
    """A recipe to be changed. Options of its head come last, when it is known which head it has."""
    return _Order(dataclasses.replace(PROTOCOLS[name](), head_options={}), recipe=name)


if TYPE_CHECKING:
    Order = _Order
else:
    Order = tyro.extras.subcommand_type_from_defaults(
        {name: _order(name) for name in PROTOCOLS},
        {name: inspect.getdoc(recipe) for name, recipe in PROTOCOLS.items()},
    )


@app.command(name="train")
def _train(order: Order) -> None:
    """Train one run, score it and keep its record. Interrupted, it goes on where it stopped.

    For example: emastudy train scenes --seed 1 --head-options num_iterations=5 gradient=unrolled

    Args:
        order: The recipe to start from; every option replaces one of its fields.
    """
    usual = PROTOCOLS[order.recipe](order.config.head).head_options
    config = dataclasses.replace(
        order.config,
        head_options={**usual, **_pairs(order.head_options)},
        backbone_options={**order.config.backbone_options, **_pairs(order.backbone_options)},
        dataset_options={**order.config.dataset_options, **_pairs(order.dataset_options)},
    )
    runtime = order.runtime
    runtime = dataclasses.replace(runtime, runs_dir=runtime.runs_dir or str(runs_folder()))
    folder = Path(order.records or records_folder("command"))
    record = run_one(config, folder, runtime)
    _say(_scores_table(record.iou, record.metrics))
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
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
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
    from emastudy.engine.scoring.submission import VOCSubmission

    if multi_scale and scales != (1.0,):
        raise ValueError("scales and multi_scale are both given; choose one")
    network, manifest = load_network(checkpoint)
    config = manifest.config
    dataset = load_dataset(config, split or config.eval_split, runtime)
    submission = VOCSubmission(dataset, submit) if submit else None
    scores = evaluate(
        network.to(_device(runtime)),
        dataset,
        **runtime.scoring(config),
        views=Views(MULTI_SCALE if multi_scale else scales, flip, window),
        boundary=boundary,
        keep=submission,
    )
    if scores.confusion.any():
        _say(_scores_table(scores.iou, scores.means))
        further = {k: v for k, v in scores.means.items() if k not in ("miou", "pixel_accuracy")}
        _say(", ".join(f"{k.replace('_', ' ')} {v:.2f} %" for k, v in further.items()))
    else:
        _say("no pixel of this split is labelled: nothing to score")
    if submission:
        _say(f"to upload   {submission.finish()}")


@app.command(name="predict")
def _predict(
    images: tyro.conf.Positional[tuple[Path, ...]],
    checkpoint: str,
    output: Path = Path("predictions"),
    runtime: Runtime = Runtime(),  # noqa: B008 - frozen
) -> None:
    """Segment photographs: NAME_mask.png (palette, class indices) and NAME_overlay.png each.

    Args:
        images: Image files.
        checkpoint: Folder runs/ID or runs/ID/checkpoint-NNNNNN.
        output: Folder for the pictures.
        runtime: Where to compute.
    """
    from emastudy.study.figures.drawing import overlay

    network, manifest = load_network(checkpoint)
    config = manifest.config
    kind = datasets.DATASETS[config.dataset]
    colors = manifest.colors or kind.palette(manifest.classes)
    output.mkdir(parents=True, exist_ok=True)
    network.to(_device(runtime))
    for path in images:
        image = datasets.read_image(path)
        mask = predict(network, image, kind, dtype=runtime.autocast_dtype(config)).numpy()
        picture = Image.fromarray(mask.astype("uint8"), mode="P")
        picture.putpalette([value for color in colors for value in color])
        picture.save(output / f"{path.stem}_mask.png")
        Image.fromarray(overlay(image.permute(1, 2, 0).numpy(), mask, colors)).save(
            output / f"{path.stem}_overlay.png"
        )
        shares = {name: float((mask == c).mean()) for c, name in enumerate(manifest.classes)}
        seen = sorted((name for name in shares if shares[name] > 0), key=shares.get, reverse=True)  # type: ignore[arg-type]
        _say(f"{path}: " + ", ".join(f"{name} {shares[name]:.1%}" for name in seen))
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
    import torch

    from emastudy import networks
    from emastudy.engine import cost

    with torch.device("cpu" if repeats else "meta"):
        built = networks.build(
            network,
            backbone=backbone,
            num_classes=num_classes,
            output_stride=output_stride,
            backbone_options=_pairs(backbone_options),
            **_pairs(head_options),
        ).eval()
    whole = cost.measure(built, (size, size))
    lines = [f"{'part':<20}{'GMACs':>10}{'M params':>10}{'kept MiB':>10}{'peak MiB':>10}"]
    for name, part in {"whole": whole, **whole.parts}.items():
        lines.append(
            f"{name:<20}{part.macs / 1e9:>10.2f}{part.params / 1e6:>10.3f}"
            f"{part.activation_bytes / 2**20:>10.1f}{part.peak_bytes / 2**20:>10.1f}"
        )
    lines.append("\nkept: for the backward pass of one image; peak: in inference; both float32")
    if repeats:
        image = torch.randn(1, 3, size, size)
        with torch.inference_mode():
            time = cost.seconds(lambda: built(image), repeats=repeats)
        lines.append(f"forward pass: {time:.3f} s, median of {repeats}")
    _say("\n".join(lines))


@app.command(name="records")
def _records(
    profile: tyro.conf.Positional[str] = "",
    state: tuple[State, ...] = (),
    verbose: bool = False,
    runs_dir: str = "",
) -> None:
    """Show how the runs of every profile stand: finished, outdated, running, interrupted, failed.

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
        raise ValueError(f"no run is known in {records_folder(profile)}; train one: make study")
    counts = pd.crosstab(runs["profile"], runs["state"])
    _say(counts[[s for s in STATES if s in counts]].rename_axis(columns="").to_string())
    _say("\n" + "\n".join(f"{s}: {what}" for s, what in STATES.items() if s in counts))
    for name in STATES:
        listed = runs[runs["state"] == name].drop(columns="state")
        if len(listed) and (verbose or name in state):
            shown = listed.dropna(axis="columns", how="all").round(2).fillna("")
            _say(f"\n{name}\n{shown.to_string(index=False)}")


@app.command(name="audit")
def _audit(
    profile: tyro.conf.Positional[str],
    ids: tyro.conf.Positional[tuple[str, ...]] = (),
    sample: int = 8,
    seed: int = 0,
    executor: str = "local",
    runtime: Runtime = Runtime(runs_dir=""),  # noqa: B008 - frozen
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
    from emastudy.study.runs import TOLERANCE, audit

    runtime = dataclasses.replace(
        runtime, runs_dir=runtime.runs_dir or str(runs_folder() / "audit")
    )
    found = audit(
        records_folder(profile),
        runtime,
        sample=0 if ids else sample,
        seed=seed,
        ids=ids,
        executor=executor,
    )
    if found.empty:
        _say(f"no run of {profile} has been audited")
        return
    _say(
        found.round({"recorded": 2, "again": 2, "difference": 3, "loss": 4}).to_string(index=False)
    )
    held = int(found["holds"].sum())
    _say(
        f"\n{held} of {len(found)} hold: within {TOLERANCE['miou']} mIoU and a mean distance of "
        f"the loss curves of {TOLERANCE['loss']} nats"
    )
    if held < len(found):
        raise SystemExit(1)


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
    from emastudy.study import claims, report

    evidence = claims.load_evidence(profiles=[profile]) if profile else claims.load_evidence()
    _say(report.ledger_text(claims.judge(evidence, ids), verbose=verbose))


@app.command(name="study")
def _study(
    notebooks: tyro.conf.Positional[tuple[str, ...]] = (),
    profile: str = "quick",
    data_root: str = "",
    weights_path: str = "",
    executor: str = "",
    set: Pairs = (),
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
        set: Further parameters of the notebooks.
        output: Folder for the executed notebooks; default book/notebooks of this checkout.
        jobs: Notebooks executed at a time; more than one only where they train nothing.
    """
    # papermill and matplotlib load slowly
    from emastudy.study.report import write_includes
    from emastudy.study.report.notebooks import run_notebooks

    parse_executor(executor or "local")  # a slip shows now, not in the first notebook
    experiments = records_folder("").parent
    book = experiments.parent / "book"
    places = {"data_root": data_root, "weights_path": weights_path}
    parameters = {
        **{name: str(Path(value).absolute()) for name, value in places.items() if value},
        "executor": executor,
        **_pairs(set),
    }
    outcomes = run_notebooks(
        experiments,
        output or book / "notebooks",
        profile,
        only=notebooks,
        parameters=parameters,
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
    if name and name not in datasets.DATASETS:
        raise ValueError(f"dataset is {name!r}; there are {', '.join(sorted(datasets.DATASETS))}")
    if not name:
        for known, kind in datasets.DATASETS.items():
            _say(f"{known:<16} {kind.title}")
        return
    kind = datasets.DATASETS[name]
    if root is None:
        if download:
            raise ValueError("download needs root: the folder to put the dataset in")
        _say(datasets.describe(kind))
        return
    if not issubclass(kind, datasets.FileDataset):
        raise ValueError(f"dataset {name!r} is drawn, not read: it has no root")
    if download:
        if not kind.archives:
            raise ValueError(f"{name} has no public address; lay it out by hand: {kind.layout}")
        datasets.download(kind.archives, root)
        if kind.by_hand:
            _say(f"by hand: {kind.by_hand}")
    report = datasets.check(kind, root, _pairs(dataset_options))
    for split, count in report.counts.items():
        expected = kind.counts.get(split)
        _say(f"{split:<10} {count:,}{f' of {expected:,}' if expected else ''} images")
    for split, reason in report.absent.items():
        _say(f"{split:<10} absent: {reason}")
    for problem in report.problems:
        _say(f"- {problem}")
    if report.problems:
        sys.exit(f"emastudy: {root}: {len(report.problems):,} problems")
    _say(f"{root}: no problems")


def main() -> None:
    """Entry point of the command."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for name in ("accelerate", "papermill", "submitit"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with logging_redirect_tqdm():
        try:
            app.cli(
                prog="emastudy",
                description=(
                    "Train, score and inspect EM attention networks, and run the study's "
                    "notebooks. Try: emastudy train scenes"
                ),
                config=(tyro.conf.OmitArgPrefixes,),
            )
        except (
            CheckpointError,
            NonFiniteLossError,
            OSError,
            RecordError,
            RuntimeError,
            SweepError,
            ValueError,
        ) as error:
            logging.getLogger("emastudy").debug("traceback", exc_info=True)
            sys.exit(f"emastudy: {error}")
        except KeyboardInterrupt:
            sys.stderr.write("emastudy: stopped; what is finished is kept, the same goes on\n")
            sys.exit(128 + signal.SIGINT)


def _pairs(pairs: tuple[str, ...]) -> dict[str, Any]:
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not of the form NAME=VALUE")
        values[name] = yaml.safe_load(value)
    return values


def _device(runtime: Runtime) -> str:
    import torch

    return "cuda" if runtime.device == "auto" and torch.cuda.is_available() else "cpu"


def _scores_table(iou: Mapping[str, float | None], metrics: Mapping[str, float]) -> str:
    shown = {name: "absent" if v is None else f"{100 * v:6.2f}" for name, v in iou.items()}
    rows = [f"{name:<16}{value}" for name, value in shown.items()]
    means = f"mIoU {metrics['miou']:.2f} %, pixel accuracy {metrics['pixel_accuracy']:.2f} %"
    return "\n".join(["IoU per class, %", *rows, "", means])


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
