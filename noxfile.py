"""Sessions: ``nox`` runs the checks; ``nox -s docs`` and ``nox -s bench`` what their names say."""

import re
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "typecheck", "tests"]
PROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PROJECT, name))


@nox.session(tags=["check"])
def lint(session: nox.Session) -> None:
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("oxlint", "--deny-warnings", "imagedata_xr/viewer/js")


@nox.session(tags=["check"])
def typecheck(session: nox.Session) -> None:
    session.install("-e", ".[storage,cluster]", *group("typecheck"))
    session.run("mypy")


@nox.session(tags=["check"])
def tests(session: nox.Session) -> None:
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def tests_oldest(session: nox.Session) -> None:
    """Test with the oldest releases that pyproject.toml allows of what the package needs."""
    extras = PROJECT["project"]["optional-dependencies"]
    needs = [*PROJECT["project"]["dependencies"], *(need for name in extras.keys() - {"test"} for need in extras[name])]
    oldest = [re.sub(r">=([0-9.]+).*", r"==\1", need) for need in needs if ">=" in need]
    session.install("-e", ".[test]", *oldest)
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def tests_pacs(session: nox.Session) -> None:
    """Test against Orthanc and dcmtk, which have to be installed: apt-get install orthanc orthanc-dicomweb dcmtk."""
    session.install("-e", ".[test]")
    servers, pytest = "tests/pacs/with_servers.sh", ("pytest", "-m", "pacs", "tests/pacs")
    session.run(servers, *pytest, *session.posargs, external=True, env={"REQUIRE_PACS": "1"})


@nox.session
def tests_browser(session: nox.Session) -> None:
    """Test the viewer in a real browser, which has to be installed: apt-get install chromium."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "browser", "tests/viewer", *session.posargs, env={"REQUIRE_BROWSER": "1"})


@nox.session(tags=["check"])
def docs(session: nox.Session) -> None:
    session.install("-e", ".", *group("docs"))
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Compare speed and memory with other tools, in one run."""
    session.install(".[index,storage]", *group("bench"))
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Make the wheel and import it from an environment that has nothing else."""
    session.install("build")
    dist = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(dist))
    (wheel,) = dist.glob("*.whl")
    session.install(str(wheel))
    session.cd(dist)
    session.run("python", "-c", "import imagedata_xr; print(imagedata_xr.__version__)")
