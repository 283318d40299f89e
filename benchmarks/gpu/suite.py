"""Stage "tests": the tests that want a GPU, and how each of them ended."""

import os
import re
import subprocess
import sys
from collections import deque
from pathlib import Path

from benchmarks.gpu.place import Place, say

#: The fused kernel first: what it computes must be right before it is timed.
FILES = ("tests/benchmarks/test_fused.py", "tests/engine/test_gpu.py")
_ENDED = re.compile(r"^(tests/\S+::.+) (PASSED|FAILED|SKIPPED|ERROR)\b")


def run(place: Place) -> None:
    """Run those that have not passed yet, and keep how each ended as soon as it is known."""
    results = place.results("tests")
    if "summary" in results and results["summary"]["status"] == 0:
        return
    # Without a GPU all of the second are skipped, and the first take a minute.
    files = FILES if place.device.type == "cuda" else FILES[1:]
    passed = [name for name in results.names if results[name].get("ended") == "PASSED"]
    command = [sys.executable, "-m", "pytest", *files, "-v", "-rA", "--color=no", "--no-header",
               "-p", "no:cacheprovider", *(f"--deselect={name}" for name in passed)]  # fmt: skip
    tail: deque[str] = deque(maxlen=200)
    with subprocess.Popen(
        ["timeout", str(max(1, int(place.seconds_left))), *command],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "SHAPE_CHECKS": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            if found := _ENDED.match(line):
                results.keep(found[1], {"ended": found[2]})
                say(line.rstrip())
    # With the output of tests that print what they measure.
    results.keep("summary", {"status": process.returncode, "tail": list(tail)})
    say(f"pytest ended with status {process.returncode}: {tail[-1] if tail else ''}")
