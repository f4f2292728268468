"""scripts/evaluate.py, compare.py and reconstruct.py as a user calls them, with the demo extractor at random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from imagesets import arrays, folder, tiny_file
from PIL import Image

from ldm.evaluation.record import Record, read_records


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path, list[object]]:
    """Samples, a reference, and the flags that all calls share."""
    samples = folder(tmp_path / "samples", arrays(48, 1))
    reference = folder(tmp_path / "reference", arrays(60, 2, wide=70.0), settings=None)
    weights = tiny_file(tmp_path / "demo.safetensors")
    return samples, reference, ["--extractor", "demo", "--weights", weights, "--cache", tmp_path / "cache", "--device", "cpu"]


def by_name(path: Path) -> dict[str, Record]:
    return {record.metric: record for record in read_records(path)}


def test_records_of_samples_against_a_reference(script, sets, tmp_path: Path) -> None:
    samples, reference, flags = sets
    words = ["--metrics", "fid,kid,prec_recall,nearest", "--kid-size", 20, "--allow-few", "--neighbours", 3]
    done = script("scripts/evaluate.py", samples, reference, *flags, *words, "--out", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    found = by_name(tmp_path / "a.json")
    assert list(found)[:4] == ["FD (demo features)", "KD (demo features)", "precision, demo features", "recall, demo features"]
    assert "FID" not in done.stdout and "FD (demo features)" in done.stdout
    for record in found.values():
        assert (record.samples, record.reference_images, record.seed, record.steps, record.scale) == (48, 60, 3, 25, 1.5)
        assert record.checkpoint == "ab" * 32 and record.class_balance == "4 classes, 12 of each" and record.image_format == "PNG"
        assert len(record.reference_sha256) == 64 and record.resize == record.crop == "none" and record.extractor_sha256
        assert record.spread is not None and record.spread_is and record.software["torch"]
    assert found["FD (demo features)"].value > 0 and found["KD (demo features)"].parameters["subset_size"] == 20
    assert found["precision, demo features"].parameters["fewer_than"] == 300
    with Image.open(tmp_path / "a-nearest.png") as picture:
        assert picture.size == (16 + 4 + 3 * 16, 8 * 16)
    again = script("scripts/evaluate.py", samples, reference, *flags, *words, "--batch", 7, "--out", tmp_path / "b.json")
    assert again.returncode == 0 and (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()  # from the cache, too


def test_a_run_folder_as_the_reference_means_its_data_and_never_its_grids(script, sets, tmp_path: Path) -> None:
    samples, reference, flags = sets
    run, out = tmp_path / "run", tmp_path / "a.json"
    for name in ("images", "checkpoints"):
        (run / name).mkdir(parents=True)
    data = {"target": "ldm.data.ImageFolder", "params": {"root": str(reference), "size": 16, "resize": 16}}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"params": {"batch_size": 4, "train": data}}}))
    Image.new("RGB", (130, 34), "red").save(run / "images" / "step-000100-samples.png")
    done = script("scripts/evaluate.py", samples, run, *flags, "--out", out)
    assert done.returncode == 0, done.stderr
    (record,) = read_records(out)
    assert record.reference_images == 60 and record.reference == f"train data of {run / 'config.yaml'}"
    other = folder(tmp_path / "other", arrays(50, 7), settings=None)
    done = script("scripts/evaluate.py", samples, run, f"data.params.train.params.root={other}", *flags, "--out", out)
    assert done.returncode == 0 and read_records(out)[0].reference_images == 50, done.stderr
    for words, message in (
        ([samples, run / "images"], f"pictures of a run are grids: name {run} itself"),
        ([run, reference], "sample from it first"),
        ([run / "images", reference], "sample from it first"),
        ([samples, run, "paths.images=x"], "'paths.images=x': the config of a run is resolved"),
    ):
        done = script("scripts/evaluate.py", *words, *flags, "--out", out)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    inside = folder(run / "samples", arrays(48, 1))  # where people write what they sample from a run
    assert script("scripts/evaluate.py", inside, run, *flags, "--out", out).returncode == 0


def test_a_distance_shows_over_how_many_samples_it_is(script, sets, tmp_path: Path) -> None:
    samples, reference, flags = sets
    said = [script("scripts/evaluate.py", samples, reference, *flags, "--out", tmp_path / f"{name}.json").stdout for name in "ab"]
    value = by_name(tmp_path / "a.json")["FD (demo features)"].value
    assert "(48 samples)" in said[0].splitlines()[0]
    compared = script("scripts/compare.py", tmp_path / "a.json", tmp_path / "b.json").stdout
    assert f"{value:.6g} (48 samples)" in compared


def test_pairs(script, sets, tmp_path: Path) -> None:
    truth = arrays(40, 3, size=24)
    noise = np.random.default_rng(0).integers(-9, 10, truth.shape)
    samples = folder(tmp_path / "again", (truth.astype(int) + noise).clip(0, 255).astype(np.uint8))
    reference = folder(tmp_path / "truth", truth, settings=None)
    words = [*sets[2], "--metrics", "psnr,ssim,rfid,lpips", "--groups", 0]
    done = script("scripts/evaluate.py", samples, reference, *words, "--out", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    found = by_name(tmp_path / "a.json")
    squared = ((truth.astype(float) - np.stack([np.asarray(Image.open(p)) for p in sorted(samples.iterdir())])) ** 2).mean((1, 2, 3))
    assert found["PSNR"].value == pytest.approx(float(np.mean(10 * np.log10(255**2 / squared))), abs=1e-3)
    assert list(found) == ["PSNR", "SSIM", "R-FD (demo features)", "perceptual distance (demo features)"] and 0 < found["SSIM"].value < 1
    (reference / "00039.png").rename(reference / "other.png")
    done = script("scripts/evaluate.py", samples, reference, *words, "--out", tmp_path / "a.json")
    assert done.returncode == 2 and "00039 of folder" in done.stderr and "has no partner" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["SWAPPED"], 2, "are SAMPLES and REFERENCE swapped?"),
        (["SAME", "--allow-generated-reference"], 2, "holds the same images as the samples"),
        (["--reference-sha256", "0123456789"], 2, "its fingerprint is"),
        (["--resize", "12"], 2, "the samples are 16x16, the images of folder"),
        (["--n", "50000"], 2, "--n 50000: there are 48 images"),
        (["--n", "20"], 2, "at least 32 images on each side; there are 20 samples"),
        (["--metrics", "kid"], 2, "KID takes subsets of 1000"),
        (["--metrics", "prec_recall"], 2, "at least 300 images"),
        (["--metrics", "is"], 2, "has no classes"),
        (["--metrics", "fids"], 2, "'fids' is unknown; there are fid, rfid"),
        (["--metrics", "clip"], 3, "CLIP ViT-B/16 is missing"),
        (["--extractor", "inception", "--weights", "nowhere.pth"], 3, "SHA-256 begins with 6726825d"),
        (["--device", "cuda:99"], 2, "device 'cuda:99' cannot be used"),
        (["ALONE"], 2, "fid compares samples with a reference"),
        (["NOWHERE"], 3, "nowhere: no such folder"),
        (["kid"], 2, "'kid' would change a config, and "),
        (["--workers", "-1"], 2, "argument --workers: -1: expected at least 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(script, sets, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    samples, reference, flags = sets
    places = {"SWAPPED": [reference, samples], "SAME": [samples, samples], "ALONE": [samples], "NOWHERE": [samples, "nowhere"]}
    given = places.get(words[0], [samples, reference])
    rest = words[1:] if words[0] in places else words
    done = script("scripts/evaluate.py", *given, *flags, "--weights-folder", tmp_path, *rest, "--out", tmp_path / "a.json")
    assert done.returncode == code and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "a.json").exists()


def test_mixed_settings_and_other_sizes_are_refused(script, sets, tmp_path: Path) -> None:
    samples, reference, flags = sets
    large = folder(tmp_path / "large", arrays(40, 4, size=20), settings=None)
    done = script("scripts/evaluate.py", samples, large, *flags)
    assert done.returncode == 2 and "nothing is resized silently" in done.stderr
    done = script("scripts/evaluate.py", samples, large, *flags, "--resize", 16, "--out", tmp_path / "resized.json")
    assert done.returncode == 0 and by_name(tmp_path / "resized.json")["FD (demo features)"].resize.startswith(
        "shorter side to 16, bicubic"
    )
    mixed = folder(tmp_path / "mixed", arrays(40, 5))
    for path in folder(tmp_path / "more", arrays(41, 6), steps=50).iterdir():
        if path.name == "00040.png":
            path.rename(mixed / path.name)
    done = script("scripts/evaluate.py", mixed, reference, *flags)
    assert done.returncode == 2 and "mixed settings: steps is 25 in 00000.png and 50 in 00040.png" in done.stderr


def test_compare_shows_and_refuses(script, sets, tmp_path: Path) -> None:
    samples, reference, flags = sets
    other = folder(tmp_path / "other", arrays(48, 7), sha256="cd" * 32)
    slow = folder(tmp_path / "slow", arrays(48, 8), steps=50)
    for name, images in (("a", samples), ("b", other), ("c", slow)):
        assert script("scripts/evaluate.py", images, reference, *flags, "--out", tmp_path / f"{name}.json").returncode == 0
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    done = script("scripts/compare.py", a, b)
    assert done.returncode == 0 and "checkpoint" in done.stdout and "b - a = " in done.stdout and "abababababab..." in done.stdout
    done = script("scripts/compare.py", a, c)
    assert done.returncode == 2 and "steps: 25 and 50" in done.stderr and done.stdout == ""
    done = script("scripts/compare.py", a, c, "--ignore", "steps")
    assert done.returncode == 0 and "steps (ignored)" in done.stdout
    assert script("scripts/compare.py", a, tmp_path / "nowhere.json").returncode == 3
    done = script("scripts/compare.py", a, b, "--metrics", "FID")
    assert done.returncode == 2 and "has no 'FID'; it has FD (demo features)" in done.stderr


def test_the_data_set_of_a_config_as_the_reference(script, sets, root: Path, tmp_path: Path) -> None:
    samples = folder(tmp_path / "digits", arrays(40, 9, size=32))
    done = script(
        "scripts/evaluate.py", samples, root / "configs/demo/digits.yaml", *sets[2], "--split", "validation", "--out", tmp_path / "a.json"
    )
    assert done.returncode == 0, done.stderr
    record = by_name(tmp_path / "a.json")["FD (demo features)"]
    assert record.reference_images == 360 and record.resize == "the data set's own: Digits(split=validation, size=32)"
    done = script("scripts/evaluate.py", samples, root / "configs/demo/digits.yaml", *sets[2], "--resize", 32)
    assert done.returncode == 2 and "defines how its images are resized" in done.stderr


def test_reconstructions_for_the_r_fid(script, tmp_path: Path) -> None:
    import torch

    from ldm.first_stage import KLAutoencoder
    from ldm.system.weights import save_weights

    torch.manual_seed(0)
    params = {"channels": 4, "width": 32, "width_mult": [1, 1], "blocks_per_level": 1}
    node = {"target": "ldm.first_stage.KLAutoencoder", "params": params}
    config = {"model": {"target": "ldm.training.AutoencoderTraining", "params": {"autoencoder": node}}}
    save_weights(tmp_path / "stage1.safetensors", KLAutoencoder(**params).state_dict(), {"config": config})
    reference = folder(tmp_path / "truth", arrays(5), settings=None)
    done = script(
        "scripts/reconstruct.py", tmp_path / "stage1.safetensors", reference, "--batch", 2, "--outdir", tmp_path / "out", "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    for i, image in enumerate(arrays(5)):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "originals" / f"{i:06d}.png")), image)
    with Image.open(tmp_path / "out" / "reconstructions" / "000003.png") as made:
        assert json.loads(made.info["ldm"])["number"] == 3 and made.size == (16, 16)
    words = [tmp_path / "out" / "reconstructions", tmp_path / "out" / "originals", "--metrics", "psnr,ssim", "--out", tmp_path / "a.json"]
    done = script("scripts/evaluate.py", *words)
    assert done.returncode == 0 and done.stderr == ""
    told = by_name(tmp_path / "a.json")["PSNR"].sampling  # how the originals were resized, which they cannot tell any more
    assert told == {"posterior": "mode", "resize": "none", "crop": "none"}
    again = [tmp_path / "stage1.safetensors", reference, "--outdir", tmp_path / "out", "--device", "cpu"]
    done = script("scripts/reconstruct.py", *again)
    assert done.returncode == 0 and "5 pairs already exist" in done.stdout and not (tmp_path / "out" / ".unfinished").exists()
    done = script("scripts/reconstruct.py", *again, "--n", 2)
    assert done.returncode == 2 and "two runs must not mix" in done.stderr
    done = script("scripts/reconstruct.py", tmp_path / "stage1.safetensors", reference, "--resize", 15, "--outdir", tmp_path / "odd")
    assert done.returncode == 2 and "not a multiple of the first stage's factor" in done.stderr
