"""Files for PASCAL VOC's evaluation server, which alone has the masks of the test split."""

import io
import logging
import tarfile
from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from emastudy.datasets import SegmentationDataset
from emastudy.datasets.base import voc_color
from emastudy.datasets.voc import VOC2012, VOC_CLASSES
from emastudy.engine.scoring.pictures import class_picture
from emastudy.errors import InputError
from emastudy.files import check_writable, written_whole

logger = logging.getLogger(__name__)

_COLORS = [voc_color(index) for index in range(256)]


class VOCSubmission:
    """Class maps in the server's layout, and the archive to upload.

    ``folder/results/VOC2012/Segmentation/comp6_SPLIT_cls/NAME.png`` are palette PNGs of VOC's
    indices (0 = background … 20 = tvmonitor) and colours, one per photograph and of its size;
    competition 6 is segmentation with any training data. Hand the object to ``evaluate`` as
    ``keep``, then call :meth:`finish`, in one process.

    A network that knows fewer classes is mapped back to VOC's indices by their names; the others
    then score 0, and a warning says so.

    Raises:
        InputError: The dataset is not VOC 2012.

    Source: the development kit of VOC 2012, Section "Submission of results".
    """

    def __init__(self, dataset: SegmentationDataset, folder: Path) -> None:
        if not isinstance(dataset, VOC2012):
            raise InputError(
                f"dataset is {dataset.name!r}; only voc2012 has a server that takes submissions"
            )
        self._dataset, self._folder = dataset, folder
        self._indices = np.array([VOC_CLASSES.index(c) for c in dataset.classes], dtype=np.uint8)
        never = [name for name in VOC_CLASSES if name not in dataset.classes]
        if never:
            logger.warning("the network does not know %s: they will score 0", ", ".join(never))
        self._inside = Path("results", "VOC2012", "Segmentation", f"comp6_{dataset.split}_cls")
        check_writable(folder / self._inside, "choose another with submit")

    def __call__(self, index: int, classes: Int[Tensor, "h w"]) -> None:
        """Write one image's PNG from indices of the dataset's classes."""
        picture = class_picture(self._indices[classes.numpy()], _COLORS)
        picture.save(self._folder / self._inside / f"{self._dataset.pairs[index].name}.png")

    def finish(self) -> Path:
        """Make ``folder/comp6_SPLIT_cls.tar`` of the PNGs; of the same ones it is the same.

        Raises:
            InputError: One is missing, or of no photograph of the split.
        """
        pictures = sorted((self._folder / self._inside).glob("*.png"))
        if odd := {path.stem for path in pictures} ^ set(self._dataset.names):
            raise InputError(
                f"{self._folder / self._inside} does not hold one PNG for each photograph of split "
                f"{self._dataset.split!r}: {len(odd)} are missing or of others, {min(odd)} the "
                "first; empty the folder and predict again"
            )
        archive = self._folder / f"{self._inside.name}.tar"
        with written_whole(archive) as unfinished, tarfile.open(unfinished, "w") as tar:
            for path in pictures:
                content = path.read_bytes()
                member = tarfile.TarInfo((self._inside / path.name).as_posix())
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return archive
