"""The public functions: what they take, what they refuse, and what comes back unharmed."""

from __future__ import annotations

import inspect
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

import imagedata_xr as ixr
from imagedata_xr.errors import MixedSeriesError
from tests.generate import write_series

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    write_series(tmp_path / "a", times=2, slices=2, series="first", number=1)
    write_series(tmp_path / "b", times=2, slices=3, series="second", number=2)
    return tmp_path


@pytest.mark.parametrize("which", [2, 2.0, "2", "second", "uid"], ids=repr)
def test_series_is_chosen(two: Path, which: Any) -> None:
    uid = ixr.open_series(two / "b", "time").attrs["SeriesInstanceUID"]
    image = ixr.open_series(two, "time", series=uid if which == "uid" else which)
    assert image.attrs["SeriesInstanceUID"] == uid
    assert image.sizes["slice"] == 3


def test_series_that_is_not_there(two: Path) -> None:
    with pytest.raises(MixedSeriesError) as caught:
        ixr.open_series(two, "time")
    message = str(caught.value)
    assert "2 series are there, where one was wanted" in message
    for text in (
        "'first': MR, 4 frames, 2 slices",
        "'second': MR, 6 frames, 3 slices",
        "series=",
        "open_study(source)",
    ):
        assert text in message
    with pytest.raises(MixedSeriesError, match="no series answers to 3"):
        ixr.open_series(two, "time", series=3)
    with pytest.raises(MixedSeriesError, match="no series answers to ''"):
        ixr.open_series(two, "time", series="")
    write_series(two / "c", series="third", number=2)
    with pytest.raises(MixedSeriesError, match="2 series answer to 2"):
        ixr.open_series(two, "time", series=2)


def test_series_that_is_there_alone_still_has_to_be_the_one(two: Path) -> None:
    with pytest.raises(MixedSeriesError, match="no series answers to 'second'"):
        ixr.open_series(two / "a", series="second")


def test_list_of_folders_is_one_heap(tmp_path: Path) -> None:
    """One folder a time, as some archives keep them."""
    for t in range(3):
        keep = lambda ds, k, _z, t=t: setattr(ds, "skip", k != t)  # noqa: E731
        write_series(tmp_path / str(t), times=3, slices=2, mutate=keep)
    image = ixr.open_series([tmp_path / "2", tmp_path / "0", tmp_path / "1"], "time")
    assert image.values[:, 0, 0, 0].tolist() == [0, 1, 2]
    write_series(tmp_path / "other", series="other")
    with pytest.raises(MixedSeriesError):
        ixr.open_series([tmp_path / "0", tmp_path / "other"])


def test_unknown_keyword_is_a_type_error(two: Path) -> None:
    for function in (ixr.open_series, ixr.open_study):
        with pytest.raises(TypeError, match="template_"):
            function(two / "a", template_="x")
    with pytest.raises(TypeError):
        ixr.open_series(two / "a", "time", "extra")  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:The specified chunks separate")
def test_chunks_of_a_dim_that_is_not_there(two: Path) -> None:
    with pytest.raises(ValueError, match=r"no dim tiem, but time, slice, row, col"):
        ixr.open_series(two / "a", "time", chunks={"tiem": 1})
    assert ixr.open_series(two / "a", "time", chunks={"time": 1}).chunksizes["time"][0] == 1
    write_series(two / "c", series="third", number=3)
    tree = ixr.open_study(two, chunks={"time": 1})
    assert [bool(node["image"].chunksizes) for node in tree.leaves] == [True] * 3, "one of them has no time"


def test_lists_of_lists_are_values() -> None:
    image = ixr.from_array([[1, 2], [3, 4]], template="phantom")
    assert image.dims == ("slice", "row", "col")
    assert image.values.tolist() == [[[1, 2], [3, 4]]]


def test_colours_are_not_taken_for_columns(tmp_path: Path) -> None:
    picture = np.zeros((40, 50, 3), np.uint8)
    for values in (picture, picture[None]):
        with pytest.raises(ValueError, match=r"colours or 3 columns: .*dims='row,col,rgb'"):
            ixr.from_array(values, template="phantom")
    image = ixr.from_array(picture, "row,col,rgb", template="phantom")
    assert len(image.dicom.write(tmp_path / "picture")) == 1
    assert ixr.from_array(picture, "slice,row,col", template="phantom").sizes["slice"] == 40


def test_format(two: Path) -> None:
    assert ixr.open_series(two / "a", format="dicom").dims[0] == "time"
    with pytest.raises(ValueError, match=r"format='png' is not known; there are dicom, nifti, itk"):
        ixr.open_series(two / "a", format="png")
    (two / "c").mkdir()
    (two / "c" / "a.mha").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no nifti file"):
        ixr.open_series(two / "c", format="nifti")


def test_a_folder_of_several_formats(two: Path) -> None:
    image = ixr.open_series(two / "a", "time")
    ixr.write(image, two / "mixed" / "a.nii")
    assert ixr.open_series(two / "mixed").dims == image.dims
    ixr.write(image, two / "mixed" / "a.mha")
    with pytest.raises(ixr.errors.MixedSeriesError, match=r"itk \(1\), nifti \(1\); say which with format="):
        ixr.open_series(two / "mixed")
    assert ixr.open_series(two / "mixed", format="itk").dims == image.dims
    image.dicom.write(two / "mixed" / "dicom")
    assert "SOPInstanceUID" in ixr.open_series(two / "mixed", "time").coords, "DICOM comes first"
    for wrong in ({"series": 3}, {"rescale": False}, {"merge": True}):
        with pytest.raises(TypeError, match="for DICOM only"):
            ixr.open_series(two / "mixed" / "a.nii", **wrong)
    with pytest.raises(TypeError, match="options="):
        ixr.open_series(two / "a", options={"variable": "A"})
    with pytest.raises(TypeError):
        ixr.open_series(two / "a", tempate=image)  # type: ignore[call-arg]


def test_pickle_and_deep_copy(two: Path) -> None:
    image = ixr.open_series(two / "a", "time")
    for copy in (pickle.loads(pickle.dumps(image)), image.copy(deep=True)):
        xr.testing.assert_identical(copy, image)
        assert copy.encoding == image.encoding
        assert np.asarray(copy.dicom.affine).tolist() == np.asarray(image.dicom.affine).tolist()


def test_two_opens_do_not_share_what_can_change(two: Path) -> None:
    a, b = ixr.open_series(two / "a", "time"), ixr.open_series(two / "a", "time")
    a.attrs["ImageType"].append("changed")
    a.values[:] = 0
    assert b.attrs["ImageType"] == ["ORIGINAL", "PRIMARY", "M", "ND"]
    assert b.values.any()


def test_the_main_job(two: Path) -> None:
    a = ixr.open_series(two / "a", "time")
    write_series(two / "like", times=[0, 2.51], slices=2, series="like", number=9, start=50_000.0)
    b = ixr.open_series(two / "like", "time")
    c = (a + b) / 2
    assert c.shape == a.shape
    assert c.time.values.tolist() == a.time.values.tolist()
    assert (c.values == (a.values.astype(float) + b.values) / 2).all()
    with pytest.raises(ValueError, match=r"."):
        a + ixr.open_series(two / "b", "time").isel(slice=slice(2, None))


def test_open_on_http_or_nonsense(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"example"):
        ixr.open_series("zip://a::/no/example.zip")
    with pytest.raises(ValueError, match="user or password"):
        ixr.open_series("https://me:secret@example.org/dicom")
    with pytest.raises((TypeError, ValueError, FileNotFoundError)):
        ixr.open_series(None)  # type: ignore[arg-type]


def test_public_functions_are_documented() -> None:
    for name in ("open_series", "open_study", "write", "concat"):
        doc = inspect.getdoc(getattr(ixr, name))
        assert doc is not None
        assert ">>>" in doc or name == "write", name


def test_what_is_no_image_is_not_written(two: Path, tmp_path: Path) -> None:
    image = ixr.open_series(two / "a", "time")
    for value, what in [
        (ixr.open_study(two), r"DataTree: .* as tree\['/.*'\]\['image'\]; it has 2"),
        (image.to_dataset(), r"Dataset: .* as dataset\['image'\]; it has 'image'"),
        (image.values, r"ndarray: imagedata_xr\.from_array\(values, template="),
    ]:
        with pytest.raises(TypeError, match=what):
            ixr.write(value, tmp_path / "out")  # type: ignore[arg-type] # that is the point
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.zeros((3, 4, 5)), r"of type ndarray: imagedata_xr\.from_array\(values, template=image, geometry=image\)"),
        (None, "is None: a function that returns nothing"),
        ("a.nii", r"of type str: imagedata_xr\.open_series opens what is at a path"),
        (xr.Dataset({"image": ("row", [1])}), r"as dataset\['image'\]; it has 'image'"),
        ([xr.DataArray(1)], r"take its images one by one, or imagedata_xr\.concat"),
    ],
)
def test_what_is_no_image_is_told_wherever_another_image_is_wanted(patient: Path, value: Any, told: str) -> None:
    image = ixr.open_series(patient / "ct")
    for name in ("resample_like", "turn_like", "geometry_equal", "copy_headers", "assign_geometry", "fuse_mask"):
        with pytest.raises(TypeError, match=f"a DataArray is wanted, .*{told}"):
            getattr(image.dicom, name)(value)
    for images in ([image, value], (one for one in (image, value))):
        with pytest.raises(TypeError, match=f"number 1 of the list .*{told}"):
            ixr.concat(images, "time")  # type: ignore[arg-type] # that is the point
    with pytest.raises(TypeError, match=told):
        ixr.view([image, value], show=False)


@pytest.mark.parametrize("value", [None, 3, "ab", xr.DataArray([1], dims="row")])
def test_a_list_of_images_is_wanted(value: Any) -> None:
    with pytest.raises(TypeError, match="a list of images is wanted"):
        ixr.concat(value, "time")


@pytest.mark.parametrize("place", ["one.dcm", "ONE.IMA", "memory://folder/one.dcm", "brain.nii.gz", "a.zip.dcm"])
def test_the_name_of_a_file_is_no_folder_of_dicom(patient: Path, tmp_path: Path, place: str) -> None:
    image = ixr.open_series(patient / "ct")
    path = place if "://" in place else tmp_path / place
    with pytest.raises(ValueError, match=f"{place} is the name of a file"):
        image.dicom.write(path, format="dicom")
    assert not list(tmp_path.iterdir())
    (tmp_path / "was_there.dcm").mkdir()
    assert len(image.dicom.write(tmp_path / "was_there.dcm")) == 12, "a folder is a folder"
    assert len(image.dicom.write(tmp_path / "P1.2026.dcm" / "ct.v2")) == 12


def test_the_name_of_one_format_is_none_of_another(patient: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"brain\.nii is the name of a file of nifti, and mat was asked for"):
        ixr.open_series(patient / "ct").dicom.write(tmp_path / "brain.nii", format="mat")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda a, p: ixr.open_series(p / "ct", where=3), "where=3: a function of a header is wanted"),
        (lambda a, p: ixr.open_series(p / "ct", chunks=0), "chunks=0: a size along all dims, 'auto', or"),
        (lambda a, p: ixr.open_series(p / "ct", chunks=True), "chunks=True: a size along all dims, 'auto', or"),
        (lambda a, p: ixr.open_series(p / "ct", chunks="x"), "chunks='x': a size along all dims, 'auto', or"),
        (lambda a, p: ixr.open_series(p / "ct", chunks={"slice": 0}), "chunks={'slice': 0}: a size along all dims"),
        (lambda a, p: ixr.convert(p / "ct", p / "out", jobs=0), "jobs=0: how many series"),
        (lambda a, p: ixr.convert(p / "ct", p / "out", jobs=1.5), "jobs=1.5: how many series"),
        (lambda a, p: ixr.concat([a, a], None), "dim is None: a name is wanted"),
        (lambda a, p: ixr.from_nibabel(None), "an image of nibabel is wanted.*of type NoneType"),
        (lambda a, p: ixr.from_nibabel(a), "an image of nibabel is wanted.*of type DataArray"),
        (lambda a, p: ixr.from_simpleitk("a.mha"), "an image of SimpleITK is wanted.*of type str"),
        (lambda a, p: a.dicom.write(None), "the path is None: text or a pathlib.Path"),
        (lambda a, p: a.dicom.write(b"out"), "the path is b'out': text or a pathlib.Path"),
        (lambda a, p: a.dicom.to_png(b"a.png"), "the path is b'a.png': text or"),
        (lambda a, p: a.dicom.header(slice=99), "slice=99: the number of a frame is wanted, 0 to 11 along slice"),
        (lambda a, p: a.dicom.header(slice="x"), "slice='x': the number of a frame is wanted"),
        (lambda a, p: a.dicom.header(slice=slice(2)), "the number of a frame is wanted, 0 to 11"),
        (lambda a, p: a.dicom.fuse_mask(a > 0, color=(1, 2, 999)), "color is .*999.*from 0 to 255 are wanted"),
        (lambda a, p: a.dicom.fuse_mask(a > 0, color="red"), "color is 'red'"),
        (lambda a, p: a.dicom.fuse_mask(a > 0, color=(1, 2)), "color is .1, 2."),
        (lambda a, p: a.dicom.to_gif(p / "a.gif", rate=0), "rate is 0; frames per second are wanted"),
        (lambda a, p: a.dicom.to_gif(p / "a.gif", rate=-1), "rate is -1; frames per second are wanted"),
        (lambda a, p: a.dicom.view(show=False, window="x"), "the window is 'x'; two numbers are wanted"),
        (lambda a, p: a.dicom.view(show=False, presets={"bone": 3}), "the preset 'bone' is 3; two numbers are wanted"),
        (lambda a, p: a.dicom.to_png(p / "a.jpg"), r"a\.jpg: the name of the file has to end with \.png"),
        (lambda a, p: a.dicom.to_gif(p / "a"), r"a: the name of the file has to end with \.gif"),
        (lambda a, p: a.dicom.view(save=p / "a.png"), r"a\.png: the name of the file has to end with \.html or \.htm"),
        (lambda a, p: ixr.open_series(p / "ct", rescale=None), "rescale=None: True or False is wanted"),
        (lambda a, p: ixr.open_series(p / "ct", merge="yes"), "merge='yes': True or False is wanted"),
        (lambda a, p: ixr.open_series(p / "ct", template=a, extend=1), "extend=1: True or False is wanted"),
        (lambda a, p: xr.open_dataset(p / "ct", engine="dicom", merge="no"), "merge='no': True or False is wanted"),
        (lambda a, p: ixr.open_study(p / "ct", rescale="no"), "rescale='no': True or False is wanted"),
        (
            lambda a, p: ixr.open_study(p, chunks={"nodim": 1}),
            "no series has a dim nodim, but slice, row, col, b, time, te",
        ),
        (lambda a, p: ixr.open_study(p, chunks=0), "chunks=0: a size along all dims, 'auto', or"),
        (lambda a, p: ixr.open_study(p, chunks="x"), "chunks='x': a size along all dims, 'auto', or"),
        (lambda a, p: a.dicom.write(p / "ct", overwrite="no"), "overwrite='no': True or False is wanted"),
        (lambda a, p: a.dicom.write(p / "ct.nii", overwrite="no"), "overwrite='no': True or False is wanted"),
        (lambda a, p: a.dicom.write(p / "new", keep_private="no"), "keep_private='no': True or False is wanted"),
        (
            lambda a, p: a.dicom.write(p / "new", force=True),
            "write to dicom has no option force=, but templ",
        ),
        (lambda a, p: a.dicom.write(p / "new", series_number=3), r"image\.assign_attrs\(SeriesNumber=\.\.\.\)"),
        (lambda a, p: a.dicom.write(p / "new.zip", SeriesNumber=3), "write to dicom has no option SeriesNumber="),
        (
            lambda a, p: a.dicom.write(p / "a.nii", keep_uid=True),
            "write to nifti has no option keep_uid=",
        ),
        (lambda a, p: a.rename(row="y").dicom.write(p / "a.nii"), "an image has the dims row and col, this one"),
        (lambda a, p: a.rename(row="y").dicom.write(p / "a.mha"), "an image has the dims row and col, this one"),
        (lambda a, p: a.rename(row="y").dicom.write(p / "new", format="raster"), "an image has the dims row and col"),
        (lambda a, p: a.isel(slice=[]).dicom.write(p / "a.nii"), "the image is empty, its sizes are .'slice': 0"),
        (lambda a, p: a.isel(slice=[]).dicom.affine, "image is empty along slice, and has no place"),
        (lambda a, p: a.isel(col=[]).dicom.position, "image is empty along col, and has no place"),
        (lambda a, p: a.mean("slice").dicom.write(p / "a.nii"), r"say where they are with da\.assign_coords\(slice="),
        (lambda a, p: a.assign_attrs(StudyDate="2026-03-04").dicom.write(p / "new"), "wanted is a date such as '2026"),
        (lambda a, p: a.assign_attrs(PatientAge=45).dicom.write(p / "new"), "wanted is an age .* such as '045Y'"),
        (lambda a, p: a.assign_attrs(PatientSex="female").dicom.write(p / "new"), "wanted is a code .* such as 'F'"),
        (
            lambda a, p: a.dicom.write(p / "new.npy"),
            r"new\.npy is the name of a file, and nothing here writes",
        ),
        (lambda a, p: a.dicom.write(p / "new.7z"), r"nothing here writes \.7z: there are \.nii\.gz, .*, \.zip and"),
        (lambda a, p: a.dicom.send("dicom://127.0.0.1:9/PACS", SeriesNumber=3), "has no option SeriesNumber="),
        (lambda a, p: a.dicom.write("http://127.0.0.1:9/new"), r"nothing is written to a web server; DICOMweb is"),
        (lambda a, p: a.dicom.view(rois=[3], show=False), "an outline is a Roi, not int: draw it in a viewer"),
        (lambda a, p: a.dicom.view(rois=3, show=False), "a list of outlines is wanted, this is of type int"),
        (lambda a, p: a.dicom.roi_mask(3), "a list of outlines is wanted, this is of type int"),
        (lambda a, p: setattr(a.dicom.view(show=False), "rois", [[3]]), "an outline is a Roi, not int"),
        (lambda a, p: a.dicom.view(3, show=False), "a DataArray is wanted, .*of type int"),
    ],
    ids=range(61),
)
def test_what_is_given_wrongly_is_told_with_what_is_wanted(patient: Path, call: Any, told: str) -> None:
    before = sorted(patient.iterdir())
    with pytest.raises((TypeError, ValueError, IndexError), match=told):
        call(ixr.open_series(patient / "ct"), patient)
    assert sorted(patient.iterdir()) == before


@pytest.mark.parametrize("name", ["load", "open", "open_dicom", "read"])
def test_names_that_others_have_lead_to_open_series(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'; there is imagedata_xr.open_series\(source\)"):
        getattr(ixr, name)


def test_completion_offers_what_is_for_users() -> None:
    assert [name for name in dir(ixr) if not name.startswith("__")] == sorted(ixr.__all__)
