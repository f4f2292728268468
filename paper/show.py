"""Plans and results as text."""

import textwrap
from collections.abc import Sequence

from paper.commands import commands, needs_to_measure, settings_text
from paper.cost import sampling_cost, training_costs
from paper.needs import Need, OwnPaths, needs_to_train
from paper.results import TableValue
from paper.sizes import config_of
from paper.speed import Speeds
from paper.tables import Row, Table, disagreements

WIDE = 130


def heading(table: Table) -> list[str]:
    """Title and protocol."""
    lines = [f"{table.number[0].upper()}{table.number[1:]}: {table.title}", *_field("protocol", table.protocol.text)]
    lines += _field("reference", table.protocol.reference) if table.protocol.reference else []
    lines += _field("not stated", table.protocol.open)
    lines += _field("axis", table.axis) if table.axis else []
    if table.text_value:
        lines += _field("the text", f"{table.text_value['what']}: {table.text_value['value']:g}")
    lines += _field("the text", table.claim["text"]) if table.claim else []
    return lines


def plan(table: Table, row: Row, own: OwnPaths) -> list[str]:
    """One row: description, needed files, commands and costs."""
    stage = config_of(row.config, own.overrides).data.get("paths", {}).get("first_stage")
    lines = ["", f"{row.row}: {row.method}"]
    lines += _field("config", f"configs/{row.config}.yaml" + (f" and configs/{row.classifier}.yaml" if row.classifier else ""))
    if not row.config.startswith("first_stage/"):
        lines += _field("first stage", stage or "none: pixels")
    lines += _field("data", row.data)
    if samples := table.protocol_of(row).samples:
        lines += _field("sampling", f"{settings_text(row)}; {samples} images")
    lines += _field("shape", "our choice; the paper only prints the size") if row.shape == "chosen" else []
    lines += _field("the paper", _printed(row)) if row.paper else []
    for name in row.disagrees:
        lines += _field("disagrees", f"{name}: {disagreements()[name]}")
    training = needs_to_train(row, own)
    lines += _needs("to train", training)
    if samples:
        lines += _needs("to measure", needs_to_measure(table, row, own), training)
    for command in commands(table, row, own):
        lines.append(f"  {command.does:<12}{command.text()}")
    for cost in training_costs(row):
        lines += _field("cost", f"training {cost.text()}")
    lines += _field("cost", f"sampling {sampling_cost(table, row).text()}") if samples else []
    return lines


def others(table: Table) -> list[str]:
    """Methods of other papers, which cannot be run here."""
    lines = ["", "Other methods, as printed; they cannot be run here"] if table.others else []
    for other in table.others:
        numbers = ", ".join(f"{key} {value:g}" for key, value in other.items() if key != "method")
        lines += _field("", f"{other['method']}: {numbers}")
    return lines


def results(row: Row, found: list[TableValue]) -> list[str]:
    """One row's numbers: paper, ours, gap, and how they were measured or why not."""
    lines = ["", f"{row.row}: {row.method}", f"  {'':<52}{'paper':>14}{'ours':>20}{'gap':>22}"]
    for value, following in zip(found, [*found[1:], None], strict=True):
        paper = "curve" if value.paper is None else f"{_short(value.paper)}{value.unit}"
        paper += f" +- {_short(value.paper_std)}" if value.paper_std is not None else ""
        ours = "not run" if value.ours is None else f"{_short(value.ours)}{value.unit}"
        ours += f" (of {value.samples})" if value.samples else ""
        gap = "" if value.gap is None else f"{value.gap:+.3g}" + (f" ({100 * value.gap / value.paper:+.1f} %)" if value.paper else "")
        lines.append(f"  {value.name:<52}{paper:>14}{ours:>20}{gap:>22}")
        if following is not None and (following.how, value.spread, following.spread) == (value.how, None, None):
            continue  # printed once, below the last of them
        spread = f"{value.spread[0]:.3g} to {value.spread[1]:.3g}; " if value.spread else ""
        lines += textwrap.wrap(spread + value.how, WIDE, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
    for name in row.disagrees:
        lines += _field("disagrees", f"{name}: {disagreements()[name]}")
    return lines


def claim(table: Table, speeds: Speeds) -> list[str]:
    """The table's claim about its speed, and the smallest measured ratio over columns and latent rows."""
    baseline = table.speed["baseline"]
    smallest = min(
        (
            (ratio, column, name)
            for column in table.claim["columns"]
            for name in speeds.seconds[column]
            if name != baseline
            for ratio in [speeds.ratio(column, name, baseline)]
        ),
        key=lambda entry: entry[0].median,
    )
    ratio, column, name = smallest
    verdict = "holds" if ratio.median >= table.claim["at_least"] else "does not hold"
    text = f"at least {table.claim['at_least']:g}x from {baseline}; smallest here {ratio.text()}, {name}, {column}: {verdict} here"
    return ["", *_field("the claim", text), *_field("measured on", speeds.settings)]


def _printed(row: Row) -> str:
    pairs = [(key, value, row.paper.get(f"{key}_std")) for key, value in row.paper.items() if not key.endswith("_std")]
    return ", ".join(f"{key} {_short(value)}" + (f" +- {_short(std)}" if std is not None else "") for key, value, std in pairs)


def _short(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 10000 else f"{number:.5g}"


def _needs(title: str, needs: list[Need], known: Sequence[Need] = ()) -> list[str]:
    """Needed files, and where to get missing ones; those of `known` were explained before."""
    lines = []
    for need in dict.fromkeys(needs):
        state = f"[{'found' if need.there else 'missing'}] {need.path}"
        where = "" if need.there else f"; {need.where}"
        lines += _field(title, f"{state}: as above" if need in known else f"{state}: {need.what}{where}")
    return lines


def _field(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDE, initial_indent=f"  {name:<12}", subsequent_indent=" " * 14, break_on_hyphens=False, break_long_words=False
    )
