"""The viewer in a real browser: what is on the screen is what is in the array."""

from __future__ import annotations

import gc
import html
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import MissingSlicesWarning
from imagedata_xr.geometry import patient_orientation, unit_vectors
from imagedata_xr.origins import Origin, assign_origins
from imagedata_xr.viewer.models import SeriesState
from tests.generate import write_series
from tests.viewer.browsers import Screen, levels, looking_at

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser


def expected(screen: Screen, values: Any, panel: int = 0) -> Any:
    low, high = screen.window(panel)
    return levels(np.asarray(values), low, high if screen.js(f"viewer.panels[{panel}].facts.isLinear") else high + 1)


def test_wheel_and_keys_go_through_slices_and_tags(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        assert screen.place()[:2] == [0, 2]
        assert (screen.greys((40, 30)) == expected(screen, image[0, 2])).all()
        screen.press("ArrowUp", viewport=0)
        assert screen.place()[:2] == [0, 3]
        assert (screen.greys((40, 30)) == expected(screen, image[0, 3])).all()
        screen.press("ArrowDown", "ArrowDown", "ArrowRight")
        assert screen.place()[:2] == [1, 1]
        screen.page.mouse.wheel(0, -100)
        screen.settle()
        assert screen.place()[:2] == [1, 2]
        assert (screen.greys((40, 30)) == expected(screen, image[1, 2])).all()
        screen.press("End")
        assert screen.place()[1] == 4
        screen.press("ArrowUp", "Home", "ArrowLeft", "ArrowLeft")
        assert screen.place()[:2] == [0, 0]
        assert (screen.greys((40, 30)) == expected(screen, image[0, 0])).all()
        assert viewer.places == [{"time": 0, "slice": 0, "row": 20, "col": 15}]


def test_every_tag_dim_is_reached(page: Any) -> None:
    values = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.int16).reshape(2, 3, 4, 5, 6)
    image = xr.DataArray(values, dims=("time", "te", "fa", "row", "col"), name="image")
    with looking_at(image.dicom.view(show=False, window=(360, 720)), page) as screen:
        screen.press("ArrowRight", "Shift+ArrowRight", viewport=0)
        assert screen.place()[:3] == [1, 1, 0]
        screen.press("t", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
        assert screen.place()[:3] == [1, 2, 2]
        screen.until("viewer.viewports[0].drawn")
        assert (screen.greys((5, 6)) == levels(values[1, 2, 2], 0, 720)).all()
        screen.press("t", "ArrowLeft", "Shift+ArrowLeft")
        assert screen.place()[:3] == [0, 2, 1]
        assert "▸ time[0]" in screen.texts()["lowerRight"]


def test_dragging_changes_the_window_and_double_click_resets(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False, window=(60, 100))
    with looking_at(viewer, page) as screen:
        assert screen.window() == (10, 110)
        x, y = screen.at(20, 15)
        screen.drag((x, y), (x + 60, y))
        assert screen.window() == pytest.approx((0, 120))
        screen.drag((x, y), (x, y + 60))
        assert screen.window() == pytest.approx((20, 140))
        assert (screen.greys((40, 30)) == expected(screen, image[0, 2])).all()
        assert viewer.windows == [pytest.approx((80, 120))]
        assert "W 120  C 80" in screen.texts()["lowerLeft"]
        screen.page.mouse.dblclick(x, y)
        screen.settle()
        assert screen.window() == (10, 110)
        screen.press("w")
        assert screen.window() == pytest.approx(np.quantile(image[0, 2], [0.01, 0.99]), abs=2)
        screen.press("i")
        low, high = screen.window()
        values = image[0, 2].values
        assert (np.abs(screen.greys((40, 30)) - (255 - levels(values, low, high))) <= 0).all()


def test_presets_of_ct_and_of_ones_own(image: xr.DataArray, page: Any, browser: Any) -> None:
    ct = image.assign_attrs(Modality="CT")
    with looking_at(ct.dicom.view(show=False), page) as screen:
        screen.press("1", viewport=0)
        assert screen.window() == (-150, 250)
        screen.press("3")
        assert screen.window() == (-500, 1500)
        assert (screen.greys((40, 30)) == expected(screen, image[0, 2])).all()
    own = image.dicom.view(show=False, presets={"mine": (50, 20)})
    with looking_at(own, browser.new_page(viewport={"width": 1300, "height": 1000})) as screen:
        before = screen.window()
        screen.press("2", viewport=0)
        assert screen.window() == before
        screen.press("1")
        assert screen.window() == (40, 60)


def test_a_drag_ends_where_the_mouse_is_lost_or_another_picture_is_shown(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(image + 1, show=False, viewports=1, window=(60, 100))
    with looking_at(viewer, page) as screen:
        x, y = screen.at(20, 15)
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 30, y, steps=3)
        assert screen.window() == pytest.approx((5, 115))
        screen.js("viewer.viewports[0].el.dispatchEvent(new PointerEvent('pointercancel'))")
        page.mouse.move(x + 60, y, steps=3)
        page.mouse.up()
        assert screen.window() == pytest.approx((5, 115))
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 30, y, steps=3)
        screen.press("PageDown")
        page.mouse.move(x + 60, y, steps=3)
        page.mouse.up()
        screen.settle()
        assert screen.window(1) == (10, 110)
        # An outline that was drawn as long as the mouse was held is no outline.
        screen.press("f")
        page.mouse.down()
        page.mouse.move(x, y + 60, steps=9)
        screen.js("viewer.viewports[0].el.dispatchEvent(new PointerEvent('pointercancel'))")
        page.mouse.move(x, y, steps=9)
        page.mouse.up()
        assert screen.js("[viewer.drawing.rois.length, viewer.drawing.begun]") == [0, None]


def test_colours_share_no_window(image: xr.DataArray, page: Any) -> None:
    colours = image.dicom.fuse_mask(image > 100)
    with looking_at(ixr.view([colours, image], show=False, link_windows=True, window=(60, 100)), page) as screen:
        screen.press("r", viewport=0)
        page.mouse.dblclick(*screen.at(3, 3))
        page.locator("button:has-text('auto')").click()
        screen.settle()
        assert screen.window(1) == (10, 110)


def test_a_picture_can_always_be_seen(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.press(*["-"] * 40, viewport=0)
        assert screen.at(0, 29)[0] - screen.at(0, 0)[0] > 10
        screen.press(*["+"] * 100)
        assert screen.at(0, 1)[0] - screen.at(0, 0)[0] < 384_000
        screen.press("r")
        assert (screen.greys((40, 30)) == expected(screen, image[0, 2])).all()


def test_the_axes_of_dragging_can_be_those_of_imagedata(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False, window=(60, 100), drag="level"), page) as screen:
        x, y = screen.at(20, 15)
        screen.drag((x, y), (x + 30, y + 60))
        assert screen.window() == pytest.approx((10, 130))


def test_a_millimetre_is_as_long_either_way_and_letters_say_where(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        (x0, y0), (x1, y1) = screen.at(0, 0), screen.at(10, 10)
        assert (y1 - y0) / 15 == pytest.approx((x1 - x0) / 20)
        texts = screen.texts()
        assert {name: texts[name][0] for name in ("left", "right", "top", "bottom")} == {
            **{"left": "R", "right": "L"},
            **{"top": "A", "bottom": "P"},
        }
        assert "slice 3/5 at" in texts["lowerLeft"]
        assert texts["lowerRight"].startswith("time[0]: 0 s")
        assert str(image.attrs["PatientName"]) in texts["upperLeft"]


def test_letters_of_many_orientations(tmp_path: Path, page: Any) -> None:
    signed = [sign * axis for axis in np.eye(3) for sign in (1, -1)]
    pairs = [(right, down) for right in signed for down in signed if not right @ down]
    images, opposite = [], dict(zip("LRPAHF", "RLAPFH", strict=True))
    for number, (right, down) in enumerate(pairs):
        write_series(tmp_path / str(number), slices=1, rows=8, cols=8, orientation=tuple(map(float, (*right, *down))))
        images.append(ixr.open_series(tmp_path / str(number)))
    with looking_at(ixr.view(images, viewports=24, columns=6, size=150, show=False), page) as screen:
        for number, image in enumerate(images):
            _, down, right = patient_orientation(unit_vectors(image.attrs["ImageOrientationPatient"]))
            texts = screen.texts(number)
            assert (texts["right"], texts["bottom"]) == (right, down), pairs[number]
            assert (texts["left"], texts["top"]) == (opposite[right], opposite[down])


def test_the_readout_is_value_index_and_place(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.page.mouse.move(*screen.at(12, 7))
        screen.settle()
        told = screen.js("viewer.line.textContent")
        assert f"value {image[0, 2, 12, 7].item()}   slice 2 row 12 col 7" in told
        ((x, y, z),) = image.dicom.map_indices_to_reference([[2, 12, 7]])
        parts = told.split("col 7   ")[1].removesuffix(" mm").split("  ")
        sides, numbers = zip(*(part.split() for part in parts), strict=True)
        assert [float(number) for number in numbers] == pytest.approx([abs(x), abs(y), abs(z)], abs=0.4)
        assert list(sides) == ["LR"[int(x < 0)], "PA"[int(y < 0)], "HF"[int(z < 0)]]


def test_zoom_and_pan_keep_what_is_under_the_mouse(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        wide = screen.at(0, 10)[0] - screen.at(0, 0)[0]
        screen.press("+", viewport=0)
        assert screen.at(0, 10)[0] - screen.at(0, 0)[0] == pytest.approx(1.25 * wide)
        before = screen.at(20, 15)
        screen.page.keyboard.down("Shift")
        screen.drag(before, (before[0] + 40, before[1] - 30))
        screen.page.keyboard.up("Shift")
        assert screen.at(20, 15) == pytest.approx((before[0] + 40, before[1] - 30), abs=1.5)
        low_high = screen.window()
        screen.drag((before[0], before[1]), (before[0], before[1] - 50), button="right")
        assert screen.at(0, 10)[0] - screen.at(0, 0)[0] > 1.5 * wide
        assert screen.window() == low_high
        screen.press("r")
        assert screen.at(0, 10)[0] - screen.at(0, 0)[0] == pytest.approx(wide)


@pytest.mark.parametrize("plane", ["row", "col"])
def test_other_planes_are_cut_from_the_volume(image: xr.DataArray, page: Any, plane: str) -> None:
    with looking_at(image.dicom.view(show=False, plane=plane), page) as screen:
        screen.until("viewer.viewports[0].drawn")
        middle = {"row": 20, "col": 15}[plane]
        wanted = image.isel(time=0, **{plane: middle})
        found = screen.greys(wanted.shape)
        assert (found == expected(screen, wanted)).all()
        assert screen.texts()["top"][0] == "H"
        screen.press("ArrowUp", viewport=0)
        wanted = image.isel(time=0, **{plane: middle + 1})
        assert (screen.greys(wanted.shape) == expected(screen, wanted)).all()
        (_, y0), (_, y1) = screen.at(0, 0), screen.at(1, 0)
        assert y1 < y0  # slices ascend to the head, which is at the top


def test_uneven_slices_are_not_cut(tmp_path: Path, page: Any) -> None:
    files = write_series(tmp_path / "in", times=1, slices=5)
    files[1].unlink()
    with pytest.warns(MissingSlicesWarning):
        image = ixr.open_series(tmp_path / "in")
    with pytest.raises(ValueError, match="unevenly"):
        image.dicom.view(show=False, plane="row")
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.press("p", viewport=0)
        assert screen.js("viewer.panels[0].state.plane") == 0
        assert "unevenly" in screen.js("viewer.line.textContent")


def test_a_first_frame_whose_file_is_gone_is_told_in_the_page(tmp_path: Path, page: Any) -> None:
    files = write_series(tmp_path / "in", times=1, slices=5)
    image = ixr.open_series(tmp_path / "in")
    files[2].unlink()
    with looking_at(image.dicom.view(show=False, window=(100, 200)), page) as screen:
        screen.until("viewer.viewports[0].texts.notice.textContent.includes('cannot be read')")
        screen.press("ArrowUp", viewport=0)
        screen.until("viewer.viewports[0].drawn")
        assert screen.texts()["notice"] == ""


def test_pages_of_series(image: xr.DataArray, page: Any) -> None:
    several = [(image + 20 * n).assign_attrs(SeriesNumber=n, SeriesDescription=f"number {n}") for n in range(5)]
    viewer = several[0].dicom.view(several[1:], show=False, viewports=2, size=300, window=(100, 200))
    with looking_at(viewer, page) as screen:
        assert [screen.texts(n)["upperRight"] for n in (0, 1)] == ["0. number 0", "1. number 1"]
        screen.press("PageDown", viewport=1)
        assert [screen.texts(n)["upperRight"] for n in (0, 1)] == ["2. number 2", "3. number 3"]
        assert (screen.greys((40, 30), 1) == levels((image[0, 2] + 60).values, 0, 200)).all()
        screen.press("PageDown")
        assert screen.texts(1)["upperRight"] == "4. number 4"
        screen.press("ArrowUp")
        assert [screen.place(n)[1] for n in range(5)] == [2, 2, 2, 2, 3]
        screen.press("PageUp", "PageUp")
        assert screen.texts(0)["upperRight"] == "0. number 0"


def test_linked_series_go_to_the_same_place(tmp_path: Path, page: Any) -> None:
    write_series(tmp_path / "a", times=1, slices=10, gap=3.0, study="s", patient="p")
    write_series(tmp_path / "b", times=1, slices=5, gap=6.0, study="s", patient="p", number=2)
    a, b = ixr.open_series(tmp_path / "a"), ixr.open_series(tmp_path / "b")
    b = b.assign_attrs(FrameOfReferenceUID=a.attrs["FrameOfReferenceUID"])
    viewer = a.dicom.view(b, show=False, link=True, link_windows=True)
    with looking_at(viewer, page) as screen:
        screen.press("Home", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", viewport=0)
        assert (screen.place(0)[0], screen.place(1)[0]) == (4, 2)
        screen.press("ArrowUp", viewport=1)
        assert (screen.place(0)[0], screen.place(1)[0]) == (6, 3)
        x, y = screen.at(1, 1)
        screen.drag((x, y), (x + 20, y))
        assert screen.window(0) == screen.window(1)
        screen.press("l", "L")
        screen.press("ArrowUp")
        assert (screen.place(0)[0], screen.place(1)[0]) == (7, 3)
    other = b.assign_attrs(FrameOfReferenceUID="1.2.3")
    with looking_at(a.dicom.view(other, show=False, link=True), page.context.browser.new_page()) as screen:
        before = screen.place(1)
        screen.press("ArrowUp", viewport=0)
        assert screen.place(1) == before  # its positions are not of the same patient space


def marked(screen: Screen, viewport: int) -> list[float] | None:
    """Return (row, col) of the cross in the picture of a viewport, or None if there is none."""
    paths = "svg.querySelectorAll('path')"
    found = screen.js(
        f"(() => {{ const {{svg}} = viewer.viewports[{viewport}]; const [h, v] = {paths};"
        "if (h === undefined) return null;"
        "const [, x0, y0, x1] = h.getAttribute('d').match(/M(.*) (.*)H(.*)/).map(Number);"
        f"return viewer.viewports[{viewport}].fromScreen([(x0 + x1) / 2, y0]) }})()"
    )
    return found  # type: ignore[no-any-return]


def test_the_cross_is_at_the_voxel_under_the_mouse_or_not_at_all(image: xr.DataArray, page: Any) -> None:
    part = image.isel(slice=slice(1, 5), row=slice(38, 7, -1), col=slice(4, 24))
    viewer = image.dicom.view([part, image + 1], show=False, size=300)
    with looking_at(viewer, page) as screen:
        screen.press("ArrowUp", viewport=2)
        assert [screen.place(n)[1] for n in range(3)] == [2, 2, 3]
        screen.press("ArrowDown", viewport=1)
        assert part.slice[1] == image.slice[2]
        page.mouse.move(*screen.at(12, 7))
        screen.settle()
        assert marked(screen, 1) == pytest.approx([38 - 12, 7 - 4], abs=0.5)  # of the reversed rows of the crop
        assert marked(screen, 2) is None  # is at another slice
        page.mouse.move(*screen.at(12, 2))
        screen.settle()
        assert marked(screen, 1) is None  # it does not reach there
        # What was clicked at is marked on its slice, and in no other plane.
        page.mouse.click(*screen.at(12, 7))
        screen.settle()
        assert marked(screen, 0) == pytest.approx([12, 7])
        screen.press("ArrowUp")
        assert marked(screen, 0) is None
        assert marked(screen, 1) is None
        assert marked(screen, 2) == pytest.approx([12, 7], abs=0.5)
        screen.press("ArrowDown", "p")
        assert marked(screen, 0) is None  # this plane is of row 20
    planes = image.dicom.view(plane="all", show=False)
    with looking_at(planes, page.context.browser.new_page(viewport={"width": 1300, "height": 1000})) as screen:
        page = screen.page
        page.mouse.click(*screen.at(12, 7))
        page.mouse.move(*screen.at(12.2, 7.2))
        screen.settle()
        assert marked(screen, 1) == pytest.approx([2, 7], abs=0.5)
        assert marked(screen, 2) == pytest.approx([2, 12], abs=0.5)
        page.mouse.move(*screen.at(20, 7.2))
        screen.settle()
        assert marked(screen, 1) is None  # it is of row 12
        assert marked(screen, 2) == pytest.approx([2, 20], abs=0.5)


def test_places_in_a_tilted_stack(shared_data: Path, page: Any) -> None:
    image = ixr.open_series(shared_data / "ph_ct_tilt" / "dicom")
    assert abs(image.attrs["slice_shear"][0]) > 0.3
    other = image.isel(slice=slice(None, None, -1), row=slice(100, 400), col=slice(200, 500))
    with looking_at(image.dicom.view(other, show=False, link=True), page) as screen:
        size = (image.sizes["slice"], image.sizes["row"], image.sizes["col"])
        for index in ((0, 0, 0), (3, 200, 310), tuple(n - 1 for n in size)):
            (point,) = image.dicom.map_indices_to_reference([index])
            assert screen.js(f"viewer.panels[0].point({list(index)})") == pytest.approx(list(point), abs=1e-6)
            there = [size[0] - 1 - index[0], index[1] - 100, index[2] - 200]
            assert screen.js(f"viewer.panels[1].index({point.tolist()})") == pytest.approx(there, abs=1e-6)
        screen.press("Home", "ArrowUp", "ArrowUp", "ArrowUp", viewport=0)
        assert [screen.place(n)[0] for n in (0, 1)] == [3, size[0] - 4]
        page.mouse.move(*screen.at(200, 310))
        screen.settle()
        told = screen.js("viewer.line.textContent")
        index = [int(told.split(name)[1].split()[0]) for name in ("slice", "row", "col")]
        assert index == pytest.approx([3, 200, 310], abs=1)
        assert f"value {image.values[tuple(index)]} " in told
        (point,) = image.dicom.map_indices_to_reference([index])
        parts = told.split(f"col {index[2]}   ")[1].removesuffix(" mm").split("  ")
        signed = [float(part[1:]) * (1 if part[0] in "LPH" else -1) for part in parts]
        assert signed == pytest.approx(list(point), abs=0.6)  # the mouse is not in the middle of a voxel
        assert marked(screen, 1) == pytest.approx([index[1] - 100, index[2] - 200], abs=1)


def test_linked_slices_of_an_uneven_stack_are_the_nearest(tmp_path: Path, page: Any) -> None:
    write_series(tmp_path / "in", times=1, slices=12, gap=1.0)
    image = ixr.open_series(tmp_path / "in")
    uneven = image.isel(slice=[0, 1, 2, 10, 11])
    with looking_at(image.dicom.view(uneven, show=False, link=True), page) as screen:
        screen.press("Home", viewport=0)
        for number in range(1, 12):
            screen.press("ArrowUp")
            nearest = int(np.abs(uneven.slice.values - image.slice.values[number]).argmin())
            if number != 6:  # as far from either
                assert screen.place(1)[0] == nearest, number


def test_series_of_no_known_frame_of_reference_are_not_linked_by_place(image: xr.DataArray, page: Any) -> None:
    bare = assign_origins(image, [Origin("", "", "", "")]).drop_attrs(deep=False).dicom.index_positions()
    with looking_at(bare.dicom.view(bare + 1, show=False, link=True), page) as screen:
        before = screen.place(1)
        screen.press("ArrowUp", viewport=0)
        assert screen.place(1) == before
    with looking_at(bare.dicom.view(plane="all", show=False), page.context.browser.new_page()) as screen:
        screen.page.mouse.click(*screen.at(3, 4))
        screen.settle()
        assert screen.place(1)[-2:] == [3, 4]  # planes of one image are at one place


def test_cine_plays_and_stops(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.press(" ", viewport=0)
        screen.until("viewer.panels[0].state.place[0] === 2")
        screen.until("viewer.panels[0].state.place[0] === 0")
        screen.press(" ")
        place = screen.place()
        screen.page.wait_for_timeout(300)
        assert screen.place() == place


def test_cine_of_a_cell_that_was_run_again_stands_still(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.press(" ", viewport=0)
        screen.until("viewer.panels[0].state.place[0] > 0")
        screen.js("document.body.replaceChildren()")
        place = screen.place()
        screen.page.wait_for_timeout(300)
        assert screen.place() == place


def test_cine_goes_through_slices_where_there_is_one_time(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.isel(time=[0]).dicom.view(show=False), page) as screen:
        screen.press(" ", viewport=0)
        screen.until("viewer.panels[0].state.place[1] === 4")
        screen.until("viewer.panels[0].state.place[1] === 0")


def test_cine_takes_linked_series_along(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(image + 1, show=False, link=True), page) as screen:
        screen.press(" ", viewport=0)
        screen.until("viewer.panels[1].state.place[0] === 2")


def test_the_curve_of_a_voxel(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.page.mouse.click(*screen.at(12, 7))
        ys = "viewer.args.curves.data.ys"
        screen.until(f"{ys}.length === 1 && [...{ys}[0]].every(Number.isFinite)")
        assert screen.js("[...viewer.args.curves.data.ys[0]]") == image[:, 2, 12, 7].values.tolist()
        assert screen.js("[...viewer.args.curves.data.xs[0]]") == image.time.values.tolist()


def test_colours(page: Any) -> None:
    values = np.random.default_rng(1).integers(0, 256, (3, 20, 16, 3), dtype=np.uint8)
    image = xr.DataArray(values, dims=("slice", "row", "col", "rgb"))
    with looking_at(image.dicom.view(show=False), page) as screen:
        assert (screen.colours((20, 16)) == values[1]).all()
        screen.press("ArrowUp", viewport=0)
        assert (screen.colours((20, 16)) == values[2]).all()


KINDS = ["bool", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("dtype", KINDS)
def test_every_kind_of_values(dtype: str, page: Any) -> None:
    ramp = np.arange(200).reshape(10, 20)
    values = (ramp % 2 if dtype == "bool" else ramp).astype(dtype)
    image = xr.DataArray(values, dims=("row", "col"))
    low, high = (0, 2) if dtype == "bool" else (0, 256)
    with looking_at(image.dicom.view(show=False, window=((low + high) / 2, high - low)), page) as screen:
        end = high if values.dtype.kind in "iub" else high + 1
        assert (screen.greys((10, 20)) == levels(np.abs(values.astype(complex)), low, end)).all()


def test_text_of_headers_is_text(image: xr.DataArray, page: Any, tmp_path: Path) -> None:
    evil = "<script>window.hurt=1</script><img src=x onerror='window.hurt=2'>"
    shown = image.assign_attrs(PatientName=evil, SeriesDescription=f"</script>{evil}")
    with looking_at(shown.dicom.view(show=False), page) as screen:
        assert evil in screen.texts()["upperLeft"]
        assert screen.page.evaluate("window.hurt") is None
    file = tmp_path / "evil.html"
    shown.dicom.view(save=file)
    screen = Screen(page.context.browser.new_page()).open(file.as_uri())
    assert evil in screen.texts()["upperLeft"]
    assert screen.page.evaluate("window.hurt") is None


def test_identity_can_be_hidden(image: xr.DataArray, page: Any, tmp_path: Path) -> None:
    shown = image.assign_attrs(PatientName="MARKER^NAME", PatientID="MARKER-ID")
    with looking_at(shown.dicom.view(show=False, hide_identity=True), page) as screen:
        assert screen.texts()["upperLeft"] == ""
    shown.dicom.view(save=tmp_path / "x.html", hide_identity=True)
    told = (tmp_path / "x.html").read_text()
    assert "MARKER" not in told
    assert str(shown.attrs["FrameOfReferenceUID"]) not in told


def test_a_file_works_without_server_and_network(image: xr.DataArray, browser: Any, tmp_path: Path) -> None:
    image.dicom.view(image + 50, save=tmp_path / "x.html", link=True, window=(100, 200))
    context = browser.new_context(offline=True)
    asked = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    screen = Screen(page).open((tmp_path / "x.html").as_uri())
    screen.press("ArrowUp", "ArrowRight", viewport=0)
    assert screen.place()[:2] == [1, 3]
    assert (screen.greys((40, 30)) == levels(image[1, 3].values, 0, 200)).all()
    screen.press("p")
    assert screen.js("viewer.viewports[0].drawn")
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert screen.errors == []
    context.close()


def test_a_fused_mask_keeps_its_colours(image: xr.DataArray, page: Any) -> None:
    fused = image.dicom.fuse_mask(image > 100, color=(0, 255, 0), alpha=0.3, colormap="Inferno256")
    with looking_at(fused.dicom.view(show=False), page) as screen:
        assert (screen.colours((40, 30)) == fused[0, 2].values).all()
        screen.press("ArrowUp", "ArrowRight", viewport=0)
        screen.until("viewer.viewports[0].drawn")
        assert (screen.colours((40, 30)) == fused[1, 3].values).all()


def slow_image(frames: int, size: int, seconds: float) -> tuple[xr.DataArray, list[int]]:
    """Return an image whose frames take a while to be read, and the numbers of those that were read."""
    values = np.broadcast_to(np.arange(frames, dtype=np.int16)[:, None, None], (frames, size, size))
    read: list[int] = []

    def slow(block: Any) -> Any:
        read.append(int(block.flat[0]))
        time.sleep(seconds)
        return block

    blocks = dask.array.from_array(values, chunks=(1, size, size)).map_blocks(slow, meta=np.empty((0, 0, 0), np.int16))
    return xr.DataArray(blocks, dims=("slice", "row", "col")), read


def test_the_last_wish_is_shown_after_a_hurried_first_pass(page: Any) -> None:
    image, _ = slow_image(200, 64, 0.02)
    with looking_at(image.dicom.view(show=False, window=(100, 256)), page) as screen:
        screen.hover()
        for _ in range(90):
            screen.page.keyboard.press("ArrowUp")
        at = screen.place()[0]
        assert at == 190
        start = time.monotonic()
        screen.until("viewer.viewports[0].drawn")
        assert time.monotonic() - start < 5  # a slow machine is allowed more than the half second that is measured
        screen.settle()
        assert (screen.greys((64, 64)) == levels(np.full((64, 64), at), -28, 228)).all()
        assert "loading" not in screen.texts()["lowerLeft"]


def test_a_frame_that_takes_long_is_read_once(page: Any) -> None:
    image, read = slow_image(2, 8, 4)
    with looking_at(image.dicom.view(show=False, window=(1, 2)), page) as screen:
        screen.press("Home", viewport=0)
        screen.until("viewer.viewports[0].drawn")  # the page has asked again after 2 seconds
        assert sorted(read) == [0, 1]


def test_memory_of_the_browser_is_bounded(page: Any) -> None:
    image, read = slow_image(120, 64, 0.0)
    viewer = image.dicom.view(show=False, window=(60, 128))
    viewer._options = replace(viewer._options, browser_memory=50 * 64 * 64 * 2)
    with looking_at(viewer, page) as screen:
        screen.hover()
        for key in ("Home", *["ArrowUp"] * 119, *["ArrowDown"] * 119):
            screen.page.keyboard.press(key)
            screen.until("viewer.viewports[0].drawn")
            assert screen.js("viewer.panels[0].frames.kept.size") <= 50
        screen.settle()
        assert screen.place()[0] == 0
        assert (screen.greys((64, 64)) == levels(np.zeros((64, 64)), -4, 124)).all()
        assert len(read) > 150  # what went had to be read again


def counted_image(shape: tuple[int, ...]) -> tuple[xr.DataArray, list[int]]:
    """Return an image of 64 by 64 voxels that are the number of their frame, and the frames that were read."""
    read: list[int] = []

    def count(block: Any) -> Any:
        read.append(int(block.flat[0]))
        return block

    numbers = np.arange(np.prod(shape), dtype=np.int16).reshape(*shape, 1, 1)
    values = np.broadcast_to(numbers, (*shape, 64, 64))
    chunks = (*(1 for _ in shape), 64, 64)
    blocks = dask.array.from_array(values, chunks=chunks).map_blocks(count, meta=np.empty((0,) * len(chunks), np.int16))
    return xr.DataArray(blocks, dims=(*("time", "te", "fa")[: len(shape) - 1], "slice", "row", "col")), read


def with_memory(viewer: Any, frames: int) -> Any:
    viewer._options = replace(viewer._options, browser_memory=frames * 64 * 64 * 2)
    return viewer


@pytest.mark.parametrize("plane", ["row", "col", "all"])
def test_a_cut_of_more_slices_than_there_is_room_for(plane: Any, page: Any) -> None:
    image, read = counted_image((80,))
    with looking_at(with_memory(image.dicom.view(show=False, plane=plane, window=(40, 80)), 20), page) as screen:
        number = 1 if plane == "all" else 0
        screen.until("viewer.viewports.every((one) => one.drawn)")
        assert (screen.greys((80, 64), number) == levels(np.arange(80).repeat(64).reshape(80, 64), 0, 80)).all()
        assert screen.js("viewer.panels[0].frames.kept.size") <= 20
        page.wait_for_timeout(1000)
        count = len(read)
        page.wait_for_timeout(500)
        assert len(read) == count  # it comes to rest
        screen.press("ArrowUp", viewport=number)
        screen.until("viewer.viewports.every((one) => one.drawn)")
        assert (screen.greys((80, 64), number) == levels(np.arange(80).repeat(64).reshape(80, 64), 0, 80)).all()


def test_frames_around_that_do_not_fit_are_not_read_again_and_again(page: Any) -> None:
    image, read = counted_image((20, 20, 20))
    with looking_at(with_memory(image.dicom.view(show=False, window=(40, 80)), 20), page) as screen:
        page.wait_for_timeout(1500)
        count = len(read)
        assert count <= 20
        page.wait_for_timeout(500)
        assert len(read) == count
        screen.press("ArrowUp", viewport=0)
        screen.until("viewer.viewports[0].drawn")
        assert (screen.greys((64, 64)) == levels(np.full((64, 64), 11), 0, 80)).all()


def test_a_curve_of_more_frames_than_there_is_room_for(page: Any) -> None:
    image, read = counted_image((80, 2))
    with looking_at(with_memory(image.dicom.view(show=False, window=(40, 80)), 20), page) as screen:
        page.mouse.click(*screen.at(3, 4))
        ys = "viewer.args.curves.data.ys"
        screen.until(f"{ys}.length === 1 && [...{ys}[0]].every(Number.isFinite)")
        assert screen.js(f"[...{ys}[0]]") == list(range(1, 160, 2))
        page.wait_for_timeout(1000)
        count = len(read)
        page.wait_for_timeout(500)
        assert len(read) == count


def test_a_small_series_leaves_its_memory_to_a_large_one(page: Any) -> None:
    large, _ = counted_image((60,))
    small = large[:4].compute()
    viewer = with_memory(ixr.view([*[small] * 5, large], show=False, viewports=1, window=(30, 60)), 80)
    with looking_at(viewer, page) as screen:
        assert screen.js("viewer.panels.map((panel) => panel.frames.room)") == [6] * 5 + [60]


def test_curves_are_of_what_is_shown(page: Any) -> None:
    values = np.random.default_rng(0).integers(0, 99, (3, 4, 2, 8, 8)).astype(np.int16)
    coords = {"time": [0.0, 2.0, 4.0], "te": [1.0, 2.0, 3.0, 4.0]}
    image = xr.DataArray(values, coords, ("time", "te", "slice", "row", "col"))
    plain = image[0, 0]
    with looking_at(image.dicom.view([image + 100, plain], show=False, viewports=1), page) as screen:
        data = "viewer.args.curves.data"
        title = "viewer.args.curveFigure.title.text"
        screen.until(f"{title} === 'click in a picture: values along time'")
        page.mouse.click(*screen.at(3, 4))
        same = f"(wanted) => JSON.stringify({data}.ys.map((one) => [...one])) === JSON.stringify(wanted)"

        def is_curve(wanted: list[Any]) -> None:
            screen.until(f"({same})({json.dumps(wanted)})")

        is_curve([values[:, 0, 1, 3, 4].tolist()])
        assert screen.js("viewer.args.curveFigure.below[0].axis_label") == "time [s]"
        assert screen.js("viewer.args.curveFigure.left[0].axis_label") == "value"
        assert screen.js(title) == " "
        assert screen.js("viewer.args.curveFigure.above.some((one) => one.type === 'Legend')"), "it hides no curve"
        screen.until("viewer.panels[0].frames.kept.size === 24")
        screen.press("Shift+ArrowRight", viewport=0)
        is_curve([values[0, :, 1, 3, 4].tolist()])  # the tag dim that was stepped along last
        screen.press("ArrowRight")
        is_curve([values[:, 1, 1, 3, 4].tolist()])
        screen.press("t")
        is_curve([values[1, :, 1, 3, 4].tolist()])
        assert screen.js("viewer.args.curveFigure.below[0].axis_label") == "te [ms]"
        # Nothing was asked about of the others, and the last has no tags.
        screen.press("PageDown")
        is_curve([])
        screen.press("PageUp")
        is_curve([values[1, :, 1, 3, 4].tolist()])
        screen.press("PageDown", "PageDown")
        is_curve([])


def test_a_frame_that_cannot_be_read_is_told(tmp_path: Path, page: Any) -> None:
    files = write_series(tmp_path / "in", times=1, slices=5, rows=40, cols=30)
    image = ixr.open_series(tmp_path / "in")
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.until("viewer.panels[0].frames.kept.size === 5")
    files[3].rename(tmp_path / "away")
    with looking_at(image.dicom.view(show=False), page.context.browser.new_page()) as screen:
        screen.press("ArrowUp", viewport=0)
        screen.until("viewer.viewports[0].texts.notice.textContent === 'slice 4 cannot be read: UnreadableFileError'")
        assert "slice 4/5" in screen.texts()["lowerLeft"]
        assert screen.is_black()  # not the picture of another slice
        screen.page.mouse.move(*screen.at(12, 7))
        screen.settle()
        assert "value …   slice 3 " in screen.js("viewer.line.textContent")
        screen.press("h")
        assert "cannot be read" in screen.js("viewer.viewports[0].texts.notice.innerText")
        screen.press("ArrowUp")
        screen.until("viewer.viewports[0].drawn")
        assert (screen.greys((40, 30)) == expected(screen, image[4])).all()
        # A cut has no line of it; nor is it 0.
        screen.press("p")
        screen.until("viewer.viewports[0].texts.notice.textContent === 'slice 4 cannot be read: UnreadableFileError'")
        values = screen.js("[...viewer.viewports[0].shown.values].map((x) => Number.isNaN(x) ? null : x)")
        wanted = image.isel(slice=[0, 1, 2, 4], row=20).values.astype(float)
        assert np.delete(np.array(values, float).reshape(5, 30), 3, axis=0) == pytest.approx(wanted)
        assert values[90:120] == [None] * 30
        # Back in its place it is shown.
        (tmp_path / "away").rename(files[3])
        screen.press("p", "p", "ArrowDown")
        screen.until("viewer.viewports[0].drawn && viewer.viewports[0].texts.notice.textContent === ''")
        assert (screen.greys((40, 30)) == expected(screen, image[3])).all()


def test_frames_larger_than_a_message_to_a_server_are_shown(page: Any) -> None:
    # They go to the page, and not back.
    values = np.add.outer(np.arange(3), np.arange(2400, dtype=np.int32))[:, None, :].repeat(2400, axis=1)
    image = xr.DataArray(values, dims=("slice", "row", "col"))
    assert values[0].nbytes > 20 * 2**20
    with looking_at(image.dicom.view(show=False, window=(1200, 2400)), page) as screen:
        screen.until("viewer.panels[0].frames.kept.size === 3")
        screen.press("ArrowUp", "p", viewport=0)
        screen.until("viewer.viewports[0].drawn")
        page.wait_for_timeout(500)
        assert "lost" not in page.content()
        screen.press("ArrowUp")
        screen.page.mouse.move(*screen.at(2, 700))
        screen.settle()
        assert "value 702 " in screen.js("viewer.line.textContent")


def test_documents_with_the_same_ids_are_two_viewers(tmp_path: Path, page: Any) -> None:
    # As of a notebook whose kernel was started again, and of two notebooks in one page of JupyterLab.
    names = ["FIRST", "SECOND"]
    make = (
        "import sys, numpy as np, xarray as xr, imagedata_xr as ixr\n"
        "image = xr.DataArray(np.full((3, 8, 8), int(sys.argv[2]), np.int16), dims=('slice', 'row', 'col'))\n"
        "image.assign_attrs(PatientName=sys.argv[1]).dicom.view(save=sys.argv[3], window=(50, 100))"
    )
    for n, name in enumerate(names):
        subprocess.run([sys.executable, "-c", make, name, str(30 + 40 * n), tmp_path / f"{name}.html"], check=True)
    told = (tmp_path / "SECOND.html").read_text()
    document = html.unescape(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', told, re.S)[1])
    items = re.search(r"const render_items = (\[.*?\]);", told)[1]
    screen = Screen(page).open((tmp_path / "FIRST.html").as_uri())
    page.evaluate(
        "([document_, [item]]) => { for (const [root, id] of Object.entries(item.roots)) {"
        "const place = document.body.appendChild(document.createElement('div'));"
        "item.roots[root] = place.id = `other-${id}` }; Bokeh.embed.embed_items(document_, [item]) }",
        [json.loads(document), json.loads(items)],
    )
    page.wait_for_function("globalThis.imagedata_xr_viewers.size === 2")
    screen.until("viewer.viewports[0].drawn")
    assert screen.texts()["upperLeft"] == "SECOND"
    assert (screen.greys((8, 8)) == levels(np.full((8, 8), 70), 0, 100)).all()
    first = "[...globalThis.imagedata_xr_viewers.values()][0].viewports[0]"
    assert page.evaluate(f"{first}.texts.upperLeft.textContent") == "FIRST"
    assert page.evaluate(f"{first}.source.data.image[0][0]") == 30
    assert screen.errors == []


def test_frames_of_a_viewer_that_has_left_the_page_go_when_another_comes(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False, window=(60, 100))
    with looking_at(viewer, page) as screen:
        screen.until("viewer.panels[0].frames.kept.size === 15")
        screen.js("viewer.spare()")
        assert screen.js("viewer.panels[0].frames.kept.size") == 15  # it is on the page
        screen.js("(viewer.roots = [...document.body.children], viewer.roots.forEach((root) => root.remove()))")
        screen.settle()
        screen.js("viewer.spare()")
        assert screen.js("viewer.panels[0].frames.kept.size") == 0
        # JupyterLab takes out what is scrolled away, and puts it back.
        screen.js("document.body.append(...viewer.roots)")
        screen.until("viewer.panels[0].frames.kept.size === 15")
        page.wait_for_timeout(1000)  # bokeh lays it out again
        screen.press("ArrowUp", viewport=0)
        screen.until("viewer.viewports[0].drawn")
        assert (screen.greys((40, 30)) == levels(image[0, 3].values, 10, 110)).all()


def test_two_pages_of_one_session_have_a_zoom_of_their_own(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        other = Screen(page.context.browser.new_page(viewport={"width": 1300, "height": 1000}))
        other.open(viewer.show(browser=False))
        before = other.at(20, 15), other.at(0, 0)
        screen.press("+", "+", viewport=0)
        screen.press("ArrowUp")
        other.until("viewer.panels[0].state.place[1] === 3")
        page.wait_for_timeout(200)
        assert (other.at(20, 15), other.at(0, 0)) == before
        assert (other.greys((40, 30)) == expected(other, image[0, 3])).all()
        assert other.errors == []
        other.page.close()


def extent(screen: Screen) -> list[float]:
    """Return x, y, width and height [mm] of the picture in the first viewport."""
    source = (
        "(viewer.viewports[0].panel.facts.isColour ? viewer.viewports[0].colourSource : viewer.viewports[0].source)"
    )
    return screen.js(f"['x', 'y', 'dw', 'dh'].map((name) => [...{source}.data[name]][0])")


@pytest.mark.parametrize("plane", ["row", "col"])
def test_a_cut_of_frames_that_come_late_has_its_size(plane: Any, page: Any) -> None:
    image, _ = slow_image(6, 20, 0.2)
    with looking_at(image.dicom.view(show=False, plane=plane, window=(3, 6)), page) as screen:
        assert extent(screen) == [-0.5, -0.5, 20, 6]
        assert (screen.greys((6, 20)) == levels(np.repeat(np.arange(6), 20).reshape(6, 20), 0, 6)).all()


def test_a_series_whose_frames_come_late_is_not_shown_as_the_one_before(page: Any) -> None:
    first = xr.DataArray(np.full((9, 2, 16, 16), 7, np.int16), dims=("time", "slice", "row", "col"))
    values = np.arange(9 * 2 * 8 * 10, dtype=np.int16).reshape(9, 2, 8, 10)
    blocks = dask.array.from_array(values, chunks=(1, 1, 8, 10)).map_blocks(
        lambda block: (time.sleep(0.5), block)[1], meta=np.empty((0, 0, 0, 0), np.int16)
    )
    second = xr.DataArray(blocks, dims=first.dims)
    with looking_at(
        first.dicom.view(second, show=False, viewports=1, link="index", window=(720, 1440)), page
    ) as screen:
        screen.press("ArrowRight", viewport=0)
        screen.page.keyboard.press("PageDown")
        assert screen.js("viewer.viewports[0].drawn") is False
        assert screen.texts()["notice"] == "loading"
        assert screen.is_black()
        screen.until("viewer.viewports[0].drawn")
        assert screen.texts()["notice"] == ""
        assert extent(screen) == [-0.5, -0.5, 10, 8]
        assert (screen.greys((8, 10)) == levels(values[1, 1], 0, 1440)).all()
        # A time that is still to come: the one before stays, with its own texts and read-out.
        screen.js("viewer.panels[1].go(0, 8)")
        assert screen.texts()["lowerRight"] == "time[1]: 2 of 9"
        assert screen.texts()["notice"] == "loading  slice 2  time[8]: 9 of 9"
        screen.page.mouse.move(*screen.at(3, 4))
        screen.settle()
        assert f"value {values[1, 1, 3, 4]} " in screen.js("viewer.line.textContent")
        screen.until("viewer.viewports[0].drawn")
        assert screen.texts()["lowerRight"] == "time[8]: 9 of 9"
        assert f"value {values[8, 1, 3, 4]} " in screen.js("viewer.line.textContent")


@pytest.mark.parametrize("width", [1, 2, 3, 8, 80])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
def test_a_narrow_window_is_shown_as_in_a_png(function: str, width: int, page: Any) -> None:
    # Of the label 1 at width 2, and of blood at that of a stroke.
    values = np.arange(-10, 90, dtype=np.int16).reshape(5, 20)
    header = {"VOILUTFunction": function, "WindowCenter": 32.0, "WindowWidth": float(width)}
    image = xr.DataArray(values, dims=("row", "col"), attrs=header)
    with looking_at(image.dicom.view(show=False, window=(32, width)), page) as screen:
        wanted = np.asarray(image.dicom.plot.montage(window=(32, width))).astype(int)
        assert np.abs(screen.greys((5, 20)) - wanted).max() <= 1
        screen.press("i", viewport=0)
        assert np.abs(screen.greys((5, 20)) - (255 - wanted)).max() <= 1
        # The centre of a window of whole numbers may lie between two.
        screen.js("viewer.hands.setWindow(viewer.panels[0], 7, 8)")
        screen.settle()
        assert screen.texts()["lowerLeft"].endswith("W 1  C 7.5")


def test_a_sigmoid_is_shown_as_in_a_png(page: Any) -> None:
    values = np.arange(-500, 1500, 10, dtype=np.int16).reshape(10, 20)
    header = {"VOILUTFunction": "SIGMOID", "WindowCenter": 400.0, "WindowWidth": 500.0}
    plain = xr.DataArray(values, dims=("row", "col"), attrs=header)
    inverted = plain.assign_attrs(PhotometricInterpretation="MONOCHROME1")
    with looking_at(ixr.view([plain, inverted], show=False, window=(400, 500)), page) as screen:
        assert screen.window() == (150, 650)
        for n, image in enumerate((plain, inverted)):
            wanted = np.asarray(image.dicom.plot.montage()).astype(int)
            assert np.ptp(wanted) > 250
            assert np.abs(screen.greys((10, 20), n) - wanted).max() <= 2
        screen.press("i", viewport=0)
        assert np.abs(screen.greys((10, 20)) - wanted).max() <= 2
        assert "W 500  C 400" in screen.texts()["lowerLeft"]


@pytest.mark.parametrize(("dtype", "count"), [("int64", 5), ("uint64", 4), ("int32", 2), ("uint32", 2)])
def test_whole_numbers_are_told_as_they_are(dtype: str, count: int, page: Any) -> None:
    told = [70_000, 16_777_217, 5_000_000_001, 2**53 - 1, -3_000_000_001][:count]
    image = xr.DataArray(np.array([[0] * count, told, [1] * count], dtype), dims=("row", "col"))
    with looking_at(image.dicom.view(show=False), page) as screen:
        for col, number in enumerate(told):
            screen.page.mouse.move(*screen.at(1, col))
            screen.settle()
            assert f"value {number} " in screen.js("viewer.line.textContent")


def test_spans_of_time_are_labels(page: Any) -> None:
    spans = np.array([0, 2500, 61_000], "timedelta64[ms]")
    image = xr.DataArray(np.arange(60).reshape(3, 4, 5), {"time": spans}, ("time", "row", "col"))
    with looking_at(image.dicom.view(show=False), page) as screen:
        screen.press("ArrowRight", viewport=0)
        assert screen.texts()["lowerRight"] == "time[1]: 2.5 s"


def test_numbers_that_need_64_bits_in_a_cut(page: Any) -> None:
    values = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    values[2] = 3_000_000_000
    image = xr.DataArray(values, dims=("slice", "row", "col"))
    with looking_at(image.dicom.view(show=False, plane="row"), page) as screen:
        for z in (1, 2):
            screen.page.mouse.move(*screen.at(z, 3))
            screen.settle()
            assert f"value {values[z, 2, 3]} " in screen.js("viewer.line.textContent")


def test_q_ends_the_server_and_so_does_closing_the_page(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    screen = Screen(page).open(viewer.show(browser=False))
    screen.press("q", viewport=0)
    viewer.wait()
    other = page.context.browser.new_page()
    Screen(other).open(viewer.show(browser=False))
    other.close()
    viewer.wait()


def test_nothing_is_left_of_a_viewer_that_is_closed(image: xr.DataArray, page: Any) -> None:
    def left() -> tuple[int, int]:
        gc.collect()
        return sum(isinstance(one, SeriesState) for one in gc.get_objects()), threading.active_count()

    before = left()
    viewer = image.dicom.view(show=False)
    for how in ("q", "close"):
        screen = Screen(page.context.browser.new_page()).open(viewer.show(browser=False))
        screen.until("viewer.panels[0].frames.kept.size === 15")
        if how == "q":
            screen.press("q", viewport=0)
            viewer.wait()
        else:
            viewer.close()
        screen.page.close()
        deadline = time.monotonic() + 5  # threads end a little later
        while left() != before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left() == before


@pytest.mark.parametrize("scale", [1, 0.001], ids=["whole", "fractions"])
def test_a_window_has_a_width_whatever_is_dragged(image: xr.DataArray, page: Any, scale: float) -> None:
    shown = image if scale == 1 else (image * scale).astype("float32")
    with looking_at(shown.dicom.view(show=False, window=(60 * scale, 100 * scale)), page) as screen:
        x, y = screen.at(20, 15)
        for _ in range(3):
            screen.drag((x + 180, y), (x - 180, y))
        low, high = screen.window()
        assert high - low >= (1 if scale == 1 else 1e-9)
        assert (low + high) / 2 == pytest.approx(60 * scale)
        greys = screen.greys((40, 30))
        assert (greys[shown[0, 2].values > high] == 255).all()
        assert (greys[shown[0, 2].values < low] == 0).all()
        assert "W 0 " not in screen.texts()["lowerLeft"]


def test_the_window_of_a_slice_that_is_nearly_or_all_of_one_value(page: Any) -> None:
    values = np.zeros((2, 20, 20), np.float32)
    values[0, 3, 4] = 7
    values[1] = 1e15
    image = xr.DataArray(values, dims=("slice", "row", "col"))
    with looking_at(image.dicom.view(show=False, window=(1, 2)), page) as screen:
        screen.press("Home", "w", viewport=0)
        assert screen.window() == (0, 7)
        screen.press("End", "w")
        low, high = screen.window()
        assert low == float(values[1, 0, 0])
        assert high > low


def test_of_a_mask_true_is_white_also_where_a_slice_has_nothing_else(page: Any) -> None:
    mask = xr.DataArray(np.zeros((3, 20, 20), bool), dims=("slice", "row", "col"))
    mask[1] = True
    with looking_at(mask.dicom.view(show=False), page) as screen:
        assert (screen.greys((20, 20)) == 255).all()
        screen.press("w", viewport=0)
        assert (screen.greys((20, 20)) == 255).all()
        screen.press("ArrowUp", "w")
        screen.until("viewer.viewports[0].drawn")
        assert (screen.greys((20, 20)) == 0).all()


def test_the_line_and_buttons_can_be_read_in_a_dark_notebook(image: xr.DataArray, page: Any) -> None:
    with looking_at(image.dicom.view(show=False), page) as screen:
        page.evaluate("document.documentElement.style.cssText = 'color-scheme: dark; background: #111; color: #eee'")
        style = "getComputedStyle(viewer.{}).{}"
        assert screen.js(style.format("bar", "backgroundColor")) == "rgb(255, 255, 255)"
        assert screen.js(style.format("line", "color")) == "rgb(51, 51, 51)"
        assert screen.js(style.format("buttons.polygon", "color")) == "rgb(0, 0, 0)"


@pytest.mark.parametrize("window", [(10, 0), (10, -5), (float("nan"), 5), (10, float("nan")), (1e20, 1)])
def test_a_window_of_no_width_is_refused(image: xr.DataArray, window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a width of more than 0"):
        image.dicom.view(show=False, window=window)
    with pytest.raises(ValueError, match="the width of the preset 'mine' is"):
        image.dicom.view(show=False, presets={"mine": window})
