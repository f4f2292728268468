"""Webdataset shards: any sample by its number, what is damaged is counted, the index is kept."""

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from miniatures import encoded, shard
from torch.utils.data import DataLoader

from ldm.data import StepBatches, WebShards
from ldm.data.batch import check_sample, collate
from ldm.data.tarindex import index_shard
from ldm.errors import MissingFile, UserError
from ldm.training.datamodule import Varied


def laion(root: Path) -> None:
    """Three shards of three samples each, as img2dataset writes them, with captions in txt and json."""
    for number in range(3):
        members: dict[str, bytes] = {}
        for i in range(3):
            key = f"{number:05}{i:04}"
            members[f"{key}.jpg"] = encoded(10 * number + i)
            members[f"{key}.txt"] = f"caption {key}\n".encode()
            members[f"{key}.json"] = json.dumps({"caption": f"caption {key}", "url": "x", "key": key}).encode()
        shard(root / f"{number:05}.tar", members)


def test_every_sample_by_its_number(tmp_path: Path) -> None:
    laion(tmp_path)
    data = WebShards(str(tmp_path), 32, crop="random", flip=0.5)
    assert len(data) == 9 and data.broken == []
    for i in (8, 0, 4):
        check_sample(data[i], "shards")
        assert data[i]["caption"] == f"caption {data[i]['id'].split('/')[1]}"
    assert data[4]["id"] == "00001/000010001" and torch.equal(data.varied(4, 1, 2)["image"], data.varied(4, 1, 2)["image"])
    for pattern in (f"{tmp_path}/*.tar", f"{tmp_path}/{{00000..00002}}.tar"):
        assert list(WebShards(pattern, 32).names) == list(data.names)


def test_the_index_is_kept_and_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laion(tmp_path)
    names = list(WebShards(str(tmp_path), 32).names)
    assert (tmp_path / "00000.tar.index.json").is_file()
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("the index beside the shard was not used"))
        assert list(WebShards(str(tmp_path), 32).names) == names
    shard(tmp_path / "00001.tar", {"new.jpg": encoded(5), "new.txt": b"fresh"})
    assert "00001/new" in WebShards(str(tmp_path), 32).names
    (tmp_path / "00001.tar.index.json").write_text("{broken")
    assert "00001/new" in WebShards(str(tmp_path), 32).names
    (tmp_path / "00001.tar.index.json").unlink()
    WebShards(str(tmp_path), 32, cache=False)
    assert not (tmp_path / "00001.tar.index.json").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laion(tmp_path)

    def refuse(path: Path, text: str) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("ldm.data.tarindex.write_text", refuse)
    assert len(WebShards(str(tmp_path), 32)) == 9 and not list(tmp_path.glob("*.json"))


def test_damaged_shards_and_members_are_counted_by_name(tmp_path: Path) -> None:
    laion(tmp_path)
    whole = (tmp_path / "00001.tar").read_bytes()
    with tarfile.open(tmp_path / "00001.tar") as tar:
        last = tar.getmember("000010002.jpg")
    (tmp_path / "00001.tar").write_bytes(whole[: last.offset_data + 100])
    (tmp_path / "00002.tar").write_bytes(b"no tar at all")
    members = {"a.jpg": encoded(1)[:200], "a.txt": b"half a picture", "b.jpg": encoded(2), "c.jpg": encoded(3), "c.txt": b"\xff\xfe\xff"}
    members |= {
        "d.txt": b"no picture",
        "e.png": encoded(4, "PNG"),
        "e.json": b'{"caption": "from json"}',
        "f.jpg": encoded(5),
        "f.json": b"{}",
    }
    shard(tmp_path / "00003.tar", members)
    data = WebShards(str(tmp_path), 32)
    assert len(data) == 3 + 2 + 4
    expected = (
        "00001.tar/000010002.jpg: the shard ends within",
        "00002.tar: not a readable tar",
        "00003.tar/b: has no txt or caption or json",
        "d: has no image",
    )
    for text in expected:
        assert any(text in line for line in data.broken), (text, data.broken)
    sample = data[data.names.index("00003/a")]
    assert sample["caption"] == "from json" and [note.split(".tar/")[1][:3] for note in sample["skipped"]] == ["a: ", "c: "]
    assert "has no caption" in data[data.names.index("00003/f")]["skipped"][0]


def test_shards_that_tar_made_of_the_folder_itself(tmp_path: Path) -> None:
    """`tar c .` writes ./name; an index of an older form, without them, does not stay."""
    shard(tmp_path / "0.tar", {"./0.jpg": encoded(0), "./0.txt": b"a", "./deep/./1.jpg": encoded(1), "./deep/1.txt": b"b", "./.x.jpg": b""})
    stat = (tmp_path / "0.tar").stat()
    old = {"stamp": [stat.st_size, stat.st_mtime_ns], "samples": {}, "broken": []}
    (tmp_path / "0.tar.index.json").write_text(json.dumps(old))
    data = WebShards(str(tmp_path), 32)
    assert list(data.names) == ["0/0", "0/deep/1"] and [data[i]["caption"] for i in range(2)] == ["a", "b"] and not data.broken


def test_members_that_are_nothing_are_counted(tmp_path: Path) -> None:
    members = {f"{i}.jpg": encoded(i) for i in range(5)}
    members |= {"0.json": b'{"caption": "\\ud800"}', "1.json": b"[" * 100000, "2.txt": b"x", "3.txt": b"x", "4.txt": b"good"}
    classes = (b"1", b"1", b"-1", b"9" * 30, b"3")
    shard(tmp_path / "0.tar", members | {f"{i}.cls": content for i, content in enumerate(classes)})
    with tarfile.open(tmp_path / "0.tar", "a") as tar:
        link = tarfile.TarInfo("5.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "4.jpg"
        tar.addfile(link)
    data = WebShards(str(tmp_path), 32, give=["caption", "label"])
    assert len(data) == 5 and data.broken == [f"{tmp_path}/0.tar/5.jpg: a link or a device, expected a file"]
    sample = data[0]
    assert sample["caption"] == "good" and sample["label"] == 3 and len(sample["skipped"]) == 4
    for reason, line in zip(("not UTF-8", "too many levels", "class -1", "class 999"), sample["skipped"], strict=True):
        assert reason in line


def test_a_damaged_header_loses_only_what_follows(tmp_path: Path) -> None:
    laion(tmp_path)
    path = tmp_path / "00000.tar"
    with tarfile.open(path) as tar:
        second = tar.getmember("000000001.jpg").offset
    data = bytearray(path.read_bytes())
    data[second : second + 512] = b"\x7f" * 512
    path.write_bytes(data)
    index = index_shard(path)
    assert list(index.samples) == ["000000000"] and "damaged header" in index.broken[0]


def test_classes_splits_and_wrong_arguments(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {f"{i:03}.{s}": d for i in range(40) for s, d in (("jpg", encoded(i)), ("cls", str(i % 5).encode()))})
    data = WebShards(str(tmp_path), 32, give=["label"])
    assert data[7]["label"] == 2
    train, held = (WebShards(str(tmp_path), 32, give=["label"], split=s, held_out=0.3) for s in ("train", "validation"))
    assert len(train) + len(held) == 40 and not set(train.names) & set(held.names) and len(held) > 3
    assert held[0]["label"] == int(held.names[0].split("/")[1]) % 5
    with pytest.raises(UserError, match="none of its .* entries can be used.*has no txt or caption or json"):
        WebShards(str(tmp_path), 32)
    with pytest.raises(UserError, match="cannot give 'boxes'"):
        WebShards(str(tmp_path), 32, give=["boxes"])
    with pytest.raises(MissingFile, match="no .tar file"):
        WebShards(str(tmp_path / "*.wds"), 32)
    with pytest.raises(MissingFile, match="1.tar does not exist .1 of 2 are missing"):
        WebShards(f"{tmp_path}/{{0..1}}.tar", 32)
    shutil.copy(tmp_path / "0.tar", tmp_path / "0.tar.gz")
    with pytest.raises(UserError, match="compressed"):
        WebShards(str(tmp_path / "0.tar.gz"), 32)


def test_shards_that_webdataset_itself_writes(tmp_path: Path) -> None:
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "0.tar")) as writer:
        for i in range(3):
            writer.write({"__key__": f"folder/{i}", "png": encoded(i, "PNG"), "txt": f"number {i}"})
    data = WebShards(str(tmp_path / "0.tar"), 32)
    read = webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False)
    assert [(s["__key__"], s["txt"].decode()) for s in read] == [
        (n.partition("/")[2], data[i]["caption"]) for i, n in enumerate(data.names)
    ]
    assert io.BytesIO(data._member(1, 0)).read(4) == b"\x89PNG"


def test_shards_of_one_name_in_several_folders(tmp_path: Path) -> None:
    for part in ("a", "b"):
        shard(tmp_path / part / "00000.tar", {"0.jpg": encoded(0), "0.txt": part.encode(), "1.jpg": encoded(1), "1.txt": b""})
    for pattern in ("", "/*/*.tar", "/**/00000.tar", "/{a,b}/00000.tar"):
        data = WebShards(f"{tmp_path}{pattern}", 32)
        assert list(data.names) == ["a/00000/0", "a/00000/1", "b/00000/0", "b/00000/1"]
        assert [data[i]["caption"] for i in range(4)] == ["a", "", "b", ""] and data.where(2) == f"{tmp_path}/b/00000.tar/0"


def test_names_take_few_bytes_and_come_back(tmp_path: Path) -> None:
    keys = [["000", "\u00fc/x"], [], ["\u6f22"]]
    for number, some in enumerate(keys):
        shard(tmp_path / f"{number}.tar", {f"{key}.{kind}": b"x" for key in some for kind in ("jpg", "txt")})
    data = WebShards(str(tmp_path), 32)
    assert data.names == ["0/000", "0/\u00fc/x", "2/\u6f22"] and data.where(2) == f"{tmp_path}/2.tar/\u6f22"
    shard(tmp_path / "many.tar", {f"{i:09}.{kind}": b"" for i in range(1000) for kind in ("jpg", "txt")})
    assert len(pickle.dumps(WebShards(str(tmp_path / "many.tar"), 32).keys)) < 10 * 1000 + 1000


def test_every_sample_once_an_epoch_with_more_workers_than_shards(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {f"{i}.{kind}": encoded(i) if kind == "jpg" else b"x" for i in range(12) for kind in ("jpg", "txt")})
    data = Varied(WebShards(str(tmp_path), 32), seed=0)
    seen: list[str] = []
    for rank in range(2):
        loader = DataLoader(data, batch_sampler=StepBatches(12, 4, 3, 0, rank=rank, world=2), collate_fn=collate, num_workers=2)
        seen += [name for batch in loader for name in batch["id"]]
    assert sorted(seen) == sorted(f"0/{i}" for i in range(12))


@pytest.mark.parametrize("name", ["[laion] {400m}", "[0-9]", "a*b?", "{a,b}", "sets, final"])
@pytest.mark.parametrize(
    "pattern", ["", "/00000.tar", "/*.tar", "/0000?.tar", "/{00000..00001}.tar", "/{00000,00001}.tar", "/0000[01].tar"]
)
def test_folders_may_have_any_name(tmp_path: Path, name: str, pattern: str) -> None:
    for one in ("00000", "00001"):
        shard(tmp_path / name / f"{one}.tar", {f"{one}.jpg": encoded(0), f"{one}.txt": b"a"})
    assert len(WebShards(f"{tmp_path / name}{pattern}", 32)) == (1 if pattern == "/00000.tar" else 2)


def test_brackets_in_the_name_of_a_shard(tmp_path: Path) -> None:
    for one in ("[a] 0", "[a] 1"):
        shard(tmp_path / f"{one}.tar", {f"{one}.jpg": encoded(0), f"{one}.txt": b"a"})
    assert len(WebShards(f"{tmp_path}/[a]*.tar", 32)) == 2
    with pytest.raises(MissingFile, match=r"\[a\] O.tar does not exist \(\[a\] \d.tar exists\)"):
        WebShards(f"{tmp_path}/[a] O.tar", 32)


@pytest.mark.parametrize(
    "members,found",
    [
        ({"{i}.jpg": "", "{i}.caption": "a {i}"}, ["0/0", "0/1"]),
        ({"{i}.bmp": "", "{i}.txt": "a {i}"}, ["0/0", "0/1"]),
        ({"{i}.jfif": "", "{i}.json": '{{"text": "a {i}"}}'}, ["0/0", "0/1"]),
        ({"{i}.jpg": "", "{i}.json": '{{"caption": ["a {i}"]}}'}, ["0/0", "0/1"]),
        ({"{i}.input.jpg": "", "{i}.prompt.txt": "a {i}"}, ["0/0", "0/1"]),
        ({"photo 2.{i} (final).jpg": "", "photo 2.{i} (final).txt": "a {i}"}, ["0/photo 2.0 (final)", "0/photo 2.1 (final)"]),
        ({"{i}.JPG": "", "{i}.TXT": "a {i}"}, ["0/0", "0/1"]),
    ],
)
def test_members_as_people_name_them(tmp_path: Path, members: dict[str, str], found: list[str]) -> None:
    named = {name.format(i=i): text.format(i=i).encode() or encoded(0) for i in range(2) for name, text in members.items()}
    shard(tmp_path / "0.tar", named)
    data = WebShards(str(tmp_path), 32)
    assert list(data.names) == found and not data.broken
    assert [data[i]["caption"] for i in range(2)] == ["a 0", "a 1"] and [data[i]["id"] for i in range(2)] == found
