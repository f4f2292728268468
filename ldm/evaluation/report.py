"""The report of one or several runs: one self-contained HTML file without scripts."""

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment
from PIL import Image

from ldm.errors import UserError
from ldm.evaluation.curves import COLOURS, curve, drawable
from ldm.evaluation.record import NAMES, Record, given
from ldm.evaluation.record import shown as field
from ldm.evaluation.runs import Run, differences, last
from ldm.system.image_files import open_image

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,"><title>{{ title }}</title>
<style>
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 0 auto; padding: 1rem; color: #222; background: #fff }
body, td:last-child { overflow-wrap: anywhere } td, th { overflow-wrap: break-word } h3 { margin: .5rem 0 }
.side { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)) }
.side > *, .scroll { min-width: 0 } .scroll { overflow-x: auto }
table { border-collapse: collapse } th { text-align: left } td, th { padding: .15rem .8rem .15rem 0; vertical-align: top }
figure { margin: 0 0 1rem } figcaption { color: #555; font-size: .9rem }
img { max-width: 100%; border: 1px solid #ccc } img.small { image-rendering: pixelated; width: 100% }
img.curve { width: 100%; border: 0 }
pre { white-space: pre-wrap; font-size: .85rem }
</style></head><body>
<h1>{{ title }}</h1>
<p>{% for run in runs %}<span style="color:{{ colours[loop.index0 % colours | length] }}">●</span>
 {{ run.name }}{{ ", " if not loop.last }}{% endfor %}</p>
{% macro table(head, rows) %}<div class="scroll"><table><tr>{% for cell in head %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table></div>{% endmacro %}
<h2>In short</h2>{{ table([""] + names, summary) }}
{% if between %}<h2>Where the runs differ</h2>{{ table(["key"] + names, between) }}{% endif %}
<h2>Difference to the base</h2><div class="side">{% for run, rows in changes %}<section><h3>{{ run.name }}</h3>
{% if rows is none %}<p>Not recorded: the run has no base.yaml. --base CONFIG compares with a config.</p>
{% elif rows %}{{ table(["key", "base", "this run"], rows) }}{% else %}<p>None.</p>{% endif %}</section>{% endfor %}</div>
{% if metrics %}<h2>Metrics</h2><div class="side">{% for run, entries in metrics %}<section><h3>{{ run.name }}</h3>
{% for entry in entries %}<h4>{{ entry.head }}</h4><details><summary>protocol</summary>{{ table(["", ""], entry.rows) }}</details>
{% else %}<p>No metric records.</p>{% endfor %}</section>{% endfor %}</div>{% endif %}
{% if channels %}<h2>Stage-one health, per channel</h2><p>At the last validation. KL is in nats per latent element, the drift of colours
in 8-bit levels.</p><div class="side">{% for run, head, rows in channels %}<section><h3>{{ run.name }}</h3>{{ table(head, rows) }}</section>
{% endfor %}</div>{% endif %}
<h2>Incidents</h2><div class="side">{% for run, counts, rows, more in incidents %}<section><h3>{{ run.name }}</h3>
<p>{% for kind, count in counts %}{{ count }} x {{ kind }}{{ ", " if not loop.last }}{% else %}None.{% endfor %}</p>
{% if rows %}{{ table(["step", "kind", "what"], rows) }}{% endif %}
{% if more %}<p>{{ more }} more are in its incidents.jsonl.</p>{% endif %}</section>{% endfor %}</div>
<h2>Pictures over time</h2><p>Always the same samples and seeds.</p>
{% for what, columns in pictures %}<h3>{{ what }}</h3><div class="side">{% for run, shown, left_out in columns %}<section>
<h4>{{ run.name }}</h4>{% for step, source, note, small in shown %}<figure><img alt="{{ what }} at step {{ step }}" src="{{ source }}"
{% if small %} class="small"{% endif %}><figcaption>step {{ step }}{{ note }}</figcaption></figure>{% else %}<p>None.</p>{% endfor %}
{% if left_out %}<p>{{ left_out }} steps in between are left out.</p>{% endif %}</section>{% endfor %}</div>
{% else %}<p>None were drawn.</p>{% endfor %}
<h2>Curves</h2><p>Over training steps. Where there are many points, a line is their mean and the band their range.</p>
<div class="side">{% for name, source in curves %}<figure><figcaption>{{ name }}</figcaption><img class="curve" alt="{{ name }}"
 src="{{ source }}"></figure>{% endfor %}</div>
<h2>Configs</h2>{% for run, text in configs %}<details><summary>{{ run.name }}</summary><pre>{{ text }}</pre></details>{% endfor %}
</body></html>
"""
CHANNEL = re.compile(r"validation_(.*)_(\d+)")  # other names that end in a number are of optimizers or their parameter groups
WIDEST = 1040  # pixels of a picture in the report; larger ones are reduced
INCIDENTS = 100  # shown per run


def render(runs: Sequence[Run], base: dict[str, Any] | None = None, grids: int = 6) -> str:
    """The report as HTML; all text from the runs is escaped.

    Args:
        runs: shown side by side.
        base: config to compare with; None is each run's own base.
        grids: number of pictures of each kind and run, spread over time.

    Raises:
        UserError: a picture that cannot be read.
    """
    if len({run.name for run in runs}) < len(runs):
        raise UserError(f"runs must have different names, got {', '.join(run.name for run in runs)}")
    bases = [(run, base if base is not None else run.base) for run in runs]
    return (
        Environment(autoescape=True)
        .from_string(TEMPLATE)
        .render(
            title="Report of " + (runs[0].name if len(runs) == 1 else f"{len(runs)} runs"),
            runs=runs,
            names=[run.name for run in runs],
            colours=COLOURS,
            summary=summary(runs),
            between=[(path, *map(shown, values)) for path, values in differences(*(run.config for run in runs))],
            changes=[(run, None if b is None else changed(b, run.config)) for run, b in bases],
            metrics=[(run, [metric(*one) for one in run.records]) for run in runs] if any(run.records for run in runs) else [],
            channels=[(run, *channels(run)) for run in runs if channels(run)[1]],
            incidents=[(run, *incidents(run)) for run in runs],
            pictures=pictures(runs, grids),
            curves=curves(runs),
            configs=[(run, yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)) for run in runs],
        )
    )


def changed(base: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, ...]]:
    """Key, value in the base and in the run; without the names of classes, which a run takes from its data."""
    named = {} if "classes" in config and "classes" in base else {"classes": config.get("classes")}
    return [(path, *map(shown, values)) for path, values in differences(base | named, config | named)]


def shown(value: Any) -> str:
    """A value of a config as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def summary(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    """Steps, speed, memory and the last validation numbers of each run."""

    def row(name: str, key: str, digits: str, fold: Callable[[list[float]], float] = last) -> tuple[str, ...]:
        series = [run.values(key) for run in runs]
        return (name, *(format(fold(values), digits) if values else "-" for values in series))

    rows = [("steps", *(f"{run.steps}" for run in runs)), row("loss, last", "loss", ".4g")]
    rows.append(row("images/s, median", "images_per_second", ".4g", median))
    rows.append(row("peak memory of the device, GiB", "device_memory_gib", ".2f", max))
    rows.append(row("peak memory of the process, GiB", "process_memory_gib", ".2f", max))
    names = dict.fromkeys(name for run in runs for name in run.series if name.startswith("validation_") and not CHANNEL.fullmatch(name))
    rows += [row(f"{name.removeprefix('validation_')}, last validation", name, ".4g") for name in names]
    return [one for one in rows if set(one[1:]) != {"-"}]


def metric(file: str, record: Record) -> dict[str, Any]:
    """A record: its value as the head, its protocol as rows."""
    spread = "" if record.spread is None else f" ± {field(record.spread)}"
    head = f"{record.metric}: {field(record.value)}{spread} ({record.samples} samples)"
    known = [name for name in NAMES if name not in ("metric", "value", "spread") and given(record, name)]
    unknown = [name for name in NAMES if name != "spread" and getattr(record, name) is None]
    rows = [("file", file), *((name, field(getattr(record, name))) for name in known)]
    return {"head": head, "rows": [*rows, ("unknown", ", ".join(unknown))] if unknown else rows}


def channels(run: Run) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of numbers per channel."""
    found: dict[str, dict[int, float]] = {}
    for name in run.series:
        if hit := CHANNEL.fullmatch(name):
            found.setdefault(hit[1], {})[int(hit[2])] = last(run.values(name))
    count = max((max(values) + 1 for values in found.values()), default=0)
    rows = [[str(i), *(f"{values[i]:.3g}" if i in values else "" for values in found.values())] for i in range(count)]
    return ["channel", *found], rows


def incidents(run: Run) -> tuple[list[tuple[str, int]], list[tuple[str, str, str]], int]:
    """Counts by kind, the incidents themselves, and how many are left out."""
    counts = Counter(str(one.get("kind", "?")) for one in run.incidents)
    rows = [tuple(shown(one.get(key, "?")) for key in ("step", "kind", "what")) for one in run.incidents]
    # rare kinds first: a thousand unreadable files must not hide one warning
    rare = sorted(range(len(rows)), key=lambda i: (counts[rows[i][1]], i))[:INCIDENTS]
    return counts.most_common(), [rows[i] for i in sorted(rare)], max(0, len(rows) - INCIDENTS)  # type: ignore[misc]


def pictures(runs: Sequence[Run], grids: int) -> list[tuple[str, list[tuple[Run, list[tuple[int, str, str, bool]], int]]]]:
    """By kind and run: (step, data URI, note, whether it is small), and how many are left out."""
    kinds = dict.fromkeys(kind for run in runs for kind in run.pictures)
    found = []
    for kind in kinds:
        columns = []
        for run in runs:
            files = run.pictures.get(kind, [])
            spread = np.linspace(len(files) - 1, 0, min(grids, len(files))).round()[::-1]  # one is the last
            chosen = [files[int(i)] for i in spread]
            columns.append((run, [(step, *embed(path)) for step, path in chosen], len(files) - len(chosen)))
        found.append((kind, columns))
    return found


def embed(path: Path) -> tuple[str, str, bool]:
    """A picture as data URI, a note if it was reduced, and whether it is small."""
    try:
        with open_image(path, ["PNG"]) as opened:
            opened.load()
            picture = opened.copy()
    except OSError as error:
        raise UserError(f"{path}: not a complete picture ({error})") from error
    if picture.width <= WIDEST:
        return data_uri("png", path.read_bytes()), "", picture.width <= 400
    size, buffer = picture.size, io.BytesIO()
    picture.convert("RGB").resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS).save(
        buffer, "WEBP", quality=85
    )
    return data_uri("webp", buffer.getvalue()), f", reduced from {size[0]} x {size[1]} pixels", False


def curves(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """A chart of all runs per number, as data URI; numbers of single channels have a table."""
    names = dict.fromkeys(name for run in runs for name in run.series if not CHANNEL.fullmatch(name))
    lines = {name: {run.name: run.series.get(name, []) for run in runs} for name in names}
    return [(name, data_uri("svg+xml", curve(some).encode())) for name, some in lines.items() if any(map(drawable, some.values()))]


def data_uri(kind: str, content: bytes) -> str:
    """A picture inside a page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
