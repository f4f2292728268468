"""The wiring from images to records, with stand-ins for the networks whose weights are downloads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from imagesets import arrays, folder
from torch import Tensor, nn

from ldm.errors import MissingFile, UserError
from ldm.evaluation.context import Context, Options
from ldm.evaluation.distances import frechet_distance, inception_score, kernel_distance, precision_recall
from ldm.evaluation.extractors import Extractor
from ldm.evaluation.images import FolderSet
from ldm.evaluation.measures import measure
from ldm.evaluation.nearest import nearest
from ldm.evaluation.record import Record, compare
from ldm.evaluation.scan import scan
from ldm.evaluation.weightfiles import VGG16
from ldm.system.files import file_sha256


class StandIn(Extractor):
    """Random projections of the pixels."""

    features, logits, resize = "2048", "logits_unbiased", "none"

    def __init__(self, seed: int, frechet: str) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.one, self.two = (nn.Parameter(torch.randn(768, d, generator=g) / 30, requires_grad=False) for d in (8, 5))
        self.name, self.sha256, self.frechet = f"stand-in {seed}", f"{seed}" * 64, frechet

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        flat = x.float().flatten(1) / 128 - 1
        return {"2048": flat @ self.one, "logits_unbiased": flat @ self.two}


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    nets = {"inception": StandIn(1, "FID"), "vgg16": StandIn(2, "FD (VGG16)"), "dinov2": StandIn(3, "FD-DINOv2")}
    nets["dinov2"].software = ("transformers",)
    monkeypatch.setattr("ldm.evaluation.context.load_extractor", lambda name, given, place: nets[name])
    samples, reference = folder(tmp_path / "a", arrays(330, 1), caption="a dog"), folder(tmp_path / "b", arrays(310, 2), settings=None)
    options = Options(folder=tmp_path, groups=0, splits=3, kid_size=100, kid_subsets=5, neighbours=2)
    return Context(scan(FolderSet(samples)), scan(FolderSet(reference)), options)


def test_each_measure_looks_at_the_features_its_name_promises(context: Context) -> None:
    records = {r.metric: r for r in measure(context, ["fid", "is", "kid", "prec_recall", "prec_recall_adm", "fd_dinov2", "nearest"])}
    (a, b), (v, w), (d, e) = (context.both_features(name) for name in ("inception", "vgg16", "dinov2"))
    adm, tf = precision_recall(a, b), precision_recall(v, w)
    wanted = {
        "FID": frechet_distance(a, b),
        "IS": inception_score(context.features(context.samples)["logits_unbiased"], 3).value,
        "KID": kernel_distance(a, b, 5, 100).value,
        "precision, torch-fidelity (VGG16)": tf[0].value,
        "recall, torch-fidelity (VGG16)": tf[1].value,
        "precision, ADM (Inception)": adm[0].value,
        "recall, ADM (Inception)": adm[1].value,
        "FD-DINOv2": frechet_distance(d, e),
        "distance to the nearest image (stand-in 2)": float(nearest(v, w, 1)[0].mean()),
    }
    assert {name: record.value for name, record in records.items()} == pytest.approx(wanted, rel=1e-6)
    assert {name for name, record in records.items() if "transformers" in record.software} == {"FD-DINOv2"}
    assert (records["FID"].extractor_sha256[0], records["FD-DINOv2"].extractor_sha256[0]) == ("1", "3")
    assert records["IS"].reference == "" and records["IS"].parameters["splits"] == 3 and records["FID"].reference_images == 310
    assert records["KID"].class_balance.startswith("4 classes, 82 to 83 of each")


def test_networks_are_looked_for_first_and_what_is_measured_is_kept(context: Context, tmp_path: Path) -> None:
    kept: list[list[str]] = []

    def keep(records: list[Record]) -> None:
        kept.append([record.metric for record in records])

    with pytest.raises(MissingFile, match="vgg16"):
        measure(context, ["fid", "lpips"], keep)
    assert kept == [] and context.cached == {}, "features were extracted before a missing file was named"
    with pytest.raises(UserError, match="subsets of 500"):
        measure(replace(context, options=replace(context.options, kid_size=500)), ["fid", "kid"], keep)
    assert kept == [["FID"]]


def test_shares_over_other_weights_say_so(context: Context) -> None:
    context.extractor("vgg16").genuine = False
    names = [record.metric for record in measure(context, ["prec_recall", "prec_recall_adm"])]
    other = " with weights that are not the published file"
    assert names == [f"{what}, torch-fidelity (VGG16){other}" for what in ("precision", "recall")] + [
        f"{what}, ADM (Inception)" for what in ("precision", "recall")
    ]


def test_pairs_are_needed_where_the_name_says_so(context: Context) -> None:
    for name in ("rfid", "psnr", "ssim"):
        with pytest.raises(UserError, match="has no partner"):
            measure(context, [name])
    alone = Context(context.samples, None, context.options)
    assert measure(alone, ["is"])[0].value == measure(context, ["is"])[0].value
    with pytest.raises(UserError, match="compares samples with a reference"):
        measure(alone, ["fid"])


def test_lpips_and_clip_take_their_weights_from_the_folder(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"weights")

    class Distance(nn.Module):
        def __init__(self, file: str) -> None:
            super().__init__()
            assert Path(file).read_bytes() == b"weights"

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return (x - y).abs().mean((1, 2, 3))

    monkeypatch.setattr("ldm.evaluation.measures.LPIPS", Distance)
    truth = folder(tmp_path / "truth", arrays(330, 3), settings=None)
    pair = Context(context.samples, scan(FolderSet(truth)), context.options)
    lpips, psim = measure(pair, ["lpips", "psim"])
    wanted = (torch.from_numpy(arrays(330, 1)).double() - torch.from_numpy(arrays(330, 3)).double()).abs().mean() / 127.5
    assert lpips.value == psim.value == pytest.approx(float(wanted), rel=1e-4)
    other = "VGG16 with weights that are not the published file"
    assert (lpips.metric, psim.metric) == (f"LPIPS ({other})", f"PSIM: LPIPS ({other})")
    assert lpips.extractor_sha256 == file_sha256(tmp_path / "vgg16-397923af.pth")
    monkeypatch.setattr("ldm.evaluation.measures.VGG16", replace(VGG16, sha256=lpips.extractor_sha256))
    assert [record.metric for record in measure(pair, ["lpips", "psim", "lpips"])] == ["LPIPS (VGG16)", "PSIM: LPIPS (VGG16)"]
    small = [scan(FolderSet(folder(tmp_path / f"small{i}", arrays(2, i, size=15), settings=None))) for i in range(2)]
    with pytest.raises(UserError, match="LPIPS takes images of 16 pixels and more, these are 15x15"):
        measure(Context(*small, context.options), ["lpips"])

    class Scorer(nn.Module):
        name, resize, sha256 = "scorer", "none", "9"

        def __init__(self, place: Path) -> None:
            super().__init__()
            assert place == tmp_path / "clip-vit-base-patch16"

        def forward(self, x: Tensor, captions: list[str]) -> Tensor:
            return torch.tensor([float(len(caption)) for caption in captions])

    (tmp_path / "clip-vit-base-patch16").mkdir()
    monkeypatch.setattr("ldm.evaluation.measures.ClipScorer", Scorer)
    own = measure(context, ["clip"])[0]
    assert own.value == len("a dog")
    rows = [{"file_name": name, "caption": "cat" if i else "bird"} for i, name in enumerate(context.samples.names)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    captions = tmp_path / "a" / "metadata.jsonl"
    captions.write_text(lines)
    told = Context(context.samples, None, Options(folder=tmp_path, captions=captions))
    others = measure(told, ["clip"])[0]
    assert others.value == pytest.approx((4 + 3 * 329) / 330)
    with pytest.raises(UserError, match="parameters: scale=100, captions_sha256="):  # the same images with other captions
        compare(own, others)
    with pytest.raises(UserError, match="CLIP score: 00000.png has no caption"):
        captions.write_text(lines.split("\n", 1)[1])
        measure(told, ["clip"])
