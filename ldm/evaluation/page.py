"""A small self-contained HTML page: numbers, how each was measured, and pictures."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment

from ldm.system.files import write_text

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
img { max-width: 100%; image-rendering: pixelated; border: 1px solid #ccc }
table { border-collapse: collapse } td { padding: .15rem .8rem .15rem 0; vertical-align: top } td:nth-child(2) { font-weight: 600 }
</style></head><body>
<h1>{{ title }}</h1><p>{{ intro }}</p>
<table>{% for name, value, how in numbers %}<tr><td>{{ name }}</td><td>{{ value }}</td><td>{{ how }}</td></tr>{% endfor %}</table>
{% for caption, data in pictures %}<h2>{{ caption }}</h2><img alt="{{ caption }}" src="data:image/png;base64,{{ data }}">{% endfor %}
</body></html>
"""


def write_page(path: Path, title: str, intro: str, numbers: Sequence[tuple[str, str, str]], pictures: Mapping[str, Path]) -> None:
    """Write the page; `pictures` maps captions to PNG files, which are embedded. All text is escaped."""
    inside = [(caption, base64.b64encode(file.read_bytes()).decode()) for caption, file in pictures.items()]
    template = Environment(autoescape=True).from_string(TEMPLATE)
    write_text(path, template.render(title=title, intro=intro, numbers=numbers, pictures=inside))
