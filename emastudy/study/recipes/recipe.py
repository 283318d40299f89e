"""The registry of recipes, and what they have in common: head, seed, scale and backbone."""

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from emastudy import networks
from emastudy.engine import RunConfig
from emastudy.errors import InputError

#: ``recipe(head, *, seed=0, scale=1.0, backbone="", **head_options)`` makes one config.
Recipe = Callable[..., RunConfig]

#: The recipes by the name that notebooks and commands use.
RECIPES: dict[str, Recipe] = {}


def register(
    head: str = "ema", *, after: Recipe | None = None
) -> Callable[[Callable[[str], RunConfig]], Recipe]:
    """Make a recipe of a function that states a head's config at full length, and register it.

    The recipe then takes, beside the head:

    * ``seed``;
    * ``scale``: the share of the iterations, and of the scored images where the config states
      their number; 1.0 = as described, less = a quick look;
    * ``backbone``: another than the config's; options that it lacks are dropped, all else stays;
    * further options of the head.

    It starts from the weights of the recipe ``after``'s run, made with the same arguments.
    """
    usual = head

    def decorate(state: Callable[[str], RunConfig]) -> Recipe:
        def make(
            head: str = usual,
            *,
            seed: int = 0,
            scale: float = 1.0,
            backbone: str = "",
            **head_options: Any,
        ) -> RunConfig:
            config = state(networks.ALIASES.get(head, head))
            given = {**config.head_options, **head_options}
            changed: dict[str, Any] = {"head_options": given, "seed": seed}
            if after:
                options = {"seed": seed, "scale": scale, "backbone": backbone, **head_options}
                changed["start_from"] = after(head, **options).id
            if backbone:
                known = networks.backbone_defaults(backbone)
                kept = {k: v for k, v in config.backbone_options.items() if k in known}
                changed |= {"backbone": backbone, "backbone_options": kept}
            return replace(config, **changed, **_scaled(config, scale))

        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(make, name, getattr(state, name))
        RECIPES[state.__name__] = make
        return make

    return decorate


def _scaled(config: RunConfig, scale: float) -> dict[str, Any]:
    if scale <= 0:
        raise InputError(f"scale is {scale}; expected a number > 0")
    images = max(4, round(config.eval_images * scale)) if config.eval_images else 0
    return {"iterations": max(2, round(config.iterations * scale)), "eval_images": images}


def recipe(name: str, backbone: str = "") -> Recipe:
    """A recipe by its name, on another backbone if one is named.

    Raises:
        InputError: Unknown recipe.
        ValueError: Unknown backbone.
    """
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}")
    if not backbone:
        return RECIPES[name]
    networks.backbone_defaults(backbone)  # an unknown one is an error here, not in the sweep
    return functools.partial(RECIPES[name], backbone=backbone)


def grid(
    name: str,
    head: str = "ema",
    *,
    seeds: int,
    scale: float = 1.0,
    backbone: str = "",
    **axes: Iterable[Any],
) -> list[RunConfig]:
    """Every combination of options of a recipe's head, with every seed.

    Args:
        backbone: Another than the recipe's; "" = the recipe's.
        axes: Option of the head → the values it takes.

    Raises:
        InputError: Unknown recipe.
        ValueError: Unknown backbone.
    """
    make = recipe(name, backbone)
    return [
        make(head, seed=seed, scale=scale, **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
        for seed in range(seeds)
    ]
