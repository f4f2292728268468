"""The report on made run folders: what it says, what it escapes, and how it looks in a real browser."""

import html
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from browser import needs_browser, visit
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.data.grid import save_named
from ldm.evaluation.curves import COLOURS, curve, logarithmic, thinned
from ldm.evaluation.names import short_names
from ldm.evaluation.page import embed, write_page
from ldm.evaluation.record import Record, write_records
from ldm.evaluation.runs import ABSENT, differences, read_lines, read_sessions

NASTY = '<script>console.error("hit")</script><img src="http://example.com/x.png" onerror=alert(1)>&"\''
SCRIPTS = ("虎斑猫", "يوم مشمس", "धूप वाला दिन", "солнечный день", "ηλιόλουστη μέρα", "🐈‍⬛ on a mat")
SESSION = {
    **{"step": 0, "time": "2026-12-01T12:49:43+0000", "device": "NVIDIA H200", "devices": 2, "precision": "bf16-mixed"},
    **{"parameters": {"first_stage": 55_320_000, "network": 274_060_000}, "trained_parameters": 274_060_000, "ema_decay": 0.9999},
    **{"price_per_hour": 2.5, "torch": "2.11", "ldm": "0.1.0"},
}


def text_of(page: Path) -> str:
    """What a reader sees, in one line."""
    inside = page.read_text().split("</style>")[1].replace("<wbr>", "")
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", inside).split()))


def make_run(folder: Path, width: int = 32, pictures: int = 9) -> Path:
    folder.mkdir(parents=True)
    config = {"model": {"width": width, "caption": NASTY}, "trainer": {"params": {"steps": 200}}, "data": {"params": {"batch_size": 8}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "base.yaml").write_text(yaml.safe_dump({"model": {"width": 32}, "trainer": {"params": {"steps": 500}}}))
    rows = ["step,loss,seconds,images_per_second,process_memory_gib,validation_psnr,validation_kl_0,validation_kl_1"]
    rows += [f"{i},{10 / i},{36 * i},{50 + i % 3},1.25,{20 + i / 10},0.5,0.25" for i in range(1, 101)]
    (folder / "metrics.csv").write_text("\n".join([*rows, "101,nan,,,,,,"]) + "\n")
    (folder / "images").mkdir()
    for i in range(pictures):
        picture = Image.new("RGB", (2000 if i == 0 else 40, 20), (20 * i, 90, 30))
        save_named(folder / "images" / f"step-{i * 100:06d}-samples.png", picture, [*SCRIPTS, NASTY])
    lines = [{"step": i, "kind": "skipped sample", "what": f"{NASTY} {i}"} for i in range(120)]
    lines += [{"step": 101, "kind": "not finite", "what": "loss"}, {"step": 60, "kind": "resume", "what": "continued from step 60"}]
    (folder / "incidents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 7, "ki')
    write_records(folder / "fd.record.json", [Record("FD (demo features)", 12.5, 5000, spread=0.3, extractor=NASTY)])
    return folder


def test_a_report_says_what_the_run_folder_holds(script, tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    done = script("scripts/report.py", run)
    assert done.returncode == 0, done.stderr
    page = (run / "report.html").read_text()
    text = text_of(run / "report.html")
    for said in (
        "trainer.params.steps 500 200",
        f"model.caption {ABSENT}",
        "steps 101 of 200 batch 8 images seen 808 device not recorded parameters not recorded precision not recorded",
        "throughput 51 images/s (median)",
        "peak memory of the process, GiB 1.25",
        "training time 1:00:00 cost no price given loss, last 0.1",
        "validation: PSNR, dB, last 30",
        "120 × skipped sample, 1 × not finite, 1 × resume, 1 × unreadable line",
        "23 more are in its incidents.jsonl",
        "60 resume continued from step 60",
        f"FD (demo features) 5,000 samples, {NASTY} 12.5 ± 0.3",
        "FD (demo features): 12.5 ± 0.3 (5000 samples)",
        "samples 5000",
        "0 0.5 1 0.25",  # KL per channel
        "step 0, reduced from 2000 x 20 pixels",
        "step 800",
        "3 in between are left out (--grids)",
    ):
        assert said in text, said
    assert page.count('<img class="curve"') == 4 and page.count("<img ") == 4 + 6  # curves of all but the channels
    assert page.index("Samples</h2>") < page.index("In short</h2>") < page.index("Curves</h2>")  # pictures first
    assert page.count("<img ") == page.count(' alt="') and page.count("<th>") == 0
    outside = re.findall(r'(?:src|href)="(?!data:)[^"]*"', page)
    assert not outside and "<script" not in page and "onerror=alert(1)&gt;" in page


def test_what_evaluate_measures_is_in_the_report(script, tmp_path: Path) -> None:
    """The file that scripts/evaluate.py writes into a run folder, as it writes it: every record of it with its protocol."""
    run = make_run(tmp_path / "one")
    for name, level in (("a", 100), ("b", 110)):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (16, 16), (level, level, level + i)).save(tmp_path / name / f"{i}.png")
    done = script(
        "scripts/evaluate.py", tmp_path / "a", tmp_path / "b", "--metrics", "psnr,ssim", "--out", run / "record.json", "--cache", ""
    )
    assert done.returncode == 0, done.stderr
    assert script("scripts/report.py", run).returncode == 0
    text = text_of(run / "report.html")
    measured = {record["metric"]: record["value"] for record in json.loads((run / "record.json").read_text())["records"]}
    assert len(measured) == 2 and all(f"{metric}: {value:.6g} " in text for metric, value in measured.items()), text
    assert "file record.json samples 2" in text and " unknown seed" in text


def test_several_runs_side_by_side(script, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "two", width=64, pictures=0)]
    (runs[1] / "base.yaml").unlink()
    done = script("scripts/report.py", *runs, "--out", tmp_path / "both.html", "--grids", 2)
    assert done.returncode == 0, done.stderr
    text = text_of(tmp_path / "both.html")
    assert "Where the runs differ key one two model.width 32 64" in text and "has no base.yaml" in text
    (tmp_path / "base.yaml").write_text("model: {width: 16}\n")
    assert script("scripts/report.py", *runs, "--out", tmp_path / "b.html", "--base", tmp_path / "base.yaml").returncode == 0
    text = text_of(tmp_path / "b.html")
    assert "model.width 16 32" in text and "model.width 16 64" in text


def test_the_device_size_speed_time_and_cost_of_runs_are_shown_once_where_they_are_the_same(script, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("2026-12-01T12-49-43_text", "2026-12-01T13-10-08_text-flow")]
    (runs[0] / "sessions.jsonl").write_text(json.dumps(SESSION) + "\n")
    (runs[1] / "sessions.jsonl").write_text(json.dumps(SESSION | {"device": "NVIDIA A100", "price_per_hour": None}) + "\n{")
    assert script("scripts/report.py", *runs, "--out", tmp_path / "both.html").returncode == 0
    text = text_of(tmp_path / "both.html")
    for said in (
        "Comparison of 2 runs text text-flow Samples Always",  # neither name has the time of its start
        "parameters first stage 55.32 M, network 274.06 M precision bf16-mixed trained parameters 274.06 M",
        "averaged weights EMA, decay 0.9999",
        "text text-flow device 2 x NVIDIA H200 2 x NVIDIA A100 cost 2.50 at 2.5 per hour no price given Metrics",
        "FD (demo features) 5,000 samples, " + NASTY + " 12.5 ± 0.3 12.5 ± 0.3",
        "validation: PSNR, dB",
    ):
        assert said in text, said
    assert script("scripts/report.py", *runs, "--price", 4, "--out", tmp_path / "both.html").returncode == 0
    assert "cost 4.00 at 4 per hour" in text_of(tmp_path / "both.html")


@pytest.mark.parametrize(
    ("names", "short", "common"),
    [
        (["2026-12-01T12-49-43_text"], ["text"], "2026-12-01T12-49-43_text"),
        (["run"], ["run"], ""),
        (["2026-12-01T12-49-43_text", "2026-12-01T13-10-08_text"], ["12-49-43", "13-10-08"], "all: 2026-12-01T…_text"),
        (["flowers-lr1e-4", "flowers-lr1e-3", "flowers-lr2e-3"], ["lr1e-4", "lr1e-3", "lr2e-3"], "all: flowers-…"),
        (["a", "a-b"], ["a", "a-b"], ""),
    ],
)
def test_names_of_runs_are_short(names: list[str], short: list[str], common: str) -> None:
    assert short_names(names) == (short, common)


def test_wrong_runs_are_one_clear_line(script, tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    cases = [([tmp_path], 3, "not a run folder"), ([run, run], 2, "different names"), ([run, "--grids", 0], 2, "--grids: 0")]
    for words, code, message in cases:
        done = script("scripts/report.py", *words)
        assert done.returncode == code and message in done.stderr, done.stderr
    for name, content, message in (
        ("images/step-000900-samples.png", "no picture", "step-000900-samples.png: not a complete picture"),
        ("metrics.csv", "step,loss\n1,two\n", "metrics.csv, line 2"),
        ("metrics.csv", b"step,loss\n1,\xff\n", "metrics.csv, line 2"),
        ("fd.record.json", "[1]", "fd.record.json: not a file of records"),
    ):
        before = (run / name).read_bytes() if (run / name).is_file() else None
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        done = script("scripts/report.py", run)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
        (run / name).unlink() if before is None else (run / name).write_bytes(before)


def test_values_of_another_type_in_the_sessions_are_left_out(tmp_path: Path) -> None:
    right = {"device": "GPU", "devices": 2, "parameters": {"network": 5}, "price_per_hour": 2, "ema_decay": None}
    wrong = {"device": 1, "devices": None, "parameters": {"network": "x"}, "price_per_hour": "a", "ema_decay": "x", "time": 3}
    (tmp_path / "sessions.jsonl").write_text(f"{json.dumps(right)}\n{json.dumps(wrong)}\n")
    assert read_sessions(tmp_path / "sessions.jsonl") == [right, {"parameters": {}}]


def test_a_picture_with_a_chunk_of_another_program(tmp_path: Path) -> None:
    for i, chunk in enumerate(("plain words", "[" * 100_000, "3")):
        info = PngInfo()
        info.add_text("names", chunk)
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i}.png", pnginfo=info)
        assert embed(tmp_path / f"{i}.png").names == []


def test_a_run_that_is_being_written_or_was_cut_off_is_read_as_far_as_it_goes(script, tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    (run / "metrics.csv").write_text("step,loss,gradient_norm_1,lr_1\n1,0.5,2,3\n2,1e308,2,3\n3,-1e308,2,3\n4,1e-")
    (run / "incidents.jsonl").write_bytes(b'{"step": 1, "kind": "warning", "what": "\xff"}\n\xff\xfe')
    done = script("scripts/report.py", run)
    assert done.returncode == 0, done.stderr
    page = (run / "report.html").read_text()
    assert "1 × warning, 1 × unreadable line" in page
    charts = re.findall('class="curve" alt="([^"]*)"', page)
    names = ("loss", "gradient norm 1", "learning rate, optimizer 2")  # numbers of optimizers are no channels
    assert charts == [f"{name}, over training steps" for name in names]


def test_parts(tmp_path: Path) -> None:
    assert differences({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 1, "c": [1]}, "d": None}) == [
        ("a.c", [[1, 2], [1]]),
        ("d", [ABSENT, None]),
    ]
    assert read_lines(tmp_path / "none") == ([], [])
    steps, mean, low, high = thinned([(i, float(i % 2)) for i in range(1000)], 100)
    assert steps.tolist() == list(range(5, 1000, 10)) and set(mean) == {0.5} and set(low) == {0.0} and set(high) == {1.0}
    assert thinned([(1, 2.0), (3, 5.0)]).tolist() == [[1, 3], [2, 5], [2, 5], [2, 5]]
    assert logarithmic([1000.0, *10 * [1.0]]) and not logarithmic([0.01 * (100 - i) for i in range(100)])  # a learning rate that ends at 0
    with pytest.raises(ValueError, match="no finite"):
        curve({"a": [(1, math.nan)]})


def line_of(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """Where a curve is drawn."""
    svg = ElementTree.fromstring(curve({"a": points, NASTY: []}))
    line = next(path for path in svg.iter() if f"fill: none; stroke: {COLOURS[0]}" in path.get("style", ""))
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", line.get("d"))]


def test_a_curve_is_drawn_where_its_numbers_are() -> None:
    (x0, y0), (x1, y1), (x2, y2) = line_of([(0, 0.0), (5, 10.0), (10, 0.0)])
    assert x0 < x1 < x2 and abs(x1 - (x0 + x2) / 2) < 0.2 and y0 == y2 > y1  # a peak in the middle, drawn upwards
    (_, y0), (_, y1), (_, y2) = line_of([(0, 1.0), (1, 100.0), (2, 10.0)])
    assert abs(y2 - (y0 + y1) / 2) < 0.2  # a logarithmic axis
    assert len(line_of([(1, 1e308), (2, -1e308), (3, 1e38), (4, -1e38), (5, 0.0)])) == 3


@needs_browser
def test_the_report_in_a_browser_as_wide_as_a_phone(script, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / ("two_" + 60 * "long"), width=64)]
    assert script("scripts/report.py", *runs, "--out", tmp_path / "report.html").returncode == 0
    found = visit(tmp_path, "report.html")
    assert found["console"] == [] and found["overflow"] == 0, found
    assert len(found["images"]) == 12 + 4 and all(0 < width <= (608 if natural == 1600 else 390) for natural, width in found["images"])
    assert all(text in found["text"] for text in SCRIPTS)
    assert len(found["curves"]) == 4 and all(height > 100 for height in found["curves"])


@needs_browser
def test_a_page_of_results_in_a_browser_as_wide_as_a_phone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "2026-12-01T12-49-43_text")
    picture = run / "images" / "step-000100-samples.png"
    numbers = [("a_name_" + 60 * "long", "1.5", NASTY), ("FD", "3.2 (5000 samples)", " ".join(SCRIPTS))]
    pictures = {f"{NASTY} {SCRIPTS[0]}": picture}
    write_page(tmp_path / "index.html", NASTY, " ".join(SCRIPTS), numbers, pictures, {"stage one": run, "gone": tmp_path / "gone"})
    found = visit(tmp_path, "index.html")
    assert found["console"] == [] and found["overflow"] == 0 and found["images"] == [[40, pytest.approx(358, abs=20)]], found
    assert all(text in found["text"] for text in (*SCRIPTS, "51 images/s", "3.2 (5000 samples)")) and "gone" not in found["text"]


@needs_browser
def test_the_browser_would_see_what_is_wrong(tmp_path: Path) -> None:
    bad = '<!doctype html><div style="width:600px">wide</div><img src="no.png"><script>console.error("hit")</script>'
    (tmp_path / "bad.html").write_text(bad)
    found = visit(tmp_path, "bad.html")
    assert found["overflow"] > 100 and found["images"][0][0] == 0 and any("hit" in line for line in found["console"])
