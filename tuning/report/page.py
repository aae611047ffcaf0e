"""The bare bones of the report's page: its style, its script, and figures as SVG in which trials can be pointed at."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
body { margin: 0 auto; max-width: 1100px; padding: 24px; color: #1c1f23; background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 40px 0 8px; }
p { margin: 6px 0; max-width: 80ch; } .quiet { color: #5b626c; }
.wide { overflow-x: auto; max-height: 560px; overflow-y: auto; border-bottom: 1px solid #e6e8eb; }
table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid #d4d8dd; vertical-align: bottom; }
th, td { text-align: left; padding: 4px 10px; vertical-align: top; } td { border-bottom: 1px solid #eef0f2; }
.number { text-align: right; white-space: nowrap; } td.long { overflow-wrap: anywhere; min-width: 12em; }
svg { width: 100%; height: auto; display: block; } figure { margin: 0; }
pre { background: #f6f7f9; padding: 12px 16px; overflow-x: auto; font-size: 13px; }
[data-trial] { cursor: pointer; }
body.pointing svg [data-trial] { opacity: 0.12; } body.pointing svg [data-trial].on { opacity: 1; }
svg [data-trial].on .seen { stroke-width: 3.5px !important; } tr.on td { background: #e8f1fb; }
@media (max-width: 700px) {
  body { padding: 16px; } th, td { padding: 4px 6px; } th.number { white-space: normal; }
  figure { overflow-x: auto; } figure svg { min-width: 640px; }
}
#tip { position: fixed; display: none; white-space: pre; pointer-events: none; background: #1c1f23; color: #fff;
  padding: 8px 10px; border-radius: 5px; font-size: 12px; line-height: 1.4; z-index: 9; }
"""

SCRIPT = """
const tip = document.getElementById("tip"), told = {};
let pinned = null;
function point(trial) {
  document.body.classList.toggle("pointing", trial !== null);
  document.querySelectorAll("[data-trial]").forEach(e => e.classList.toggle("on", e.dataset.trial === trial));
}
function show(event) {
  tip.style.display = "block";
  const right = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const down = event.clientY + 14;
  tip.style.left = Math.max(8, right) + "px";
  tip.style.top = (down + tip.offsetHeight < innerHeight ? down : event.clientY - tip.offsetHeight - 10) + "px";
}
document.querySelectorAll("[data-trial]").forEach(part => {
  const title = part.querySelector("title"), trial = part.dataset.trial;
  if (title) { told[trial] = title.textContent; title.remove(); }
  part.querySelectorAll("path").forEach(line => {
    if (!/fill: none/.test(line.getAttribute("style") || "")) return;
    const wide = line.cloneNode();
    wide.setAttribute("style", "fill: none; stroke: #000; stroke-opacity: 0; stroke-width: 9px");
    line.classList.add("seen");
    line.after(wide);
  });
  part.addEventListener("mouseenter", () => { point(trial); tip.textContent = told[trial] || ""; });
  part.addEventListener("mousemove", event => { if (part.closest("svg") && told[trial]) show(event); });
  part.addEventListener("mouseleave", () => { tip.style.display = "none"; point(pinned); });
  part.addEventListener("click", () => { pinned = pinned === trial ? null : trial; point(pinned); });
});
"""


_PIXELS = 105
"""Of an inch of a figure, at most."""


def page(title: str, body: str) -> str:
    """A whole HTML file that loads nothing."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n"
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n"
        f'<div id="tip"></div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )


def svg(figure: Figure, name: str, told: Mapping[int, str]) -> str:
    """A figure as SVG that stands in a page.

    Args:
        figure: what belongs to a trial has an id ``t<ordinal>-<number>`` (:class:`tuning.report.ink.Ids`).
        name: goes before every id, since those of several figures must differ.
        told: ordinal -> what is said of the trial when it is pointed at.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg")
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    wide = f"max-width: {figure.get_figwidth() * _PIXELS:.0f}px"
    text = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 style="{wide}" role="img">', text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)

    def trial(match: re.Match[str]) -> str:
        ordinal = int(match[1])
        return f'<g data-trial="{ordinal}"><title>{escape(told.get(ordinal, f"trial {ordinal}"))}</title>'

    return re.sub(rf'<g id="{name}-t(\d+)-\d+">', trial, text)


def table(columns: Sequence[tuple[str, str]], rows: Iterable[tuple[int | None, Sequence[str]]]) -> str:
    """A table.

    Args:
        columns: heading and CSS class (``number``, ``long`` or nothing) of each.
        rows: the trial that a row is about, if any, and its cells.
    """
    head = "".join(f'<th class="{kind}">{escape(heading)}</th>' for heading, kind in columns)
    lines = []
    for trial, cells in rows:
        mark = "" if trial is None else f' data-trial="{trial}"'
        line = "".join(
            f'<td class="{kind}">{escape(cell)}</td>' for (_, kind), cell in zip(columns, cells, strict=True)
        )
        lines.append(f"<tr{mark}>{line}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table></div>'
    )
