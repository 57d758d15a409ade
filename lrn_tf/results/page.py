"""The pieces of a web page that stands alone: text, tables, and pictures as inline data."""

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np

# Of a picture drawn in dots; two of them for each of the page's.
DPI = 192

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: #fff; color: #222;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
p, figcaption, caption { max-width: 44rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
a { color: #005a8c; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid #0072b2; }
figure { margin: 1rem 0; }
figcaption, caption { color: #444; font-size: .9rem; text-align: left; padding-bottom: .4rem; }
figure img.fit { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; overflow-wrap: normal; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left;
  vertical-align: top; }
th[scope=row] { white-space: nowrap; } td:not(.number) { min-width: 16rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: #444; } dd { margin: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.grid > * { margin: 0; min-width: 0; }
.example { display: flex; gap: .8rem; font-size: .85rem;
  border-top: 3px solid #009e73; padding-top: .5rem; }
.example.wrong { border-color: #d55e00; }
.example img { width: 5rem; height: 5rem; image-rendering: pixelated; flex: none; }
.example dl { gap: 0 .6rem; align-content: start; }
@media (max-width: 40rem) {
  th[scope=row] { white-space: normal; overflow-wrap: anywhere; min-width: 5rem; }
}
"""


def text(said) -> str:
    """What was said, as HTML: characters that mean something there are escaped."""
    return html.escape(str(said))


def document(title: str, body: Iterable[str]) -> str:
    """A whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def section(name: str, title: str, *parts: str) -> str:
    """A section with a heading; its name is what links lead to."""
    inner = "\n".join(part for part in parts if part)
    heading = f'<h2 id="{name}-title">{text(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{heading}\n{inner}\n</section>'


def paragraph(said: str) -> str:
    return f"<p>{text(said)}</p>"


def exact(value: float, shown: str) -> str:
    """A number as it is shown, with all its digits for programs."""
    return f'<data value="{float(value)!r}">{text(shown)}</data>'


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and what they stand for; the latter is HTML."""
    return f"<dl>{''.join(f'<dt>{text(name)}</dt><dd>{value}</dd>' for name, value in pairs)}</dl>"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], numbers=()) -> str:
    """A table that scrolls by itself where the window is narrow.

    Args:
        caption: what it is.
        columns: their names.
        rows: of HTML; the first cell of each names the row.
        numbers: the columns that hold numbers.
    """

    def cells(row, tag):
        for i, cell in enumerate(row):
            of, scope = ("th", ' scope="row"') if tag == "td" and i == 0 else (tag, "")
            scope = ' scope="col"' if tag == "th" else scope
            align = ' class="number"' if columns[i] in numbers else ""
            yield f"<{of}{scope}{align}>{cell}</{of}>"

    head = "".join(cells(map(text, columns), "th"))
    body = "\n".join(f"<tr>{''.join(cells(row, 'td'))}</tr>" for row in rows)
    return _scrolling(
        caption,
        f"<table><caption>{text(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table>",
    )


def picture(figure, alt: str, caption: str = "") -> str:
    """A matplotlib figure in its own size; a small one shrinks with the window, a large one scrolls."""
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    small = width < 500
    fit = ' class="fit"' if small else ""
    source = _smaller(figure)
    image = f'<img src="{source}" alt="{text(alt)}" width="{width}" height="{height}"{fit}>'
    said = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure>{said}{image if small else _scrolling(caption or alt, image)}</figure>"


def photograph(pixels: np.ndarray, alt: str) -> str:
    """An image of a data set, uint8 `[H, W, c]`."""
    import tensorflow as tf

    return f'<img src="{_data("image/png", tf.io.encode_png(pixels).numpy())}" alt="{text(alt)}">'


def _scrolling(label, inner):
    # Whoever has no pointer reaches it by the keyboard.
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">{inner}</div>'


def _smaller(figure):
    """A figure as SVG or, if that is smaller, as PNG."""
    import matplotlib

    dots, lines = io.BytesIO(), io.BytesIO()
    figure.savefig(dots, format="png", dpi=DPI)
    # Neither a date nor random names: the same figure is the same text.
    with matplotlib.rc_context({"svg.hashsalt": "lrn_tf"}):
        figure.savefig(lines, format="svg", metadata={"Date": None, "Creator": None})
    if len(lines.getvalue()) < len(dots.getvalue()):
        return _data("image/svg+xml", lines.getvalue())
    return _data("image/png", dots.getvalue())


def _data(media_type, content):
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
