"""What the documentation tells a reader to type does what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
EXAMPLES = REPOSITORY / "examples"


def blocks(page: Path, language: str) -> list[str]:
    fence = rf"^```{language}\n(.*?)^```$"
    return re.findall(fence, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def run_example(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", EXAMPLES / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_code_of_a_page_runs_from_top_to_bottom(
    page: Path, patient: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "write_patient" not in page.read_text(encoding="utf-8"):
        shutil.copytree(patient, "phantom")
    namespace: dict[str, object] = {"__name__": page.stem}
    for code in blocks(page, "python"):
        exec(compile(code, page.name, "exec"), namespace)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, REPOSITORY / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_has_two_commands_and_ci_runs_the_second() -> None:
    main_job, tests = "".join(blocks(REPOSITORY / "README.md", "bash")).splitlines()
    assert main_job == "pip install . && python examples/quickstart.py"
    assert tests.endswith("&& pytest -n auto")
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert tests.replace("pip install", "pip install --quiet") in ci


def test_readme_shows_the_main_job_as_the_quickstart_runs_it() -> None:
    (code, *_) = blocks(REPOSITORY / "README.md", "python")
    quickstart = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    for line in ("(a + b) / 2", "c.dicom.write("):
        assert line in code
        assert line in quickstart


def test_quickstart_leaves_dicom_and_a_picture(tmp_path: Path) -> None:
    run = run_example("quickstart.py", "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "wrote" in run.stdout
    assert len(list((tmp_path / "out" / "dirMean").iterdir())) == 60
    with Image.open(tmp_path / "out" / "quickstart.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 100
    again = run_example("quickstart.py", "--output", tmp_path / "out")
    assert again.returncode == 0, again.stderr


def test_quickstart_takes_folders(patient: Path, tmp_path: Path) -> None:
    run = run_example("quickstart.py", patient / "dynamic_2", patient / "dynamic_1", "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "dynamic_2" in run.stdout


def test_batch_writes_every_series_and_says_which_failed(patient: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in ("dwi", "multi_echo"):
        shutil.copytree(patient / name, source / name)
    (source / "empty").mkdir()
    run = run_example("batch.py", source, tmp_path / "out", "--processes", "2")
    assert run.returncode == 1
    assert "empty" in run.stderr
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == ["dwi", "multi_echo"]
    assert len(list((tmp_path / "out" / "dwi").iterdir())) == 10


def test_study_opens_what_opens_and_says_why_the_rest_does_not(patient: Path, tmp_path: Path) -> None:
    alone = run_example("study.py")
    assert alone.returncode == 0, alone.stderr
    assert "multi echo: te 4, slice 10, row 96, col 80; int16" in alone.stdout
    heap = shutil.copytree(patient, tmp_path / "heap")
    (heap / "ct" / "note.txt").write_text("no DICOM")
    damaged = next(file for file in sorted((heap / "dwi").rglob("*")) if file.is_file())
    damaged.write_bytes(damaged.read_bytes()[:5000])
    run = run_example("study.py", heap)
    assert run.returncode == 1
    assert run.stderr.count(f"{damaged} is cut short") == 1
    assert "dwi trace" in run.stderr
    assert "/5 dwi trace:" not in run.stdout
    assert "/3 dynamic 1: time 6" in run.stdout


def test_round_trip_keeps_patient_and_place(tmp_path: Path) -> None:
    run = run_example("round_trip.py", "--output", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "same patient: True" in run.stdout
    assert "at the same place: True" in run.stdout


def test_a_command_of_ones_own(patient: Path, tmp_path: Path) -> None:
    run = run_example("own_command.py", tmp_path / "out", patient / "dynamic_1", "--order", "time")
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").iterdir())) == 10


@pytest.mark.parametrize("is_given", [True, False])
def test_a_heap_is_converted_and_then_kept(
    tmp_path: Path, patient: Path, monkeypatch: pytest.MonkeyPatch, is_given: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for status in ("written", "kept"):
        run = run_example("convert_heap.py", *((patient, tmp_path / "out") if is_given else ()))
        assert run.returncode == 0, run.stderr
        assert run.stdout.count(status) == 5


def test_to_pacs_tells_what_became_of_the_series(patient: Path) -> None:
    run = run_example("to_pacs.py")
    assert run.returncode == 0, run.stderr
    assert "10 stored" in run.stdout
    refused = run_example("to_pacs.py", patient / "dynamic_1", "dicom://127.0.0.1:9/NOBODY")
    assert refused.returncode == 1
    assert refused.stderr.count("unknown") == 10
