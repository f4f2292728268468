from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.data import Digits, ImageFolder, Inpainting, Scenes, SuperResolution
from ldm.data.batch import check_sample, collate
from ldm.data.degrade import bicubic
from ldm.data.images import to_pixels, to_tensor
from ldm.data.sources.tasks import WithTask
from ldm.data.transforms import UnreadableImage, zoomed
from ldm.errors import UserError

MAKERS = {
    "thin": lambda images: Inpainting(images, "thin"),
    "mixed": lambda images: Inpainting(images, "mixed"),
    "bicubic": lambda images: SuperResolution(images),
    "bsr": lambda images: SuperResolution(images, degradation="bsr"),
    "bsr_light": lambda images: SuperResolution(images, degradation="bsr_light"),
}
RANDOM = [name for name in MAKERS if name != "bicubic"]


def key(data: WithTask) -> str:
    return "mask" if isinstance(data, Inpainting) else "low_res"


def folder(path: Path, count: int = 6, size: tuple[int, int] = (90, 70)) -> str:
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path / f"{i}.png")
    return str(path)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("images", [lambda: Scenes(8), lambda: Digits("validation")])
def test_samples_meet_the_schema_and_keep_what_they_had(make, images) -> None:
    data, plain = make(images()), images()
    assert len(data) == len(plain)
    samples = [data[i] for i in range(4)] + [data.varied(i, 1, i) for i in range(4)]
    for i, sample in enumerate(samples):
        check_sample(sample, "test")
        assert sample.keys() > plain[i % 4].keys() and torch.equal(sample["image"], plain[i % 4]["image"])
    channels, height, width = plain[0]["image"].shape
    batch = collate(samples)
    if "mask" in batch:
        assert batch["mask"].shape == (8, 1, height, width) and batch["masked_image"].shape == (8, channels, height, width)
    else:
        assert batch["low_res"].shape == (8, channels, height // 4, width // 4)


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_added_follows_from_seed_place_and_sample(name: str) -> None:
    data = MAKERS[name](Scenes(8))
    forward = [data.varied(i, 1, 10 + i)[key(data)] for i in range(6)]
    again = MAKERS[name](Scenes(8))
    backward = [again.varied(i, 1, 10 + i)[key(data)] for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    here = forward[0]
    for seed, place in ((1, 11), (2, 10)):
        assert not torch.equal(here, data.varied(0, seed, place)[key(data)])
    assert not torch.equal(forward[0], forward[1])


@pytest.mark.parametrize("name", RANDOM)
def test_validation_is_fixed_by_the_sample_id_alone(name: str) -> None:
    long, short = MAKERS[name](Scenes(8)), MAKERS[name](Scenes(3))
    assert all(torch.equal(long[i][key(long)], short[i][key(long)]) for i in (2, 0, 1))
    assert not torch.equal(long[0][key(long)], long[1][key(long)])
    other = type(long)(Scenes(8), **({"masks": "thin"} if "mask" in long[0] else {"degradation": "bsr"}), seed=1)
    assert not torch.equal(long[0][key(long)], other[0][key(long)])


def test_images_vary_below_as_they_do_alone(tmp_path: Path) -> None:
    images = ImageFolder(folder(tmp_path), 32, resize=48, crop="random", flip=0.5)
    for data in (Inpainting(images, "medium"), SuperResolution(images)):
        for place in (3, 4):
            assert torch.equal(data.varied(0, 1, place)["image"], images.varied(0, 1, place)["image"])
        assert not torch.equal(data.varied(0, 1, 3)["image"], data.varied(0, 1, 4)["image"])


def test_a_replaced_file_is_still_counted(tmp_path: Path) -> None:
    images = ImageFolder(folder(tmp_path), 32)
    (tmp_path / "0.png").write_bytes(b"not an image")
    sample = Inpainting(images)[0]
    assert sample["id"] == "1.png" and "0.png" in sample["skipped"][0]
    assert torch.equal(sample["mask"], Inpainting(images)[1]["mask"])  # of the image that is there


def test_holes_are_black_and_known_pixels_untouched() -> None:
    data = Inpainting(Scenes(8), "thick")
    for i in range(8):
        sample = data.varied(i, 0, i)
        hole = (sample["mask"] == 1).expand(3, -1, -1)
        assert (sample["masked_image"][hole] == -1).all()
        assert torch.equal(sample["masked_image"][~hole], sample["image"][~hole])
        original = ((sample["image"] + 1) / 2 * (1 - sample["mask"])) * 2 - 1  # the order of the original's script
        assert torch.allclose(original, sample["masked_image"], atol=1e-6)


def test_low_resolutions_are_those_of_eight_bit_files() -> None:
    image = Scenes(1)[0]["image"]
    assert torch.equal(to_tensor(to_pixels(image)), image)
    assert np.array_equal(to_pixels(SuperResolution(Scenes(1))[0]["low_res"]), bicubic(to_pixels(image)))


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="sample 'scene-0-train-0': an image of 30x30 cannot be reduced by a factor of 4"):
        SuperResolution(Scenes(1, size=30))[0]
    with pytest.raises(ValueError, match="sample 'scene-0-train-0': a mask needs .* got 6x6"):
        Inpainting(Scenes(1, size=6))[0]
    with pytest.raises(ValueError, match="factor must be at least 2, got 1"):
        SuperResolution(Scenes(1), factor=1)
    with pytest.raises(ValueError, match="degradation 'blur' is unknown: expected one of bicubic, bsr, bsr_light"):
        SuperResolution(Scenes(1), degradation="blur")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="masks 'thik' are unknown"):
        Inpainting(Scenes(1), "thik")  # type: ignore[arg-type]


def test_zoomed_crops_grow_and_move_with_the_step(tmp_path: Path) -> None:
    data = ImageFolder(folder(tmp_path), 32, zoom=0.5)
    first, again, later = (data.varied(0, 1, place)["image"] for place in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, later) and first.shape == (3, 32, 32)
    flat = Image.new("RGB", (50, 40), (10, 20, 30))
    for share in (1.0, 0.4):  # shrunk, enlarged
        assert np.array_equal(np.asarray(zoomed(flat.size, 32, share, (0.3, 0.9)).picture(flat)), np.full((32, 32, 3), (10, 20, 30)))
    assert zoomed(flat.size, 32, 1.0, (0, 0)).picture(flat.convert("L")).mode == "L"
    with pytest.raises(UnreadableImage, match="crop of 4x4 of its 50x40 pixels"):
        zoomed(flat.size, 32, 0.1, (0, 0))
    for wrong in ({"zoom": 1.5}, {"zoom": 0.5, "resize": 64}, {"zoom": 0.5, "crop": "random"}):
        with pytest.raises(UserError, match="zoom must be"):
            ImageFolder(str(tmp_path), 32, **wrong)


def test_small_images_can_be_left_out(tmp_path: Path) -> None:
    folder(tmp_path)
    Image.new("RGB", (40, 200)).save(tmp_path / "narrow.png")
    data = ImageFolder(str(tmp_path), 32, smallest=64)
    sample = data[data.names.index("narrow.png")]
    assert sample["id"] != "narrow.png" and "shorter side must have 64" in sample["skipped"][0]


@pytest.mark.parametrize("config", ["inpaint-ldm1", pytest.param("sr-pixel-15ep", marks=pytest.mark.slow)])
def test_check_with_and_without_a_folder_of_pictures(run, tmp_path: Path, config: str) -> None:
    for part in ("", "train", "val"):
        (tmp_path / part).mkdir(exist_ok=True)
        folder(tmp_path / part, 2, (300, 280))
    command = ["main.py", "--base", f"configs/ldm/{config}.yaml", "--check", "trainer.params.devices=1", "data.params.workers=0"]
    where = "paths.places" if config.startswith("inpaint") else "paths.imagenet"
    missing = run(*command, f"{where}={tmp_path / 'nowhere'}")
    assert (
        missing.returncode == 3 and "/nowhere" in missing.stdout and "set its path" in missing.stdout and "wrong:" not in missing.stdout
    ), missing.stdout + missing.stderr
    there = run(*command, f"{where}={tmp_path}")
    assert there.returncode == 0 and "ready" in there.stdout, there.stdout + there.stderr
