"""How the numbers of a finding are shown in its sentence."""

from collections.abc import Callable, Sequence

import numpy as np

from emastudy.errors import InputError
from emastudy.study.report.findings.queries import Number


def enumerate_words(words: Sequence[str]) -> str:
    """Words as a list in a sentence: "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _by_text(numbers: Sequence[Number], show: Callable[[Number], str]) -> dict[str, list[str]]:
    """Text of some numbers → the cases of those that it is said of."""
    groups: dict[str, list[str]] = {}
    for one in numbers:
        groups.setdefault(show(one), []).append(one.case)
    return groups


def _listed(numbers: Sequence[Number], show: Callable[[Number], str]) -> str:
    """Numbers with the cases that they stand for; those of equal text together."""
    groups = _by_text(numbers, show)
    if len(groups) == 1:
        return next(iter(groups))
    return enumerate_words([f"{text} ({', '.join(cases)})" for text, cases in groups.items()])


def _number(numbers: Sequence[Number], decimals: int) -> str:
    def show(one: Number) -> str:
        if one.unit:
            return f"{one.value:.4g} {one.unit}"
        form = f"{'+' if one.signed else ''}.{decimals}f"
        ends = "" if np.isnan(one.low) else f" [{one.low:{form}}, {one.high:{form}}]"
        return f"{one.value:{form}}{ends}"

    return _listed(numbers, show)


def _size(numbers: Sequence[Number], decimals: int) -> str:
    _positive(numbers)
    return _listed(numbers, lambda one: f"{one.value:.{decimals}f}")


def _sizes(numbers: Sequence[Number], decimals: int) -> str:
    _positive(numbers)
    return _range(numbers, decimals)


def _range(numbers: Sequence[Number], decimals: int) -> str:
    values = [one.value for one in numbers]
    form = f"{'+' if min(values) <= 0 and numbers[0].signed else ''}.{decimals}f"
    ends = dict.fromkeys(f"{end:{form}}" for end in (min(values), max(values)))
    return " to ".join(ends)


def _positive(numbers: Sequence[Number]) -> None:
    for one in numbers:
        if not one.value > 0:
            raise InputError(
                f"{one.case or 'it'} is {one.value:+.3g}, and a size is above 0: turn the sentence "
                "and its difference round, or give the number with its sign"
            )


def _word(numbers: Sequence[Number], _: int) -> str:
    if not all(one.test for one in numbers):
        raise InputError("it was not tested, so no word can be said of it")
    cases = _by_text(numbers, lambda one: one.word)
    if len(cases) == 1:
        return numbers[0].word
    return ", ".join(f"{word} for {enumerate_words(those)}" for word, those in cases.items())


def _count(numbers: Sequence[Number], _: int) -> str:
    held = [one.word for one in numbers if one.holds]
    word = held[0] if held else "decided"
    every = "all" if len(held) == len(numbers) else f"{len(held)} of"
    return f"{word} in {every} {len(numbers)} comparisons"


def _above(numbers: Sequence[Number], _: int) -> str:
    return f"{sum(one.holds and one.value > 0 for one in numbers)} of {len(numbers)}"


#: What a placeholder may show of its numbers: "number", with sign and interval (the default);
#: "size", without, which must be above 0; "range", the least and the largest, with signs unless
#: both are above 0, and "sizes", where they must be; "word" of the tests; "count", in how many they
#: hold; and "above", the count of those that hold and are above 0.
FORMS: dict[str, Callable[[Sequence[Number], int], str]] = {
    "number": _number,
    "size": _size,
    "range": _range,
    "sizes": _sizes,
    "word": _word,
    "count": _count,
    "above": _above,
}
