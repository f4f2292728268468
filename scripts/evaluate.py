"""Measure images: FID, Inception Score, KID, precision and recall, FD-DINOv2, R-FID, PSNR, SSIM, LPIPS, CLIP score, nearest images.

Every number is stored with everything that it depends on: the sampling settings in the samples, the resize of the reference, the
network and its weights, and fingerprints of both sets. Nothing is resized unless requested.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.flags import EXTRACTORS, METRIC_WEIGHTS, METRICS, add_reference_flags  # noqa: E402
from ldm.cli.parser import count, integer, workers  # noqa: E402

EXAMPLES = """
examples
  a folder of samples and the images that the model was trained on, as its config reads them
    python scripts/evaluate.py outputs/samples configs/ldm/celebahq-ldm4.yaml --metrics fid,is,prec_recall_adm --n 50000
    python scripts/evaluate.py outputs/samples logs/RUN --metrics fid
  a folder as the reference; the record names its resize and crop
    python scripts/evaluate.py outputs/samples my/photos --resize 256 --metrics fid --weights inception.pth
  without published weights: a small extractor that is trained here; its distance is not FID and has another name
    python scripts/evaluate.py outputs/samples configs/demo/digits.yaml --extractor demo --metrics fid,kid,prec_recall --kid-size 100
  pairs of the same name: reconstructions and their originals
    python scripts/evaluate.py outputs/reconstructions my/photos --resize 256 --metrics rfid,psnr,ssim,psim
  two files in the layout of ADM's script
    python scripts/evaluate.py samples.npz VIRTUAL_imagenet256_labeled.npz --metrics fid,prec_recall_adm

measures
  fid, kid            Frechet and kernel distance over the features of --extractor
  rfid                the same as fid, between reconstructions and originals of equal names
  is                  Inception Score; without a reference
  prec_recall         precision and recall over VGG16 features, as torch-fidelity
  prec_recall_adm     over Inception features, as ADM's script and the paper
  fd_dinov2           Frechet distance over DINOv2 features
  psnr, ssim          of pairs
  lpips, psim         of pairs: LPIPS over VGG16, which the paper's code calls PSIM
  clip                how well samples match their captions; without a reference
  nearest             the nearest images of the reference, as a picture beside --out
  layout, label_map   whether samples of the demo scenes show the boxes or label maps stored in them; without a reference

exit codes: 0 done; 2 wrong images, flags or files; 3 a weight file or image folder is missing
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("samples", metavar="SAMPLES", help="folder of images, or an .npz with arr_0 (uint8, N x H x W x 3)")
    p.add_argument("reference", metavar="REFERENCE", nargs="?", help="folder, .npz, or the .yaml of a config or a run folder: its data")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the reference's config, as paths.images=my/photos")
    p.add_argument("--metrics", default="fid", help=f"separated by commas: {', '.join(METRICS)} (default: fid)")
    p.add_argument("--out", default="outputs/record.json", help="where the records go (default: outputs/record.json)")
    p.add_argument("--extractor", default="inception", choices=EXTRACTORS, help="whose features fid, rfid and kid are over")
    p.add_argument("--weights", metavar="FILE", help="of --extractor: a .pth or .safetensors file, a folder for dinov2")
    p.add_argument("--weights-folder", default=METRIC_WEIGHTS, metavar="DIR", help=f"of all other weight files (default: {METRIC_WEIGHTS})")
    p.add_argument("--n", type=count, help="number of samples: fewer are an error, of more the first are measured")
    add_reference_flags(p, "reference images", "train")
    p.add_argument("--reference-sha256", metavar="HEX", help="fingerprint of the reference, as in a record; another one is an error")
    p.add_argument("--allow-generated-reference", action="store_true", help="accept a reference that was sampled from a model")
    p.add_argument("--allow-few", action="store_true", help="measure with too few images; the record says so")
    p.add_argument(
        "--groups", type=integer(0), default=10, help="of samples, left out in turn for the spread of fid; 0 disables it (default: 10)"
    )
    p.add_argument("--splits", type=count, default=10, help="of the Inception Score (default: 10)")
    p.add_argument("--kid-size", type=integer(2), default=1000, help="images in a subset of KID (default: 1000)")
    p.add_argument("--kid-subsets", type=count, default=100, help="subsets of KID (default: 100)")
    p.add_argument("--k", type=count, default=3, help="neighbours of precision and recall (default: 3)")
    p.add_argument("--captions", metavar="JSONL", help="metadata.jsonl with the samples' captions (default: those stored in the samples)")
    p.add_argument("--neighbours", type=count, default=10, help="nearest images that are shown of each sample (default: 10)")
    p.add_argument(
        "--device", "--devices", default="auto", help="one process each: auto (all GPUs, else the CPU), or as cuda:0,cuda:1 or cpu,cpu"
    )
    p.add_argument("--batch", type=count, default=64, help="images at a time on a device (default: 64)")
    p.add_argument("--workers", type=workers, default=0, help="processes that read images, per device (default: 0)")
    p.add_argument(
        "--cache", default="outputs/features", metavar="DIR", help="of extracted features; '' disables it (default: outputs/features)"
    )
    p.add_trust("the config")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    from ldm.cli.measuring import check_sets, open_images, options_from_flags, wanted
    from ldm.evaluation.context import Context
    from ldm.evaluation.images import Prepare
    from ldm.evaluation.measures import measure
    from ldm.evaluation.record import write_records
    from ldm.evaluation.scan import scan

    names = wanted(flags)
    options = options_from_flags(flags)
    samples = scan(open_images(flags.samples, flags, Prepare(), "SAMPLES"), flags.workers, flags.n)
    reference = None
    if flags.reference is not None:
        reference = scan(
            open_images(flags.reference, flags, Prepare(flags.resize, flags.filter, flags.crop_first), "REFERENCE"), flags.workers
        )
    check_sets(flags, samples, reference)
    records = measure(Context(samples, reference, options), names, keep=lambda some: write_records(Path(flags.out), some))
    sys.stdout.writelines(f"{record}\n" for record in records)
    for note in dict.fromkeys(note for record in records for note in record.notes):
        sys.stdout.write(f"note: {note}\n")
    sys.stdout.write(f"with their protocol in {flags.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
