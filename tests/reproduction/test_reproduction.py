"""Plans, counts, costs, speeds and results of the paper's tables, in small."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ldm.errors import UserError
from ldm.system.weights import fingerprint, save_weights
from paper.commands import Command, commands, needs_to_measure
from paper.cost import Cost, sampling_cost, sampling_work, training_cost, training_costs
from paper.narrow import narrowed
from paper.needs import OwnPaths
from paper.results import find_record, values
from paper.sizes import config_of, counts, full_size, work
from paper.speed import Speeds, SpeedSettings, measure, printed_ratio
from paper.tables import figure, table
from paper.timing import in_turn, ratio

NUMBERS = ["1", "2", "3", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "18"]
# Printed sizes that the stated shape does not have, by table and row: every one is a named disagreement.
MISPRINTED = {("13", "imagenet-f4"), ("15", "layout-coco-ldm8"), ("15", "imagenet-ldm4"), ("18", "churches-ldm8-kl")}


@pytest.mark.parametrize("number", ["2", "3", "5", "10", "12", "13", "14", "15", "18"])
def test_the_counted_sizes_are_the_printed_ones(number: str) -> None:
    for row in table(number).rows:
        if "n_params_M" in row.paper:
            counted = sum(counts(row).values()) / 1e6
            close = counted == pytest.approx(row.paper["n_params_M"], rel=0.01)
            assert close != ((number, row.row) in MISPRINTED), (row.row, counted)
            assert close or row.disagrees


@pytest.mark.parametrize("one", [*map(table, NUMBERS), *map(figure, ["6", "7", "17"])], ids=lambda one: one.number)
def test_every_row_has_commands_with_flags_that_exist_and_a_cost(one, root: Path) -> None:
    for row in one.rows:
        steps = commands(one, row, OwnPaths())
        protocol = one.protocol_of(row)
        assert steps[0].does == "train" and any(s.does == "measure" for s in steps) == bool(protocol.samples)
        text = next((" ".join(s.words) for s in steps if s.does == "sample"), "")
        assert not row.sampling or not protocol.samples or f"--eta {row.sampling['eta']:g}" in text
        if one.number.startswith("table") and row.sampling and protocol.samples:
            assert f"--steps {row.sampling['steps']} " in text
        covered = {printed for step in steps for printed, _ in step.names}
        rest = {"n_params_M", "throughput", "generator_compute", "classifier_compute", "overall_compute"}
        rest |= {"width", "batch", "iterations", "lr"} | set(one.speed.get("columns", {}))
        assert {name for name in row.paper if not name.endswith("_std")} <= covered | rest
        assert training_cost(row).days > 0 and (not protocol.samples or sampling_cost(one, row).days > 0)


def test_costs_add_up() -> None:
    celeba = table("18").find("celebahq-ldm4")
    assert training_cost(celeba).days == pytest.approx(14.4 / 2.2)
    assert sampling_cost(table("18"), celeba).days == pytest.approx(50000 / 0.43 / 86400)
    half = replace(celeba, sampling={**celeba.sampling, "steps": 250})
    one = work(celeba.config)
    assert sampling_work(celeba) - sampling_work(half) == 250 * one.network
    assert Cost(0.5, "x").text() == "12 A100-hours (x)"
    guided = table("10").find("imagenet-ldm4-g-1.5")
    plain = table("10").find("imagenet-ldm4")
    assert sampling_work(guided) - one_decode(guided) == 2 * (sampling_work(plain) - one_decode(plain))


def one_decode(row) -> int:
    return work(row.config).decode


def test_work_is_what_the_layers_cost() -> None:
    """A 1x1 convolution of the first stage, counted by hand, is part of the count; pixels need no first stage."""
    assert work("ldm/celeba-f1").decode == work("ldm/celeba-f1").encode == 0
    small, large = work("ldm/inpaint-ldm4-vq", 256), work("ldm/inpaint-ldm4-vq", 512)
    assert 4 <= large.decode / small.decode < 5 and 4 <= large.network / small.network < 5


def test_narrowing_keeps_models_equally_large() -> None:
    rows = table("6").rows
    for row in rows:
        node = config_of(row.config).data["model"]
        before, after = (n["params"]["model"]["params"]["network"]["params"] for n in (node, narrowed(node, 0.25)))
        assert after == {**before, "width": before["width"] // 4}
        assert full_size(row.config).model.network.width == before["width"]  # the original is as it was
    with pytest.raises(UserError, match="not an even number"):
        narrowed(config_of("ldm/sr-ldm4").data["model"], 0.01)


def test_in_turn_times_every_piece_in_every_round() -> None:
    order: list[str] = []
    seconds = in_turn({name: (lambda name=name: order.append(name)) for name in "abc"}, 2, torch.device("cpu"))
    assert "".join(order) == "abc" + "abc" + "bca" and all(len(times) == 2 for times in seconds.values())
    found = ratio([4.0, 6.0, 8.0], [1.0, 2.0, 2.0])
    assert (found.median, found.low, found.high, found.rounds) == (4.0, 3.0, 4.0, 3)


def test_speeds_of_a_table_in_small() -> None:
    settings = SpeedSettings(torch.device("cpu"), share=1 / 16, rounds=1, pixels=0.25)
    one = table("6")
    rows = [one.find("inpaint-ldm1"), one.find("inpaint-ldm4-vq")]
    speeds = measure(one, rows, settings)
    assert speeds.seconds.keys() == one.speed["columns"].keys()
    small = list(speeds.parameters.values())
    assert small[0] == pytest.approx(small[1], rel=0.02)
    assert speeds.ratio("train_throughput", "inpaint-ldm1", "inpaint-ldm1").median == 1.0
    assert all(times[0] > 0 for column in speeds.seconds.values() for times in column.values())
    five = table("5")
    guided = measure(five, [five.find("sr-ldm4"), five.find("sr-ldm4-guided-50")], replace(settings, pixels=0.5))
    assert guided.seconds["throughput"].keys() == {"sr-ldm4", "sr-ldm4-guided-50"}


def test_the_printed_claim_is_the_smallest_printed_ratio() -> None:
    one = table("6")
    pixels = one.find("inpaint-ldm1")
    printed = [printed_ratio(column, row, pixels) for column in one.claim["columns"] for row in one.rows if row is not pixels]
    assert min(printed) == pytest.approx(one.claim["at_least"], abs=0.005)
    speeds = Speeds("s", {"train_throughput": {"inpaint-ldm1": [9.0, 9.0], "inpaint-ldm4-vq": [3.0, 1.0]}})
    assert speeds.ratio("train_throughput", "inpaint-ldm4-vq", "inpaint-ldm1").median == 6.0


def everything(one, row, places: OwnPaths, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put all that a row needs where it is looked for."""
    monkeypatch.chdir(folder)
    for need in needs_to_measure(one, row, places):
        need.path.parent.mkdir(parents=True, exist_ok=True)
        need.path.touch()


def test_a_row_runs_where_everything_is_there_and_says_why_not_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, ran = table("1"), []
    row = one.find("celebahq-ldm4")

    def pretend(command: Command) -> None:
        ran.append(command.does)
        if command.record is not None:
            command.record.parent.mkdir(parents=True)
            rows = [{"metric": "FD (demo features)", "value": 1.0, "samples": 9}, {"metric": "FID", "value": 6.0, "samples": 10}]
            command.record.write_text(
                json.dumps({"records": [*rows, {"metric": "precision, ADM (Inception)", "value": 0.7, "samples": 50000}]})
            )

    monkeypatch.chdir(tmp_path)
    missing = values(one, row, OwnPaths(), None, pretend)
    assert not ran and all(v.ours is None and "models/ldm/celebahq-ldm4.safetensors" in v.how for v in missing)
    everything(one, row, OwnPaths(), monkeypatch, tmp_path)
    found = {value.name: value for value in values(one, row, OwnPaths(), None, pretend)}
    assert ran == ["sample", "measure"]
    assert found["fid"].ours == 6.0 and found["fid"].gap == pytest.approx(0.89) and "the protocol has 50000" in found["fid"].how
    assert found["precision"].ours == 0.7 and "the protocol" not in found["precision"].how
    assert found["recall"].ours is None and "has no recall" in found["recall"].how
    values(one, row, OwnPaths(), None, pretend)
    assert ran == ["sample", "measure"]  # what is measured is read

    def fails(command: Command) -> None:
        raise UserError("scripts/sample.py ended with 2: a reason")

    other = one.find("ffhq-ldm4")
    everything(one, other, OwnPaths(), monkeypatch, tmp_path)
    assert all(v.ours is None and "a reason" in v.how for v in values(one, other, OwnPaths(), None, fails))


def test_what_lacks_nothing_runs_though_the_rest_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Table 8 without Inception and VGG16: PSNR and SSIM come out; the images are made once."""
    one, ran = table("8"), []
    row = one.find("vq-f4")
    everything(one, row, OwnPaths(), monkeypatch, tmp_path)
    for name in ("weights-inception-2015-12-05-6726825d.pth", "vgg16-397923af.pth"):
        (tmp_path / "models/metrics" / name).unlink()

    def pretend(command: Command) -> None:
        ran.append(command.does)
        if command.record is not None:
            command.record.parent.mkdir(parents=True, exist_ok=True)
            rows = [{"metric": name, "value": 2.0, "samples": 50000} for name in ("PSNR", "SSIM", "PSIM: LPIPS (VGG16)")]
            command.record.write_text(json.dumps({"records": rows}))

    found = {value.name: value for value in values(one, row, OwnPaths(), None, pretend)}
    assert {name for name, value in found.items() if value.ours is not None} == {"psnr", "ssim"} and ran == ["sample", "measure"]
    assert "missing models/metrics/vgg16" in found["psim"].how and "missing models/metrics/weights-inception" in found["r_fid"].how
    (tmp_path / "models/metrics/vgg16-397923af.pth").touch()
    found = {value.name: value for value in values(one, row, OwnPaths(), None, pretend)}
    assert found["psim"].ours == found["psnr"].ours == 2.0
    (tmp_path / "models/first_stage/vq-f4.safetensors").unlink()
    assert {value.name: value.ours for value in values(one, row, OwnPaths(), None, pretend)}["psnr"] == 2.0, "a record is read"


def test_a_record_of_other_weights_is_not_taken_for_this_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = table("1")
    row, weights = one.find("celebahq-ldm4"), {"w": torch.ones(2)}
    save_weights(tmp_path / "mine.safetensors", weights, {"config": {}})
    record = commands(one, row, OwnPaths())[-1].record
    assert record is not None
    record.parent.mkdir(parents=True)
    for checkpoint, ours in ((fingerprint(weights), 6.0), ("0" * 64, None)):
        record.write_text(json.dumps({"records": [{"metric": "FID", "value": 6.0, "samples": 50000, "checkpoint": checkpoint}]}))
        found = {value.name: value for value in values(one, row, OwnPaths(model="mine.safetensors"), None, lambda _: None)}
        assert found["fid"].ours == ours
    assert "of other weights than mine.safetensors" in found["fid"].how


def test_records_of_other_things_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("[]")
    with pytest.raises(UserError, match="not a file of records"):
        find_record(path, "fid")


def test_hard_crops_are_sampled_and_measured_apart() -> None:
    one = table("7")
    steps = commands(one, one.find("inpaint-ldm4-vq"), OwnPaths())
    assert [s.does for s in steps] == ["train", "sample", "measure", "measure", "sample", "measure", "measure"]
    assert "data/places-512" in steps[1].words and "data/places-512-hard" in steps[4].words
    assert steps[4].words[steps[4].words.index("--outdir") + 1] == steps[5].words[1] == steps[6].words[1] != steps[2].words[1]
    assert [s.samples for s in steps if s.does == "measure"] == [30000, 30000, 0, 0]  # how many are hard, the crops decide


def test_each_number_has_the_weights_and_references_that_it_needs_and_no_others() -> None:
    def needs(number: str, name: str, printed: str) -> set[str]:
        steps = commands(table(number), table(number).find(name), OwnPaths())
        (command,) = [step for step in steps if printed in dict(step.names)]
        return {need.path.name for need in command.needs}

    inception, vgg16 = "weights-inception-2015-12-05-6726825d.pth", "vgg16-397923af.pth"
    assert (needs("8", "vq-f4", "r_fid"), needs("8", "vq-f4", "psim"), needs("8", "vq-f4", "psnr")) == ({inception}, {vgg16}, set())
    assert needs("7", "inpaint-ldm4-vq", "all_lpips") == {"places-512-whole", vgg16}
    assert needs("5", "sr-ldm4", "psnr") == {"imagenet-val-256"} and needs("5", "sr-ldm4", "fid_train") == {"imagenet-train-256", inception}
    guided = needs_to_measure(table("5"), table("5").find("sr-ldm4-guided-50"), OwnPaths())
    assert vgg16 in {need.path.name for need in guided}, "its guider is LPIPS"


def test_validation_and_test_crops_of_inpainting_are_not_mixed() -> None:
    """App. E.2.2: 2000 validation images (table 6) and 30000 test images (table 7), both at 512."""
    for number, folder, count in (("6", "data/places-val-512", "2000"), ("7", "data/places-512", "30000")):
        row = table(number).find("inpaint-ldm4-vq")
        sample, measure = commands(table(number), row, OwnPaths())[1:3]
        assert sample.words[sample.words.index("--indir") + 1] == folder and measure.words[2] == f"{folder}-whole"
        assert measure.words[measure.words.index("--n") + 1] == count and row.sampling["size"] == 512


def test_photographs_as_they_were_fetched_are_brought_to_the_size_of_the_samples() -> None:
    for number, name, size in (("2", "text-ldm8-kl", "256"), ("9", "layout-oi-ldm4", "256"), ("9", "layout-oi-ldm4-512", "512")):
        words = commands(table(number), table(number).find(name), OwnPaths())[-1].words
        assert words[words.index("--resize") + 1] == size


def test_a_guiding_classifier_is_trained_and_paid_for() -> None:
    row = table("10").find("imagenet-ldm8-g-4.8M")
    trained = [step.words[2] for step in commands(table("10"), row, OwnPaths()) if step.does == "train"]
    assert trained == ["configs/ldm/imagenet-ldm8-4.8M.yaml", "configs/ldm/imagenet-ldm8-noisy-classifier.yaml"]
    assert [cost.days for cost in training_costs(row)] == [training_cost(row).days, pytest.approx(12 / 2.2)]


def test_figures_go_through_their_points() -> None:
    one = figure("7")
    steps = [c for c in commands(one, one.find("celeba-f4"), OwnPaths()) if c.does == "sample"]
    assert [c.words[c.words.index("--steps") + 1] for c in steps] == ["10", "20", "50", "100", "200"]


def test_the_script_plans_counts_and_refuses(script, tmp_path: Path) -> None:
    planned = script("scripts/reproduce.py", "--table", "1", "--row", "celebahq-ldm4", "--plan", f"paths.celebahq={tmp_path}")
    assert planned.returncode == 0, planned.stderr
    for said in ("configs/ldm/celebahq-ldm4.yaml", "--n 50000 --steps 500 --eta 0", f"[found] {tmp_path}", "A100-days", "celeba-steps"):
        assert said in planned.stdout
    counted = script("scripts/reproduce.py", "--table", "13", "--row", "imagenet-f4", "--json", tmp_path / "found.json")
    assert counted.returncode == 0 and "400.92" in counted.stdout and "cin-size" in counted.stdout
    rows = json.loads((tmp_path / "found.json").read_text())[0]["rows"]["imagenet-f4"]
    assert {v["name"]: round(v["gap"], 2) for v in rows}["n_params_M"] == 9.92
    none = script("scripts/reproduce.py", "--table", "1")
    assert none.returncode == 0 and "0 of 12 numbers run" in none.stdout and "not run: missing" in none.stdout
    odd = [["--table", "6", *flag] for flag in (["--share", "0"], ["--share", "-0.25"], ["--pixels", "nan"], ["--plan", "--json", "x"])]
    for words in (
        ["--table", "4"],
        [],
        ["--table", "1", "--model", "x"],
        ["--table", "1", "stray"],
        ["--table", "1", "--row", "nobody"],
        *odd,
    ):
        wrong = script("scripts/reproduce.py", *words)
        assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1, wrong.stderr
