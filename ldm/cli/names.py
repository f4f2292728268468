"""Names that `--help` lists, without importing what they name, which would import torch; `tests/test_imports.py` compares the two."""

SAMPLERS = ("ddpm", "ddim", "plms", "euler", "heun", "dpm_solver", "dpm_solver_sde", "unipc")
MASKS = ("thin", "medium", "thick", "training", "mixed", "box", "half")
METRICS = (
    "fid",
    "rfid",
    "is",
    "kid",
    "prec_recall",
    "prec_recall_adm",
    "fd_dinov2",
    "psnr",
    "ssim",
    "lpips",
    "psim",
    "clip",
    "nearest",
    "layout",
    "label_map",
)
EXTRACTORS = ("inception", "vgg16", "dinov2", "demo")
METRIC_WEIGHTS = "models/metrics"
FILTERS = ("bicubic", "bilinear", "lanczos", "box")
