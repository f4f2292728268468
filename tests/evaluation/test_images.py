from pathlib import Path

import numpy as np
import pytest
import torch
from imagesets import arrays, folder
from PIL import Image

from ldm.cli.pictures import cover
from ldm.errors import MissingFile, UserError
from ldm.evaluation.images import DataOfConfig, FolderSet, Prepare
from ldm.evaluation.npz import NpzSet
from ldm.evaluation.scan import scan

X = arrays(6)


def test_the_fingerprint_is_that_of_the_pixels(tmp_path: Path) -> None:
    pngs = scan(FolderSet(folder(tmp_path / "png", X)))
    np.savez(tmp_path / "a.npz", X)
    np.savez_compressed(tmp_path / "b.npz", X[::-1])
    for name in ("a.npz", "b.npz"):
        stored = scan(NpzSet(tmp_path / name))
        assert stored.fingerprint == pngs.fingerprint and len(stored) == 6 and stored.size == (16, 16)
    assert isinstance(NpzSet(tmp_path / "a.npz").array, np.memmap)  # 50k images are not read as a whole
    assert torch.equal(scan(NpzSet(tmp_path / "a.npz")).batch([2, 5]), torch.from_numpy(X[[2, 5]]).permute(0, 3, 1, 2))
    other = X.copy()
    other[3, 0, 0, 0] ^= 1
    assert scan(FolderSet(folder(tmp_path / "other", other))).fingerprint != pngs.fingerprint
    assert scan(FolderSet(tmp_path / "png"), limit=3).fingerprint != pngs.fingerprint
    assert scan(FolderSet(folder(tmp_path / "twice", X[[0, 1, 1]]))).repeated == 1
    assert scan(FolderSet(tmp_path / "png"), workers=1).fingerprint == pngs.fingerprint


def test_nothing_is_resized_unless_by_name(tmp_path: Path) -> None:
    root = folder(tmp_path / "mixed", X, settings=None)
    Image.fromarray(arrays(1, size=24)[0]).save(root / "x.png")
    with pytest.raises(UserError, match=r"00000.png is 16x16, x.png is 24x24; name a resize"):
        FolderSet(root)
    assert scan(FolderSet(root, Prepare(12))).size == (12, 12)


def test_resizes_are_what_their_names_say() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    assert np.array_equal(Prepare(20)(photo), cover(photo, 20, 20))  # shorter side, then centre, bicubic with antialiasing
    square = photo.crop((10, 0, 50, 40))
    assert np.array_equal(Prepare(20, "lanczos", crop_first=True)(photo), square.resize((20, 20), Image.Resampling.LANCZOS))
    texts = {(p.resize_text, p.crop_text) for p in (Prepare(), Prepare(20), Prepare(20, "box"), Prepare(20, crop_first=True), Prepare(24))}
    assert len(texts) == 5 and ("none", "none") in texts
    with pytest.raises(UserError, match="filter 'cubic' is unknown; there are bicubic"):
        Prepare(20, "cubic")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--crop-first is the order of crop and resize: name its size"):
        Prepare(crop_first=True)


def test_a_half_written_image_is_an_error_and_the_overview_is_no_sample(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", X)
    Image.new("RGB", (50, 50)).save(root / "grid.png")
    assert scan(FolderSet(root)).names == [f"{i:05d}.png" for i in range(6)]
    whole = (root / "00004.png").read_bytes()
    (root / "00004.png").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UserError, match="00004.png"):
        scan(FolderSet(root))
    (root / "00004.png").write_bytes(b"")
    with pytest.raises(UserError, match="00004.png: cannot be read as an image"):
        FolderSet(root)
    (tmp_path / "empty").mkdir()
    for place in ("empty", "nowhere"):
        with pytest.raises(MissingFile, match=place):
            FolderSet(tmp_path / place)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"images": X}, "has no arr_0"),
        ({"arr_0": X.astype(np.float32)}, "float32"),
        ({"arr_0": X.transpose(0, 3, 1, 2)}, r"expected uint8 N x H x W x 3"),
        ({"arr_0": X[:0]}, "expected uint8"),
        ({"arr_0": np.array([1, None], dtype=object)}, "its arr_0 cannot be read"),
    ],
)
def test_another_layout_of_npz_is_refused(tmp_path: Path, stored: dict, message: str) -> None:
    np.savez(tmp_path / "a.npz", **stored)
    with pytest.raises(UserError, match=message):
        NpzSet(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"PK half")
    with pytest.raises(UserError, match="not a complete .npz"):
        NpzSet(tmp_path / "b.npz")


def test_an_npz_may_say_beside_itself_how_it_was_made(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X, np.array([1, 1, 2, 2, 3, 3]))
    (tmp_path / "a.json").write_text('{"seed": 4, "steps": 50}')
    assert NpzSet(tmp_path / "a.npz").settings[2] == {"seed": 4, "steps": 50, "label": 2}
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(UserError, match="expected an object"):
        NpzSet(tmp_path / "a.npz")


class Skipping(torch.utils.data.Dataset):
    """Its third image is another one that stands in for what could not be read."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict:
        image = torch.full((1, 8, 8), index / 5)
        return {"image": image, "id": str(index), **({"skipped": ["c.png: broken"]} if index == 2 else {})}


def test_data_sets_leave_out_what_they_skip() -> None:
    found = scan(DataOfConfig(Skipping(), "train data", "Skipping()"))
    assert len(found) == 4 and found.kept == [0, 1, 3, 4] and found.left_out == ("c.png: broken",) and found.repeated == 0
    assert found.batch([2]).shape == (1, 3, 8, 8) and int(found.batch([2])[0, 0, 0, 0]) == round((0.6 + 1) * 127.5)
    assert "Skipping" in found.images.resize
