import json
from dataclasses import replace
from pathlib import Path

import pytest
from imagesets import SETTINGS

from ldm.errors import MissingFile, UserError
from ldm.evaluation.provenance import provenance_of
from ldm.evaluation.record import FREE, PROTOCOL, Record, compare, read_records, write_records

A = Record(
    "FID",
    5.11,
    50000,
    spread=0.04,
    spread_is="standard error",
    seed=1,
    checkpoint="c" * 64,
    sampler="ddim",
    steps=200,
    eta=0.0,
    scale=1.0,
    sampling={"spacing": "uniform"},
    class_balance="no classes",
    image_format="PNG",
    image_size="256x256",
    extractor="Inception V3 (torch-fidelity)",
    extractor_sha256="6" * 64,
    reference="folder x",
    reference_images=25000,
    reference_sha256="a" * 64,
    notes=("a note",),
)


def test_json_out_and_in(tmp_path: Path) -> None:
    write_records(tmp_path / "r.json", [A, replace(A, metric="KID", value=-1e-5)])
    assert read_records(tmp_path / "r.json") == [A, replace(A, metric="KID", value=-1e-5)]
    with pytest.raises(MissingFile, match="nowhere.json"):
        read_records(tmp_path / "nowhere.json")
    for change, message in (
        ({"vlaue": 1}, "unknown field 'vlaue'"),
        ({"value": "5"}, "expected a number, got '5'"),
        ({"value": float("nan")}, "expected a number, got nan"),
        ({"notes": 5}, "notes: expected sequence, got 5"),
        ({"sampling": [1]}, r"sampling: expected mapping, got \[1\]"),
        ({"metric": None}, "metric: expected text, got None"),
        ({"samples": "5"}, "samples: expected int, got '5'"),
    ):
        row = {"metric": "FID", "value": 1.0, "samples": 5, **change}
        (tmp_path / "bad.json").write_text(json.dumps({"records": [row]}))
        with pytest.raises(UserError, match=message):
            read_records(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text('{"records": 5}')
    with pytest.raises(UserError, match="records: expected a list, got int"):
        read_records(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text("5")
    with pytest.raises(UserError, match="not a file of records"):
        read_records(tmp_path / "bad.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 5000},
        {"steps": 100},
        {"eta": 1.0},
        {"scale": 1.5},
        {"sampler": None},
        {"sampling": {"spacing": "original_uniform"}},
        {"class_balance": "1000 classes, 50 of each"},
        {"image_format": "JPEG"},
        {"resize": "shorter side to 256, bilinear"},
        {"crop": "centre 256"},
        {"extractor_resize": "antialiased"},
        {"extractor_sha256": "7" * 64},
        {"reference_sha256": "b" * 64},
        {"reference_images": 30000},
        {"parameters": {"fewer_than": 2048}},
        {"metric": "FD (demo features)"},
    ],
)
def test_unlike_protocols_are_refused_unless_told_what_to_ignore(changes: dict) -> None:
    name = next(iter(changes))
    with pytest.raises(UserError, match=f"measured differently: {name}: .* and .*--ignore {name}"):
        compare(A, replace(A, **changes))
    found = compare(A, replace(A, value=4.0, **changes), ignore=[name])
    assert found.ignored == (name,) and found.gap == pytest.approx(-1.11)
    assert any(line.startswith(f"{name} (ignored)") or name == "metric" for line in found.lines())


def test_two_models_side_by_side() -> None:
    b = replace(A, value=7.5, checkpoint="d" * 64, seed=2, reference="elsewhere", notes=())
    found = compare(A, b)
    text = "\n".join(found.lines(("one", "two")))
    assert (
        "FID" in text
        and f"5.11 ({A.samples} samples)" in text
        and f"7.5 ({A.samples} samples)" in text
        and "two - one = +2.39" in text
        and "dddddddddddd..." in text
    )
    assert "steps 200" in text and "unknown in both" not in text
    unknown = compare(replace(A, steps=None), replace(b, steps=None))
    assert unknown.unknown == ("steps",) and "unknown in both: steps" in unknown.lines()[-1]
    with pytest.raises(UserError, match="steps and extractor_sha256|steps: 200 and 50; extractor_sha256: 6+... and 7+..."):
        compare(A, replace(b, steps=50, extractor_sha256="7" * 64))
    with pytest.raises(UserError, match="is not a field of a record; did you mean steps"):
        compare(A, b, ["step"])
    with pytest.raises(UserError, match="is never compared"):
        compare(A, b, ["value"])
    assert set(FREE).isdisjoint(PROTOCOL)


def test_a_set_says_how_it_was_made_or_is_refused() -> None:
    names = [f"{i}.png" for i in range(6)]
    told = [{**SETTINGS, "number": i, "label": i % 3, "spacing": "uniform"} for i in range(6)]
    made = provenance_of(told, names, "set")
    sampling = {"seed": 3, "sampler": "ddim", "steps": 25, "eta": 0.0, "scale": 1.5, "sampling": {"spacing": "uniform"}}
    assert made == {**sampling, "checkpoint": "ab" * 32, "training_step": 7, "class_balance": "3 classes, 2 of each"}
    assert provenance_of([None] * 6, names, "set") == {}
    for at, change, message in (
        (4, {"steps": 50}, "mixed settings: steps is 25 in 0.png and 50 in 4.png"),
        (2, {"seed": 4}, "seed is 3 in 0.png and 4 in 2.png"),
        (3, {"sha256": "cd"}, "sha256"),
        (5, {"window": 64}, "window is None in 0.png and 64 in 5.png"),
        (5, {"number": 1}, "two images are number 1 of the set"),
        (5, {"number": 9}, "image number 5 of the set is missing"),
    ):
        mixed = [{**one, **change} if i == at else one for i, one in enumerate(told)]
        with pytest.raises(UserError, match=message):
            provenance_of(mixed, names, "set")
    with pytest.raises(UserError, match="3.png stores no sampling settings"):
        provenance_of([*told[:3], None, *told[4:]], names, "set")


def test_another_balance_has_other_words() -> None:
    def words(key: str, asked: list) -> str | None:
        settings = [{"number": i, **({} if value is None else {key: value})} for i, value in enumerate(asked)]
        return provenance_of(settings, [str(i) for i in range(len(asked))], "set")["class_balance"]

    assert words("label", [0, 1, 2, 2, 1, 0]) == "3 classes, 2 of each"
    balances = [[0, 1, 2, 0, 1, 2], [0, 1, 3, 0, 1, 3], [7, 8, 9, 7, 8, 9], [0, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, None]]
    assert len({words("label", one) for one in balances}) == len(balances)  # as many classes, equally often: yet not the same ones
    assert words("label", balances[3]).startswith("2 classes, 1 to 5 of each (")
    captions = [["a", "b", "c"], ["a", "b", "d"], ["a", "a", "b", "c"]]
    assert len({words("caption", one) for one in captions}) == 3 and words("caption", ["c", "b", "a"]) == words("caption", captions[0])
    assert words("caption", captions[0]).startswith("3 captions (") and words("label", [None, None]) == "no classes"
