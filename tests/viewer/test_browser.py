"""The viewer in a real browser: what is on the screen is what is in the array."""

from __future__ import annotations

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
from tests.generate import OBLIQUE, write_series
from tests.viewer.browsers import Screen, chromium, levels, looking_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Any:
    return browser.new_page(viewport={"width": 1300, "height": 1000})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    folder = tmp_path_factory.mktemp("view") / "in"
    write_series(folder, times=3, slices=5, rows=40, cols=30, spacing=(1.5, 2.0), orientation=OBLIQUE)
    return ixr.open_series(folder, "time")


def expected(screen: Screen, values: Any, panel: int = 0) -> Any:
    return levels(np.asarray(values), *screen.window(panel))


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
        assert (screen.greys((10, 20)) == levels(np.abs(values.astype(complex)), low, high)).all()


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
        time.sleep(seconds)
        read.append(int(block.flat[0]))
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


def test_a_polygon_becomes_a_mask(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        screen.press("g", viewport=0)
        corners = [(5, 4), (6, 20), (25, 12)]
        for corner in corners:
            screen.page.mouse.click(*screen.at(*corner))
        screen.press("Enter", "Escape")
        screen.until("JSON.parse(viewer.model.rois).length === 1")
        page.wait_for_timeout(200)
        (roi,) = viewer.rois[0]
        assert (roi.name, roi.kind, roi.slice, roi.tags) == ("ROI 1", "polygon", 2, None)
        assert np.array(roi.vertices) == pytest.approx(np.array(corners), abs=0.1)
        values = image[0, 2].values[viewer.roi_mask().values[2]]
        assert f"n {values.size}" in screen.js("viewer.viewports[0].svg.textContent")
        assert f"{values.mean():.4g} ±" in screen.js("viewer.viewports[0].svg.textContent")
        # Its mean along time is in the figure.
        ys = "viewer.args.curves.data.ys"
        screen.until(f"{ys}.length === 1 && [...{ys}[0]].every(Number.isFinite)")
        assert screen.js(f"[...{ys}[0]]") == pytest.approx(viewer.roi_statistics()["mean"].values[0])
        # A vertex is dragged, then the whole by its edge.
        screen.drag(screen.at(*corners[0]), screen.at(9, 8))
        assert np.array(screen.js("viewer.drawing.rois[0].vertices[0]")) == pytest.approx([9, 8], abs=0.15)
        middle = np.add(corners[1], corners[2]) / 2
        screen.drag(screen.at(*middle), screen.at(*(middle + 2)))
        moved = np.array(screen.js("viewer.drawing.rois[0].vertices"))
        assert moved == pytest.approx(np.array([(11, 10), (8, 22), (27, 14)]), abs=0.3)
        # Copied to the next slice, named, removed.
        screen.press("ArrowUp", "ArrowDown", "c")
        assert screen.place()[1] == 1
        assert [roi["slice"] for roi in screen.js("viewer.drawing.rois")] == [2, 1]
        screen.page.mouse.click(*screen.at(*moved[1]))
        screen.js("(viewer.name.value = 'liver', viewer.name.onchange())")
        screen.press("a", viewport=0)
        page.wait_for_timeout(200)
        assert [(roi.name, roi.tags) for roi in viewer.rois[0]] == [("ROI 1", None), ("liver", (0,))]
        screen.press("Delete")
        page.wait_for_timeout(200)
        assert [roi.name for roi in viewer.rois[0]] == ["ROI 1"]


def test_freehand_and_ellipse(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False, roi_per_tag=True)
    with looking_at(viewer, page) as screen:
        screen.press("ArrowRight", "e", viewport=0)
        screen.drag(screen.at(5, 4), screen.at(25, 14))
        screen.press("f")
        center, radius = np.array([20.0, 20.0]), 6.0
        angles = np.linspace(0, 2 * np.pi, 40)
        points = [screen.at(*(center + radius * np.array([np.cos(a), np.sin(a)]))) for a in angles]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
        screen.press("Escape")
        page.wait_for_timeout(200)
        ellipse, outline = viewer.rois[0]
        assert (ellipse.kind, outline.kind, ellipse.tags) == ("ellipse", "polygon", (1,))
        rows, cols = np.ogrid[:40, :30]
        wanted = ((rows - 15) / 10) ** 2 + ((cols - 9) / 5) ** 2 < 1
        assert abs(int(ellipse.inside((40, 30)).sum()) - int(wanted.sum())) <= 8
        circle = (rows - 20) ** 2 + (cols - 20) ** 2 < 36
        assert (outline.inside((40, 30)) ^ circle).sum() <= 8
        assert viewer.roi_mask().dims == image.dims
    shown = image.dicom.view(show=False, rois=viewer.rois[0])
    with looking_at(shown, page.context.browser.new_page()) as screen:
        assert screen.js("viewer.viewports[0].svg.querySelectorAll('polygon').length") == 0  # it is of the other time
        screen.press("ArrowRight", viewport=0)
        assert screen.js("viewer.viewports[0].svg.querySelectorAll('polygon').length") == 2


def test_drawn_outlines_stay_in_a_page_that_is_loaded_again(image: xr.DataArray, page: Any) -> None:
    viewer = image.dicom.view(show=False)
    with looking_at(viewer, page) as screen:
        screen.press("e", "ArrowUp", viewport=0)
        screen.drag(screen.at(5, 4), screen.at(25, 14))
        page.wait_for_timeout(200)
        screen.open(viewer.show(browser=False))
        assert len(screen.js("viewer.drawing.rois")) == 1
        assert screen.place()[1] == 3
