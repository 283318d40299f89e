"""A run of a second, and what the tests of the engine ask of it."""

import torch

from emastudy import networks
from emastudy.engine import RunConfig, Runtime, checkpoints
from emastudy.engine.training import parallel
from emastudy.engine.training.loss import segmentation_loss

# Float32, so that resuming must be exact to the last bit. Dropout is on, so that random states
# matter, and the unit's first conv learns.
TINY = RunConfig(
    head="ema",
    head_options={"channels": 16, "num_bases": 4, "gradient": "unrolled", "dropout": 0.3},
    dataset_options={"size": 32},
    crop_size=32,
    batch_size=2,
    iterations=24,
    eval_images=3,
    scales=(0.75, 1.0, 1.25),
    precision="float32",
    learning_rate=0.05,
)


def runtime(folder, **options):
    """A checkpoint at every look, on one thread."""
    options = {"checkpoint_seconds": 0.0, "device": "cpu", "threads": 1, **options}
    return Runtime(runs_dir=str(folder), **options)


def end(place, config=TINY):
    """What the last checkpoint holds, to the last bit."""
    found = checkpoints.newest(place.run_dir(config))
    assert found is not None
    folder, manifest = found
    assert manifest.iteration == config.iterations
    files: dict[str, object] = dict(manifest.files)
    for name in [name for name in files if name.startswith("random_states")]:
        # Beside torch's random state it has Python's and NumPy's, which training does not draw
        # from but imports may, once a process.
        state = torch.load(folder / name, weights_only=False)["torch_manual_seed"]
        files[name] = state.numpy().tobytes()
    return files, manifest.curves, manifest.pending


def assert_same(a, b):
    """Two state dicts, bit by bit."""
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, msg=name)


def at_loss(patch, number, action):
    """Do something in the n-th forward pass of all trainings from now on."""
    calls = []

    def loss(*inputs):
        calls.append(1)
        if len(calls) == number:
            action()
        return segmentation_loss(*inputs)

    patch.setattr(parallel, "segmentation_loss", loss)


def network(classes=8, backbone="small_resnet"):
    """A network that has not learned."""
    torch.manual_seed(0)
    return networks.build(
        "fcn", backbone=backbone, num_classes=classes, output_stride=4, channels=16
    ).eval()
