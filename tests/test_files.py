"""A directory appears complete or not at all, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import imagedata_xr as ixr
from imagedata_xr.errors import UnreadableFileError
from imagedata_xr.files import output_directory, output_files
from imagedata_xr.outputs import output_elsewhere
from tests.conftest import drop_rights

if TYPE_CHECKING:
    from collections.abc import Callable

DICOM = b"\0" * 128 + b"DICM"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def fill(folder: Path, *files: str, content: bytes = DICOM) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).write_bytes(content)
    return folder


def fail(target: Path, error: type[BaseException], **options: bool) -> None:
    with output_directory(target, **options) as folder:
        fill(folder, "1")
        raise error


def write(target: Path, meanwhile: Callable[[], object], **options: Any) -> None:
    with output_directory(target, **options) as folder:
        fill(folder, "mine")
        meanwhile()


def test_appears_when_complete(tmp_path):
    target = tmp_path / "new" / "result"
    with output_directory(target) as folder:
        fill(folder, "1")
        assert not target.exists()
    assert names(target) == ["1"]
    assert names(tmp_path) == ["new"]
    assert names(tmp_path / "new") == ["result"]


def test_an_empty_directory_is_free(tmp_path):
    target = fill(tmp_path / "result")
    with output_directory(str(target)) as folder:
        fill(folder, "1")
    assert names(target) == ["1"]
    assert names(tmp_path) == ["result"]


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    (tmp_path / "plain").mkdir()
    with output_directory(tmp_path / "result"):
        pass
    assert (tmp_path / "result").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path, error):
    with pytest.raises(error):
        fail(tmp_path / "new" / "parents" / "result", error)
    assert names(tmp_path) == []


def test_a_file_where_a_folder_would_have_to_be(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError, match="file is a file: "), output_directory(tmp_path / name / "a" / "b"):
            pytest.fail("not to be reached")
        with (
            pytest.raises(FileExistsError, match=f"{name} is a file: "),
            output_files(tmp_path / name / "a" / "b.nii", (".nii",)),
        ):
            pytest.fail("not to be reached")
    assert names(tmp_path) == ["file", "link"]


def test_a_failure_leaves_the_old_as_it_was(tmp_path):
    target = fill(tmp_path / "result", "old")
    with pytest.raises(RuntimeError):
        fail(target, RuntimeError, overwrite=True)
    assert names(tmp_path) == ["result"]
    assert names(target) == ["old"]


def test_files_are_not_overwritten_unasked(tmp_path):
    target = fill(tmp_path / "result", "old")
    with pytest.raises(FileExistsError, match="overwrite=True"), output_directory(target):
        pytest.fail("not to be reached")
    assert names(target) == ["old"]


def test_overwrite_replaces_all_of_a_dicom_directory(tmp_path):
    target = fill(tmp_path / "result", "1", "2", "3")
    with output_directory(target, overwrite=True) as folder:
        fill(folder, "1")
        assert names(target) == ["1", "2", "3"]
    assert names(target) == ["1"]
    assert names(tmp_path) == ["result"]


def test_overwrite_spares_what_we_do_not_write(tmp_path):
    home = fill(tmp_path / "home", "image")
    fill(home, "thesis.odt", content=b"work of years")
    nest = fill(fill(tmp_path / "nest", "image") / "more", "image").parent
    link = fill(tmp_path / "linked")
    (link / "image").symlink_to(home / "image")
    for target, name in [(home, "thesis.odt"), (nest, "more"), (link, "image")]:
        with pytest.raises(FileExistsError, match=name), output_directory(target, overwrite=True):
            pytest.fail("not to be reached")
    assert names(tmp_path) == ["home", "linked", "nest"]
    assert names(home) == ["image", "thesis.odt"]


def test_a_file_is_no_place_for_a_directory(tmp_path):
    (tmp_path / "file").write_bytes(DICOM)
    with pytest.raises(FileExistsError, match="is a file"), output_directory(tmp_path / "file", overwrite=True):
        pytest.fail("not to be reached")
    assert (tmp_path / "file").read_bytes() == DICOM


def test_a_link_stays_a_link(tmp_path):
    target = fill(tmp_path / "disk" / "result", "old")
    (tmp_path / "link").symlink_to(target)
    with output_directory(tmp_path / "link", overwrite=True) as folder:
        fill(folder, "1")
    assert (tmp_path / "link").is_symlink()
    assert names(target) == ["1"]


@pytest.mark.parametrize("existed", [False, True])
def test_of_two_writers_one_fails(tmp_path, existed):
    target = tmp_path / "result"
    if existed:
        target.mkdir()

    def other() -> None:
        with output_directory(target) as folder:
            fill(folder, "theirs")

    with pytest.raises(FileExistsError):
        write(target, meanwhile=other)
    assert names(tmp_path) == ["result"]
    assert names(target) == ["theirs"]


def test_what_another_run_has_made_meanwhile_is_named_as_the_user_does(tmp_path):
    target = tmp_path / "result"
    with pytest.raises(FileExistsError) as caught:
        write(target, meanwhile=lambda: fill(target, "theirs"))
    assert str(caught.value).startswith(f"{target} is not empty")
    assert names(tmp_path) == ["result"]


def test_what_came_in_meanwhile_is_not_replaced(tmp_path):
    target = fill(tmp_path / "result", "old")
    with pytest.raises(FileExistsError, match="notes"):
        write(target, meanwhile=lambda: fill(target, "notes", content=b"text"), overwrite=True)
    assert names(tmp_path) == ["result"]
    assert names(target) == ["notes", "old"]


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are of Unix")
def test_a_full_disk_leaves_nothing(tmp_path):
    program = f"""
import resource, signal
from imagedata_xr.files import output_directory, output_files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with output_directory({str(tmp_path / "result")!r}) as folder:
    (folder / "1").write_bytes(bytes(500))
    (folder / "2").write_bytes(bytes(5000))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=os.environ)
    assert run.returncode == 1
    assert f"File too large: '{tmp_path / 'result'}'" in run.stderr
    assert names(tmp_path) == []


@pytest.mark.parametrize("library", [OSError, UnreadableFileError])
def test_a_full_disk_is_named_also_where_a_library_has_made_text_of_it(tmp_path, library):
    def write() -> None:
        with output_files(tmp_path / "a.nii", (".nii",)):
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError:
                raise library("text")  # noqa: B904 - as pydicom does

    with pytest.raises(library) as caught:
        write()
    named = (errno.ENOSPC, str(tmp_path / "a.nii"))
    assert (caught.value.errno, caught.value.filename) == (named if library is OSError else (None, None))
    assert names(tmp_path) == []


def test_what_belongs_to_a_replaced_file_goes_with_it_or_stays(tmp_path):
    fill(tmp_path, "a.nii", "a.bval", "b.bval", content=b"old")

    def write(error: type[BaseException] | None = None, target: str = "a.nii") -> None:
        with output_files(tmp_path / target, (".nii", ".i"), overwrite=True, beside=(".bval",)) as file:
            file.write_bytes(b"new")
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        write(KeyboardInterrupt)
    assert names(tmp_path) == ["a.bval", "a.nii", "b.bval"]
    (tmp_path / "c.nii").mkdir()
    fill(tmp_path, "c.bval", content=b"old")
    with pytest.raises(OSError, match="directory"):
        write(target="c.nii")
    assert (tmp_path / "c.bval").read_bytes() == b"old", "put back where nothing was replaced"
    write()
    assert names(tmp_path) == ["a.nii", "b.bval", "c.bval", "c.nii"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes of directories are of Unix")
@pytest.mark.parametrize(("files", "locked"), [([], "."), (["1", "2"], "."), (["1"], "group/array")])
def test_a_directory_that_may_not_be_written_to_is_not_replaced(not_root, files, locked):
    not_root.chmod(0o777)
    drop_rights()
    target = fill(not_root / "result", *files)
    fill(target / locked, *files)
    (target / locked).chmod(0o555)
    before = sorted(target.rglob("*"))
    with (
        pytest.raises(PermissionError, match=r"may not be written to \(mode 555\).*chmod"),
        output_directory(target, overwrite=True, is_ours=lambda folder: True),
    ):
        pytest.fail("not to be reached")
    (target / locked).chmod(0o755)
    with pytest.raises(PermissionError, match="may not be written to"):
        write(target, lambda: (target / locked).chmod(0o555), overwrite=True, is_ours=lambda folder: True)
    assert names(not_root) == ["result"]
    assert sorted(target.rglob("*")) == before
    assert (target / locked).stat().st_mode & 0o777 == 0o555


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of Unix")
def test_what_is_replaced_passes_its_mode_on(tmp_path):
    old = fill(tmp_path / "old", "1")
    empty = fill(tmp_path / "empty")
    fill(tmp_path, "a.nii", "a.zip")
    for path in (old, empty, tmp_path / "a.nii", tmp_path / "a.zip"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    for target in (old, empty):
        with output_directory(target, overwrite=True) as folder:
            fill(folder, "2")
        assert target.stat().st_mode & 0o777 == 0o700
    with output_files(tmp_path / "a.nii", (".nii",), overwrite=True) as file:
        file.write_bytes(b"new")
    with output_elsewhere(tmp_path / "a.zip", overwrite=True) as folder:
        fill(folder, "2")
    for name in ("a.nii", "a.zip"):
        assert (tmp_path / name).read_bytes() != DICOM
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_an_old_directory_that_cannot_be_removed_is_told(tmp_path, monkeypatch):
    target = fill(tmp_path / "result", "old")

    def busy(path: Path, **_: bool) -> None:
        raise OSError(16, "Device or resource busy", str(path / "old"))

    monkeypatch.setattr(shutil, "rmtree", busy)
    with pytest.warns(UserWarning, match=r"is replaced, but .*\.old: .*busy") as told:
        write(target, lambda: None, overwrite=True)
    monkeypatch.undo()
    assert told[0].filename == __file__
    assert names(target) == ["mine"]
    (hidden,) = set(names(tmp_path)) - {"result"}
    assert str(tmp_path / hidden) in str(told[0].message)
    assert names(tmp_path / hidden) == ["old"]


@pytest.mark.skipif(sys.platform == "win32", reason="a read-only file is replaced by none there")
def test_a_file_that_may_not_be_written_to_is_not_replaced(not_root):
    not_root.chmod(0o777)
    drop_rights()
    fill(not_root, "a.nii", "a.bval", "a.zip", content=b"old")
    for locked in ("a.nii", "a.bval", "a.zip"):
        (not_root / locked).chmod(0o444)
        with pytest.raises(PermissionError, match=f"{locked} may not be written to .*chmod"):  # noqa: PT012
            if locked == "a.zip":
                with output_elsewhere(not_root / locked, overwrite=True) as folder:
                    fill(folder, "1")
            else:
                with output_files(not_root / "a.nii", (".nii",), overwrite=True, beside=(".bval",)) as file:
                    file.write_bytes(b"new")
        (not_root / locked).chmod(0o644)
        assert names(not_root) == ["a.bval", "a.nii", "a.zip"]
        assert {file.read_bytes() for file in not_root.iterdir()} == {b"old"}


@pytest.mark.parametrize("url", ["s3://bucket/brain", "memory://x", "file:///tmp/x", "zip://a::b.zip"])
def test_no_folder_is_made_of_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: Path, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    image = ixr.open_series(patient / "ct")
    for write in (
        lambda: ixr.write(image, Path(url)),
        lambda: ixr.write(image, Path(f"{url}.nii.gz")),
        lambda: image.dicom.to_virtual(f"{url}.json"),
        lambda: image.dicom.to_png(f"{url}.png"),
        lambda: ixr.sample.write_patient(url),
    ):
        with pytest.raises(ValueError, match="is a URL, and a path of this machine is wanted"):
            write()
    for read in (lambda: ixr.open_virtual(f"{url}.json"), lambda: ixr.scan(patient, index=url)):
        with pytest.raises(ValueError, match="is a URL"):
            read()
    assert not names(tmp_path)


def test_what_is_neither_true_nor_false_replaces_nothing(tmp_path: Path) -> None:
    """Such as "no": whatever writes comes by here."""
    image = ixr.open_series(ixr.sample.write_patient(tmp_path / "phantom") / "ct")
    image.dicom.to_png(tmp_path / "ct.png")
    image.dicom.to_virtual(tmp_path / "ct.json")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for write in (
        lambda: ixr.sample.write_patient(tmp_path / "phantom", overwrite="no"),  # type: ignore[arg-type]
        lambda: image.dicom.to_png(tmp_path / "ct.png", overwrite="no"),
        lambda: image.dicom.to_virtual(tmp_path / "ct.json", overwrite="no"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="overwrite='no': True or False is wanted"):
            write()
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
