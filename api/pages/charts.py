"""Charts as SVG inside the page: drawn by pygal, coloured by the page's own stylesheet.

What pygal adds for files of their own (styles, a script, tooltips that need it) is taken off, so
that the page's policy may forbid both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree

from markupsafe import Markup
from pygal import StackedBar
from pygal.style import Style

WIDTH, HEIGHT = 340, 110
_LABEL_SIZE = 11
_SVG = "{http://www.w3.org/2000/svg}"
_HEADROOM = 1.1


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: None where there is nothing; `label` is what is said of it."""

    tick: str
    value: float | None
    label: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A value that bars are held against."""

    value: float
    label: str


@lru_cache(maxsize=128)
def bars(
    identifier: str,
    *,
    title: str,
    description: str,
    values: tuple[Bar, ...],
    limit: Line,
    highest: Line | None = None,
    ticks_every: int,
) -> Markup:
    """Bars against a limit; those above it are a series of their own. `highest` names the top."""
    top = max([limit.value, *(bar.value for bar in values if bar.value is not None)])
    lines = [Line(value=0, label="0"), limit, *([highest] if highest else [])]
    chart = StackedBar(
        js=[],
        css=[],
        width=WIDTH,
        height=HEIGHT,
        margin=2,
        spacing=6,
        show_legend=False,
        show_minor_x_labels=False,
        show_x_guides=False,
        truncate_label=-1,
        range=(0, top * _HEADROOM),
        style=Style(label_font_size=_LABEL_SIZE, major_label_font_size=_LABEL_SIZE),
    )
    chart.x_labels = [bar.tick for bar in values]
    chart.x_labels_major = [bar.tick for bar in values][::ticks_every]
    chart.y_labels = [{"value": line.value, "label": line.label} for line in lines]
    chart.y_labels_major = [limit.value]
    for is_over in (False, True):
        chart.add(
            "over" if is_over else "within",
            [
                {"value": bar.value, "label": bar.label}
                if bar.value is not None and (bar.value > limit.value) is is_over
                else None
                for bar in values
            ],
        )
    return Markup(_stripped(chart.render_tree(), identifier, title, description))


def _stripped(root: ElementTree.Element, identifier: str, title: str, description: str) -> str:
    """The drawing with a name and a description, without what only pygal's own script uses."""
    for name in list(root.attrib):
        if name not in ("viewBox", "xmlns"):
            del root.attrib[name]
    root.attrib |= {
        "class": "chart",
        "role": "img",
        "aria-labelledby": f"{identifier}-title {identifier}-desc",
    }
    for child in list(root):
        if not isinstance(child.tag, str) or _local(child) == "defs":
            root.remove(child)
    for parent in list(root.iter()):
        for child in list(parent):
            if _is_superfluous(child):
                parent.remove(child)
        _name(parent)
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{identifier}-{tag}"})
        element.text = text
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _is_superfluous(element: ElementTree.Element) -> bool:
    """Room for tooltips, the bars of what is not there, and titles of numbers that have labels."""
    classes = set(element.attrib.get("class", "").split())
    if classes & {"overlay", "tooltip-overlay", "text-overlay", "titles"}:
        return True
    if "bar" in classes:
        return not any(_local(child) == "desc" for child in element)
    return _local(element) == "title" and not element.attrib


def _name(group: ElementTree.Element) -> None:
    """What pygal keeps in `desc` for its tooltips becomes the title that browsers show."""
    notes = [child for child in group if isinstance(child.tag, str) and _local(child) == "desc"]
    if not notes:
        return
    labels = [note.text for note in notes if note.attrib.get("class") == "label"]
    for note in notes:
        group.remove(note)
    if labels:
        title = ElementTree.Element("title")
        title.text = labels[0]
        group.insert(0, title)


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).removeprefix(_SVG)
