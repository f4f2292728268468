"""Features depend on the images alone: not on the batch, the number of processes, the order, or the cache."""

import math
from pathlib import Path

import pytest
import torch
from imagesets import arrays, folder, tiny_demo

from ldm.errors import UserError
from ldm.evaluation.distances import frechet_distance
from ldm.evaluation.extractors import Demo
from ldm.evaluation.features import extract
from ldm.evaluation.images import FolderSet
from ldm.evaluation.npz import NpzSet
from ldm.evaluation.paired import over_pairs
from ldm.evaluation.scan import Scan, scan

LAYER = Demo.features


@pytest.fixture
def images(tmp_path: Path) -> Scan:
    return scan(FolderSet(folder(tmp_path / "a", arrays(37))))


def test_any_batch_and_any_number_of_processes_give_the_same(images: Scan, tmp_path: Path) -> None:
    whole = extract(images, tiny_demo(), batch=64)[LAYER]
    reference = extract(scan(FolderSet(folder(tmp_path / "b", arrays(40, seed=1)))), tiny_demo())[LAYER]
    assert whole.shape == (37, 32) and whole.std(0).min() > 0
    for batch in (1, 5, 36):
        torch.testing.assert_close(extract(images, tiny_demo(), batch=batch)[LAYER], whole, rtol=1e-4, atol=1e-6)
    sharded = extract(images, tiny_demo(), devices=["cpu", "cpu"], batch=4)[LAYER]  # 19 and 18 images
    torch.testing.assert_close(sharded, whole, rtol=1e-4, atol=1e-6)
    assert frechet_distance(sharded, reference) == pytest.approx(frechet_distance(whole, reference), rel=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same(images: Scan) -> None:
    on_cpu, on_gpu = (extract(images, tiny_demo(), devices=[device])[LAYER] for device in ("cpu", "cuda:0"))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-5)


def test_the_cache_serves_these_images_and_this_extractor_only(images: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    cache = tmp_path / "cache"
    first = extract(images, tiny_demo(), cache=cache)[LAYER]
    other = scan(FolderSet(folder(tmp_path / "other", arrays(37, seed=5))))
    assert not torch.equal(extract(other, tiny_demo(), cache=cache)[LAYER], first)
    assert not torch.equal(extract(images, tiny_demo(seed=1), cache=cache)[LAYER], first)
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(Demo, "software", ("transformers",))  # another version of a library may give other features
    with monkeypatch.context() as patch:
        patch.setattr("ldm.evaluation.features.version", lambda name: "0")
        extract(images, tiny_demo(), cache=cache)
        patch.setattr(Demo, "forward", lambda self, x: {LAYER: torch.zeros(len(x), 32)})
        assert not torch.equal(extract(images, tiny_demo(), cache=cache)[LAYER], torch.zeros(37, 32))
        patch.setattr("ldm.evaluation.features.version", lambda name: "1")
        assert torch.equal(extract(images, tiny_demo(), cache=cache)[LAYER], torch.zeros(37, 32))
    first = extract(images, tiny_demo(), cache=cache)[LAYER]
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(tmp_path / "a.npz", arrays(37)[order])
    monkeypatch.setattr(Demo, "forward", lambda self, x: pytest.fail("the network ran"))
    assert torch.equal(extract(images, tiny_demo(), cache=cache)[LAYER], first)
    again = extract(scan(NpzSet(tmp_path / "a.npz")), tiny_demo(), cache=cache)[LAYER]  # other names, order and container
    assert torch.equal(again, first[order])


def test_pairs_are_measured_without_tf32(images: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    other = scan(FolderSet(folder(tmp_path / "truth", arrays(37, seed=2))))
    over_pairs(images, other, lambda x, y: x.mean((1, 2, 3)) * (math.nan if torch.backends.cudnn.allow_tf32 else 1.0))
    assert torch.backends.cudnn.allow_tf32


def test_features_that_are_not_finite_are_an_error(images: Scan) -> None:
    broken = tiny_demo()
    broken.net.stages[0][0].bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        extract(images, broken)


def test_features_that_cannot_be_kept_are_measured_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = scan(FolderSet(folder(tmp_path / "a", arrays(3))))
    (tmp_path / "cache").write_text("no folder")
    found = extract(images, tiny_demo(), cache=tmp_path / "cache" / "features")[LAYER]
    assert torch.equal(found, extract(images, tiny_demo())[LAYER])
    (told,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert told.startswith("the features cannot be kept: ") and "cannot be written (Not a directory" in told
