"""CLIP score: how well images match their captions (Hessel et al., 2021, with the scale of torchmetrics)."""

from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ldm.data.listing import Listing
from ldm.data.metadata import read_metadata
from ldm.errors import UserError
from ldm.evaluation.distances import Value, mean_of
from ldm.evaluation.extractors import transformer
from ldm.evaluation.images import Prepare
from ldm.evaluation.provenance import digest
from ldm.evaluation.scan import Scan, stacked
from ldm.evaluation.weightfiles import folder_sha256
from ldm.precision import exact

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images, in [0, 1]


class ClipScorer(nn.Module):
    """100 max(cos, 0) of CLIP's embeddings of an image and its caption.

    Args:
        folder: a local model folder with weights as safetensors, tokenizer and image processor.

    Raises:
        UserError: a folder of another model.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.sha256 = folder_sha256(folder)
        from transformers import AutoTokenizer, CLIPModel

        self.net = transformer(CLIPModel, folder, "CLIP")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds for a missing file
            raise UserError(f"{folder}: CLIP's tokenizer cannot be read ({(str(error).splitlines() or ['?'])[0][:150]})") from error
        config = self.net.config
        self.length, self.prepare = config.text_config.max_position_embeddings, Prepare(config.vision_config.image_size)
        self.name = (
            f"CLIP, width {config.projection_dim}, {config.vision_config.image_size} pixels, patch {config.vision_config.patch_size}"
        )
        self.resize = f"{self.prepare.resize_text}; {self.prepare.crop_text}"

    def pixels(self, x: Tensor) -> Tensor:
        """Images `(B, 3, H, W)` uint8 as CLIP sees them: its size, its mean and deviation."""
        arrays = [np.asarray(self.prepare(Image.fromarray(image.permute(1, 2, 0).numpy()))) for image in x]
        mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        return (stacked(arrays).float() / 255 - mean) / std

    @torch.no_grad()
    def forward(self, x: Tensor, captions: list[str]) -> Tensor:
        """Scores `(B,)` of images `(B, 3, H, W)` uint8."""
        device = next(self.net.parameters()).device
        words = self.tokenizer(captions, padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        image = self.net.visual_projection(self.net.vision_model(pixel_values=self.pixels(x).to(device)).pooler_output)
        inputs = {key: words[key].to(device) for key in ("input_ids", "attention_mask")}
        text = self.net.text_projection(self.net.text_model(**inputs).pooler_output)
        return 100 * F.cosine_similarity(image, text).clamp(min=0).cpu()


def captions_of(samples: Scan, file: Path | None) -> list[str]:
    """The caption of each sample, from `metadata.jsonl` or as stored in the samples.

    Raises:
        UserError: one without a caption.
    """
    records = [] if file is None else read_metadata(Listing(file.parent, []), [file.name], ["caption"], {})
    known = {record.name: record.captions[0] for record in records}
    found = []
    for name, settings in zip(samples.names, samples.settings, strict=True):
        caption = known.get(name) if file is not None else (settings or {}).get("caption")
        if not isinstance(caption, str):
            where = f"{file} has no line for it" if file is not None else "none is stored in it; --captions FILE names metadata.jsonl"
            raise UserError(f"CLIP score: {name} has no caption: {where}")
        found.append(caption)
    return found


def clip_score(samples: Scan, captions: list[str], scorer: ClipScorer, batch: int = 16) -> Value:
    """Mean over images, with its standard error; its parameters identify the captions and their counts."""
    parts = []
    with exact(next(scorer.parameters(), torch.empty(0)).device):
        for first in range(0, len(samples), batch):
            some = captions[first : first + batch]
            parts.append(scorer(samples.batch(range(first, first + len(some))), some))
    return mean_of(torch.cat(parts).double(), standard_error=True, scale=100, captions_sha256=digest(Counter(captions)))
