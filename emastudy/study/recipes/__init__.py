"""Complete configs: functions that return one ``RunConfig``, and the table of compared methods.

A new recipe is a function in one of the files here under ``@register()``.
"""

from emastudy.study.recipes.methods import (
    CONTROLS,
    METHODS,
    REGIMES,
    STARTS,
    SUCCESSORS,
    TABLE1_RIVALS,
    Method,
    label_runs,
    name_methods,
    width,
)
from emastudy.study.recipes.recipe import RECIPES, Recipe, grid, recipe

# isort: split
# RECIPES has them in the order in which they are imported: from the small to the paper's.
from emastudy.study.recipes.scenes import scenes

# isort: split
from emastudy.study.recipes.photographs import animals, animals_frozen, camvid, camvid_frozen

# isort: split
from emastudy.study.recipes.paper import PAPER_CLASSES, table1_network

__all__ = [
    "CONTROLS",
    "METHODS",
    "PAPER_CLASSES",
    "RECIPES",
    "REGIMES",
    "STARTS",
    "SUCCESSORS",
    "TABLE1_RIVALS",
    "Method",
    "Recipe",
    "animals",
    "animals_frozen",
    "camvid",
    "camvid_frozen",
    "grid",
    "label_runs",
    "name_methods",
    "recipe",
    "scenes",
    "table1_network",
    "width",
]
