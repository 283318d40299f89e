"""What a run is: its fields, their checks, its id, its JSON. It describes and builds nothing.

Whatever may change a run's numbers beyond rounding is a field here and so part of the run's id;
folders, devices and process counts belong to ``runtime.Runtime``.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from emastudy import datasets, networks, options, own
from emastudy.errors import InputError, require
from emastudy.options import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Range,
    Seed,
)

#: Version of the numbers that a config stands for. It is raised, with a line in CHANGELOG.md,
#: exactly when a golden loss of tests/engine/test_golden.py changes on purpose; a refactoring
#: raises nothing. Records of a lower version are outdated.
NUMBERS_VERSION = 1

# A value of the option tables: what JSON and a command line can both hold.
Option = bool | int | float | str | list[str] | list[int]
LossOver = Literal["labelled", "all"]
Precision = Literal["auto", "bf16", "fp16", "float32"]
# Beyond these an image has no pixel, or more than memory.
Scale = Annotated[float, Range(0.01, 100)]


@dataclass(frozen=True)
class RunConfig:
    """One training run, completely. Change it with ``dataclasses.replace``.

    Made by a function of ``emastudy.study.recipes``. ``id`` is a hash of the fields that differ
    from their defaults, so a field added later, with a default that means what the code did
    before, leaves every older id as it is. ``head_options`` and ``backbone_options`` likewise keep
    only what differs from the defaults of head and backbone: stating a default makes no other run.
    A head's second name becomes its first, and a whole number a float where that is meant.

    Head, backbone and dataset may each be an import path, ``my_module:MyUnit``. ``sources`` then
    keeps a digest of the module's file, so that a changed unit is another run. A config read back
    stands for the file as it was: it can be looked at when that has changed or is gone, while
    whatever would build its network or open its dataset refuses to (see :meth:`check_sources`).

    Raises:
        InputError: A field out of its range, an unknown head, backbone or option of them, or an
            import path that leads nowhere.
    """

    #: Name of the dataset, see ``datasets.load``, or an import path, ``my_module:MyData``.
    dataset: str = "scenes"
    #: Options of the dataset, all splits alike, e.g. ``{"num_classes": 8}``.
    dataset_options: dict[str, Option] = field(default_factory=dict)
    train_split: str = "train"  #: Split to train on.
    eval_split: str = "val"  #: Split to score on.
    #: Images to score on, for datasets of free length (scenes); 0 = the dataset's own number.
    eval_images: NonNegativeInt = 0

    #: Name of the head, see ``networks.build``, or an import path, ``my_module:MyUnit``.
    head: str = "ema"
    #: Options of the head, e.g. ``{"num_iterations": 3}``.
    head_options: dict[str, Option] = field(default_factory=dict)
    #: Name of the backbone, see ``networks.build``, or an import path.
    backbone: str = "small_resnet"
    #: Options of the backbone, e.g. ``{"deep_stem": True}``.
    backbone_options: dict[str, Option] = field(default_factory=dict)
    pretrained: bool = False  #: Start the backbone from ImageNet weights.
    #: Id of a finished run, of as many classes, from whose weights this one starts; "" = none.
    start_from: str = ""
    #: Leave the backbone as it starts, in evaluation mode, and train the head on features that
    #: are computed once: of whole images, shrunk or padded to crop_size, and of mirror images.
    #: With crop_size=0 they are left as they are; then all must have one size.
    frozen_backbone: bool = False
    output_stride: int = 4  #: Image pixels per feature pixel in training.
    eval_output_stride: int = 4  #: The same in evaluation.
    bn_momentum: Probability = 0.1  #: Weight of the new statistics in batch norm.
    #: Normalise with batch norm's running statistics in training too and leave them as they are;
    #: its scale and shift still learn. Numbers then do not depend on how a batch is divided.
    freeze_bn: bool = False

    #: Factors by which training images are scaled, one drawn at random per image.
    scales: tuple[Scale, ...] = (1.0,)
    #: Side of the square training crop, pixels; 0, for frozen backbones, = whole images.
    crop_size: NonNegativeInt = 64

    batch_size: PositiveInt = 12  #: Images per iteration, over all processes.
    iterations: PositiveInt = 300  #: Number of SGD steps.
    #: Base learning rate of SGD.
    learning_rate: Annotated[float, Range(above=0, most=10**6)] = 0.009
    momentum: Annotated[float, Range(0, below=1)] = 0.9  #: Momentum of SGD.
    #: Weight decay, on the weights of convolutions only.
    weight_decay: Annotated[float, Range(0, 10**6)] = 1e-4
    #: Pixels that the loss is averaged over: "labelled", or "all" of the crops, ignored and padded
    #: ones counting as 0, as the released code has it.
    loss_over: LossOver = "labelled"
    #: Exponent of the poly schedule, lr · (1 - iteration / iterations) ** power.
    poly_power: NonNegativeFloat = 0.9
    #: "auto" is bfloat16 autocast where that is faster, else float32: a GPU is asked whether it has
    #: bfloat16 in hardware, a CPU is timed (see ``engine.precision``). A run that must compute the
    #: same everywhere names it: "bf16", "float32", or "fp16", which autocasts to float16 with a
    #: scaled loss and wants a GPU.
    precision: Precision = "auto"
    seed: Seed = 0  #: Seed of initial weights, data order, augmentation and dropout.
    #: Digests of the modules that head, backbone and dataset are imported from; filled in here.
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_fields()
        self._normalise_numbers()
        self._note_sources()
        self._normalise_options()
        self._check_combinations()

    def _check_fields(self) -> None:
        """Each by itself, against its type; and the tables of options hold what JSON does."""
        options.check_types("", vars(self), RunConfig)
        require(len(self.scales) > 0, "scales", self.scales, "at least one")
        for table in ("dataset_options", "head_options", "backbone_options"):
            for name, value in getattr(self, table).items():
                expected = "a finite number, a name, true or false, or a list of such"
                require(_is_option(value), f"{table}: {name}", value, expected)

    def _normalise_numbers(self) -> None:
        """Whole numbers as floats where floats are meant: 1 and 1.0 are one run."""
        usual = {f.name: f.default for f in dataclasses.fields(self)}
        values = options.as_floats(vars(self), usual) | {"scales": tuple(map(float, self.scales))}
        if self.dataset in datasets.DATASETS:
            known = options.defaults(datasets.find(self.dataset))
            values["dataset_options"] = options.as_floats(self.dataset_options, known)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _note_sources(self) -> None:
        """Digests of what is named by import path: those given, else those of the files now."""
        names = filter(own.is_path, (self.head, self.backbone, self.dataset))
        modules = {own.module(name): name for name in names}
        sources = {m: self.sources.get(m) or own.digest(modules[m]) for m in sorted(modules)}
        object.__setattr__(self, "sources", sources)

    def _normalise_options(self) -> None:
        """The head by its first name; of the options of head and backbone those not default."""
        object.__setattr__(self, "head", networks.ALIASES.get(self.head, self.head))
        for part, defaults_of in (
            ("head", networks.head_defaults),
            ("backbone", lambda name: networks.backbone_defaults(name, self.head)),
        ):
            name, given = getattr(self, part), getattr(self, f"{part}_options")
            if self.has_source(name):
                defaults = defaults_of(name)
                networks.check_options(part, name, given, defaults)
                given = options.as_floats(options.sparse(given, defaults), defaults)
                object.__setattr__(self, f"{part}_options", given)

    def _check_combinations(self) -> None:
        if self.start_from and self.pretrained:
            raise InputError(
                f"start_from is {self.start_from!r} with pretrained=True: a run starts from one or "
                "the other; set pretrained=False"
            )
        if self.frozen_backbone and not self.pretrained:
            raise InputError(
                "frozen_backbone is True with pretrained=False: features of random weights are "
                "of no use; set pretrained=True"
            )
        if self.frozen_backbone and self.scales != (1.0,):
            raise InputError(
                f"scales is {self.scales} with frozen_backbone=True, whose features are computed "
                "at one scale; use scales=(1.0,)"
            )
        if self.crop_size == 0 and not self.frozen_backbone:
            raise InputError(
                "crop_size is 0, which trains on whole images, with frozen_backbone=False; give "
                "the side of the crops, or freeze the backbone"
            )

    def has_source(self, name: str) -> bool:
        """Whether a head, backbone or dataset is what it was when the config was made.

        Those of the package are. One named by import path is not where its file has changed or
        cannot be found.
        """
        if not own.is_path(name):
            return True
        try:
            return own.digest(name) == self.sources[own.module(name)]
        except InputError:
            return False

    def check_sources(self, *names: str) -> None:
        """Refuse to go on with another file than the one that the config was made with.

        Raises:
            InputError: A name is an import path, and the file has changed or cannot be found.
        """
        for name in filter(own.is_path, names):
            now, then = own.digest(name), self.sources[own.module(name)]
            if now != then:
                raise InputError(
                    f"{name!r} has changed: run {self.id} was made with a file of digest {then}, "
                    f"and it is {now} now; bring that file back, or make a new config, which is "
                    "a new run"
                )

    def canonical_json(self) -> str:
        """The fields that differ from their defaults, sorted, without spaces."""
        usual = vars(_usual())
        changed = {name: value for name, value in vars(self).items() if value != usual[name]}
        return json.dumps(changed, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def id(self) -> str:
        """Run id and file name: dataset, head and ten hex digits of the config's SHA-256."""
        digest = hashlib.sha256(self.canonical_json().encode()).hexdigest()[:10]
        return f"{own.short(self.dataset)}-{own.short(self.head)}-{digest}"

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Inverse of :meth:`to_dict`; fields absent take their defaults.

        Raises:
            InputError: A field that does not exist.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = ", ".join(map(repr, sorted(set(values) - known)))
        if unknown:
            raise InputError(f"RunConfig has no field {unknown}; it has {', '.join(sorted(known))}")
        # JSON has no tuples.
        scales = {"scales": tuple(values["scales"])} if "scales" in values else {}
        return cls(**{**values, **scales})


def _is_option(value: object) -> bool:
    """Whether JSON can hold a value, which YAML's dates, .inf and .nan are not."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


@functools.cache
def _usual() -> RunConfig:
    return RunConfig()
