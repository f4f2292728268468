"""Folders as people have them: every kind of picture and of metadata is read, the rest is counted and said, nothing leaves the folder."""

import ast
import json
import logging
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from miniatures import picture
from PIL import EpsImagePlugin, Image

from ldm.data import AnnotatedFolder, ArrayFolder, Coco, ImageFolder, ListedImages
from ldm.data.images import read_image
from ldm.data.transforms import UnreadableImage
from ldm.errors import MissingFile, UserError
from ldm.system import image_files as imagefiles

NAMES = [f"{i}.png" for i in range(3)] + [f"sub/{i}.png" for i in range(3)]
MADE = {".jpg": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP"}
MADE |= {".tif": "TIFF", ".jp2": "JPEG2000", ".ppm": "PPM", ".pgm": "PPM", ".tga": "TGA", ".avif": "AVIF", ".qoi": "QOI", "": "JPEG"}
MADE |= {".JPEG": "JPEG", ".1": "PNG"}  # the last: of "photo 2.1", a name without a suffix


@pytest.mark.parametrize("suffix", MADE)
def test_whatever_pillow_opens_is_read(tmp_path: Path, suffix: str) -> None:
    Image.radial_gradient("L").convert("RGB").resize((96, 64)).save(tmp_path / f"a{suffix}", MADE[suffix])
    data = ImageFolder(str(tmp_path), 32)
    assert data.names == [f"a{suffix}"] and "skipped" not in data[0] and data.original_size(0) == (96, 64)


def test_what_is_no_picture_is_counted_by_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    for name in ("c.heic", "d.heic", "e.mp4", "LICENSE", "f.eps", "g.pdf"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    data = ImageFolder(str(tmp_path), 32)
    said = f"image folder '{tmp_path}': 2 pictures (also there: 2 .heic (pip install pillow-heif to read them), 1 without a suffix, "
    assert len(data) == 2 and said + "1 .eps, 1 .mp4, 1 .pdf)" in caplog.text
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    for make in (ImageFolder, ListedImages):
        with pytest.raises(UserError, match=r"no image in it, but 2 .heic \(pip install pillow-heif to read them\), 1 without"):
            make(str(tmp_path), 32)
    with pytest.raises(UserError, match="no array in it.*there are 2 .heic"):
        ArrayFolder(str(tmp_path), 32, 5)


def test_the_pictures_of_a_split_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for i in range(8):
        picture(tmp_path / f"{i}.png", i)
    data = ImageFolder(str(tmp_path), 32, split="validation", held_out=0.3)
    assert f": {len(data)} picture" in caplog.text and ", the split 'validation' of 8" in caplog.text


def test_no_file_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words, **more: started.append(words) or Image.new("RGB", (8, 8)).im)
    picture(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.jpg")
    with pytest.raises(UnreadableImage, match="cannot identify image file"):
        read_image(tmp_path / "x.jpg", 3)
    assert not started


def test_there_is_one_opener(root: Path) -> None:
    """Whoever opens a picture another way opens it with every format that Pillow knows."""
    files = [root / "main.py", *(root / "scripts").rglob("*.py"), *(root / "ldm").rglob("*.py")]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).split(".")[-1] in ("Image", "PIL"):
                found.append(file.relative_to(root).as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
                found += [file.relative_to(root).as_posix() for alias in node.names if alias.name == "open"]
    assert len(files) > 100 and found == ["ldm/system/image_files.py"]


def pictures(root: Path) -> Path:
    for i, name in enumerate(NAMES):
        picture(root / name, i)
    return root


def lines(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def metadata(root: Path, kind: str) -> None:
    """Captions of all pictures, in the way that `kind` names."""
    if kind == "text":
        lines(root / "metadata.jsonl", *({"file_name": n, "text": f"of {n}"} for n in NAMES))
    elif kind == "csv":
        (root / "metadata.csv").write_text("file_name,text\n" + "".join(f'{n},"of {n}"\n' for n in NAMES))
    elif kind == "below":
        for folder in (root, root / "sub"):
            rows = [{"file_name": f"{i}.png", "text": f"of {(folder / f'{i}.png').relative_to(root).as_posix()}"} for i in range(3)]
            lines(folder / "metadata.jsonl", *rows)
    elif kind == "above":
        lines(root / "sub" / "metadata.jsonl", *({"file_name": f"../{n}", "text": f"of {n}"} for n in NAMES))
    elif kind == "windows":
        lines(root / "metadata.jsonl", *({"file_name": n.replace("/", "\\"), "caption": f"of {n}"} for n in NAMES))
    elif kind == "absolute":
        lines(root / "metadata.jsonl", *({"file_name": str(root / n), "caption": f"of {n}"} for n in NAMES))
    elif kind == "sixteen":  # bit, as Windows' editor once saved text
        rows = "".join(json.dumps({"file_name": n, "caption": f"of {n}"}) + "\r\n" for n in NAMES)
        (root / "metadata.jsonl").write_bytes(rows.encode("utf-16"))


@pytest.mark.parametrize("make", [lambda root: ImageFolder(root, 32, captions=True), lambda root: AnnotatedFolder(root, 32)])
@pytest.mark.parametrize("kind", ["text", "csv", "below", "above", "windows", "absolute", "sixteen"])
def test_metadata_as_people_write_it(tmp_path: Path, kind: str, make: Any) -> None:
    metadata(pictures(tmp_path), kind)
    data = make(str(tmp_path))
    found = {sample["id"]: sample["caption"] for sample in (data[i] for i in range(len(data)))}
    assert found == {name: f"of {name}" for name in NAMES} and not data.broken


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_the_same_however_they_are_written(tmp_path: Path, form: Any) -> None:
    name = unicodedata.normalize(form, "caf\u00e9.png")
    picture(tmp_path / name)
    if name not in os.listdir(tmp_path):
        pytest.skip("this file system writes accents in a way of its own")
    other = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], name)
    lines(tmp_path / "metadata.jsonl", {"file_name": other, "caption": "a coffee"})
    data = ImageFolder(str(tmp_path), 32, captions=True)
    assert data[0]["caption"] == "a coffee" and data[0]["id"] == name


def test_one_of_several_captions_is_drawn_by_the_place_in_the_order(tmp_path: Path) -> None:
    lines(pictures(tmp_path) / "metadata.jsonl", *({"file_name": n, "caption": [f"a {n}", f"the {n}", f"one {n}"]} for n in NAMES))
    for data in (ImageFolder(str(tmp_path), 32, captions=True), AnnotatedFolder(str(tmp_path), 32)):
        drawn = [data.varied(0, 1, place)["caption"] for place in range(30)]
        assert set(drawn) == {"a 0.png", "the 0.png", "one 0.png"}
        assert drawn == [data.varied(0, 1, place)["caption"] for place in range(30)]  # so a resumed run goes on as it would have
        assert drawn != [data.varied(0, 2, place)["caption"] for place in range(30)]
        assert len({data[i]["caption"].split()[0] for i in range(6)}) > 1


@pytest.mark.parametrize(
    "row,reason",
    [
        ({"caption": []}, "caption: expected a string or a list of strings"),
        ({"text": ["a", 3]}, "text: expected a string or a list of strings"),
        ({"prompt": "a"}, r"has no 'caption' and no 'text' \(it has file_name, prompt\)"),
    ],
)
def test_captions_that_are_none_are_named(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    lines(pictures(tmp_path) / "metadata.jsonl", {"file_name": "0.png", **row})
    with pytest.raises(UserError, match=f"metadata.jsonl:1: {reason}"):
        AnnotatedFolder(str(tmp_path), 32)


def test_tables_that_are_none_are_named(tmp_path: Path) -> None:
    table = pictures(tmp_path) / "metadata.csv"
    table.write_text("file_name;text\n0.png;a\n")
    with pytest.raises(UserError, match="metadata.csv: no column 'file_name' .*separated by commas .it has 'file_name;text'"):
        AnnotatedFolder(str(tmp_path), 32)
    table.write_text('file_name,text,label\n0.png,a, with a comma,1\n1.png,"b, with one",2\n2.png,,3\n')
    data = AnnotatedFolder(str(tmp_path), 32, ["caption", "label"])
    assert [data[i]["caption"] for i in range(2)] == ["b, with one", ""] and data[0]["label"] == 2
    assert len(data.broken) == 1 and "metadata.csv:2: not as many cells as the first line's 3: put quotes" in data.broken[0]


@pytest.mark.parametrize(
    "row,last,reason",
    [
        ('1.png,"say "hi" now",2', "b", "expected after"),
        ('1.png,"a quote that does not end,2', "b", "expected after"),
        ('1.png,"a quote that does not end,2', '"b"', "expected after"),
    ],
)
def test_a_row_with_wrong_quotes_is_skipped_and_counted(tmp_path: Path, row: str, last: str, reason: str) -> None:
    table = pictures(tmp_path) / "metadata.csv"
    table.write_text(f'file_name,text,label\n0.png,"two\nlines",1\n{row}\n2.png,"says ""hi""",3\nsub/0.png,{last},4\n')
    data = AnnotatedFolder(str(tmp_path), 32, ["caption", "label"])
    assert [data[i]["caption"] for i in range(len(data))] == ["two\nlines", 'says "hi"', "b"]
    assert len(data.broken) == 1 and "metadata.csv:4: not a row of a CSV table" in data.broken[0] and reason in data.broken[0]
    table.write_text('file_name,text,label\n0.png,a,1\n1.png,"an open end,2\n2.png,c,3\n')
    data = AnnotatedFolder(str(tmp_path), 32, ["caption", "label"])
    assert len(data) == 2 and len(data.broken) == 1 and "metadata.csv:3: not a row of a CSV table (unexpected end" in data.broken[0]
    table.write_text('file_name,"te"xt\n0.png,a\n')
    with pytest.raises(UserError, match="metadata.csv:1: not a row of a CSV table"):
        AnnotatedFolder(str(tmp_path), 32)


def test_columns_of_text_keep_what_looks_like_a_number(tmp_path: Path) -> None:
    table = pictures(tmp_path) / "metadata.csv"
    table.write_text("file_name,price,hour,code\n0.png,1.50,1.50,7\n1.png,2.00,3,007\n")
    data = AnnotatedFolder(str(tmp_path), 32, ["price", "hour", "code"], texts=["price", "code"])
    assert [(data[i]["price"], data[i]["hour"], data[i]["code"]) for i in range(2)] == [("1.50", 1.5, "7"), ("2.00", 3, "007")]


def test_spaces_in_the_head_of_a_table_and_blank_lines_say_nothing(tmp_path: Path) -> None:
    table = pictures(tmp_path) / "metadata.csv"
    first, second = NAMES[:2]
    table.write_text(f'file_name , text\n{first}, "one, two"\n\n{second}, three\n   \n,\n , ,\n\n')
    data = AnnotatedFolder(str(tmp_path), size=8, give=["caption"])
    assert not data.broken and {data[i]["caption"] for i in range(len(data))} == {"one, two", "three"}


def test_captions_beside_the_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pictures(tmp_path)
    texts = [
        b"a first",
        "a caf\u00e9 \U0001f388\r\n".encode("utf-16"),
        b"",
        b"  \n",
        "caf\u00e9".encode("cp1252"),
        "nine".encode("utf-16-le"),
    ]
    for name, text in zip(NAMES, texts, strict=True):
        (tmp_path / name).with_suffix(".caption" if name == "0.png" else ".txt").write_bytes(text)
    data = ImageFolder(str(tmp_path), 32, captions=True)
    assert [data[i]["caption"] for i in range(4)] == ["a first", "a caf\u00e9 \U0001f388", "", ""] and len(data) == 4
    assert [line.split("sub/")[1].split(" (")[0] for line in data.broken] == ["1.txt: not UTF-8 text", "2.txt: not UTF-8 text"]
    assert all("save it as UTF-8" in line for line in data.broken)
    assert "4 pictures, 2 with an empty caption" in caplog.text and "also there" not in caplog.text


OUTSIDE = ["../out.png", "sub/../../out.png", "..\\out.png", "/etc/hostname", "{above}/out.png", "C:\\pictures\\out.png"]


@pytest.mark.parametrize("key", ["file_name", "segmentation", "mask"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_metadata_cannot_name_what_is_outside(tmp_path: Path, key: str, name: str) -> None:
    root = pictures(tmp_path / "root")
    picture(tmp_path / "out.png")
    name = name.format(above=tmp_path)
    lines(root / "metadata.jsonl", {"file_name": "0.png", "segmentation": "1.png", "mask": "1.png", key: name})
    reason = "no such file" if name[0] == "C" else "is outside of"
    with pytest.raises(UserError, match=f"none of its 1 entries.*metadata.jsonl:1: {key}: .*{reason}"):
        AnnotatedFolder(str(root), 32, ["segmentation", "mask"])


@pytest.mark.parametrize(
    "name,there",
    [
        ("0.jpg", "0.png"),
        ("SUB/1.PNG", "sub/1.png"),
        ("/data/mine/sub/22.png", "sub/22.png"),
        ("sub/unkown.png", "sub/unknown.png"),
    ],
)
def test_what_was_perhaps_meant_is_named(tmp_path: Path, name: str, there: str) -> None:
    pictures(tmp_path)
    picture(tmp_path / "sub" / "unknown.png")
    (tmp_path / "sub" / "2.png").rename(tmp_path / "sub" / "22.png")
    lines(tmp_path / "metadata.jsonl", {"file_name": name, "caption": "a"})
    with pytest.raises(UserError, match=rf"metadata.jsonl:1: file_name: .*\({there} exists\)"):
        AnnotatedFolder(str(tmp_path), 32)


def test_near_misses_among_folders_and_files(tmp_path: Path) -> None:
    root = pictures(tmp_path / "photos")
    (tmp_path / "list.txt").write_text("O.png\nsub/O.png\n1.png\nunkown.png\n")
    picture(root / "unknown.png")
    lines(root / "metadata.json1", *({"file_name": n, "caption": n} for n in NAMES))
    with pytest.raises(MissingFile, match=r"photo': no such folder \(photos exists\)"):
        ImageFolder(str(tmp_path / "photo"), 32)
    with pytest.raises(MissingFile, match=r"does not exist \(photos exists\)"):
        Coco(str(tmp_path / "Photos"), 32)
    with pytest.raises(MissingFile, match=r"no metadata.jsonl and no metadata.csv in .* \(metadata.json1 exists\)"):
        AnnotatedFolder(str(root), 32)
    with pytest.raises(UserError, match=r"no caption .*not in metadata.jsonl or metadata.csv\) \(metadata.json1 exists\)"):
        ImageFolder(str(root), 32, captions=True)
    data = ListedImages(str(root), 32, str(tmp_path / "list.txt"))
    assert len(data) == 1 and "no unkown.png in" in data.broken[-1] and "(unknown.png exists)" in data.broken[-1]


HOSTILE = "a\n\x1b[31mred\t\u202egpj.png"


def test_names_do_not_reach_the_terminal_raw(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    root = pictures(tmp_path / "x\x1b[2J")
    (root / HOSTILE).write_bytes(b"broken")
    picture(root / "\x1b[1m.png")
    lines(root / "metadata.jsonl", {"file_name": "9\x1b[31m\n.png", "caption": "a"}, {"file_name": "0.png", "caption": "a"})
    data = ImageFolder(str(root), 32)
    seen = [*data[data.names.index(HOSTILE)]["skipped"]]
    data = ImageFolder(str(root), 32, captions=True)
    seen += [*data.broken, *(record.getMessage() for record in caplog.records if record.name.startswith("ldm"))]
    assert any("\\x1b[31mred\\t\\u202egpj.png" in line for line in seen) and any("file_name: no such file" in line for line in seen)
    with pytest.raises(UserError) as caught:
        AnnotatedFolder(str(root / "sub" / HOSTILE), 32)
    for line in [*seen, str(caught.value)]:
        assert line.isprintable(), repr(line)


def test_heif_is_read_where_its_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for pillow-heif, which opens BMP under the name of HEIF."""
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import BmpImagePlugin, Image\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', BmpImagePlugin.BmpImageFile, lambda start: start[:2] == b'BM')\n"
        "    Image.register_extension('HEIF', '.heic')\n"
    )
    picture(tmp_path / "set" / "a.bmp")
    (tmp_path / "set" / "a.bmp").rename(tmp_path / "set" / "a.heic")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("OPEN", "ID", "EXTENSION"):
        monkeypatch.setattr(Image, name, getattr(Image, name).copy())
    imagefiles.formats.cache_clear()
    imagefiles.suffixes.cache_clear()
    try:
        assert "skipped" not in ImageFolder(str(tmp_path / "set"), 32)[0]
    finally:
        imagefiles.formats.cache_clear()
        imagefiles.suffixes.cache_clear()
        sys.modules.pop("pillow_heif", None)


def test_bombs_and_torn_files_are_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.jpg", size=(400, 300))
    picture(tmp_path / "c.png", size=(400, 300))
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:2000])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    data = ImageFolder(str(tmp_path), 32)
    assert "skipped" not in data[0] and data.original_size(1) is None
    assert [text.split(": ")[0].rpartition("/")[2] for text in data[1]["skipped"]] == ["b.jpg", "c.png"]
