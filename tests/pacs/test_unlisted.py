"""A PACS that lists a part of what it has is found out, and no part is taken for all."""

from __future__ import annotations

import copy
import os
import re
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, evt

from imagedata_xr.errors import NetworkError
from imagedata_xr.pacs.query import query
from imagedata_xr.pacs.retrieve import retrieve
from tests.generate import write_series
from tests.pacs.test_identity import GOT, STUDIES_FOUND, finder, giver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset


@contextmanager
def archive(find: Any, give: Any, *classes: str) -> Iterator[str]:
    """Give the URL of a PACS that is asked by C-FIND and C-GET, and sends some classes."""
    ae = AE("ARCHIVE")
    ae.maximum_associations = 20
    for sop_class in classes or (MRImageStorage,):
        ae.add_supported_context(sop_class, scu_role=True, scp_role=True)
    for model in (STUDIES_FOUND, GOT):
        ae.add_supported_context(model)
    server: Any = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find), (evt.EVT_C_GET, give)]
    )
    try:
        yield f"dicom://127.0.0.1:{server.socket.getsockname()[1]}/ARCHIVE"
    finally:
        ae.shutdown()


@pytest.fixture
def stored(tmp_path: Path) -> list[Dataset]:
    return [pydicom.dcmread(file) for file in write_series(tmp_path / "stored", slices=5)]


def of_ct(ds: Dataset) -> Dataset:
    found = copy.deepcopy(ds)
    found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = CTImageStorage
    return found


def uids_of(files: list[Path]) -> set[str]:
    return {str(pydicom.dcmread(file).SOPInstanceUID) for file in files}


def test_what_fails_and_is_not_listed_is_told(stored: list[Dataset], tmp_path: Path) -> None:
    has = [*stored[:4], of_ct(stored[4])]
    with (
        archive(finder(has[:3]), giver(lambda _: has)) as url,
        pytest.raises(NetworkError, match=r"4 instances came .* all 3 that it lists, but .* 0xB000, 1 failed"),
    ):
        retrieve(url, tmp_path / "out", study=str(has[0].StudyInstanceUID))


def test_what_is_of_a_kind_that_is_not_listed_is_fetched(stored: list[Dataset], tmp_path: Path) -> None:
    has = [*stored[:4], of_ct(stored[4])]
    with archive(finder(has[:3]), giver(lambda _: has), MRImageStorage, CTImageStorage) as url:
        files = retrieve(url, tmp_path / "out", study=str(has[0].StudyInstanceUID))
    assert uids_of(files) == {str(ds.SOPInstanceUID) for ds in has}


def counting(find: Callable[..., Any], level: str, number: int) -> Callable[..., Any]:
    def counted(event: Any) -> Iterator[tuple[int, Dataset]]:
        for status, answer in find(event):
            if answer.QueryRetrieveLevel == level.upper():
                setattr(answer, f"NumberOf{level}RelatedInstances", number)
            yield status, answer

    return counted


@pytest.mark.parametrize("level", ["Study", "Series"])
@pytest.mark.parametrize("is_sent", [True, False])
def test_fewer_than_a_pacs_says_that_it_has(stored: list[Dataset], level: str, is_sent: bool, tmp_path: Path) -> None:
    find = counting(finder(stored[:3]), level, 5)
    with archive(find, giver(lambda _: stored if is_sent else stored[:3])) as url:
        study = str(stored[0].StudyInstanceUID)
        if is_sent:
            assert len(retrieve(url, tmp_path / "out", study=study)) == 5
            return
        with pytest.raises(NetworkError, match=r"3 instances came .* says that it has 5 and lists 3"):
            retrieve(url, tmp_path / "out", study=study)


def test_a_pacs_that_stops_in_the_middle_has_not_sent_all(stored: list[Dataset], tmp_path: Path) -> None:
    """All that is listed has come then, and nothing else tells that there is more."""

    def give(event: Any) -> Iterator[Any]:
        yield 5
        for ds in stored[:3]:
            yield 0xFF00, ds
        yield 0xFE00, None

    with (
        archive(finder(stored[:3]), give) as url,
        pytest.raises(NetworkError, match=r"3 instances came .* but it has not said .* 0xFE00, 2 failed"),
    ):
        retrieve(url, tmp_path / "out", study=str(stored[0].StudyInstanceUID))


def test_two_versions_of_one_instance(stored: list[Dataset], tmp_path: Path) -> None:
    other = copy.deepcopy(stored[1])
    other.SliceThickness = 99.0
    with (
        archive(finder(stored), giver(lambda _: [*stored, other])) as url,
        pytest.raises(NetworkError, match=r"1 came and were not taken, .* has another version of it"),
    ):
        retrieve(url, tmp_path / "out", study=str(stored[0].StudyInstanceUID))
    with archive(finder(stored), giver(lambda _: [*stored, stored[1]])) as url:
        assert len(retrieve(url, tmp_path / "again", study=str(stored[0].StudyInstanceUID))) == 5


def test_answers_that_are_cut_off_are_no_answer(stored: list[Dataset], tmp_path: Path) -> None:
    def find(event: Any) -> Iterator[Any]:
        yield from list(finder(stored)(event))[:2]
        yield 0xFE00, None

    with archive(find, giver(lambda _: stored)) as url:
        named = {name: str(stored[0][name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID")}
        with pytest.raises(NetworkError, match="ended its answers to C-FIND after 2 with status 0xFE00; it may list"):
            query(url, "image", named)
        with pytest.raises(NetworkError, match=r"after [12] with status 0xFE00"):
            retrieve(url, tmp_path / "out", study=str(stored[0].StudyInstanceUID))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let an interrupt through that whoever started the tests may have blocked."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_fetching_that_is_interrupted_tells_what_has_come(stored: list[Dataset], tmp_path: Path) -> None:
    over = threading.Event()

    def give(event: Any) -> Iterator[Any]:
        yield 5
        for ds in stored[:3]:
            yield 0xFF00, ds
        os.kill(os.getpid(), signal.SIGINT)
        over.wait(20)
        yield 0xFF00, stored[3]

    with archive(finder(stored), give) as url:
        with pytest.raises(KeyboardInterrupt) as caught:
            retrieve(url, tmp_path / "out", study=str(stored[0].StudyInstanceUID))
        over.set()
    assert re.fullmatch(r"3 of 5 instances had come from ARCHIVE at 127.0.0.1:\d+", caught.value.__notes__[-1])
    assert len(list((tmp_path / "out").iterdir())) == 3
