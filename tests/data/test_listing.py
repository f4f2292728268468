"""Folders as they lie on disks: links, hidden folders, names that are no text, classes without images."""

import json
import os
from pathlib import Path

import pytest
from miniatures import picture

from ldm.data import FFHQ, LSUN, AnnotatedFolder, ImageFolder, ListedImages
from ldm.data.listing import Listing
from ldm.errors import UserError


def test_links_are_followed_but_not_back(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "cats" / "1.jpg")
    picture(tmp_path / "root" / "dogs" / "2.JPG")
    (tmp_path / "root" / "cats").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "root" / "dogs" / "loop").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "dogs" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    data = ImageFolder(str(tmp_path / "root"), 32, labels=True)
    assert data.names == ["cats/1.jpg", "dogs/2.JPG", "dogs/gone.jpg"] and data.classes == {"cats": 0, "dogs": 1}
    assert "gone.jpg: cannot be read" in data[2]["skipped"][0]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.jpg")
    picture(tmp_path / "b" / "2.jpg")
    (tmp_path / "a" / "x").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "y").symlink_to(tmp_path / "a")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "self").symlink_to("self")
    data = ImageFolder(str(tmp_path), 32)
    assert data.names == ["a/1.jpg", "a/x/2.jpg", "b/2.jpg", "b/y/1.jpg", "self.jpg"] and not data.broken
    assert "self.jpg: cannot be read" in data[4]["skipped"][0]


def test_what_is_hidden_or_no_file_does_not_count(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/.ipynb_checkpoints/1-checkpoint.png", ".thumbnails/1.png", "__MACOSX/._1.png", "a/folder.png/2.png"):
        picture(tmp_path / name)
    os.mkfifo(tmp_path / "a" / "pipe.png")  # opening it would wait for ever
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "a" / "pipe.png")
    (tmp_path / "empty").mkdir()
    data = ImageFolder(str(tmp_path), 32, labels=True)
    assert data.names == ["a/1.png", "a/folder.png/2.png"] and data.classes == {"a": 0}
    assert [line.rpartition("/")[2] for line in data.broken] == [
        f"{name}: no image in it, so it is not a class" for name in ("__MACOSX", "empty")
    ]


def test_names_that_are_not_text_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "\u6f22\u5b57 \U0001f388.jpg")
    try:
        os.rename(tmp_path / "\u6f22\u5b57 \U0001f388.jpg", os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    picture(tmp_path / "\u6f22\u5b57 \U0001f388.jpg")
    data = ImageFolder(str(tmp_path), 32)
    assert data.names == ["\u6f22\u5b57 \U0001f388.jpg"] and data[0]["id"] == data.names[0]
    assert data.broken == [f"{tmp_path}/caf\\xe9.jpg: a name that is not UTF-8"]
    picture(tmp_path / "class" / "a.jpg")
    (tmp_path / "\u6f22\u5b57 \U0001f388.jpg").unlink()
    os.unlink(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    assert ImageFolder(str(tmp_path), 32, labels=True).broken == [f"{tmp_path}/caf\\xe9: no image in it, so it is not a class"]


def test_folders_that_cannot_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "lost+found").mkdir()
    scan = os.scandir

    def refusing(path: Path) -> object:
        if "lost+found" in str(path):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    broken: list[str] = []
    assert Listing(tmp_path, broken).ending({".png"}) == ["a.png"]
    assert broken == [f"{tmp_path / 'lost+found'}: cannot be read (Permission denied)"]


def test_no_file_is_in_both_splits_however_often_it_is_named(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / f"{i}.jpg", i)
    rows = [{"file_name": f"{i}.jpg", "caption": f"{k}"} for i in range(20) for k in range(3)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parts = [AnnotatedFolder(str(tmp_path), 32, split=split, held_out=0.3) for split in ("train", "validation")]
    train, held = ({record.path for record in part.records} for part in parts)
    assert not train & held and len(train | held) == 20 and sum(map(len, parts)) == 60


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    names = ["a.jpg", "x" * 300 + ".jpg", "\0", "caf\udce9.jpg"]
    lines = [json.dumps({"file_name": name, "caption": "x"}) for name in names]
    (tmp_path / "metadata.jsonl").write_text("\n".join([*lines, "[" * 100000]))
    data = AnnotatedFolder(str(tmp_path), 32)
    assert len(data) == 1 and len(data.broken) == 4
    assert (
        all(f"{number}: file_name: no such file" in line for number, line in enumerate(data.broken[:3], 2)) and "not JSON" in data.broken[3]
    )


def test_lists_of_plain_names_fit_nested_files_once(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "images1024x1024" / f"{i // 2 * 1000:05}" / f"{i:05}.png", i)
    (tmp_path / "ffhqtrain.txt").write_text("./00000/00000.png\n00002.png\n00000.png\n00009.png\n")
    data = FFHQ(str(tmp_path / "images1024x1024"), 32)
    assert [record.name for record in data.records] == ["00000/00000.png", "01000/00002.png"]
    assert "ffhqtrain.txt:3: 00000.png a second time" in data.broken[0] and "ffhqtrain.txt:4: no 00009.png" in data.broken[1]
    picture(tmp_path / "images1024x1024" / "other" / "00002.png")
    assert [record.name for record in FFHQ(str(tmp_path / "images1024x1024"), 32).records] == ["00000/00000.png"]  # which one?


def test_an_lsun_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "church_outdoor_train_lmdb").mkdir()
    with pytest.raises(UserError, match="no image in it$"):
        ListedImages(str(tmp_path), 32)
    (tmp_path / "church_outdoor_train_lmdb" / "data.mdb").touch()
    with pytest.raises(UserError, match="no image in it: data.mdb is a database: use ldm.data.LSUNDatabase"):
        LSUN(str(tmp_path), "churches", 32)
