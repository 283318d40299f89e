"""What was timed is kept with the machine it was timed on."""

import json

from benchmarks import results


def test_a_table_is_kept_with_machine_versions_and_load(tmp_path):
    rows = [{"way": "one", "seconds": 0.5}, {"way": "two", "seconds": 1.0}]
    path = results.keep("units", rows, folder=tmp_path / "results")
    kept = json.loads(path.read_text())
    assert path.name == "units.json"
    assert kept["rows"] == rows
    assert kept["machine"]["processor"]
    assert kept["machine"]["threads"] >= 1
    assert "torch" in kept["versions"]
    assert set(kept["load"]) == {"1 min", "15 min"}
