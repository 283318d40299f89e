"""The repository as a stranger finds it."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest


def tracked(root):
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("not a git checkout")
    return [root / name for name in done.stdout.splitlines() if (root / name).is_file()]


def test_no_other_pictures_or_weights_are_committed(root):
    wrong = {".png", ".jpg", ".jpeg", ".pth", ".safetensors", ".npy", ".npz"}
    # README's picture, made by a notebook, and the small network that comes with the package.
    known = [root / "book" / "ema.jpg", *(root / "emastudy" / "networks" / "shipped").rglob("*")]
    assert [p for p in tracked(root) if p.suffix in wrong and p not in known] == []
    assert known[0].stat().st_size < 3e5


def test_every_dependency_has_a_floor_and_a_reason(root):
    text = (root / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["study"]
    for requirement in wanted:
        if requirement.startswith("emastudy"):
            continue
        assert ">=" in requirement, requirement
        line = next(i for i, x in enumerate(text.splitlines()) if f'"{requirement}"' in x)
        assert text.splitlines()[line - 1].strip().startswith("# "), requirement


def test_constraints_are_exact_and_cover_the_dependencies(root):
    lines = [x for x in (root / "constraints.txt").read_text().splitlines() if x[:1] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+( ?;.*)?", x) for x in lines), lines
    pinned = {x.split("==")[0].lower().replace("_", "-") for x in lines}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = project["dependencies"] + [x for extra in extras for x in extra]
    names = {re.split(r"[<>=\[ ]", x)[0].lower().replace("_", "-") for x in wanted} - {"emastudy"}
    assert names <= pinned


def test_the_readme_code_runs(root):
    """Every Python block of README and of the pages for users."""
    for page in ("README.md", "book/reproduce.md", "book/data.md"):
        blocks = re.findall(r"```python\n(.*?)```", (root / page).read_text(), re.DOTALL)
        assert blocks, page
        names: dict = {}
        for block in blocks:
            exec(compile(block, page, "exec"), names)


def test_the_dataset_of_the_book_is_one(root, tmp_path, monkeypatch):
    from emastudy import datasets

    blocks = re.findall(r"```python\n(.*?)```", (root / "book/data.md").read_text(), re.DOTALL)
    (tmp_path / "my_data.py").write_text(next(b for b in blocks if "class Stripes" in b))
    monkeypatch.chdir(tmp_path)
    image, mask = datasets.load("my_data:Stripes", "val", width=4)[3]
    assert (tuple(image.shape), mask.unique().tolist()) == ((3, 65, 65), [0, 1])


def test_committed_records_are_whole_and_named_rightly(root):
    from emastudy.study import Record
    from emastudy.study.measures import Measurement

    paths = [p for p in tracked(root) if p.suffix == ".json" and "records" in p.parts]
    assert paths
    for path in paths:
        assert not re.search(r"/(home|work|root|tmp)/", path.read_text()), path
        if path.parent.name == "measurements":
            assert Measurement.read(path).circumstances["commit"], path
        else:
            assert Record.read(path).commit, path


def test_text_is_read_in_utf_8_whatever_the_locale(root):
    """Without an encoding, an 8-bit locale reads the package's own files wrongly, or not at all."""
    guessed = [
        f"{path.name}, line {node.lineno}"
        for path in (root / "emastudy").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") in ("read_text", "write_text")
        and not {keyword.arg for keyword in node.keywords} & {"encoding"}
    ]
    assert guessed == []


SLOW_TO_IMPORT = {
    "torchvision", "torchmetrics", "torch._dynamo", "tensorboard", "matplotlib", "seaborn", "scipy",
    "pandas", "accelerate", "papermill", "submitit", "skimage", "sklearn", "IPython",
}  # fmt: skip


def test_an_import_loads_torch_and_only_the_heavy_things_it_needs():
    """The others load where they are used: torchvision, for one, takes about as long as torch."""
    needed = {
        "emastudy": set(),
        "emastudy.networks": set(),
        "emastudy.datasets": set(),
        "emastudy.engine": {"accelerate"},
        "emastudy.study": {"accelerate", "pandas", "scipy", "submitit"},
    }
    script = "import sys\n" + "\n".join(
        f"import {module}; print('{module}', *sorted({SLOW_TO_IMPORT} & set(sys.modules)))"
        for module in needed
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = {module: set(heavy) for module, *heavy in map(str.split, done.stdout.splitlines())}
    assert loaded.keys() == needed.keys()
    assert [module for module in needed if not loaded[module] <= needed[module]] == [], loaded


def test_the_files_that_make_check_leaves_out_are_there(root):
    names = (root / "tests" / "slow.txt").read_text().split()
    assert [name for name in names if not (root / "tests" / name).is_file()] == []
