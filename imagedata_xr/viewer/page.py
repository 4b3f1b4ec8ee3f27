"""The page of a viewer: figures made by holoviews, and the one JavaScript module that brings them to life."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imagedata_xr.viewer.models import PanelState, SeriesState, ViewerState
from imagedata_xr.viewer.panel import CT_PRESETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from imagedata_xr.viewer.panel import Panel

__all__ = ["SERVER_PAGE", "Options", "Page", "html_of", "make_page"]

# Bokeh's own pages bring along the scripts of every package that is imported, and some of them from the network.
SERVER_PAGE: Final = """
{% block resources %}
<script src="static/js/bokeh.min.js"></script>
<script src="static/js/bokeh-widgets.min.js"></script>
{% endblock %}
"""
"""Page of a server: with the scripts that are used."""
FILE_PAGE: Final = """
{% block resources %}
{% for script in scripts %}<script>{{ script }}</script>
{% endfor %}
{% endblock %}
"""
"""Page in a file: the scripts are in it."""
PALETTES: Final = ("Greys256", "Inferno256", "Viridis256", "Turbo256")


@dataclass(frozen=True)
class Options:
    """How a viewer looks and behaves; see `imagedata_xr.viewer.view`."""

    columns: int = 1
    viewports: int = 1
    size: int = 384
    link_by: str = "position"
    swapped_drag: bool = False
    roi_per_tag: bool = False
    presets: Mapping[str, tuple[float, float]] | None = None
    hide_identity: bool = False
    browser_memory: int = 512 * 2**20


@dataclass(frozen=True)
class Page:
    """Models of one page.

    Attributes
    ----------
    root : bokeh model
        What is shown.
    state : ViewerState
        What the panels share.
    series : list of SeriesState
        One for each image.
    panels : list of PanelState
        One for each panel.
    """

    root: Any
    state: ViewerState
    series: list[SeriesState]
    panels: list[PanelState]


@cache
def script() -> str:
    """Return the JavaScript module: the files of the folder ``js`` as one, in the order in which they import."""
    folder = files("imagedata_xr.viewer") / "js"
    parts = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS]
    lines = [line for part in parts for line in part.splitlines() if not line.startswith("import ")]
    return "\n".join(lines)


_SCRIPTS: Final = ("geometry", "frames", "viewport", "panel", "drawing", "curves", "hands", "viewer")


def make_page(
    images: Sequence[Panel], shown: Sequence[dict[str, Any]], state: dict[str, Any], options: Options, *, is_live: bool
) -> Page:
    """Return the page that shows images.

    Parameters
    ----------
    images : sequence of Panel
        The images.
    shown : sequence of dict
        Properties of the `PanelState` of each panel.
    state : dict
        Properties of the `ViewerState`.
    options : Options
        How it looks.
    is_live : bool
        Whether Python will deliver frames; if not, all go along with the page.
    """
    models: Any = import_module("bokeh.models")  # its types do not know what is set from texts and numbers
    model = ViewerState(**state)
    panels = [PanelState(**one) for one in shown]
    series = [SeriesState(frames=_first_frames(n, image, shown, is_live)) for n, image in enumerate(images)]
    figures = [_Figure(images[one["series"]], one, options.size) for one in shown[: options.viewports]]
    has_curves = any(image.tags and not image.is_colour for image in images)
    curve = _curve(options.size) if has_curves else None
    bar = models.Div(text="")
    memory = options.browser_memory if is_live else 2**52
    presets = CT_PRESETS if options.presets is None else options.presets
    callback = models.CustomJS(
        args={
            "model": model,
            "series": series,
            "panels": panels,
            "figures": [one.figure for one in figures],
            "sources": [one.source for one in figures],
            "mappers": [one.mapper for one in figures],
            "renderers": [one.renderer for one in figures],
            "colourSources": [one.colour_source for one in figures],
            "colourRenderers": [one.colour_renderer for one in figures],
            "bar": bar,
            "curves": curve and curve[1],
            "curveFigure": curve and curve[0],
            "facts": json.dumps([image.facts(hide_identity=options.hide_identity) for image in images]),
            "float64": np.zeros((1, 1)),  # the class of it is found nowhere else
            "palettes": [_palette(name) for name in PALETTES],
            "presets": [list(preset) for preset in presets.values()],
            "presetsForAll": options.presets is not None,
            "columns": options.columns,
            "isLive": is_live,
            "budgets": _shares([image.frames * image.frame_bytes for image in images], memory),
            "linkBy": options.link_by,
            "perTag": options.roi_per_tag,
            "swapped": options.swapped_drag,
        },
        code=script(),
    )
    for one in figures:
        # BokehJS sets it when a figure is first laid out, wherever it is embedded; other events do not come everywhere.
        one.figure.js_on_change("inner_width", callback)
    grid = models.GridBox(
        children=[(one.figure, *divmod(n, options.columns)) for n, one in enumerate(figures)], spacing=4
    )
    # Where both do not fit beside each other, curves are below the pictures, and not out of sight.
    beside = models.Row(children=[grid, curve[0]], styles={"flex-wrap": "wrap"}) if curve else grid
    return Page(models.Column(children=[beside, bar]), model, series, panels)


def html_of(page: Page) -> str:
    """Return a page as HTML that needs nothing else."""
    from bokeh.embed import file_html
    from bokeh.resources import INLINE, Resources

    scripts = Resources(mode="inline", components=["bokeh", "bokeh-widgets"]).js_raw
    return file_html(
        page.root,
        INLINE,
        "imagedata_xr",
        template=FILE_PAGE,
        template_variables={"scripts": scripts},
        suppress_callback_warning=True,
    )


def _shares(wanted: Sequence[int], memory: int) -> list[int]:
    """Return how much memory each of some has: what it wants, or else as much as others that do not get that, either.

    Examples
    --------
    >>> _shares([10, 500, 300, 20], 430)
    [10, 200, 200, 20]
    """
    shares = [0] * len(wanted)
    by_size = sorted(range(len(wanted)), key=lambda n: wanted[n])
    for rank, n in enumerate(by_size):
        shares[n] = min(wanted[n], (memory - sum(shares)) // (len(wanted) - rank))
    return shares


def _first_frames(number: int, image: Panel, shown: Sequence[dict[str, Any]], is_live: bool) -> list[Any]:
    """Return the frames that go along with the page: the ones that are shown first, or all."""
    if not is_live:
        return [[k, image.frame(k)] for k in range(image.frames)]
    places = [one["place"][:-2] for one in shown if one["series"] == number and one["plane"] == 0]
    numbers = {int(np.ravel_multi_index(place, image.shape)) for place in places}
    found = []
    for k in sorted(numbers):
        # One that cannot be read, as its file is gone, is asked for by the page, which then tells it.
        with suppress(OSError):
            found.append([k, image.frame(k)])
    return found


def _palette(name: str) -> list[str]:
    from bokeh import palettes

    return list(getattr(palettes, name))


class _Figure:
    """One viewport: an image of holoviews, and a layer of colours over it."""

    def __init__(self, image: Panel, shown: dict[str, Any], size: int) -> None:
        import holoviews as hv
        import holoviews.plotting.bokeh  # makes it known, and writes nothing, as hv.extension() does
        from bokeh.models import ColumnDataSource

        def keep(plot: Any, _: Any) -> None:
            self.figure = plot.state
            self.source = plot.handles["source"]
            self.mapper = plot.handles["color_mapper"]
            self.renderer = plot.handles["glyph_renderer"]

        # The module places it and gives it values when it is laid out.
        picture = hv.Image(np.zeros((2, 2), np.uint8), bounds=(0, 0, 1, 1), kdims=["x", "y"], vdims=["value"])
        drawn = picture.opts(
            backend="bokeh",
            cmap=_palette(PALETTES[shown.get("colormap", 0)]),
            clim=(shown["low"], shown["high"]),
            clipping_colors={"NaN": "black"},
            frame_width=size,
            frame_height=size,
            bgcolor="black",
            xaxis=None,
            yaxis=None,
            toolbar=None,
            default_tools=[],
            hooks=[keep],
        )
        hv.render(drawn, backend="bokeh")
        self.colour_source = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self.colour_renderer = self.figure.image_rgba("image", "x", "y", "dw", "dh", source=self.colour_source)
        self.colour_renderer.visible = image.is_colour
        self.renderer.visible = not image.is_colour
        self.figure.sizing_mode = None
        self.figure.min_border = 0
        self.figure.outline_line_color = None
        self.figure.output_backend = "canvas"


def _curve(size: int) -> tuple[Any, Any]:
    """Return the figure of values along a tag dim, and its source."""
    from bokeh.models import ColumnDataSource

    figure: Any = import_module("bokeh.plotting").figure
    source = ColumnDataSource({"xs": [], "ys": [], "name": [], "color": []})
    made = figure(
        width=max(300, size * 3 // 4), height=size, toolbar_location=None, tools="", x_axis_label=" ", title=" "
    )
    made.yaxis.axis_label = " "
    made.title.text_font_size, made.title.text_font_style = "9pt", "normal"
    made.multi_line("xs", "ys", line_color="color", line_width=2, legend_field="name", source=source)
    made.legend.label_text_font_size, made.legend.location = "8pt", "top_left"
    made.legend.update(spacing=0, padding=0, label_height=12, glyph_height=12, border_line_color=None)
    made.add_layout(made.legend[0], "above")  # inside it would hide what is measured
    return made, source
