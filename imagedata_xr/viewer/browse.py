"""`view`: images side by side in a browser, a notebook or a file."""

from __future__ import annotations

import json
import math
import socket
import sys
import weakref
from functools import partial
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from imagedata_xr.arguments import require_bools
from imagedata_xr.files import file_here, output_files
from imagedata_xr.images import listed, require_image
from imagedata_xr.names import SPATIAL_DIMS
from imagedata_xr.viewer.panel import Panel, make_panel, window_limits
from imagedata_xr.viewer.roi import Roi, changed_rois, checked_rois, load_rois, roi_mask, roi_statistics, save_rois
from imagedata_xr.viewer.serve import Serving, check_port

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    import xarray as xr

    from imagedata_xr.viewer.page import Page

__all__ = ["Viewer", "view"]

_LARGEST_FILE: Final = 200


class Viewer:
    """Images side by side; made by `view`.

    Attributes
    ----------
    images : list of DataArray
        What is shown.
    """

    def __init__(
        self,
        images: Sequence[xr.DataArray],
        planes: Sequence[str],
        window: tuple[float, float] | None,
        rois: Sequence[Sequence[Roi]],
        state: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        from imagedata_xr.viewer.page import Options

        self.images = list(images)
        self._panels: list[Panel] = [make_panel(image, window) for image in self.images]
        self._shown = [
            self._first_shown(number, SPATIAL_DIMS.index(plane))
            for number in range(len(self._panels))
            for plane in planes
        ]
        viewports = min(len(self._shown), options.pop("viewports") or 4)
        columns = min(viewports, options.pop("columns") or math.ceil(math.sqrt(viewports)))
        self._options = Options(columns=columns, viewports=viewports, **options)
        self._state: dict[str, Any] = {"page": 0, "active": 0, **state}
        self._serving: Serving | None = None
        self._panes: list[tuple[Any, Any]] = []  # states and panes of notebooks
        self._served: weakref.WeakSet[Any] = weakref.WeakSet()  # states of the pages of servers
        self._rois: list[list[Roi]] = [list(of) for of in rois]

    def _first_shown(self, number: int, plane: int) -> dict[str, Any]:
        panel = self._panels[number]
        if plane and not panel.place.is_even:
            msg = "slices are unevenly spaced; they cannot be cut in other planes than their own, plane='slice'"
            raise ValueError(msg)
        middle = [panel.shape[-1] // 2, panel.image.sizes["row"] // 2, panel.image.sizes["col"] // 2]
        return {
            "series": number,
            "place": [0] * len(panel.tags) + middle,
            "plane": plane,
            "low": panel.low,
            "high": panel.high,
        }

    # --- what the user did

    @property
    def windows(self) -> list[tuple[float, float]]:
        """Centre and width of the window of each panel."""
        return [((one["low"] + one["high"]) / 2, one["high"] - one["low"]) for one in self._shown]

    @property
    def places(self) -> list[dict[str, int]]:
        """Number along each tag dim and slice, row and col of each panel."""
        return [
            dict(zip((*self._panels[one["series"]].tags, *SPATIAL_DIMS), one["place"], strict=True))
            for one in self._shown
        ]

    @property
    def rois(self) -> list[list[Roi]]:
        """Outlines given and drawn, image by image; may be set and changed.

        A page that draws changes what it has drawn, and nothing else. Pages, of notebooks too, show at once what is set
        or loaded; what is changed in a list of it, they show when it is set, ``viewer.rois = viewer.rois``.
        """
        return self._rois

    @rois.setter
    def rois(self, rois: Sequence[Sequence[Roi]]) -> None:
        if len(rois) != len(self.images):
            msg = f"{len(rois)} lists of outlines were given for {len(self.images)} images; one for each is wanted"
            raise ValueError(msg)
        self._rois = [checked_rois(image, of) for image, of in zip(self.images, rois, strict=True)]
        self._tell_rois()

    def roi_mask(self, image: int = 0) -> xr.DataArray:
        """Return which voxels of an image are inside what was drawn on it. See `imagedata_xr.viewer.roi.roi_mask`."""
        return roi_mask(self.images[image], self.rois[image])

    def roi_statistics(self, image: int = 0) -> xr.Dataset:
        """Return what is measured in each region. See `imagedata_xr.viewer.roi.roi_statistics`."""
        return roi_statistics(self.images[image], self.rois[image])

    def save_rois(self, path: str | os.PathLike[str], image: int = 0, *, overwrite: bool = False) -> Path:
        """Return the JSON file with what was drawn on an image. See `imagedata_xr.viewer.roi.save_rois`."""
        return save_rois(self.rois[image], self.images[image], path, overwrite=overwrite)

    def load_rois(self, path: str | os.PathLike[str], image: int = 0) -> None:
        """Add the outlines of a JSON file to an image. See `imagedata_xr.viewer.roi.load_rois`."""
        self._rois[image] += load_rois(path, self.images[image])
        self._tell_rois()

    # --- pages

    def page(self, document: Any | None = None, *, is_live: bool = True) -> Page:
        """Return models of bokeh that show the images as they are seen now.

        Parameters
        ----------
        document : bokeh Document, optional
            That of a session of a bokeh server; by default the page is for a notebook.
        is_live : bool
            Whether frames are delivered as they are asked for; if not, all go along with the page.
        """
        from imagedata_xr.viewer.delivery import deliver
        from imagedata_xr.viewer.page import make_page

        state = {**self._state, "rois": self._told_rois()}
        page = make_page(self._panels, self._shown, state, self._options, is_live=is_live)
        if is_live:
            for image, series in zip(self._panels, page.series, strict=True):
                deliver(image, series, document)
            for panel, shown in zip(page.panels, self._shown, strict=True):
                for name in shown:
                    panel.on_change(name, _keep_in(shown))
            for name in ("page", "active", "link", "link_windows"):
                page.state.on_change(name, _keep_in(self._state))
            page.state.on_change("drawn", self._drawn)
            if document is not None:
                self._served.add(page.state)
        return page

    def _told_rois(self) -> str:
        return json.dumps([{**roi.to_dict(), "series": n} for n, of in enumerate(self._rois) for roi in of])

    def _tell_rois(self) -> None:
        """Tell all pages which outlines there are now."""
        for state, pane in self._panes:
            self._tell_page(state)
            import_module("panel.io").push_notebook(pane)
        for state in list(self._served):
            if state.document is not None:  # a page is changed in its own thread only
                state.document.add_next_tick_callback(partial(self._tell_page, state))

    def _tell_page(self, state: Any) -> None:
        told = self._told_rois()
        if json.loads(told) != json.loads(state.rois):
            state.rois = told

    def _drawn(self, _name: str, _old: str, told: str) -> None:
        """Do what a page has done, which need not know all outlines that there are."""
        _, gone, come = json.loads(told)
        for n, kept in enumerate(self._rois):
            kept[:] = changed_rois(
                kept, *([Roi.from_dict(one) for one in of if one["series"] == n] for of in (gone, come))
            )
        self._tell_rois()

    def app(self, document: Any) -> None:
        """Fill a document of a bokeh server of one's own with the images; ``q`` ends nothing there."""
        self._fill(document)

    def _fill(self, document: Any) -> Page:
        from imagedata_xr.viewer.page import SERVER_PAGE

        page = self.page(document)
        document.title, document.template = "imagedata_xr", SERVER_PAGE
        document.add_root(page.root)
        return page

    def _own_app(self, document: Any) -> None:
        page = self._fill(document)
        page.state.on_change("closed", lambda name, old, new: document.add_next_tick_callback(self.close))

    def show(self, *, browser: bool = True, port: int | None = None) -> str:
        """Return the URL at which the images are served on this machine, until the last page is closed.

        Parameters
        ----------
        browser : bool
            Whether the page is opened in the user's browser; where there is none, its address is printed.
        port : int, optional
            By default one that is free.

        Raises
        ------
        OSError
            If the port is taken.
        ValueError
            If there is no such port.
        """
        if self._serving is None or not self._serving.is_running:
            self._serving = Serving(self._own_app, port)
        url = self._serving.url
        if browser and not self._serving.open_browser():
            port = urlsplit(url).port
            print(
                f"no browser was found on this machine; open this address in a browser here: {url}\n"
                f"or in one on another machine, after: ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}",
                file=sys.stderr,
            )
        return url

    def wait(self) -> None:
        """Wait until ``q`` is pressed or the last page is closed; Ctrl-C ends the server, too."""
        if self._serving is not None:
            self._serving.wait()

    def close(self) -> None:
        """End the server, if there is one."""
        if self._serving is not None:
            self._serving.stop()

    def save(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, largest_file: float = _LARGEST_FILE
    ) -> Path:
        """Return an HTML file with all frames in it, that needs no server, no network, and no Python.

        Parameters
        ----------
        path : path
            Its name, which ends with ``.html``.
        overwrite : bool
            Whether it may replace a file.
        largest_file : float
            Megabytes that its frames may have.

        Raises
        ------
        ValueError
            If they have more.
        FileExistsError
            If the file is there.
        """
        from imagedata_xr.viewer.page import html_of

        # Bytes become text, 4 characters for 3 of them.
        megabytes = sum(panel.frames * panel.frame_bytes for panel in self._panels) * 4 / 3 / 1e6
        if megabytes > largest_file:
            msg = (
                f"the frames would take {megabytes:.0f} MB in {path}, more than largest_file={largest_file}; "
                "select slices or tags, or allow more"
            )
            raise ValueError(msg)
        out = file_here(path, (".html", ".htm"))
        with output_files(out, (".html", ".htm"), overwrite=overwrite) as file:
            file.write_text(html_of(self.page(is_live=False)), encoding="utf-8")
        return out

    # --- notebooks

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        """Return what a notebook shows."""
        panel: Any = import_module("panel")
        if not panel.state._extensions:  # nobody has called panel.extension: the scripts of bokeh go along, from here
            panel.extension(inline=True)
        # What the browser tells comes by the pane, which has to live as long as what is seen.
        page = self.page()
        pane = panel.pane.Bokeh(page.root)
        self._panes.append((page.state, pane))
        return pane._repr_mimebundle_(include, exclude)

    def __repr__(self) -> str:
        sizes = ["×".join(str(n) for n in image.shape) for image in self.images]
        return f"<Viewer of {', '.join(sizes)}>"


def _keep_in(kept: dict[str, Any]) -> Callable[[str, Any, Any], None]:
    """Return a callback of bokeh that keeps what has changed."""

    def keep(name: str, _old: Any, new: Any) -> None:
        kept[name] = new

    return keep


def in_notebook() -> bool:
    """Return whether this is a kernel of Jupyter, which shows what a cell returns."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return bool(shell) and hasattr(shell, "kernel")


def view(
    images: xr.DataArray | Iterable[xr.DataArray],
    *,
    plane: Literal["slice", "row", "col", "all"] = "slice",
    window: tuple[float, float] | None = None,
    link: bool | Literal["position", "index"] = False,
    link_windows: bool = False,
    columns: int | None = None,
    viewports: int | None = None,
    size: int = 384,
    presets: Mapping[str, tuple[float, float]] | None = None,
    drag: Literal["width", "level"] = "width",
    rois: Sequence[Roi] | None = None,
    roi_per_tag: bool = False,
    hide_identity: bool = False,
    save: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    show: bool | None = None,
    port: int | None = None,
) -> Viewer:
    """Return a viewer of images, and show it: in the cell of a notebook, else in the browser.

    The viewer is served on this machine only. In a script `view` returns at once, and the script lives until the page
    is closed or ``q`` is pressed. Frames are read as they are looked at.

    Parameters
    ----------
    images : DataArray or iterable of DataArray
        What is shown, side by side; with dims row and col, and slice, tag dims and rgb if they have them.
    plane : {"slice", "row", "col", "all"}
        What is stepped through: the slices, or the rows or columns of the volume cut anew; ``"all"`` shows the three
        side by side. Key ``p`` changes it.
    window : (centre, width), optional
        First window, in units of the values. By default that of the header, else of the middle slice at the first and
        the middle tags.
    link : bool, "position" or "index"
        Whether images of one frame of reference go to the same place together, or images to the same number. Key ``l``.
    link_windows : bool
        Whether they share the window. Key ``L``.
    columns, viewports : int, optional
        How many images are side by side, and shown at once (4); PageDown shows the next.
    size : int
        Width and height of a viewport [pixels].
    presets : dict, optional
        Windows of the keys 1 to 9: name to (centre, width). By default those of CT, for CT.
    drag : {"width", "level"}
        What dragging to the right changes; down changes the other one.
    rois : sequence of Roi, optional
        Outlines on the first image.
    roi_per_tag : bool
        Whether what is drawn holds for the tags where it is drawn only. Key ``a`` changes it for one outline.
    hide_identity : bool
        Whether name, identifier, birth date, sex and study date are left out, of the page as of the pictures; labels of
        tags that are dates, names or identifiers are counted.
    save : path, optional
        HTML file to write instead, with all frames in it; see `Viewer.save`.
    overwrite : bool
        Whether it may replace a file.
    show : bool, optional
        Whether to open a browser; by default where this is no notebook and nothing is saved.
    port : int, optional
        Of the server; by default one that is free.

    Raises
    ------
    GeometryError
        If an image has no dims row and col.
    ValueError
        If there is no image, or one is empty; if a window or preset has no width of more than 0; if an option is none
        that there is, or `port` no port.
    OSError
        If the port is taken.
    TypeError
        If `link_windows`, `roi_per_tag` or `hide_identity` is neither True nor False.

    Examples
    --------
    >>> import imagedata_xr as ixr
    >>> folder = getfixture("tmp_path")
    >>> image = ixr.open_series(ixr.sample.write_patient(folder / "phantom") / "ct")
    >>> image.dicom.view(save=folder / "ct.html")
    <Viewer of 12×96×96>
    """
    require_bools(link_windows=link_windows, roi_per_tag=roi_per_tag, hide_identity=hide_identity)
    shown = listed(images)
    for image in shown:
        require_image(image)
    if not shown:
        msg = "there is no image to view"
        raise ValueError(msg)
    if plane not in (*SPATIAL_DIMS, "all"):
        msg = f"plane is {plane!r}; slice, row, col or all is wanted"
        raise ValueError(msg)
    if link not in (True, False, "position", "index"):
        msg = f"link is {link!r}; True, False, position or index is wanted"
        raise ValueError(msg)
    for option, number in {"columns": columns, "viewports": viewports, "size": size}.items():
        if number is not None and (not isinstance(number, Integral) or number < 1):
            msg = f"{option} is {number!r}; a whole number from 1 on is wanted"
            raise ValueError(msg)
    if drag not in ("width", "level"):
        msg = f"drag is {drag!r}; width or level is wanted"
        raise ValueError(msg)
    for name, preset in (presets or {}).items():
        window_limits(preset, f"the preset {name!r}")
    check_port(port)
    outlines = [] if rois is None else checked_rois(shown[0], rois)
    viewer = Viewer(
        shown,
        SPATIAL_DIMS if plane == "all" else (plane,),
        window,
        [outlines, *([] for _ in shown[1:])],
        {"link": bool(link), "link_windows": link_windows},
        {
            "viewports": viewports,
            "columns": columns or (3 if plane == "all" else None),
            "size": size,
            "link_by": "index" if link == "index" else "position",
            "swapped_drag": drag == "level",
            "roi_per_tag": roi_per_tag,
            "presets": presets,
            "hide_identity": hide_identity,
        },
    )
    if save is not None:
        viewer.save(save, overwrite=overwrite)
    if show or (show is None and save is None and not in_notebook()):
        url = viewer.show(port=port)
        print(f"view at {url}\nclose the page, or press q there, to end", file=sys.stderr)
    return viewer
