"""Trackers: curves, images and the resolved config arrive in each, by one line of a config; their packages are stand-ins here."""

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import main as program
from ldm.config import AllowedTargets, load
from ldm.system.run_folder import newest_checkpoint
from ldm.training.callbacks.loggers import TensorBoard, in_run, log_config

PARTS = ("configs/parts/wandb.yaml", "configs/parts/mlflow.yaml")
TRAINER = "{steps: 2, accelerator: cpu, precision: 32-true, log_every: 1, validate_every: 0, images_every: 2, validation_batches: 1}"
SMALL = ["model.params.autoencoder.params.width=32", "model.params.scheduler=null", "data.params.batch_size=4", "data.params.workers=0"]


class WandbRun:
    """What Lightning calls of a run of Weights & Biases."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.logged, self.hyperparameters = settings, [], {}
        self.config = SimpleNamespace(update=lambda values, **_: self.hyperparameters.update(values))

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass


class MlflowClient:
    """What Lightning and log_image call of a client of MLflow."""

    made: list["MlflowClient"] = []

    def __init__(self, uri: str) -> None:
        self.uri, self.tags, self.parameters, self.metrics, self.texts, self.images = uri, {}, {}, [], {}, {}
        self.made.append(self)

    def get_experiment_by_name(self, name: str) -> None:
        self.experiment = name

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        return "1"

    def create_run(self, experiment_id: str, tags: dict[str, str]) -> SimpleNamespace:
        self.tags = tags
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run_id: str, params: Any = (), metrics: Any = ()) -> None:
        self.parameters |= {param.key: param.value for param in params}
        self.metrics += [(metric.key, metric.step) for metric in metrics]

    def log_text(self, run_id: str, text: str, file: str) -> None:
        self.texts[file] = text

    def log_image(self, run_id: str, image: Any, file: str) -> None:
        self.images[file] = image

    def get_run(self, run_id: str) -> str:
        return run_id

    def set_terminated(self, run_id: str, status: str) -> None:
        self.status = status


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> list[WandbRun]:
    """Packages of both trackers; returns the runs that Weights & Biases has started."""
    runs: list[WandbRun] = []

    def init(**settings: Any) -> WandbRun:
        runs.append(WandbRun(**settings))
        return runs[-1]

    MlflowClient.made = []
    modules: dict[str, dict[str, Any]] = {
        "wandb": {"run": None, "init": init, "Image": lambda image, **_: image},
        "wandb.sdk": {},
        "wandb.sdk.lib": {"RunDisabled": type("RunDisabled", (), {})},
        "wandb.wandb_run": {"Run": WandbRun},
        "mlflow": {"get_tracking_uri": lambda: "sqlite:///mine.db", "set_tracking_uri": lambda uri: None},
        "mlflow.tracking": {"MlflowClient": MlflowClient, "context": SimpleNamespace(), "__path__": []},
        "mlflow.entities": {"Metric": SimpleNamespace, "Param": SimpleNamespace},
        "mlflow.utils": {},
        "mlflow.utils.mlflow_tags": {"MLFLOW_RUN_NAME": "name"},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("pytorch_lightning.loggers.wandb._WANDB_AVAILABLE", True)
    monkeypatch.setattr("pytorch_lightning.loggers.mlflow._MLFLOW_AVAILABLE", True)
    return runs


def test_config_pictures_and_curves_arrive_in_each_also_on_resuming(tmp_path: Path, packages: list[WandbRun]) -> None:
    words = ["-b", "configs/demo/digits-first-stage.yaml", *PARTS, "-t", "--no-check", "-l", str(tmp_path), "-n", "a"]
    assert program.main([*words, *SMALL, f"trainer.params={TRAINER}"]) == 0
    (folder,) = tmp_path.iterdir()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (run,), (client,) = packages, MlflowClient.made
    assert run.settings["id"] == run.settings["name"] == folder.name and run.settings["project"] == "ldm"
    assert run.settings["dir"] == str(folder / "loggers" / "wandb")
    assert run.hyperparameters == config
    assert {"loss", "inputs", "reconstructions"} <= {key for values in run.logged for key in values}
    assert client.uri == "sqlite:///mine.db" and client.experiment == "ldm" and client.tags == {"name": folder.name}
    assert yaml.safe_load(client.texts["config.yaml"]) == config and client.parameters["trainer/params/steps"] == "2"
    assert ("loss", 2) in client.metrics and {"inputs/step-000002.png", "reconstructions/step-000002.png"} == client.images.keys()
    assert client.status == "FINISHED"
    events = EventAccumulator(str(folder))
    events.Reload()
    assert {"config/text_summary"} <= {*events.Tags()["tensors"]} and {"inputs", "reconstructions"} == {*events.Tags()["images"]}
    assert program.main(["--resume", str(folder), "--no-check", "trainer.params.steps=3"]) == 0
    assert newest_checkpoint(folder).name == "step-3.ckpt"
    assert packages[1].settings["id"] == folder.name and packages[1].hyperparameters["trainer"]["params"]["steps"] == 3
    assert MlflowClient.made[1].uri == "sqlite:///mine.db" and MlflowClient.made[1].parameters["trainer/params/steps"] == "3"


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("check", [[], ["--no-check"]])
def test_a_missing_package_is_reported_before_the_run_folder(part: str, check: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    package = Path(part).stem
    monkeypatch.setattr("ldm.training.lightning_checks.find_spec", lambda name: None)
    assert program.main(["-b", "configs/demo/digits-first-stage.yaml", part, "-t", "-l", str(tmp_path), *check]) == 2
    assert f"needs the package {package}: pip install {package}" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_what_a_config_says_is_kept(packages: list[WandbRun], tmp_path: Path) -> None:
    given = {"project": "p", "id": "x", "name": "mine", "save_dir": "here"}
    nodes = {"w": {"target": "pytorch_lightning.loggers.WandbLogger", "params": given}}
    assert in_run(nodes, tmp_path, AllowedTargets()) == nodes
    own = {"tracking_uri": "http://server", "save_dir": "x", "run_name": "y"}
    nodes = {"m": {"target": "pytorch_lightning.loggers.MLFlowLogger", "params": own}}
    assert in_run(nodes, tmp_path, AllowedTargets()) == nodes


def test_a_logger_that_fails_to_start_leaves_no_folder(packages: list[WandbRun], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(MlflowClient, "__init__", lambda *_: {}["server"])
    assert program.main(["-b", "configs/demo/digits-first-stage.yaml", PARTS[1], "-t", "--no-check", "-l", str(tmp_path)]) == 2
    assert "loggers.mlflow" in capsys.readouterr().err and not [*tmp_path.iterdir()]
    assert "LDM_RUN_FOLDER" not in os.environ  # the next run of this process has its own folder


def test_tensorboard_shows_the_config_as_it_is(tmp_path: Path) -> None:
    logger = TensorBoard(tmp_path)
    log_config(logger, {"seed": 1, "name": "für"}, 5)
    logger.experiment.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (event,) = events.Tensors("config/text_summary")
    assert event.step == 5 and event.tensor_proto.string_val[0].decode() == "```yaml\nseed: 1\nname: für\n```"


def test_the_parts_are_one_line_each() -> None:
    for part in PARTS:
        assert [*load([Path(part)]).data] == ["loggers"]
        assert len([line for line in Path(part).read_text().splitlines() if not line.startswith("#")]) == 1
