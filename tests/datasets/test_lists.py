"""Lists of names and folders whose files pair by name."""

import pickle
import unicodedata

import pytest
from layouts import blocks, make_camvid, make_folder, make_voc, photograph, save_mask

from emastudy.datasets import DATASETS, check, load
from emastudy.datasets.lists import read_list

NAMES = ["a", "b 1", "north/c", "ü"]


@pytest.fixture
def listed(tmp_path):
    """Files of four names, with room for a list."""
    for name in NAMES:
        photograph(tmp_path / "images" / f"{name}.jpg", 20, 30)
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        save_mask(tmp_path / "masks" / f"{name}.png", blocks([0, 1], 20, 30))
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]\nsplits: {train: list.txt}\n")
    return tmp_path


@pytest.mark.parametrize(
    "content",
    [
        b"a\nb 1\nnorth/c\n\xc3\xbc\n",
        b"\xef\xbb\xbfa\nb 1\nnorth/c\n\xc3\xbc",  # byte order mark
        b"a\r\nb 1\r\nnorth/c\r\n\xc3\xbc\r\n",
        b"\n  a \t\n\n b 1\n\nnorth/c\n\xc3\xbc\n\n",
        b"a.jpg\nb 1.PNG\nnorth/c.jpeg\n\xc3\xbc.tif\n",
        b"./a\nb 1\nnorth\\c.jpg\nu\xcc\x88\n",  # Windows; decomposed
    ],
)
def test_what_does_no_harm_is_passed_over(listed, content):
    (listed / "list.txt").write_bytes(content)
    dataset = load("folder", root=listed)
    assert dataset.names == NAMES
    assert [mask.max() for _, mask in dataset] == [1] * 4
    assert check(DATASETS["folder"], listed).problems == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a\nb 1\n".encode("utf-16"), ["list.txt is UTF-16 text", "save it as UTF-8"]),
        ("a\nb 1\n".encode("utf-16-le"), ["list.txt is UTF-16 text"]),
        (b"a\nb 1\n\xfc\n", ["list.txt, line 3, is not UTF-8"]),
        (b"\n \n", ["list.txt names no image"]),
        (
            b"a\nimages/b.jpg masks/b.png\n",
            ["line 2: 'images/b.jpg masks/b.png', taken as one name", "without columns"],
        ),
        (b"a\n\nb,masks/b\n", ["line 3: 'b,masks/b', taken as one name"]),
        (b"a 1\n", ["line 1: 'a 1', taken as one name"]),
        (b"# mine\na\n", ["line 1: '# mine', taken as one name"]),
        (b"a\nz.jpg\n", ["images lacks 1 of the 2 files", "z.jpg the first", "line 2: 'z.jpg'"]),
        (b"a\nb 1\na.png\n", ["names a more than once", "line 3: 'a.png'", "line 1)"]),
        (b"a\n/data/b.jpg\n", ["1 of 2 names lead out", "line 2: '/data/b.jpg'", "relative to"]),
        (b"C:\\data\\a.jpg\n", ["1 of 1 names lead out of the folder", "line 1"]),
        (b"../a\n", ["1 of 1 names lead out of the folder", "line 1"]),
    ],
)
def test_what_does_harm_is_refused_with_its_line(listed, content, words):
    (listed / "list.txt").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load("folder", root=listed)
    assert "list.txt" in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert any("list.txt" in problem for problem in check(DATASETS["folder"], listed).problems)


def test_a_bad_line_hides_no_other_problem(listed):
    (listed / "list.txt").write_text("a\nx\na\ny\nb 1\n")
    (listed / "masks" / "b 1.png").write_bytes(b"")
    problems = check(DATASETS["folder"], listed).problems
    assert len(problems) == 6
    for words in (
        "names a more than once", "x.jpg is missing", "x.png is missing", "y.jpg is missing",
        "y.png is missing", "b 1.png cannot be read",
    ):  # fmt: skip
        assert sum(words in problem for problem in problems) == 1


def test_official_lists_are_read_by_the_same_rules(tmp_path):
    root = make_voc(tmp_path / "VOC2012")
    path = root / "ImageSets" / "Segmentation" / "train.txt"
    path.write_bytes(b"\xef\xbb\xbf2007_000001.jpg\r\n2007_000002\r\n")
    assert load("voc2012", root=root).names == ["2007_000001", "2007_000002"]
    path.write_text("2007_000001\n2007_000002 -1\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt, line 2: '2007_000002 -1', taken as"):
        load("voc2012", root=root)

    camvid = make_camvid(tmp_path / "CamVid")
    with (camvid / "train.txt").open("a") as file:
        file.write("/SegNet/CamVid/train/gone.png /SegNet/CamVid/trainannot/gone.png\n")
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg the first \(.*train\.txt, line 3"):
        load("camvid", root=camvid)


def test_names_keep_their_place_where_they_are_sent_to_other_processes(listed):
    (listed / "list.txt").write_text("a\nb 1\n")
    names = read_list(listed / "list.txt", "train")
    assert pickle.loads(pickle.dumps(names))[1].where == names[1].where
    assert names[1].where.endswith("line 2: 'b 1', taken as one name")


def test_decomposed_file_names_meet_composed_ones(tmp_path):
    root = make_folder(tmp_path)
    for kind, form in (("images", "NFD"), ("masks", "NFC")):
        suffix = {"images": "jpg", "masks": "png"}[kind]
        name = unicodedata.normalize(form, "größe")
        (root / kind / "train" / f"a.{suffix}").rename(root / kind / "train" / f"{name}.{suffix}")
    dataset = load("folder", root=root)
    assert dataset.names == ["b", "größe"]
    assert dataset[1][1].max() == 255


def test_hidden_files_and_folders_named_like_images_are_passed_over(tmp_path):
    root = make_folder(tmp_path)
    images = root / "images" / "train"
    for name in (".DS_Store", "._a.jpg", "Thumbs.db", "notes.txt", "a.json"):
        (images / name).write_bytes(b"\0\5\x16\7")
    (images / "d.jpg").mkdir()
    photograph(images / ".ipynb_checkpoints" / "a-checkpoint.jpg", 20, 30)
    (root / "images" / ".cache").mkdir()
    assert load("folder", root=root).names == ["a", "b"]
    report = check(DATASETS["folder"], root)
    assert report.counts == {"train": 2, "val": 1}
    assert report.problems == []


def test_pictures_of_kinds_that_are_not_read_are_named_not_passed_over(tmp_path):
    root = make_folder(tmp_path)
    images, masks = root / "images" / "train", root / "masks" / "train"
    (images / "a.jpg").rename(images / "a.heic")
    (images / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (masks / "b.png").rename(masks / "b.npy")
    (masks / "b.npy").write_bytes(b"\x93NUMPY\1\0")
    (images / "b.npy").write_bytes(b"")  # beside b.jpg, which counts
    problems = check(DATASETS["folder"], root).problems
    assert len(problems) == 2
    assert "a.heic cannot be read as an image: it is an HEIC file" in problems[0]
    assert "masks/train/b.npy cannot be read as an image: it is a NumPy" in problems[1]


def test_files_that_do_not_pair_name_each_other(tmp_path):
    root = make_folder(tmp_path)
    for path in [*(root / "masks" / "train").iterdir()]:
        path.rename(path.with_stem(f"{path.stem}_mask"))
    with pytest.raises(FileNotFoundError, match=r"a_mask\.jpg the first \(.*a_mask\.png is there"):
        load("folder", root=root)
    problems = check(DATASETS["folder"], root).problems
    assert len(problems) == 4
    assert any("a_mask.jpg is missing" in p and "a_mask.png is there" in p for p in problems)
    assert any("train/a.png is missing" in p and "train/a.jpg is there" in p for p in problems)


def test_linked_folders_are_read(tmp_path):
    root = make_folder(tmp_path / "data")
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / kind).mkdir()
        file = root / kind / "train" / f"a.{suffix}"
        file.rename(tmp_path / kind / f"a.{suffix}")
        (root / kind / "train" / "site").symlink_to(tmp_path / kind)
    assert load("folder", root=root).names == ["b", "site/a"]


def test_a_link_to_nowhere_is_named(tmp_path):
    root = make_folder(tmp_path)
    path = root / "images" / "train" / "a.jpg"
    path.unlink()
    path.symlink_to(tmp_path / "gone.jpg")
    (problem,) = check(DATASETS["folder"], root).problems
    assert f"there is no {path}" in problem
