"""What tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagedata_xr import sample

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared" / "data"


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
