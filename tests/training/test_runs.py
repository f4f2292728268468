"""Whole runs of both stages through main.py, tiny: they train, stop, resume, split over processes, and say what is wrong."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from programs import Programs

from ldm.evaluation.runs import differences, read_run
from ldm.system.weights import read_checkpoint, read_metadata, read_weights

TINY_FIRST = [
    "model.params.autoencoder.params.width=32",
    "data.params.batch_size=6",
    "trainer.params.log_every=2",
    "trainer.params.validate_every=0",
    "trainer.params.images_every=0",
    "trainer.params.accelerator=cpu",
    "trainer.params.precision=32-true",
    "model.params.scheduler=null",
]
TINY_SECOND = [
    "model.params.model.params.network.params={in_channels: 4, out_channels: 4, width: 32, width_mult: [1], blocks_per_level: 1, "
    "heads: 1, context_channels: 64, dropout: 0.1}",
    *TINY_FIRST[1:],
]
# Muon and Adam divide by the size of a gradient, and so turn rounding into steps; SGD shows whether the gradients agree.
SGD = [
    "model.params.optimizer={target: torch.optim.SGD, partial: true, params: {lr: 0.1}}",
    "model.params.model.params.network.params.dropout=0.0",
]
ADVERSARY = (
    "model.params.loss.params.discriminator={target: ldm.networks.PatchDiscriminator, params: {in_channels: 1, width: 8, layers: 2}}"
)


def only(folder: Path, name: str) -> Path:
    (found,) = (p for p in folder.iterdir() if p.name.endswith(f"_{name}"))
    return found


def table(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def state(run: Path, step: int) -> dict:
    return read_checkpoint(run / "checkpoints" / f"step-{step}.ckpt")


def assert_equal(a: object, b: object, path: str = "") -> None:
    """Bit by bit, through all containers."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}.{i}")
    else:
        assert a == b, path


@pytest.fixture(scope="module")
def first_stage(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained (hardly) first stage with an adversary, for all tests of this file."""
    logs = tmp_path_factory.mktemp("first")
    command = ["main.py", "-b", "configs/demo/digits-first-stage.yaml", "-t", "-l", str(logs), "-n", "first"]
    done = programs.run([*command, *TINY_FIRST, ADVERSARY, "trainer.params.steps=8"])
    assert done.returncode == 0, done.stderr
    return only(logs, "first")


def second(logs: Path, first_stage: Path, *more: str, name: str = "second") -> list[str]:
    return ["-b", "configs/demo/digits.yaml", "-t", "-l", str(logs), "-n", name, *TINY_SECOND, f"paths.first_stage={first_stage}", *more]


def test_a_run_folder_holds_what_is_promised(first_stage: Path, run, tmp_path: Path) -> None:
    done = run(
        "main.py",
        *second(tmp_path, first_stage, "trainer.params.steps=4", "trainer.params.images_every=4", "trainer.params.validate_every=4"),
    )
    assert done.returncode == 0, done.stderr
    folder = only(tmp_path, "second")
    assert (folder / "config.yaml").is_file() and (folder / "metrics.csv").is_file() and list(folder.glob("events.out*"))
    (session,) = read_run(folder).sessions
    assert session["device"] and session["parameters"]["network"] > 0 and session["precision"] == "32-true" and session["step"] == 0
    assert (folder / "checkpoints" / "last").resolve() == (folder / "checkpoints" / "step-4.ckpt").resolve()
    assert [p.name for p in (folder / "images").iterdir()] == ["step-000004-samples.png"]
    rows = table(folder)
    assert rows[0]["step"] == "2" and float(rows[0]["loss"]) > 0 and any(row.get("validation_loss") for row in rows)
    checkpoint = state(folder, 4)  # loads with weights_only=True
    assert checkpoint["step"] == 4 and not any(name.startswith("first_stage") for name in checkpoint["model"])
    weights, metadata = read_weights(folder / "checkpoints" / "step-4.ema.safetensors")
    assert metadata["config"]["trainer"]["params"]["steps"] == 4 and len(metadata["first_stage"]["sha256"]) == 64
    assert "scale" in weights and 0.05 < float(weights["scale"]) < 20 and not any(n.startswith("first_stage") for n in weights)
    assert "python scripts/sample.py" in done.stderr and "images/s" in done.stderr


def test_the_health_of_a_first_stage_is_logged_and_warned_of_once(run, tmp_path: Path) -> None:
    """Validation at every second step; the discriminator plays, and a drift in colour that is set in is told when it begins."""
    loss = "model.params.loss.params"
    words = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "-n", "first", *TINY_FIRST, ADVERSARY, f"{loss}.adversarial_weight=0"]
    still = ["trainer.params.validate_every=2", "trainer.params.validation_batches=1", "model.params.optimizer.params.lr=0.0"]
    still += ["model.params.optimizer.params.adam_lr=0.0", "trainer.params.steps=6"]
    done = run("main.py", *words, *still, "-l", tmp_path)
    assert done.returncode == 0, done.stderr
    folder = only(tmp_path, "first")
    rows = [row for row in table(folder) if row["validation_psnr"]]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    for name in ("latent_mean_0", "latent_std_3", "kl_3", "prior_gap", "prior_gap_scaled", "colour_drift_0"):
        assert all(row[f"validation_{name}"] for row in rows), name
    trained = [row for row in table(folder) if row["loss"]]
    assert all(0 <= float(row["discriminator_right"]) <= 1 and float(row["process_memory_gib"]) > 0.05 for row in trained)
    warnings = [json.loads(line) for line in (folder / "incidents.jsonl").read_text().splitlines()]
    colour = [w for w in warnings if "drift in colour" in w["what"]]  # digits on black, a random decoder's grey
    assert [(w["step"], w["kind"]) for w in colour] == [(2, "warning")]
    assert "step 2: warning: reconstructions drift in colour: grey" in done.stderr


@pytest.mark.parametrize("stage", ["first", "second"])
def test_killed_and_resumed_equals_never_stopped(stage: str, first_stage: Path, run, programs: Programs, tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch; the resumed run ends on equal weights, optimizers, EMA and steps."""
    common = ["trainer.params.steps=24", "trainer.params.checkpoint_every=4", "trainer.params.keep=20"]
    if stage == "first":
        words = [
            "-b",
            "configs/demo/digits-first-stage.yaml",
            "-t",
            "-n",
            "second",
            *TINY_FIRST,
            ADVERSARY,
            *common,
            "model.params.ema_decay=0.9",
        ]
    else:
        learned = "model.params.objective={target: ldm.diffusion.DiffusionObjective, params: {log_variances: 1000}}"
        words = second(tmp_path / "unused", first_stage, *common, learned, "model.params.posthoc_sigma_rels=[0.05, 0.1]")
    whole = run("main.py", *words, "-l", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    with open(os.devnull, "wb") as null:
        victim = programs.start(["main.py", *words, "-l", tmp_path / "cut"], stderr=null)
    deadline = time.monotonic() + 120
    while victim.poll() is None and time.monotonic() < deadline and not list(tmp_path.glob("cut/*/checkpoints/step-8.ckpt")):
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    cut = only(tmp_path / "cut", "second")
    assert 8 <= max(int(p.stem.split("-")[1]) for p in (cut / "checkpoints").glob("step-*.ckpt")) < 24
    resumed = run("main.py", "--resume", cut)
    assert resumed.returncode == 0, resumed.stderr
    a, b = state(only(tmp_path / "whole", "second"), 24), state(cut, 24)
    for key in ("step", "seed", "model", "ema", "posthoc", "optimizers", "schedulers"):
        assert_equal(a[key], b[key], key)
    steps = [int(row["step"]) for row in table(cut)]
    assert steps == list(range(2, 25, 2))  # no row lost, none twice
    assert "resume" in (cut / "incidents.jsonl").read_text()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGHUP", "SIGUSR1"))])
def test_a_stop_saves_and_prints_the_resume_command(name: str, first_stage: Path, programs: Programs, tmp_path: Path) -> None:
    """Sent to the whole group and, as `timeout` does, twice: the loader's processes go on until the step is done."""
    more = ["trainer.params.steps=100000", "trainer.params.checkpoint_every=100000", "data.params.workers=1"]
    process, said = programs.start_and_read(["main.py", *second(tmp_path, first_stage, *more)], "stderr")
    for line in said:
        if line.startswith("step "):
            process.send_signal(signal.Signals[name])
            os.killpg(process.pid, signal.Signals[name])
            break
    rest = said.read()
    assert process.wait(timeout=60) == 130, rest
    assert "python main.py --resume" in rest and name in rest and "Traceback" not in rest
    run = only(tmp_path, "second")
    assert (run / "checkpoints" / "last").exists()
    assert json.loads((run / "incidents.jsonl").read_text().splitlines()[-1])["kind"] == "stopped"


def test_a_resumed_run_takes_overrides_where_others_refer_to_them(first_stage: Path, run, tmp_path: Path) -> None:
    cosine = (
        "model.params.scheduler={target: ldm.training.warmup_cosine, partial: true, params: {warmup: 1, total: '${trainer.params.steps}'}}"
    )
    words = [w for w in second(tmp_path, first_stage, "trainer.params.steps=4") if "scheduler" not in w]
    assert run("main.py", *words, cosine).returncode == 0
    folder = only(tmp_path, "second")
    done = run("main.py", "--resume", folder, "trainer.params.steps=8")
    assert done.returncode == 0, done.stderr
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["params"]["scheduler"]["params"]["total"] == 8
    assert float(table(folder)[-2]["lr"]) > 0 and table(folder)[-1]["step"] == "8"
    assert "trainer.params.steps=8" in (folder / "incidents.jsonl").read_text()


def test_going_back_to_an_older_checkpoint_sets_the_newer_ones_aside(first_stage: Path, run, tmp_path: Path) -> None:
    more = ["trainer.params.steps=6", "trainer.params.checkpoint_every=2", "trainer.params.keep=9"]
    assert run("main.py", *second(tmp_path, first_stage, *more)).returncode == 0
    folder = only(tmp_path, "second")
    (folder / "images").mkdir()
    for step in (2, 6):
        (folder / "images" / f"step-{step:06d}-samples.png").touch()
    done = run("main.py", "--resume", folder / "checkpoints" / "step-2.ckpt", "trainer.params.steps=4")
    assert done.returncode == 0, done.stderr
    checkpoints = folder / "checkpoints"
    assert sorted(p.name for p in checkpoints.glob("step-*.ckpt")) == ["step-2.ckpt", "step-4.ckpt"]
    assert (checkpoints / "abandoned" / "step-6.ckpt").is_file() and (checkpoints / "last").resolve().name == "step-4.ckpt"
    # The report shows the pictures of the run's own branch.
    assert [p.name for p in (folder / "images").iterdir()] == ["step-000002-samples.png"]
    assert (checkpoints / "abandoned" / "images" / "step-000006-samples.png").is_file()
    changed = {path for path, _ in differences(read_run(folder).base or {}, read_run(folder).config)}
    assert "trainer.params.steps" in changed and "seed" not in changed, changed


def test_a_resume_that_does_not_fit_is_refused_and_changes_nothing(first_stage: Path, run, tmp_path: Path) -> None:
    assert run("main.py", *second(tmp_path, first_stage, "trainer.params.steps=2")).returncode == 0
    folder = only(tmp_path, "second")
    before = (folder / "config.yaml").read_text()
    for override, message in (
        ("model.params.model.params.network.params.width=64", "checkpoint and config differ"),
        (
            "model.params.optimizer={target: torch.optim.SGD, partial: true, params: {lr: 0.1}}",
            "model.params.optimizer: the optimizer's state in the checkpoint is of another kind",
        ),
        ("seed=5", "this run has seed"),
    ):
        done = run("main.py", "--resume", folder, "trainer.params.steps=4", override)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert (folder / "config.yaml").read_text() == before


def test_two_processes_train_the_demo(first_stage: Path, run, tmp_path: Path) -> None:
    """Lightning's DDP over gloo. The same global batch: the losses agree with one process, and one folder is written."""
    losses = {}
    for devices in (1, 2):
        more = ["trainer.params.steps=6", f"trainer.params.devices={devices}", *SGD]
        done = run("main.py", *second(tmp_path / str(devices), first_stage, *more))
        assert done.returncode == 0, done.stderr
        folder = only(tmp_path / str(devices), "second")
        losses[devices] = state(folder, 6)["model"]
    for name, value in losses[1].items():
        torch.testing.assert_close(losses[2][name], value, atol=1e-5, rtol=1e-3, msg=name)


def test_accumulation_is_the_same_step(first_stage: Path, run, tmp_path: Path) -> None:
    states = {}
    for size in (6, 2):
        more = ["trainer.params.steps=4", f"data.params.max_per_device={size}", *SGD]
        done = run("main.py", *second(tmp_path / str(size), first_stage, *more))
        assert done.returncode == 0, done.stderr
        states[size] = state(only(tmp_path / str(size), "second"), 4)
    assert states[2]["step"] == 4
    for name, value in states[6]["model"].items():
        torch.testing.assert_close(states[2]["model"][name], value, atol=1e-5, rtol=1e-3, msg=name)


def test_another_first_stage_is_refused_unless_allowed(first_stage: Path, run, script, tmp_path: Path) -> None:
    done = run("main.py", *second(tmp_path, first_stage, "trainer.params.steps=2"))
    assert done.returncode == 0, done.stderr
    model = only(tmp_path, "second")
    other = tmp_path / "other.safetensors"
    from ldm.system.run_folder import newest_weights
    from ldm.system.weights import save_weights

    weights, metadata = read_weights(newest_weights(first_stage))
    save_weights(other, {name: value + 0.01 for name, value in weights.items()}, metadata)
    words = ["scripts/sample.py", model, "--n", "2", "--steps", "2", "--outdir", tmp_path / "out", "--first-stage", other]
    refused = script(*words)
    assert refused.returncode == 2 and "not the first stage" in refused.stderr and "Traceback" not in refused.stderr
    assert script(*words, "--allow-other-first-stage").returncode == 0


def test_a_nan_ends_the_run_in_words_and_saves_nothing_bad(first_stage: Path, run, tmp_path: Path) -> None:
    for every in (2, 50):  # found by a report, or by the last checkpoint
        more = ["trainer.params.steps=20", "model.params.optimizer.params.adam_lr=1.0e+30", f"trainer.params.log_every={every}"]
        done = run("main.py", *second(tmp_path / str(every), first_stage, *more))
        assert done.returncode == 2 and "not finite" in done.stderr and "Traceback" not in done.stderr
        folder = only(tmp_path / str(every), "second")
        assert not list((folder / "checkpoints").glob("*.ckpt"))
        assert json.loads((folder / "incidents.jsonl").read_text().splitlines()[-1])["kind"] == "ended"


@pytest.mark.slow
def test_overfitting_a_handful_of_images(run, script, tmp_path: Path) -> None:
    """Both stages learn: ten digits are reconstructed, and the samples of a class are close to its training digit."""
    import numpy as np
    from PIL import Image

    from ldm.data.sources.digits import load_digits

    images, labels, _ = load_digits("train", 16)
    chosen = [int((labels == k).nonzero()[0]) for k in range(3)]
    for k in chosen:
        folder = tmp_path / "data" / str(int(labels[k]))
        folder.mkdir(parents=True)
        Image.fromarray(((images[k, 0].numpy() + 1) * 127.5).round().astype(np.uint8)).save(folder / "0.png")
    data = ["data.params.batch_size=12"]
    data += [
        f"data.params.{split}={{target: ldm.data.ImageFolder, params: {{root: {tmp_path / 'data'}, size: 16, channels: 1, labels: true}}}}"
        for split in ("train", "validation")
    ]
    quiet = ["trainer.params.images_every=0", "trainer.params.validate_every=0", "trainer.params.precision=32-true"]
    first = run(
        "main.py",
        "-b",
        "configs/demo/digits-first-stage.yaml",
        "-t",
        "-l",
        tmp_path / "l",
        "-n",
        "a",
        *data,
        *quiet,
        "trainer.params.steps=150",
    )
    assert first.returncode == 0, first.stderr
    small = "model.params.model.params.network.params.width_mult=[1]"
    again = run(
        "main.py",
        "-b",
        "configs/demo/digits.yaml",
        "-t",
        "-l",
        tmp_path / "l",
        "-n",
        "b",
        *data,
        *quiet,
        small,
        "trainer.params.steps=300",
        f"paths.first_stage={only(tmp_path / 'l', 'a')}",
    )
    assert again.returncode == 0, again.stderr
    out = tmp_path / "out"
    sampled = script(
        "scripts/sample.py", only(tmp_path / "l", "b"), "--n", "6", "--classes", "0-2", "--steps", "20", "--scale", "1", "--outdir", out
    )
    assert sampled.returncode == 0, sampled.stderr
    for i in range(6):
        image = torch.from_numpy(np.asarray(Image.open(out / f"{i:05d}.png"), dtype=np.float32) / 127.5 - 1)
        distance = [float((image - images[k, 0]).square().mean()) for k in chosen]
        assert int(np.argmin(distance)) == i % 3 and min(distance) < 0.1, distance
        assert json.loads(Image.open(out / f"{i:05d}.png").text["ldm"])["label"] == i % 3


def test_a_time_limit_ends_a_run_as_finished_with_checkpoints_at_equal_spaces(first_stage: Path, run, tmp_path: Path) -> None:
    limited = ["trainer.params.steps=100000", "trainer.params.checkpoint_every=100000", "trainer.params.keep=100"]
    words = second(tmp_path, first_stage, *limited, "trainer.params.max_seconds=2", "trainer.params.checkpoint_seconds=0.5")
    done = run("main.py", *words)
    assert done.returncode == 0 and "done. Weights" in done.stderr and "/100000" not in done.stderr, done.stderr
    folder = only(tmp_path, "second")
    files = sorted((folder / "checkpoints").glob("step-*.ema.safetensors"), key=lambda path: int(path.name[5:].split(".")[0]))
    seconds = [read_metadata(path)["seconds"] for path in files]
    assert seconds == sorted(seconds) and seconds[-1] >= 2  # how many there are depends on how long a step takes here
    assert len({int(value / 0.5) for value in seconds}) == len(seconds)
    last = int(files[-1].name[5:].split(".")[0])
    again = run("main.py", "--resume", folder)
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert state(folder, last)["step"] == last  # nothing was trained on top
    more = run("main.py", "--resume", folder, f"trainer.params.max_seconds={seconds[-1] + 0.2}")
    assert more.returncode == 0, more.stderr
    newest = (folder / "checkpoints" / "last").resolve()
    assert read_checkpoint(newest)["seconds"] >= seconds[-1] + 0.2 and read_checkpoint(newest)["step"] > last
