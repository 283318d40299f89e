"""The recipe without data: scenes, drawn on the spot."""

from emastudy.engine import RunConfig
from emastudy.study.recipes.recipe import register


@register()
def scenes(head: str) -> RunConfig:
    """Scenes, 8 classes at 64×64, a small ResNet from scratch at stride 4, 300 iterations.

    Needs no data. Images are padded to 65×65, where labels and upsampled predictions coincide
    (see ``datasets.misalignment``). The head sees 64 channels on a 17×17 map, so EMA's bases
    default to K = 16 instead of the paper's 64: 18 pixels per basis, where the paper's have 17.

    Cost: about half a minute on one CPU core.
    """
    bases = {"num_bases": 16} if head in ("ema", "windowed_ema") else {}
    return RunConfig(
        dataset="scenes",
        head=head,
        head_options={"channels": 64, **bases},
        backbone="small_resnet",
        crop_size=65,
        eval_images=200,
        iterations=300,
        learning_rate=0.05,
    )
