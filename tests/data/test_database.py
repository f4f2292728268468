"""A miniature of LSUN's download: church_outdoor_train_lmdb and church_outdoor_val_lmdb, keys of 40 hex digits, WebP values."""

import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from ldm.data import LSUNDatabase
from ldm.data.batch import collate
from ldm.errors import MissingFile, UserError

lmdb = pytest.importorskip("lmdb")


def build(folder: Path, count: int, broken: int = -1) -> Path:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=10_000_000) as database, database.begin(write=True) as entries:
        for i in range(count):
            file = io.BytesIO()
            Image.new("RGB", (48, 40), (i * 20, 100, 200)).save(file, "webp", lossless=True)
            entries.put(hashlib.sha1(str(i).encode()).hexdigest().encode(), file.getvalue()[:30] if i == broken else file.getvalue())
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "church_outdoor_train_lmdb", 8)
    build(tmp_path / "church_outdoor_val_lmdb", 3)
    return tmp_path


def test_both_splits_are_read_whole(root: Path) -> None:
    train, held_out = (LSUNDatabase(str(root), 32, split, "church_outdoor") for split in ("train", "validation"))
    assert (len(train), len(held_out)) == (8, 3) and len(LSUNDatabase(str(root / "church_outdoor_val_lmdb"), 32)) == 3
    reds = sorted(round((float(train[i]["image"][0, 0, 0]) + 1) * 127.5) for i in range(8))
    assert reds == [20 * i for i in range(8)]
    assert train[0]["id"] == min(hashlib.sha1(str(i).encode()).hexdigest() for i in range(8))
    assert train.original_size(0) == (48, 40) and train[0]["image"].shape == (3, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(train))[3]["image"], train[3]["image"])


def test_workers_read_the_same(root: Path) -> None:
    train = LSUNDatabase(str(root), 32, "train", "church_outdoor")
    alone, shared = ([b["image"] for b in DataLoader(train, 4, num_workers=n, collate_fn=collate)] for n in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True)) and len(alone) == 2


def test_what_is_broken_is_skipped_and_what_is_missing_is_named(tmp_path: Path, monkeypatch) -> None:
    build(tmp_path / "bedroom_train_lmdb", 4, broken=2)
    train = LSUNDatabase(str(tmp_path), 32, "train", "bedroom")
    skipped = [note for i in range(4) for note in train[i].get("skipped", ())]
    assert len(skipped) == 1 and "bedroom_train_lmdb" in skipped[0] and "cannot be read" in skipped[0]
    with pytest.raises(MissingFile, match="bedroom_val_lmdb/data.mdb"):
        LSUNDatabase(str(tmp_path), 32, "validation", "bedroom")
    with pytest.raises(MissingFile, match="nowhere"):
        LSUNDatabase(str(tmp_path / "nowhere"), 32)
    build(tmp_path / "empty_train_lmdb", 0)
    with pytest.raises(UserError, match="is empty"):
        LSUNDatabase(str(tmp_path), 32, "train", "empty")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match="junk is not a database"):
        LSUNDatabase(str(tmp_path / "junk"), 32)
    build(tmp_path / "cat_train_lmdb", 1)
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(MissingFile, match="pip install lmdb"):
        LSUNDatabase(str(tmp_path), 32, "train", "cat")


def test_a_database_that_was_not_copied_whole_is_named(tmp_path: Path) -> None:
    """Reading behind its end would be a bus error."""
    file = build(tmp_path / "church_outdoor_train_lmdb", 8) / "data.mdb"
    with lmdb.open(str(file.parent)) as database, database.begin(write=True) as entries:
        entries.put(b"long", bytes(100_000))
    file.write_bytes(file.read_bytes()[:40960])
    with pytest.raises(UserError, match="data.mdb has 40960 of .* bytes: it was not copied completely"):
        LSUNDatabase(str(file.parent), 32)
    assert LSUNDatabase(str(build(tmp_path / "whole", 8)), 32).original_size(7) == (48, 40)
