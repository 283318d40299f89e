"""Complete configs: functions that return one ``RunConfig``, and the table of compared methods.

A new recipe is a function in one of the files here under ``@register()``; see :func:`register`.
"""

from emastudy.study.recipes.methods import (
    METHODS,
    REGIMES,
    TABLE1_RIVALS,
    Method,
    label_runs,
    name_methods,
    width,
)
from emastudy.study.recipes.recipe import RECIPES, Recipe, grid, recipe, register

# isort: split
# RECIPES has them in the order in which they are imported: from the small to the paper's.
from emastudy.study.recipes.scenes import scenes

# isort: split
from emastudy.study.recipes.photographs import animals, animals_frozen, camvid

# isort: split
from emastudy.study.recipes.paper import (
    PAPER_CLASSES,
    coco_stuff,
    pascal_context,
    table1_network,
    voc_ablation,
    voc_test,
    voc_test_coco,
    voc_test_trainaug,
    voc_val,
    voc_val_released,
)

__all__ = [
    "METHODS",
    "PAPER_CLASSES",
    "RECIPES",
    "REGIMES",
    "TABLE1_RIVALS",
    "Method",
    "Recipe",
    "animals",
    "animals_frozen",
    "camvid",
    "coco_stuff",
    "grid",
    "label_runs",
    "name_methods",
    "pascal_context",
    "recipe",
    "register",
    "scenes",
    "table1_network",
    "voc_ablation",
    "voc_test",
    "voc_test_coco",
    "voc_test_trainaug",
    "voc_val",
    "voc_val_released",
    "width",
]
