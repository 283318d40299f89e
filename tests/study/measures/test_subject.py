"""Measures are found by name, and images are spaced, not picked."""

import re
from pathlib import Path

from emastudy.study import measures
from emastudy.study.measures import MEASURES, evenly_spaced


def test_every_measure_of_the_folder_is_found_and_every_committed_name_is_one(root):
    sources = [path.read_text() for path in Path(measures.__file__).parent.glob("*.py")]
    named = {name for text in sources for name in re.findall(r'^@register\("(\w+)"\)', text, re.M)}
    assert named == set(MEASURES)
    files = list((root / "experiments" / "records").glob("*/measurements/*.json"))
    assert len(files) > 700
    assert {re.fullmatch(r".+\.(\w+)-\w+", path.stem)[1] for path in files} <= named


def test_evenly_spaced():
    assert evenly_spaced(10, 3) == [0, 3, 6]
    assert evenly_spaced(4, 0) == evenly_spaced(4, 9) == [0, 1, 2, 3]
