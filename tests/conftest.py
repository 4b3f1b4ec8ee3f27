"""What tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import hypothesis
import pytest

from imagedata_xr import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec.implementations.memory import MemoryFileSystem

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"

# What an example takes depends on what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real series beside the repository; tests that want it skip when it is absent.

    Where CI is set nothing may skip, so its absence fails there.
    """
    if SHARED.is_dir():
        return SHARED
    message = f"no real series at {SHARED}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the phantom patient, to be read only."""
    return sample.write_patient(tmp_path_factory.mktemp("sample") / "phantom")


@pytest.fixture(autouse=True)
def memory() -> Iterator[MemoryFileSystem]:
    """Give fsspec's file system in memory, of which a process has one: no test finds what another left there."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.fixture
def not_root() -> Iterator[Path]:
    """Return a folder that a process without rights can enter, and become such a process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        if os.geteuid() != os.getuid():
            os.seteuid(os.getuid())


def drop_rights() -> None:
    """Become a process without rights, where this one has those of root."""
    if os.geteuid() == 0:
        os.seteuid(65534)
