"""Broken configs and command lines: one message that names the key, no stack trace, no run folder, the same from --check and --train."""

from pathlib import Path

import pytest

import main as program
from ldm.check.conditions import repeated

STAGE_TWO = """
model:
  target: ldm.training.DiffusionTraining
  params:
    model:
      target: ldm.model.LatentDiffusion
      params:
        first_stage: {target: ldm.first_stage.IdentityFirstStage, params: {channels: 1}}
        process: {target: ldm.diffusion.linear, params: {T: 100}}
        network:
          target: ldm.networks.UNet
          params: {in_channels: 1, out_channels: 1, width: 8, width_mult: [1], blocks_per_level: 1, heads: 1, context_channels: 8}
        conditioner: {target: ldm.conditioning.ClassEmbedding, params: {num_classes: 10, width: 8, uncond_prob: 0.1}}
    optimizer: {target: ldm.training.Muon, partial: true, params: {lr: 1e-3}}
    scheduler: {target: ldm.training.warmup_linear, partial: true, params: {warmup: 1, total: 4}}
    preview: {target: ldm.sampling.generate.SamplerSettings, params: {steps: 2}}
data: {params: {batch_size: 4, train: {target: ldm.data.Digits, params: {size: 8}}}}
trainer: {params: {steps: 2, accelerator: cpu, devices: 1}}
sampling: {steps: 2}
"""
STAGE_ONE = """
model:
  target: ldm.training.AutoencoderTraining
  params:
    autoencoder: {target: ldm.first_stage.KLAutoencoder, params: {channels: 1, width: 8, width_mult: [1, 1], image_channels: 3}}
    loss:
      target: ldm.first_stage.AutoencoderLoss
      params: {discriminator: {target: ldm.networks.PatchDiscriminator, params: {in_channels: 3, layers: 1}}}
    optimizer: {target: torch.optim.AdamW, partial: true, params: {lr: 1e-3}}
data: {params: {batch_size: 4, train: {target: ldm.data.Scenes, params: {length: 64, size: 16}}}}
trainer: {params: {steps: 2, accelerator: cpu, devices: 1}}
"""
MODEL = "model.params.model.params"
SETTINGS = ("sampling", "evaluation")
NET, PROCESS, CONDITIONER, FIRST = (f"{MODEL}.{part}.params" for part in ("network", "process", "conditioner", "first_stage"))
OPTIMIZER = "model.params.optimizer.params"
CYCLE = "{{target: torch.optim.lr_scheduler.OneCycleLR, partial: true, params: {{max_lr: 0.1, total_steps: {}, cycle_momentum: false}}}}"

TWO = [  # override -> what the message says
    (f"{CONDITIONER}.uncond_prob=2", "uncond_prob must be a number from 0 to 1, got 2"),
    (f"{CONDITIONER}.uncond_prob=.nan", "uncond_prob must be a number from 0 to 1, got nan"),
    (f"{CONDITIONER}.uncond_prob=-0.1", "uncond_prob must be"),
    (f"{CONDITIONER}.uncond_prob=true", "uncond_prob: expected a number, got True"),
    (f"{CONDITIONER}.num_classes=0", "num_classes must be at least 1"),
    (f"{CONDITIONER}.num_classes=-3", "num_classes must be at least 1"),
    (f"{CONDITIONER}.width=0", "width must be at least 1"),
    (f"{CONDITIONER}.width=16", "network.context_channels is 8, but the conditioner gives 16"),
    (f"{NET}.width=-8", "width must be at least 1"),
    (f"{NET}.width_mult=[]", "width_mult must be a list of at least one integer"),
    (f"{NET}.width_mult=[0]", "width_mult[0] must be at least 1"),
    (f"{NET}.width_mult=[1, -2]", "width_mult[1] must be at least 1"),
    (f"{NET}.blocks_per_level=0", "blocks_per_level must be at least 1"),
    (f"{NET}.heads=0", "heads must be at least 1"),
    (f"{NET}.heads=three", "heads: expected an integer or null, got 'three'"),
    (f"{NET}.heads=null", "exactly one of heads"),
    (f"{NET}.dropout=1.5", "dropout must be a number from 0 to 1"),
    (f"{NET}.dropout=.inf", "dropout must be"),
    (f"{NET}.transformer_depth=0", "transformer_depth must be at least 1"),
    (f"{NET}.attention_at=[-1]", "attention_at[0] must be at least 1"),
    (f"{NET}.in_channels=2", "network.in_channels is 2"),
    (f"{FIRST}.channels=-1", "channels must be at least 1"),
    (f"{PROCESS}.T=1", "T must be at least 2"),
    (f"{PROCESS}.T=-5", "T must be at least 2"),
    (f"{PROCESS}.T=2.5", "T: expected an integer, got 2.5"),
    (f"{PROCESS}.start=.nan", "start must be a number from 0 to 1"),
    (f"{PROCESS}.end=3", "end must be a number from 0 to 1"),
    (f"{PROCESS}.start=0", "betas must be above 0"),
    (f"{MODEL}.scale=.nan", "scale must be a number other than 0"),
    (f"{MODEL}.scale=0", "scale must be a number other than 0"),
    (f"{MODEL}.parameterization=epsilon", "parameterization 'epsilon' is unknown; there are eps, x0, v, velocity, edm"),
    (f"{OPTIMIZER}.lr=.nan", "lr must be a number of at least 0, got nan"),
    (f"{OPTIMIZER}.lr=.inf", "lr must be"),
    (f"{OPTIMIZER}.lr=-1", "lr must be"),
    (f"{OPTIMIZER}.lr=1,5e-4", "did you mean 1.5e-4?"),
    (f"{OPTIMIZER}.momentum=1", "momentum"),
    (f"{OPTIMIZER}.betas=[0.9, 2]", "betas[1] must be a number from 0 to 1"),
    (f"{OPTIMIZER}.weight_decay=.nan", "weight_decay must be"),
    (f"{OPTIMIZER}.weigth_decay=0", "did you mean 'weight_decay'?"),
    ("model.params.optimizer={target: torch.optim.AdamW, partial: true, params: {lr: .nan}}", "Invalid learning rate: nan"),
    ("model.params.optimizer={target: torch.optim.SGD, partial: true, params: {lr: .inf}}", "lr must be"),
    ("model.params.optimizer={target: torch.optim.LBFGS, partial: true}", "model.params.optimizer: LBFGS: "),
    ("model.params.optimizer={target: torch.optim.SparseAdam, partial: true}", "model.params.optimizer: SparseAdam: "),
    (
        "model.params.scheduler={target: torch.optim.lr_scheduler.ReduceLROnPlateau, partial: true}",
        "model.params.scheduler: ReduceLROnPlateau: ",
    ),
    ("evaluation.published=[1, 2]", "evaluation.published: expected a mapping of names of measures to numbers, got [1, 2]"),
    ("evaluation.published={fid: good}", "evaluation.published.fid: expected a finite number, got 'good'"),
    ("evaluation.published={fid: .nan}", "evaluation.published.fid: expected a finite number, got nan"),
    ("evaluation.published={fid: true}", "evaluation.published.fid: expected a finite number, got True"),
    ("evaluation.published={fid: 3, is: 80.5}", None),
    (f"model.params.scheduler={CYCLE.format(1)}", "model.params.scheduler: OneCycleLR: Tried to step 2 times"),
    (f"model.params.scheduler={CYCLE.format(2)}", None),
    (
        "model.params.scheduler={target: torch.optim.lr_scheduler.StepLR, partial: true, params: {step_size: 5, gamma: .nan}}",
        "model.params.scheduler: StepLR: gamma must be a finite number, got nan",
    ),
    (
        "model.params.scheduler={target: torch.optim.lr_scheduler.ExponentialLR, partial: true, params: {gamma: .inf}}",
        "model.params.scheduler: ExponentialLR: gamma must be a finite number, got inf",
    ),
    (
        "model.params.optimizer={target: torch.optim.AdamW, partial: true, params: {capturable: true}}",
        "model.params.optimizer: AdamW: AssertionError: If capturable=True",
    ),
    ("model.params.scheduler.params.warmup=-1", "warmup must be at least 0"),
    ("model.params.scheduler.params.end=.nan", "end must be"),
    ("model.params.scheduler.params.total=0", "total must be at least 1"),
    ("model.params.ema_decay=1", "ema_decay must be below 1"),
    ("model.params.ema_decay=.nan", "ema_decay must be a number from 0 to 1"),
    ("model.params.posthoc_sigma_rels=[.nan]", "sigma_rels must be different numbers"),
    ("model.params.posthoc_sigma_rels=[]", "sigma_rels must be different numbers"),
    ("model.params.preview.params.steps=0", "steps must be at least 1"),
    ("model.params.preview.params.steps=200", "sampling steps must be between 1 and 100, got 200"),
    ("model.params.preview.params.sampler=dimm", "sampler 'dimm' is unknown"),
    ("model.params.objective={target: ldm.diffusion.DiffusionObjective, params: {min_snr: -1}}", "min_snr must be a number above 0"),
    ("model.params.objective={target: ldm.diffusion.DiffusionObjective, params: {simple_weight: 0}}", "nothing would be learned"),
    *(
        (f"model.params.objective={{target: ldm.diffusion.DiffusionObjective, params: {{weight: {weight}}}}}", message)
        for weight, message in (
            ("{target: ldm.diffusion.weighting.min_snr, params: {gamma: -1}}", "gamma must be a number above 0, got -1"),
            ("{target: ldm.diffusion.weighting.edm, params: {sigma_data: .nan}}", "sigma_data must be a number above 0, got nan"),
        )
    ),
    ("sampling.sampler=dimm", "sampler 'dimm' is unknown"),
    ("sampling.eta=-3", "eta must be a number of at least 0, got -3"),
    ("sampling.eta=.nan", "eta must be"),
    ("sampling.scale=abc", "scale must be a finite number, got 'abc'"),
    ("sampling.scale=.inf", "scale must be a finite number"),
    ("sampling.steps=1.5", "steps must be an integer"),
    ("sampling.steps=500", "sampling: the number of sampling steps must be between 1 and 100, got 500"),
    ("sampling.guidance_interval=[0.5]", "guidance interval"),
    ("sampling.guidance_interval=[.nan, 1]", "guidance interval"),
    ("sampling.guidance_rescale=2", "guidance rescale must be a number from 0 to 1"),
    ("sampling.spacing=[1]", "spacing"),
    ("sampling=5", "sampling: expected sampler settings"),
    ("evaluation.samples=-1", "samples must be at least 1"),
    ("data.params.batch_size=0", "batch_size must be at least 1"),
    ("data.params.batch_size=08", "did you mean 8?"),
    ("data.params.workers=-1", "workers must be"),
    ("data.params.workers=1000000", "workers must be"),
    ("data.params.max_per_device=0", "max_per_device must be at least 1"),
    ("data.params.train.params.size=-16", "size must be at least 1, got -16"),
    ("data.params.train.params.size=0", "size must be at least 1"),
    ("data.batch_size=4", "did you mean data.params.batch_size?"),
    ("trainer.params.steps=-1", "steps must be at least 1"),
    ("trainer.params.validation_batches=0", "validation_batches must be at least 1"),
    ("trainer.params.max_seconds=.nan", "max_seconds must be a number above 0, got nan"),
    ("trainer.params.max_seconds=-1", "max_seconds must be a number above 0"),
    ("trainer.params.gradient_clip=.inf", "gradient_clip must be"),
    ("trainer.params.images_every=-1", "images_every must be at least 0"),
    ("trainer.params.validate_every=-1", "validate_every must be at least 0"),
    ("trainer.params.log_every=0", "log_every must be at least 1"),
    ("trainer.params.max_skipped=.nan", "max_skipped must be a number from 0 to 1"),
    ("trainer.params.keep=0", "keep must be at least 1"),
    ("trainer.params.strategy=ddp_bogus", "strategy"),
    ("trainer.params.devices=-3", "devices: expected"),
    ("trainer.params.lightning.gradient_clip_val=abc", "use gradient_clip"),
    ("trainer.params.lightning.profiler=abc", "profiler expects one of"),
    ("callbacks.x.target=pytorch_lightning.callbacks.ModelCheckpoint", "callbacks.x: ModelCheckpoint does not work here"),
    (
        "callbacks.x={target: pytorch_lightning.callbacks.EarlyStopping, params: {monitor: loss}}",
        "callbacks.x: EarlyStopping does not work",
    ),
    ("callbacks.x={target: pytorch_lightning.callbacks.Timer, params: {duration: soon}}", "callbacks.x"),
    (
        "callbacks.x={target: pytorch_lightning.callbacks.LearningRateMonitor, partial: true}",
        "callbacks.x: expected a node that builds a Callback",
    ),
    (
        "loggers.x={target: pytorch_lightning.loggers.CSVLogger, partial: true}",
        "loggers.x: expected a node that builds a Logger",
    ),
    ("callbacks=[1]", "callbacks: expected a mapping of names to nodes"),
    ("loggers=5", "loggers: expected a mapping of names to nodes"),
    ("data.target=ldm.training.TrainerSettings", "data.params: ldm.training.TrainerSettings needs 'steps'"),
    ("data={target: ldm.data.Digits}", "data: expected a DataModule, got Digits"),
    ("trainer={target: ldm.data.Digits}", "trainer: expected a TrainerSettings, got Digits"),
    ("trainer.params.devices=[-1]", "devices: expected"),
    (
        "data.params.validation={target: ldm.data.Scenes, params: {size: 8, length: 9}}",
        "data.params.validation: images have 3 channels, the first stage takes 1",
    ),
    ("loggers.x={target: pytorch_lightning.loggers.MLFlowLogger}", "MLFlowLogger needs the package mlflow"),
    ("loggers.x={target: pytorch_lightning.loggers.WandbLogger}", "loggers.x: WandbLogger needs the package wandb: pip install wandb"),
    ("model.params.model.params.process={target: ldm.diffusion.from_betas, params: {betas: [0.5]}}", "at least 2"),
    ("model.params.model.params.process={target: ldm.diffusion.from_betas, params: {betas: []}}", "at least 2"),
    ("seed=-1", "seed: expected 0 to"),
    ("seed=true", "seed: expected an integer"),
    ("name=[1]x", None),  # a name may be anything
]
ONE = [
    ("model.params.autoencoder.params.width_mult=[]", "width_mult must be a list of at least one integer"),
    ("model.params.autoencoder.params.width=0", "width must be at least 1"),
    ("model.params.autoencoder.params.stem=0", "stem must be at least 1"),
    ("model.params.autoencoder.params.dropout=-1", "dropout must be"),
    ("model.params.autoencoder.params.channels=0", "channels must be at least 1"),
    ("model.params.autoencoder.params.initial_log_variance=.nan", "initial_log_variance must be"),
    ("model.params.loss.params.regularizer_weight=.nan", "regularizer_weight must be"),
    ("model.params.loss.params.adversarial_weight=-1", "adversarial_weight must be"),
    ("model.params.loss.params.adversarial_start=-1", "adversarial_start must be at least 0"),
    ("model.params.loss.params.log_variance=.inf", "log_variance must be"),
    ("model.params.loss.params.discriminator.params.layers=-1", "layers must be at least 0"),
    ("model.params.loss.params.discriminator.params.width=0", "width must be at least 1"),
    ("model.params.optimizer.params.lr=.nan", "Invalid learning rate: nan"),
    ("model.params.optimizer.params.eps=.nan", "Invalid epsilon value: nan"),
    ("data.params.train.params.two_objects=3", "two_objects must be a number from 0 to 1"),
    ("data.params.train.params.length=0", "length must be at least 1"),
    ("data.params.train.params.size=-16", "size must be at least 1"),
    ("data.params.train.params.seed=-1", "seed must be at least 0"),
    (
        "data.params.train={target: ldm.data.SuperResolution, params: {factor: 1, images: {target: ldm.data.Scenes}}}",
        "factor must be at least 2",
    ),
    ("data.params.train={target: ldm.data.ImageFolder, params: {root: tests, size: 8, flip: 2}}", "flip must be"),
    ("data.params.train={target: ldm.data.ImageFolder, params: {root: tests, size: 8, resize: -1}}", "resize must be at least 1"),
    ("data.params.train={target: ldm.data.Mixed, params: {sets: []}}", "one data set"),
]


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.chdir(root)


@pytest.mark.parametrize(
    "config,override,message",
    [pytest.param(STAGE_TWO, *case, id=f"two-{case[0]}") for case in TWO]
    + [pytest.param(STAGE_ONE, *case, id=f"one-{case[0]}") for case in ONE],
)
def test_a_broken_config_is_one_message(config: str, override: str, message: str | None, capsys, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(config)
    key = override.partition("=")[0]
    if message is None:
        assert program.main(["-b", str(tmp_path / "c.yaml"), "--check", override]) == 0
        return
    found = []
    for way in ("--check", "--train"):
        code = program.main(["-b", str(tmp_path / "c.yaml"), way, "--logdir", str(tmp_path / "logs"), override])
        captured = capsys.readouterr()
        text = captured.out + captured.err
        lines = [line for line in text.splitlines() if message in line]
        assert code == 2 and len(lines) == 1, text
        assert "Traceback" not in text and not (tmp_path / "logs").exists()
        # The key itself, or the node that it belongs to.
        nodes = [".params.".join(key.split(".params.")[:depth]) for depth in range(2 if key.count(".params.") > 1 else 1, 9)]
        assert (
            any(f"{part}." in lines[0] or f"{part}:" in lines[0] for part in (*nodes, key.removesuffix(".target")))
            or key.partition(".")[0] in SETTINGS
        ), lines[0]
        found.append(lines[0].removeprefix("error: the config is wrong: ").strip())
    assert found[0] == found[1]


@pytest.mark.parametrize(("accelerator", "named"), [("gpu", "gpu"), ("cuda", "cuda"), ("mps", "mps")])
def test_a_device_that_is_missing_is_refused_before_training(
    accelerator: str, named: str, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    (tmp_path / "c.yaml").write_text(STAGE_ONE)
    for action in ("--check", "--train"):
        words = ["-b", str(tmp_path / "c.yaml"), action, "--logdir", str(tmp_path / "logs"), f"trainer.params.accelerator={accelerator}"]
        assert program.main(words) == 2
        captured = capsys.readouterr()
        text = captured.out + captured.err
        assert text.count(f"trainer.params.accelerator: {named} is not available on this machine") == 1, text
        assert not (tmp_path / "logs").exists()


def test_the_unbroken_configs_are_ready(capsys, tmp_path: Path) -> None:
    for config in (STAGE_TWO, STAGE_ONE):
        (tmp_path / "c.yaml").write_text(config)
        assert program.main(["-b", str(tmp_path / "c.yaml"), "--check"]) == 0, capsys.readouterr().out


SECOND = "model.params.model.params"
MASKED = (
    "{target: ldm.conditioning.Joint, params: {parts: ["
    "{target: ldm.conditioning.ConcatImage, params: {key: masked_image, channels: 1, encode: true}}, "
    "{target: ldm.conditioning.ConcatImage, params: {key: mask, channels: 1}}]}}"
)


def masked(first: str) -> str:
    """Stage two with a mask, on a first stage that halves the size twice."""
    text = STAGE_TWO.replace("{target: ldm.conditioning.ClassEmbedding, params: {num_classes: 10, width: 8, uncond_prob: 0.1}}", MASKED)
    text = text.replace("in_channels: 1, out_channels: 1", "in_channels: 3, out_channels: 1").replace(", context_channels: 8", "")
    text = text.replace(
        "{target: ldm.data.Digits, params: {size: 8}}", "{target: ldm.data.Inpainting, params: {images: {target: ldm.data.Digits}}}"
    )
    return text.replace("{target: ldm.first_stage.IdentityFirstStage, params: {channels: 1}}", first)


def test_what_does_not_fit_is_told_in_the_words_of_the_config(capsys, tmp_path: Path) -> None:
    first = "{target: ldm.first_stage.KLAutoencoder, params: {channels: 1, width: 8, width_mult: [1, 1, 1], image_channels: 1}}"
    (tmp_path / "c.yaml").write_text(masked(first))
    assert program.main(["-b", str(tmp_path / "c.yaml"), "--check"]) == 2
    out = capsys.readouterr().out
    assert f"{SECOND}.conditioner.params.parts.1: mask is 32x32, the latent 8x8: set fold: 4 on ConcatImage" in out, out
    assert "RuntimeError" not in out and "Sizes of tensors" not in out


@pytest.mark.parametrize(
    "images,code", [("{target: ldm.data.Digits}", 0), ("{target: ldm.data.ImageFolder, params: {root: nowhere, size: 16}}", 3)]
)
def test_an_encoded_condition_is_an_image_however_many_channels_the_latent_has(images: str, code: int, capsys, tmp_path: Path) -> None:
    text = masked("{target: ldm.first_stage.KLAutoencoder, params: {channels: 2, width: 8, width_mult: [1, 1], image_channels: 1}}")
    for before, after in (
        ("channels: 1, encode: true", "channels: 2, encode: true"),
        ("key: mask, channels: 1", "key: mask, channels: 1, factor: 2"),
        ("in_channels: 3, out_channels: 1", "in_channels: 5, out_channels: 2"),
        ("{target: ldm.data.Digits}", images),
    ):
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "c.yaml").write_text(text)
    assert program.main(["-b", str(tmp_path / "c.yaml"), "--check"]) == code
    assert "wrong" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "override,message",
    [
        (
            "data.params.train={target: ldm.data.ImageFolder, params: {root: PHOTOS, size: 16, labels: true}}",
            "train.params.labels: the model does not read 'label'",
        ),
        ("data.params.train.params.give=[caption]", "train.params.give: the model does not read 'caption'"),
        ("paths={images: x}", None),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(override: str, message: str | None, capsys, tmp_path: Path) -> None:
    from PIL import Image

    for i in range(3):
        (tmp_path / f"photos/{i}").mkdir(parents=True)
        Image.new("RGB", (20, 20), (80 * i, 0, 0)).save(tmp_path / f"photos/{i}/a.png")
    (tmp_path / "c.yaml").write_text(STAGE_ONE)
    code = program.main(["-b", str(tmp_path / "c.yaml"), "--check", override.replace("PHOTOS", str(tmp_path / "photos"))])
    out = capsys.readouterr().out
    assert code == 0, out
    assert "warnings:" not in out if message is None else f"warnings:\n  data.params.{message}" in out


@pytest.mark.parametrize(
    ("params", "warns"),
    [
        ("{adversarial_weight: 0.5}", True),
        ("{adversarial_weight: 0.0}", False),
        ("{}", False),
        ("{adversarial_weight: 0.5, discriminator: {target: ldm.networks.PatchDiscriminator, params: {layers: 1}}}", False),
    ],
)
def test_an_adversarial_weight_without_a_discriminator_is_a_warning(params: str, warns: bool, capsys, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(STAGE_ONE)
    loss = f"model.params.loss={{target: ldm.first_stage.AutoencoderLoss, params: {params}}}"
    assert program.main(["-b", str(tmp_path / "c.yaml"), "--check", "model.params.loss=null", loss]) == 0
    warning = "model.params.loss.params.adversarial_weight: has no effect without a discriminator"
    assert (warning in capsys.readouterr().out) == warns


@pytest.mark.parametrize(
    ("scale", "sigma_data", "warns"), [("std", 0.5, True), ("channels", 0.5, True), ("std", 1.0, False), ("1.0", 0.5, False)]
)
def test_a_sigma_data_that_is_not_the_deviation_of_scaled_latents_is_a_warning(
    scale: str, sigma_data: float, warns: bool, capsys, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text(STAGE_TWO)
    process = f"{{target: ldm.diffusion.process.EDM, params: {{sigma_data: {sigma_data}}}}}"
    words = [f"{SECOND}.process={process}", f"{SECOND}.scale={scale}", f"{SECOND}.parameterization=edm"]
    words += ["sampling.sampler=euler", "model.params.preview.params.sampler=euler"]
    assert program.main(["-b", str(tmp_path / "c.yaml"), "--check", *words]) == 0
    warning = f"{SECOND}.process.params.sigma_data: 0.5, but scale: {scale} gives latents of standard deviation 1"
    assert (warning in capsys.readouterr().out) == warns


def test_the_highest_class_of_a_folder_is_looked_at(capsys, tmp_path: Path) -> None:
    from PIL import Image

    for i in range(40):
        (tmp_path / f"photos/{i:02}").mkdir(parents=True)
        Image.new("L", (8, 8), i).save(tmp_path / f"photos/{i:02}/a.png")
    (tmp_path / "c.yaml").write_text(STAGE_TWO)
    data = f"{{target: ldm.data.ImageFolder, params: {{root: {tmp_path}/photos, size: 8, channels: 1, labels: true}}}}"
    words = [f"data.params.train={data}", f"{SECOND}.conditioner.params.num_classes=39"]
    assert program.main(["-b", str(tmp_path / "c.yaml"), "--check", *words]) == 2
    assert "label 39 is out of range: ClassEmbedding knows 0 to 38" in capsys.readouterr().out


def test_a_path_that_nothing_reads_and_looks_like_one_that_is_read_is_a_warning(capsys, tmp_path: Path) -> None:
    text = STAGE_TWO.replace("sampling:", "name: ${paths.images}\npaths: {images: x, imags: y}\nsampling:")
    (tmp_path / "c.yaml").write_text(text)
    assert program.main(["-b", str(tmp_path / "c.yaml"), "--check"]) == 0
    assert "paths.imags: nothing in the config reads it; did you mean 'images'?" in capsys.readouterr().out


def test_a_word_that_a_vocabulary_has_twice_is_named() -> None:
    node = {"target": "ldm.conditioning.Joint", "params": {"parts": [{"params": {"words": ["x", "y", "x"], "width": [1, 1]}}]}}
    assert repeated(node, "conditioner") == ["conditioner.params.parts.0.params.words: 'x' occurs more than once"]
