"""Of files far away no more is fetched than the heads, and the frames that are asked for."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

import imagedata_xr as ixr
from imagedata_xr.dicom.scan import HEAD
from imagedata_xr.errors import UnreadableFileError
from tests.dicom.multi import write_enhanced
from tests.generate import write_series
from tests.web import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FRAME = 256 * 256 * 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in write_series(tmp_path / "made", times=3, slices=4, rows=256, cols=256):
        (tmp_path / "series").mkdir(exist_ok=True)
        file.rename(tmp_path / "series" / file.name)
    return tmp_path / "series"


def test_a_web_server_is_asked_for_heads_and_frames_only(folder: Path) -> None:
    with served(folder) as server:
        urls = [server.url(file.name) for file in sorted(folder.iterdir())]
        image = ixr.open_series(urls, "time")
        asked = Counter(sent.command for sent in server.sent)
        assert asked == {"HEAD": len(urls) + 1, "GET": len(urls) + 1} or asked == {"HEAD": 12, "GET": 12}
        assert max(sent.count for sent in server.sent) <= HEAD
        server.sent.clear()
        one = image.isel(time=1, slice=2).load()
        name = str(one.source.item()).rpartition("/")[2]
        assert [(s.command, s.name, s.count) for s in server.sent] == [("HEAD", name, 0), ("GET", name, FRAME)]
        server.sent.clear()
        image.isel(slice=0).load()
        assert sum(s.count for s in server.sent) == 3 * FRAME
        assert np.array_equal(image, ixr.open_series(folder, "time"))


def test_one_frame_of_many_in_a_file(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "enhanced", times=4, slices=10, rows=128, cols=128)
    with served(tmp_path) as server:
        image = ixr.open_series(server.url(str(file.relative_to(tmp_path))), "time")
        server.sent.clear()
        one = image.isel(time=2, slice=3).load()
        assert [s.count for s in server.sent if s.command == "GET"] == [128 * 128 * 2]
        assert np.array_equal(one, ixr.open_series(file, "time").isel(time=2, slice=3))


def test_a_long_head_is_fetched_as_far_as_it_goes(folder: Path) -> None:
    file = sorted(folder.iterdir())[0]
    header = pydicom.dcmread(file)
    header.add_new(0x00091010, "OB", bytes(100_000))
    header.add_new(0x00090010, "LO", "TEST")
    header.save_as(file)
    with served(folder) as server:
        image = ixr.open_series(server.url(file.name))
        assert image.identical(ixr.open_series(server.url(file.name)))
        assert np.array_equal(image, ixr.open_series(file))


def test_a_server_without_ranges_sends_all_and_is_read_right(folder: Path) -> None:
    with served(folder, ranges=False) as server:
        image = ixr.open_series([server.url(file.name) for file in sorted(folder.iterdir())], "time")
        assert np.array_equal(image, ixr.open_series(folder, "time"))


def test_a_folder_of_a_web_server_is_told_as_one(folder: Path) -> None:
    with (
        served(folder) as server,
        pytest.raises(
            UnreadableFileError, match=r"/ is a folder, and a web server does not list those; give a list of"
        ),
    ):
        ixr.open_series(server.url(""))


def test_a_file_that_changed_or_went_is_named(folder: Path) -> None:
    with served(folder) as server:
        files = sorted(folder.iterdir())
        urls = [server.url(file.name) for file in files]
        image = ixr.open_series(urls, "time")
        for file in files:
            os.utime(file, (1, 1))
        with pytest.raises(UnreadableFileError, match="has changed since it was opened"):
            image.load()
        files[5].unlink()
        with pytest.raises(OSError, match=files[5].name):
            ixr.open_series(urls, "time")


def test_a_server_that_fails_is_told_with_the_file(folder: Path, tmp_path: Path) -> None:
    """Whatever its library raises, a file that cannot be fetched is one that cannot be read."""
    with served(folder) as server:
        files = sorted(file.name for file in folder.iterdir())
        urls = list(map(server.url, files))
        image = ixr.open_series(urls, "time")
        server.cut_off.add(files[4])
        with pytest.raises(UnreadableFileError, match=rf"cannot fetch http.*{files[4]}: ClientPayloadError"):
            image.load()
        with pytest.raises(UnreadableFileError, match=rf"cannot fetch http.*{files[4]}: ClientPayloadError"):
            ixr.open_series(urls, "time")
        write_series(tmp_path / "other", slices=2, series="other")
        other = sorted((tmp_path / "other").iterdir())
        done = ixr.convert([*urls, *other], tmp_path / "out")
        assert sorted(result.status for result in done.results) == ["failed", "failed", "written"]
        assert all(files[4] in result.reason for result in done.failed)
        server.cut_off.clear()
        server.overloaded.add(files[4])
        with pytest.raises(UnreadableFileError, match=rf"cannot read http.*{files[4]}: 503, message='Service Unavail"):
            image.load()
        server.overloaded.clear()
        assert np.array_equal(image, ixr.open_series(folder, "time"))


@pytest.mark.parametrize("length", [100, 1 << 20])
def test_a_page_is_not_taken_for_a_frame(tmp_path: Path, length: int) -> None:
    file = write_enhanced(tmp_path / "enhanced", times=4, slices=10, rows=128, cols=128)
    with served(tmp_path) as server:
        image = ixr.open_series(server.url(str(file.relative_to(tmp_path))), "time")
        server.pages[file.name] = b"<p>Log in</p>".ljust(length)
        with pytest.raises(
            UnreadableFileError, match=rf"{file.name}: the server has sent {length} bytes, asked for \d+ of"
        ):
            image.isel(time=2, slice=3).load()


def test_a_server_that_does_not_answer_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import aiohttp
    import fsspec

    options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=1)}}
    monkeypatch.setitem(fsspec.config.conf, "http", options)
    with served(folder) as server:
        (name, *_) = sorted(file.name for file in folder.iterdir())
        server.stalled.add(name)
        with pytest.raises(UnreadableFileError, match=rf"cannot fetch http.*{name}: the server did not answer in time"):
            ixr.open_series(server.url(name))


def test_an_index_knows_files_far_away(folder: Path, tmp_path: Path) -> None:
    with served(folder) as server:
        urls = [server.url(file.name) for file in sorted(folder.iterdir())]
        image = ixr.open_series(urls, "time", index=tmp_path / "index")
        server.sent.clear()
        again = ixr.open_series(urls, "time", index=tmp_path / "index")
        assert sum(s.count for s in server.sent) <= HEAD  # to see that it is DICOM
        assert again.identical(image)


def test_a_server_that_tells_no_versions(folder: Path, tmp_path: Path) -> None:
    """Another file may be there every time: the index keeps nothing of it."""
    with served(folder, tells_times=False) as server:
        files = sorted(folder.iterdir())
        urls = [server.url(file.name) for file in files]
        assert ixr.open_series(urls, "time", index=tmp_path / "index").PatientID == "P1"
        for file in files:
            data = file.read_bytes()
            assert data.count(b"P1") > 0
            file.write_bytes(data.replace(b"P1", b"P2"))
        assert ixr.open_series(urls, "time", index=tmp_path / "index").PatientID == "P2"
        for _ in range(2):
            assert [result.status for result in ixr.convert(urls, tmp_path / "out").results] == ["written"]


@pytest.fixture
def bucket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an S3-compatible server's file system with the series in it."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        # Sums at the end of what is sent, which the server would take for part of it.
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of those that were without credentials
        filesystem = fsspec.filesystem("s3", skip_instance_cache=False)
        filesystem.mkdir("clinic")
        filesystem.put(f"{folder}/", "clinic/series/", recursive=True)
        filesystem.invalidate_cache()
        yield filesystem
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages that make the server
def test_an_s3_bucket(bucket: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    original = type(bucket)._cat_file

    async def counted(self: Any, *args: Any, **options: Any) -> bytes:
        data: bytes = await original(self, *args, **options)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(type(bucket), "_cat_file", counted)
    image = ixr.open_series("s3://clinic/series", "time")
    assert len(fetched) <= 13
    assert max(fetched) <= HEAD
    fetched.clear()
    image.isel(time=1, slice=2).load()
    assert fetched == [FRAME]
    image[:2].load()
    bucket.pipe("clinic/series/" + str(image.source.values[2, 2]).rpartition("/")[2], b"changed")
    with pytest.raises(UnreadableFileError, match="has changed since it was opened"):
        image.isel(time=2, slice=2).load()
    (image[:2] * 2).dicom.write("s3://clinic/doubled")
    again = ixr.open_series("s3://clinic/doubled", "time")
    assert np.array_equal(again, image[:2] * 2)
