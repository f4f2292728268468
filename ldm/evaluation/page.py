"""HTML pages without scripts, in one file each: templates and style sheet are in `pages/`."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from PIL import Image

from ldm.data.grid import NAMES
from ldm.errors import UserError
from ldm.evaluation.facts import side_by_side
from ldm.evaluation.runs import read_run
from ldm.system.files import write_text
from ldm.system.image_files import open_image

FOLDER = Path(__file__).with_name("pages")
WIDEST = 1600  # pixels of a picture in a page; larger ones are reduced
SMALL = 600  # pixels of a picture that is enlarged to the width of its column, with sharp pixels


@dataclass(frozen=True)
class Picture:
    """A picture inside a page.

    Attributes:
        source: data URI.
        kind: its classes in the style sheet: `small` is enlarged, `wide` is scrolled sideways on a phone.
        note: what was changed.
        names: of its images, in order.
        step: of the training.
    """

    source: str
    kind: str = ""
    note: str = ""
    names: Sequence[str] = ()
    step: int = 0


def render(template: str, folder: Path = FOLDER, **values: Any) -> str:
    """A template of a folder, which may extend those of `pages/`; all values are escaped."""
    environment = Environment(loader=FileSystemLoader([folder, FOLDER]), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breaks"] = breaks
    return environment.get_template(template).render(**values)


def breaks(text: object) -> Markup:
    """Text in which long keys and paths may be broken after their dots, underscores and slashes."""
    return Markup(re.sub(r"([._/])(?=[^\W\d])", r"\1<wbr>", str(escape(text))))


def embed(path: Path, step: int = 0) -> Picture:
    """A PNG file for a page.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open_image(path, ["PNG"]) as opened:
            opened.load()
            picture, text = opened.copy(), getattr(opened, "text", {})
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a complete picture ({error})") from error
    names: list[str] = []
    with suppress(TypeError, ValueError, RecursionError):  # other programs may use the same chunk
        names = [str(name) for name in json.loads(text.get(NAMES, "[]"))]
    wide = "wide" if picture.width > 2 * picture.height else ""
    if picture.width <= WIDEST:
        small = "small" if picture.width <= SMALL else ""
        return Picture(data_uri("png", path.read_bytes()), f"{small} {wide}".strip(), "", names, step)
    size, buffer = picture.size, io.BytesIO()
    smaller = picture.convert("RGB").resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
    smaller.save(buffer, "WEBP", quality=85)
    return Picture(data_uri("webp", buffer.getvalue()), wide, f", reduced from {size[0]} x {size[1]} pixels", names, step)


def data_uri(kind: str, content: bytes) -> str:
    """A picture as the source of an `img`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def write_page(
    path: Path,
    title: str,
    intro: str,
    numbers: Sequence[tuple[str, str, str]],
    pictures: Mapping[str, Path],
    runs: Mapping[str, Path],
) -> None:
    """Write a page of results.

    Args:
        path: of the page.
        title, intro: text at its top.
        numbers: name, value, and how it was measured.
        pictures: PNG files by caption.
        runs: run folders by name, whose devices, sizes, times and costs are shown; those that no longer exist are left out.
    """
    found = {name: read_run(folder) for name, folder in runs.items() if (folder / "config.yaml").is_file()}
    shared, differing = side_by_side([*found.values()])
    page = render(
        "results.html",
        title=title,
        intro=intro,
        pictures=[(caption, embed(file)) for caption, file in pictures.items()],
        numbers=[(name.replace("_", " "), value, how) for name, value, how in numbers],
        names=list(found),
        shared=shared,
        differing=differing,
    )
    write_text(path, page)
