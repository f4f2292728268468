"""What stage two can be besides a plain denoiser: fine-tuned, partly averaged, partly frozen, or a classifier."""

from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.check.fit import condition_values
from ldm.checkpoint.load import load_model, starting_weights
from ldm.conditioning import ClassEmbedding, LabelMap, LayoutTransformer, Rescaler
from ldm.conditioning.layout import BoxTokenizer
from ldm.data import Digits
from ldm.data.batch import collate
from ldm.diffusion import cosine
from ldm.errors import MissingFile, UserError
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import NoisyClassifier, UNet
from ldm.rng import StepRNG
from ldm.training import ClassifierTraining, DiffusionTraining


def adam(parameters) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=2e-3)


def model() -> LatentDiffusion:
    net = UNet(1, 1, 32, [1, 2], 1, heads=1, context_channels=8)
    return LatentDiffusion(IdentityFirstStage(1), net, cosine(), ClassEmbedding(10, 8), parameterization="v")


def test_the_average_can_leave_the_conditioner_out() -> None:
    everything, network = (DiffusionTraining(model(), adam, ema_of=kind).averaged() for kind in ("all", "network"))
    assert any(name.startswith("conditioner.") for name in everything)
    assert network.keys() == {name for name in everything if name.startswith("network.")}


def test_a_frozen_conditioner_does_not_learn() -> None:
    training = DiffusionTraining(model(), adam, train_conditioner=False)
    assert all(name.startswith("network.") for name in training.trained())


def test_fine_tuning_begins_with_the_given_weights(tmp_path: Path) -> None:
    first = DiffusionTraining(model(), adam)
    weights = {name: value + 1 for name, value in first.weights().items()}
    second = DiffusionTraining(model(), adam, start=weights)
    assert all(torch.equal(value, weights[name]) for name, value in second.weights().items())
    with pytest.raises(UserError, match="of another model: .*strict: false"):
        DiffusionTraining(model(), adam, start={"network.x": torch.ones(1)})
    with pytest.raises(MissingFile, match="no such file or run folder"):
        starting_weights(str(tmp_path / "nowhere"))


def test_fine_tuning_from_a_run_by_config(run, script, tmp_path: Path) -> None:
    short = ["trainer.params.steps=2", "data.params.batch_size=4", "trainer.params.images_every=0", "trainer.params.validate_every=0"]
    stage = "{target: ldm.first_stage.IdentityFirstStage, params: {channels: 1}}"
    net = (
        "{target: ldm.networks.UNet, params: {in_channels: 1, out_channels: 1, width: 32, width_mult: [1], blocks_per_level: 1, heads: 1}}"
    )
    parts = {"first_stage": stage, "network": net, "scale": "1.0", "conditioner": "null"}
    words = ["--base", "configs/demo/digits.yaml", *short, *(f"model.params.model.params.{key}={value}" for key, value in parts.items())]
    assert run("main.py", "-t", "-l", tmp_path, "-n", "one", *words).returncode == 0
    first = next(tmp_path.glob("*_one"))
    start = f"model.params.start={{target: ldm.checkpoint.load.starting_weights, params: {{checkpoint: {first}}}}}"
    frozen = ["model.params.optimizer={target: torch.optim.SGD, partial: true, params: {lr: 0.0}}"]
    done = run("main.py", "-t", "-l", tmp_path, "-n", "two", *words, start, *frozen)
    assert done.returncode == 0, done.stderr
    second = next(tmp_path.glob("*_two"))
    a, b = load_model(str(first)).model.state_dict(), load_model(str(second)).model.state_dict()
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    # resuming does not need the start any more
    for path in first.rglob("*"):
        path.unlink() if path.is_file() or path.is_symlink() else None
    done = run("main.py", "--resume", second, "trainer.params.steps=3")
    assert done.returncode == 0, done.stderr
    missing = run("main.py", "--check", *words, start.replace(str(first), str(tmp_path / "gone")))
    assert missing.returncode == 3 and "the weights to fine-tune" in missing.stdout


def test_a_classifier_on_noisy_latents_learns() -> None:
    torch.manual_seed(0)
    data = Digits("train", 16)
    net = NoisyClassifier(1, 10, 16, 32, [1, 2], 1, [2], head_channels=16)
    training = ClassifierTraining(IdentityFirstStage(1), net, cosine(), adam)
    training.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment]
    optimizer = training.configure_optimizers()[0]
    batch = collate([data[i] for i in range(32)])
    logs = []
    for _ in range(60):
        logs.append(training.update(batch, StepRNG(0, 0, batch["id"])))
        optimizer.step()
        optimizer.zero_grad()
    assert float(logs[0]["accuracy"]) < 0.4 and float(logs[-1]["accuracy"]) > 0.9
    assert float(logs[-1]["loss"]) < 0.3 * float(logs[0]["loss"])
    assert set(training.weights()) == set(net.state_dict())  # the frozen first stage is not among them


def test_layout_tokens_are_class_and_corners() -> None:
    tokens = BoxTokenizer(max_objects=3, vocabulary=8192)
    row = tokens([torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.25, 0.75, 1.0]])], [torch.tensor([7, 599])])[0].tolist()
    assert len(row) == 11 == tokens.length
    assert row[:3] == [7, 0, 90 * 90 - 1]
    assert row[3:6] == [599, 22 * 90 + 44, 89 * 90 + 67]
    assert row[6:9] == [8191] * 3 and row[9:] == [0, 90 * 90 - 1]


def test_layouts_reach_the_network_and_their_null_is_no_boxes() -> None:
    c = LayoutTransformer(BoxTokenizer(2, 64), 16, 1, 2, 8, uncond_prob=0.1)
    batch = {"boxes": [torch.tensor([[0.1, 0.2, 0.6, 0.9]]), torch.zeros(0, 4)], "box_labels": [torch.tensor([3]), torch.zeros(0).long()]}
    out, null = c(batch, None).context, c.null(batch, None).context
    assert out.shape == (2, 8, 16)
    assert torch.equal(out[1], null[0]) and torch.equal(null[0], null[1]) and not torch.equal(out[0], null[0])


def test_label_maps_are_one_hot_halved_and_mapped() -> None:
    c = LabelMap(5, Rescaler(5, 3, stages=2))
    labels = torch.randint(0, 5, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    out = c({"segmentation": labels}, None).concat
    assert out.shape == (2, 3, 4, 4)
    # Halving one-hot maps bilinearly is averaging 2x2 places, so every place of the result is a mean over classes.
    one_hot = torch.nn.functional.one_hot(labels, 5).movedim(3, 1).float()
    expected = c.rescaler.conv(torch.nn.functional.avg_pool2d(one_hot, 4))
    torch.testing.assert_close(out, expected)
    assert not c.null({"segmentation": labels}, None).concat.any()
    unlabelled = torch.full_like(labels, 255)
    assert not c({"segmentation": unlabelled}, None).concat.any()
    many = LabelMap(300, Rescaler(300, 3))  # of more classes than 255, number 255 stays "unlabelled"
    assert not many({"segmentation": unlabelled}, None).concat.any()


def test_box_classes_beyond_the_vocabulary_are_found_before_training() -> None:
    c = LayoutTransformer(BoxTokenizer(2, 64), 16, 1, 2, 8)
    batch = {"box_labels": [torch.tensor([3, 62]), torch.zeros(0).long()]}
    assert condition_values(batch, c) == []
    assert condition_values({"box_labels": [torch.tensor([63])]}, c) == ["box_labels 63 is out of range: LayoutTransformer knows 0 to 62"]


@torch.no_grad()
def test_a_label_map_takes_no_more_memory_than_its_one_hot_map_in_float32() -> None:
    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                made.append(out.numel() * out.element_size())
            return out

    labels = torch.randint(0, 50, (2, 32, 32))
    with Watch():
        LabelMap(50, Rescaler(50, 3, stages=2))({"segmentation": labels}, None)
    whole = labels.numel() * 50 * 4
    assert max(made) == whole


def test_a_class_too_many_does_not_train_as_the_null_class() -> None:
    training = DiffusionTraining(model(), adam)

    def handed_over(*labels: int) -> list[int]:  # as the trainer does before a batch goes to the device
        return training._call_batch_hook("on_before_batch_transfer", {"label": torch.tensor(labels)}, 0)["label"].tolist()

    assert handed_over(0, 9) == [0, 9]
    with pytest.raises(UserError, match="step 0: label 10 is out of range: the model knows 0 to 9"):
        handed_over(0, 10)  # the null class's own number
