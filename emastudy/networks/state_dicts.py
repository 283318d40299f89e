"""State dicts as others saved them, unwrapped."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from emastudy.errors import InputError


def unwrap(saved: Any, names: Collection[str]) -> dict[str, Tensor]:
    """The tensors called ``names``, wherever they are in what somebody saved.

    A training script may have saved ``{"state_dict": ..., "epoch": ...}``, and DataParallel,
    torch.compile, a larger network or the like put "module.", "_orig_mod.", "backbone." before
    each name. Both are taken off; what is outside of such a prefix is left out. There may be more
    than those wanted in what is returned, or fewer.

    Raises:
        InputError: There are none, or two sets of them.
    """
    if not isinstance(saved, Mapping):
        raise InputError(
            f"it is a {type(saved).__name__}, not a state dict; save network.state_dict()"
        )
    found = {
        (*path, prefix): _under(prefix, state)
        for path, state in _mappings(saved)
        for prefix in _prefixes(state, names)
    }
    matches = {place: sum(name in state for name in names) for place, state in found.items()}
    if not matches:
        entries = ", ".join(repr(key) for key in list(saved)[:4]) or "nothing"
        raise InputError(
            f"it holds {entries} and none of the tensors wanted, such as {next(iter(names))}; give "
            "the state dict of a network of this kind"
        )
    # The outermost, of those that have most: bare names at the top are what was asked for.
    best = sorted(matches, key=lambda place: (-matches[place], len(place), len(place[-1])))
    whole = [place for place in best if matches[place] == len(names)]
    if len(whole) > 1 and whole[0] != ("",):
        raise InputError(
            f"it holds the tensors more than once, under {' and '.join(map(_written, whole[:3]))}; "
            "give one of them alone"
        )
    return found[best[0]]


def _under(prefix: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix) and isinstance(value, Tensor)
    }


def _mappings(
    saved: Mapping[Any, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """``saved`` and all mappings within, with the keys that lead there."""
    yield path, {key: value for key, value in saved.items() if isinstance(key, str)}
    for key, value in saved.items():
        if isinstance(value, Mapping):
            yield from _mappings(value, (*path, str(key)))


def _prefixes(state: Mapping[str, Any], names: Collection[str]) -> set[str]:
    """What stands before a wanted name; a few of the names tell."""
    probes = list(names)[:: len(names) // 4 + 1]
    return {
        key.removesuffix(probe)
        for key, value in state.items()
        for probe in probes
        if isinstance(value, Tensor) and f".{key}".endswith(f".{probe}")
    }


def _written(place: tuple[str, ...]) -> str:
    *path, prefix = place
    keys = "".join(f"[{key!r}]" for key in path)
    return f"{keys} {prefix}".strip()
