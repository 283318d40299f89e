"""What goes wrong for users, each made to go wrong; the book's page is made of this table.

``python tests/troubles.py`` writes the page. ``test_troubles_page.py`` provokes every message and
compares the page.
"""

import contextlib
import dataclasses
import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from layouts import make_folder, photograph, save_mask
from PIL import Image

from emastudy import EMAU, datasets, networks, options
from emastudy.datasets.fingerprint import require_same
from emastudy.engine import RunConfig, Runtime, load_network, predict_files
from emastudy.engine.build import build_accelerator
from emastudy.engine.checkpoints import Manifest
from emastudy.engine.loading import loading_errors
from emastudy.engine.runtime import Machine, ScoringRuntime
from emastudy.engine.scoring.pictures import _translated
from emastudy.engine.training.history import check_weights
from emastudy.engine.training.parallel import BatchShare
from emastudy.engine.training.signals import translate_errors
from emastudy.files import check_writable
from emastudy.study import parse_executor
from emastudy.study.runs import experiments_folder, recorded_folder

PAGE = Path(__file__).parents[1] / "book" / "troubles.md"


@dataclass(frozen=True)
class Trouble:
    """One row of the page.

    Attributes:
        message: Part of what is said; "…" stands for whatever differs from case to case.
        cause: What is wrong.
        fix: What helps.
        provoke: Makes it go wrong, in an empty folder.
    """

    message: str
    cause: str
    fix: str
    provoke: Callable[[Path], object]


def own(change: Callable[[Path], object], split: str = "train") -> Callable[[Path], object]:
    """Reads one's own data, in which something was changed, as training does."""

    def provoke(folder: Path) -> None:
        root = make_folder(folder / "data")
        change(root)
        train, val = (datasets.load("folder", name, root=root) for name in (split, "val"))
        datasets.learnable(train, val)
        for index in range(len(train)):
            train[index]

    return provoke


def content(name: str, data: bytes) -> Callable[[Path], object]:
    """Reads a file of that content as an image."""

    def provoke(folder: Path) -> None:
        (folder / name).write_bytes(data)
        datasets.read_image(folder / name)

    return provoke


def mask(value: int, *, name: str = "a") -> Callable[[Path], object]:
    """Puts a mask of one value in the place of another one."""
    return lambda root: save_mask(root / "masks/train" / f"{name}.png", np.full((20, 30), value))


def binary(root: Path) -> None:
    for path in (root / "masks").rglob("*.png"):
        pixels = np.zeros((20, 30))
        pixels[5:9] = 255
        save_mask(path, pixels)


def truncated(folder: Path) -> None:
    photograph(folder / "a.jpg", 60, 80)
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:900])
    datasets.read_image(folder / "a.jpg")


def dark(folder: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)).save(folder / "a.png")
    datasets.read_image(folder / "a.png")


def huge(folder: Path) -> None:
    photograph(folder / "a.png", 20, 30)
    with mock.patch("PIL.Image.MAX_IMAGE_PIXELS", 100):
        datasets.read_image(folder / "a.png")


def pages(folder: Path) -> None:
    one = Image.new("RGB", (9, 9))
    one.save(folder / "a.tif", save_all=True, append_images=[one])
    datasets.read_image(folder / "a.tif")


def lists(root: Path) -> None:
    (root / "dataset.yaml").write_text(
        "classes: [sound, crack]\nsplits: {train: train.txt, val: train.txt}\n"
    )
    (root / "train.txt").write_text("train/a\n", encoding="utf-16")


def other_data(folder: Path) -> None:
    before, now = (make_folder(folder / name) for name in ("before", "now"))
    photograph(now / "images/train/a.jpg", 20, 30, seed=5)
    seen, here = (
        datasets.load("folder", "train", root=root).fingerprint() for root in (before, now)
    )
    require_same(here, dataclasses.asdict(seen), "folder-ema-0123456789", "train in another folder")


def other_classes(folder: Path) -> None:
    root = make_folder(folder / "data", "classes: [sound, hole]\n")
    config = RunConfig(dataset="folder", train_split="train", eval_split="val")
    manifest = Manifest(config, ("sound", "crack"), (), 1, {}, 0.0)
    manifest.load_dataset("val", ScoringRuntime(data_root=str(root)))


def training(error: Exception) -> Callable[[Path], object]:
    """An error in the middle of training."""

    def provoke(folder: Path) -> None:
        with translate_errors(RunConfig(batch_size=1), Runtime(runs_dir=str(folder))):
            raise error

    return provoke


def single(folder: Path) -> None:
    norm = torch.nn.BatchNorm2d(3)
    with translate_errors(RunConfig(batch_size=1), Runtime(runs_dir=str(folder))):
        norm(torch.zeros(1, 3, 1, 1))


def diverged(folder: Path) -> None:
    network = torch.nn.Linear(1, 1)
    network.weight.data.fill_(float("nan"))
    check_weights(network, 120, RunConfig())


def dead_worker(folder: Path) -> None:
    with loading_errors(4):
        raise RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed.")


def small_memory(folder: Path) -> None:
    with _translated(folder / "aerial.tif", folder, 513):
        raise MemoryError


def segment(*names: str) -> Callable[[Path], object]:
    def provoke(folder: Path) -> None:
        for name in ("x.png", "x_mask.png"):
            photograph(folder / name, 9, 9)
        list(predict_files([folder / n for n in names], folder / "run", folder, Machine()))

    return provoke


def in_folder(function: Callable[[], object]) -> Callable[[Path], object]:
    """Calls a function in a working directory outside a checkout."""

    def provoke(folder: Path) -> None:
        with contextlib.chdir(folder):
            function()

    return provoke


TROUBLES = {
    "Your own data": [
        Trouble(
            "… has no dataset.yaml…",
            "The data root is not the folder that describes the data, or nothing describes it yet.",
            "Write the file, two lines suffice, and give its folder as `--data-root`.",
            own(lambda root: (root / "dataset.yaml").unlink()),
        ),
        Trouble(
            "data root … does not exist; give the folder that holds …",
            "A slip in the path, a drive that is not mounted, or a relative path from elsewhere.",
            "Give the path in full; `emastudy data NAME` says what the folder has to hold.",
            lambda folder: datasets.load("voc2012", root=folder / "nowhere"),
        ),
        Trouble(
            "… lies in files: say where with root …",
            "All datasets but `scenes` are read from a folder.",
            "`--data-root FOLDER`, `DATA_ROOT=FOLDER` for make, `root=` in Python.",
            lambda folder: datasets.load("camvid"),
        ),
        Trouble(
            "… lacks 1 of the … files that split 'train' names, …",
            "A photograph without a mask, a mask without a photograph, or names that differ.",
            "`emastudy data folder --root FOLDER` lists all of them at once.",
            own(lambda root: (root / "masks/train/a.png").unlink()),
        ),
        Trouble(
            "… holds values that are no folder class (7); known are …",
            "The mask has a value that `dataset.yaml` gives to no class.",
            "Name the value's class, or list the value under `ignore`.",
            own(mask(7)),
        ),
        Trouble(
            "… is the only class in its 2 masks; … have the value 255, ignored: if that is an "
            "object, give it a class, as in classes: {sound: 0, crack: 255}",
            "Black-and-white masks, 0 and 255, where 255 means the object. By custom it means "
            "“ignore”.",
            "Give it its class, as the message does.",
            own(binary),
        ),
        Trouble(
            "… is a RGB image; expected one class index per pixel (palette or greyscale PNG). …",
            "The mask shows colours, not numbers of classes.",
            "Export indices, or turn each colour into its class's index yourself.",
            own(lambda root: photograph(root / "masks/train/a.png", 20, 30)),
        ),
        Trouble(
            "… is stored as JPEG, which smears class indices: …",
            "Compression with loss invents values between two classes.",
            "Export the mask again, as PNG; converting the file keeps the damage.",
            own(
                lambda root: (
                    (root / "masks/train/a.png").unlink(),
                    photograph(root / "masks/train/a.jpg", 20, 30),
                )
            ),
        ),
        Trouble(
            "… is 30×21 pixels but … is 30×20; they must agree…",
            "Mask and photograph are not of one size: one was resized, or turned.",
            "Export the mask at the photograph's size. If the photograph carries an EXIF "
            "orientation, turn the mask as a viewer shows the photograph.",
            own(lambda root: save_mask(root / "masks/train/a.png", np.zeros((21, 30)))),
        ),
        Trouble(
            "… and … have the same name: keep one",
            "`a.jpg` and `a.png` in one folder would both belong to the mask `a.png`.",
            "Remove or rename one.",
            own(lambda root: photograph(root / "images/train/a.png", 20, 30)),
        ),
        Trouble(
            "… is UTF-16 text, or no text at all; save it as UTF-8, one name a line",
            "Some editors of Windows save lists so.",
            "Save it again, choosing UTF-8.",
            own(lists),
        ),
        Trouble(
            "split is 'test'; … has train, val",
            "There is no such split.",
            "Use one that there is, or make its folders.",
            own(lambda root: None, split="test"),
        ),
        Trouble(
            "run … saw other data; split 'train' has now …",
            "The images or masks have changed since the run began, or `--data-root` is another "
            "folder.",
            "Give it those data again, or train the new ones into another folder of runs "
            "(`--runs-dir`).",
            other_data,
        ),
        Trouble(
            "the dataset has the classes …; the network was trained for …, in this order",
            "Classes were renamed or reordered after training: scores would go by place.",
            "Give the classes that it was trained for, or train anew.",
            other_classes,
        ),
    ],
    "Pictures": [
        Trouble(
            "… cannot be read as an image (…); it may be truncated, …",
            "The file is damaged, mostly by a copy that was cut short.",
            "Fetch it again. `predict` goes on with the others and ends with status 1.",
            truncated,
        ),
        Trouble(
            "… cannot be read as an image: it is an HEIC file, named .jpg; …",
            "A phone's photograph in a format that Pillow does not read, whatever its name says.",
            "Save it as JPEG or PNG.",
            content("a.jpg", b"\0\0\0\x18ftypheic"),
        ),
        Trouble(
            "… has 16 bits, but no value above 399 of 65,535: …",
            "A camera or microscope has stored 12 bits or fewer in 16: the picture would be black.",
            "Save it with its values spread over the whole range.",
            dark,
        ),
        Trouble(
            "… is too large: …",
            "The picture has more pixels than Pillow opens without being told to.",
            "Cut it into tiles, or raise `PIL.Image.MAX_IMAGE_PIXELS` in Python; then `--window`.",
            huge,
        ),
        Trouble(
            "… holds 2 pages or frames: …",
            "An animation, or a document of several pages.",
            "Save the page that counts as a file of its own.",
            pages,
        ),
    ],
    "Configs and training": [
        Trouble(
            "head is 'unet'; there are …",
            "There is no head of that name.",
            "Use one of those listed; `emastudy cost NAME` shows what one costs.",
            lambda folder: RunConfig(head="unet"),
        ),
        Trouble(
            "head 'ema' has no option 'K'; it has …",
            "A slip in the name, or an option of another head.",
            "Use one of those listed.",
            lambda folder: RunConfig(head_options={"K": 3}),
        ),
        Trouble(
            "head 'ema': num_iterations is 4.0; expected a whole number",
            "The value has another type than the option.",
            "Write the value as the message says, `4`.",
            lambda folder: RunConfig(head_options={"num_iterations": 4.0}),
        ),
        Trouble(
            "'num_bases' is not of the form NAME=VALUE",
            "Options of a head, backbone or dataset are pairs.",
            "`--head-options num_bases=32 gradient=one_step`.",
            lambda folder: options.parse(["num_bases"]),
        ),
        Trouble(
            "precision is 'fp16', which wants a GPU; …",
            "Float16 is not computed on CPUs.",
            "`--precision auto`, or one that the message names.",
            lambda folder: build_accelerator(
                RunConfig(precision="fp16"), Runtime(device="cpu", runs_dir=str(folder))
            ),
        ),
        Trouble(
            "weights: there is no file …; give the path of a state dict, …",
            "The file of the backbone's ImageNet weights is not there.",
            "Give its path, or leave `--weights-path` out: torchvision then downloads them.",
            lambda folder: networks.build(
                "fcn", backbone="resnet18", num_classes=2, weights=folder / "resnet18.pth"
            ),
        ),
        Trouble(
            "batch_size is 1, …: batch norm sees one pixel of one image, …",
            "Some heads average whole images. With a single image that leaves one value, of which "
            "batch norm can make no statistics.",
            "A batch of two or more, no single image left over by `--images-per-step`, or "
            "`--freeze-bn`.",
            single,
        ),
        Trouble(
            "batch_size is 3, too small for 4 processes …",
            "Every process needs an image of every batch.",
            "A larger `--batch-size`, or fewer processes.",
            lambda folder: BatchShare(1, 3, 0, 4, 0),
        ),
        Trouble(
            "images_per_step is 0 (0 = all at once), too many for the GPU's memory; …",
            "The batch does not fit.",
            "`--images-per-step 4`, say: gradients are accumulated over the parts.",
            training(torch.OutOfMemoryError("CUDA out of memory")),
        ),
        Trouble(
            "a process that loads data died (…); for lack of memory, or of shared memory? …",
            "The system killed it; in containers `/dev/shm` is often 64 MB.",
            "`--workers 0`, or fewer; or a larger `/dev/shm` (`docker run --shm-size 8g`).",
            dead_worker,
        ),
        Trouble(
            "the run's folder … cannot be written (…). Free space there, …",
            "The disk is full, or read-only.",
            "Make room and run the same command: it resumes. Or `--runs-dir ELSEWHERE`.",
            training(OSError(errno.ENOSPC, "No space left on device")),
        ),
        Trouble(
            "folder … cannot be written (…). …",
            "Somebody else's folder, or a read-only file system.",
            "Choose another one, with the option that the message names.",
            lambda folder: ((folder / "x").touch(), check_writable(folder / "x" / "y")),
        ),
        Trouble(
            "… has become NaN or infinite …",
            "Training has diverged.",
            "Mostly a smaller `--learning-rate` helps. Checkpoints from before are kept.",
            diverged,
        ),
    ],
    "Predictions": [
        Trouble(
            "… holds no whole checkpoint; give a folder runs/ID or …",
            "The folder is not a run's, or the run was stopped before its first checkpoint.",
            "`emastudy records --verbose` lists the runs; `emastudy train` prints the folder.",
            lambda folder: load_network(folder),
        ),
        Trouble(
            "no file matches '…'",
            "A pattern that matches nothing; nothing was computed, and the status is 2.",
            "Look with `ls`; a pattern in quotation marks is read by emastudy, not by the shell.",
            segment("*.tiff"),
        ),
        Trouble(
            "the prediction for … would overwrite …, which emastudy predict has not written: …",
            "A mask that somebody has drawn lies where the prediction would.",
            "`--output` with a folder of its own.",
            segment("x.png"),
        ),
        Trouble(
            "… does not fit into memory; have it segmented piece by piece, …",
            "The network's feature maps of the whole picture are too large.",
            "`--window 513`, or what the message says.",
            small_memory,
        ),
    ],
    "The study": [
        Trouble(
            "no records lie in …; outside a checkout of emastudy …",
            "Records are looked for in the working directory.",
            "Change into the checkout, or train a run first.",
            in_folder(recorded_folder),
        ),
        Trouble(
            "no folder experiments/records lies in … or above it, …",
            "The notebooks are in the checkout, not in the installed package.",
            "`git clone` the project and run `emastudy study` in it.",
            in_folder(experiments_folder),
        ),
        Trouble(
            "executor is 'k8s'; expected one of …",
            "There is no such place to run.",
            "`local`, `slurm` or `none`.",
            lambda folder: parse_executor("k8s"),
        ),
    ],
    "EMAU in a network of your own": [
        Trouble(
            "the feature map has 256 channels, this EMAU was made for 512; …",
            "The unit stands behind a layer of other width.",
            "`EMAU(256)`.",
            lambda folder: EMAU(512)(torch.zeros(1, 256, 4, 4)),
        ),
        Trouble(
            "the feature map has shape (512, 4, 4); expected a batch of maps, …",
            "A single map, without the dimension of the batch.",
            "Give `features[None]`.",
            lambda folder: EMAU(512)(torch.zeros(512, 4, 4)),
        ),
    ],
}


def page() -> str:
    """The book's page."""
    parts = [
        "# When something goes wrong\n\n"
        "emastudy looks at its input before it works, and says in one line what is wrong. Here are "
        "the messages met most often; “…” stands for what differs from case to case. The table is "
        "made of the tests that provoke every message (`python tests/troubles.py`). {doc}`faults` "
        "says what interrupted runs do.\n\n"
        "The exit status is 0 where all is done; 1 where it is done, but an image, a check or an "
        "audit failed; 2 where nothing was done, and the message says why; 3 for a bug, which "
        "please report. With `--traceback` an error shows where it came from.\n"
    ]
    for title, troubles in TROUBLES.items():
        rows = [f"| {_code(t.message)} | {t.cause} | {t.fix} |\n" for t in troubles]
        parts.append(f"\n## {title}\n\n| message | cause | what helps |\n|---|---|---|\n")
        parts += rows
    return "".join(parts)


def _code(message: str) -> str:
    return f"`{message}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
