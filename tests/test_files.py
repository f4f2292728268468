from pathlib import Path

import pytest
import torch

from ldm.errors import MissingFile, UserError
from ldm.files import fingerprint, newest_weights, read_checkpoint, read_weights, save_checkpoint, save_weights, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")

    def fail(beside: Path) -> None:
        beside.write_text("half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        write_whole(target, fail)
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_weights_carry_their_metadata(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", {"a": torch.arange(3.0)}, {"config": {"x": [1, None, "y"]}, "step": 4})
    weights, metadata = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(weights["a"], torch.arange(3.0)) and metadata == {"config": {"x": [1, None, "y"]}, "step": 4}


@pytest.mark.parametrize("cut", [0, 4, 60])
def test_damaged_files_are_named(tmp_path: Path, cut: int) -> None:
    save_weights(tmp_path / "w.safetensors", {"a": torch.arange(30.0)}, {})
    save_checkpoint(tmp_path / "c.ckpt", {"ldm_checkpoint": 1, "a": torch.arange(30.0)})
    for file, read in (("w.safetensors", read_weights), ("c.ckpt", read_checkpoint)):
        path = tmp_path / file
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(UserError, match=file):
            read(path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"ldm_checkpoint": 1, "x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_fingerprints_see_names_shapes_types_and_values() -> None:
    a = {"w": torch.zeros(2, 3), "b": torch.ones(1)}
    assert fingerprint(a) == fingerprint(dict(reversed(a.items())))
    for other in ({**a, "w": torch.zeros(3, 2)}, {**a, "b": torch.ones(1).half()}, {**a, "b": torch.zeros(1)}, {"v": a["w"], "b": a["b"]}):
        assert fingerprint(other) != fingerprint(a)


def test_a_run_folder_means_its_newest_weights(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save_weights(tmp_path / "checkpoints" / f"step-{step}.ema.safetensors", {"a": torch.zeros(1)}, {})
    assert newest_weights(tmp_path).name == "step-100.ema.safetensors"
    with pytest.raises(MissingFile):
        newest_weights(tmp_path / "nowhere")
