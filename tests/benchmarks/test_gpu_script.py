"""The script for a GPU, whole, at tiny sizes on the CPU."""

import importlib
import json
import os

import pytest
import torch
from torchvision.models import mobilenet_v2

pytest.importorskip("triton", reason="triton comes with torch on Linux alone")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="runs the kernels in Triton's interpreter"
)


@pytest.fixture
def script(monkeypatch, root, tmp_path, voc_root):
    """Runs it with options beyond the folders; returns the files of results."""
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setenv("EMASTUDY_COMMIT", "0" * 12)  # the tests may run in a copy without .git
    main = importlib.import_module("benchmarks.gpu.__main__").main
    torch.save(mobilenet_v2().features.state_dict(), tmp_path / "weights.pth")
    out = tmp_path / "out"

    def run(*options):
        folders = ["--data-root", str(voc_root), "--weights-path", str(tmp_path / "weights.pth")]
        main(["--tiny", "--out", str(out), "--side-by-side", "1", *folders, *options])
        return {
            str(path.relative_to(out)): path.read_text()
            for path in sorted(out.rglob("*.json"))
            if "runs" not in path.relative_to(out).parts
        }

    return run


def test_every_stage_leaves_its_results_and_is_not_done_again(script, capsys):
    first = script()
    stages = {name: json.loads(text) for name, text in first.items()}
    (record,) = [name for name in stages if name.startswith("records/animals_gpu/voc2012-fcn-")]
    assert set(stages) == {
        "kernels.json", "tests.json", "throughput.json", "waits.json", record
    }  # fmt: skip
    ended = stages["tests.json"]["results"]
    assert ended["summary"]["status"] == 0
    assert {v["ended"] for k, v in ended.items() if k != "summary"} == {"SKIPPED"}
    for name in ("kernels.json", "waits.json", "throughput.json"):
        assert "error" not in first[name], first[name]
    passes = stages["kernels.json"]["results"]["EM, 1×3×3, bf16"]["passes"]
    assert set(passes) == {"inference", "one_step", "unrolled"}
    assert all(rows["fused"]["deviation"] < 0.05 for rows in passes.values())
    ways = stages["throughput.json"]["results"]["small_resnet, batch 2"]["ways"]
    assert set(ways) == {"plain", "default"}
    assert all(row["images_per_second"] > 0 for row in ways.values())
    assert "torch" in stages["waits.json"]["made"]["1"]["versions"]
    assert script() == first
    assert "×3×3" not in capsys.readouterr().out.rpartition("== kernels")[2]


def test_the_evidence_is_what_was_asked_for_in_order_of_worth(monkeypatch, root):
    monkeypatch.syspath_prepend(str(root))
    first, then, long = importlib.import_module("benchmarks.gpu.evidence").groups(5)
    assert [len(group) for group in (first, then, long)] == [25, 10, 20]
    assert [config.head for config in first[:5]] == ["fcn", "ema", "ema", "non_local", "ema"]
    assert {config.seed for config in first[:5]} == {0}
    assert first[4].head_options == {"channels": 256, "heads": 4, "num_bases": 16}
    assert {config.iterations for config in first + then} == {3000}
    assert {config.iterations for config in long} == {10000}
    assert len({config.id for config in first + then + long}) == 55


def test_nothing_begins_when_the_time_is_up_and_a_damaged_file_is_named(script, tmp_path, capsys):
    assert script("--minutes", "0") == {}
    assert "The time is up before tests" in capsys.readouterr().out
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "waits.json").write_text("{")
    with pytest.raises(ValueError, match=r"waits\.json holds no results"):
        script("--stages", "waits")
    with pytest.raises(ValueError, match="evidence reads --data-root, which is 'nowhere'"):
        script("--data-root", "nowhere")
    with pytest.raises(SystemExit):
        script("--stages", "speed")
    assert "there is no stage 'speed'" in capsys.readouterr().err
