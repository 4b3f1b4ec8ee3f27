"""What browser and Python tell each other: models of bokeh, changed on one side and read on the other."""

from __future__ import annotations

from bokeh.core.properties import Any, Bool, Float, Int, List, String
from bokeh.model import DataModel

__all__ = ["PanelState", "SeriesState", "ViewerState"]


class SeriesState(DataModel):
    """Frames of one image on their way to the browser."""

    frames = Any(default=[])
    """Pairs of number and values that go along with the page."""
    asked = List(Int, default=[])
    """A count, then the numbers of frames that the browser lacks and wants."""
    parcel = Any(default=[0, [], []])
    """A count, then pairs of number and values, then pairs of number and the reason why there is none."""


class PanelState(DataModel):
    """One image as it is browsed."""

    series = Int(default=0)
    """Which of the images."""
    place = List(Int, default=[])
    """Number along each tag dim, then slice, row, col."""
    plane = Int(default=0)
    """What is stepped through: 0 slices, 1 rows, 2 columns."""
    low = Float(default=0.0)
    high = Float(default=1.0)
    colormap = Int(default=0)
    inverted = Bool(default=False)


class ViewerState(DataModel):
    """What the panels share."""

    page = Int(default=0)
    """Number of the panel in the first viewport."""
    active = Int(default=0)
    link = Bool(default=False)
    link_windows = Bool(default=False)
    rois = String(default="[]")
    """JSON: a list of outlines, as `imagedata_xr.viewer.roi.Roi.to_dict` tells them, each with its series."""
    drawn = String(default="[0, [], []]")
    """JSON: a count, then the outlines of `rois` that the user has taken away, and those put there, in their place."""
    closed = Bool(default=False)
