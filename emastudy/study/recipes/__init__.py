"""Complete configs: functions that return one ``RunConfig``."""

from emastudy.study.recipes.recipes import (
    PROTOCOLS,
    animals,
    animals_frozen,
    camvid,
    coco_stuff,
    grid,
    pascal_context,
    recipe,
    scenes,
    table1_network,
    voc_ablation,
    voc_test,
    voc_test_coco,
    voc_test_trainaug,
    voc_val,
    voc_val_released,
)

__all__ = [
    "PROTOCOLS",
    "animals",
    "animals_frozen",
    "camvid",
    "coco_stuff",
    "grid",
    "pascal_context",
    "recipe",
    "scenes",
    "table1_network",
    "voc_ablation",
    "voc_test",
    "voc_test_coco",
    "voc_test_trainaug",
    "voc_val",
    "voc_val_released",
]
