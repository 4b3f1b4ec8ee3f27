"""Instances a second to Orthanc, beside dcmtk's storescu, in one run.

tests/pacs/with_servers.sh python benchmarks/pacs.py [COUNT [ROWS]]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from imagedata_xr.pacs.send import send

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.generate import write_series

HTTP, HOST, PORT = "http://127.0.0.1:18042", "127.0.0.1", "14242"


def empty() -> None:
    """Delete everything that Orthanc has."""
    for patient in json.load(urllib.request.urlopen(f"{HTTP}/patients")):
        urllib.request.urlopen(urllib.request.Request(f"{HTTP}/patients/{patient}", method="DELETE"))


def main() -> None:
    """Print one line a way of sending."""
    count, rows = int((sys.argv[1:] or ["400"])[0]), int((sys.argv[2:] or ["256"])[0])
    with tempfile.TemporaryDirectory() as folder:
        noise = np.random.default_rng(1).integers(0, 4096, (rows, rows))
        files = write_series(
            Path(folder, "in"), times=count // 4, rows=rows, cols=rows, values=lambda t, z: noise + 0 * t
        )
        print(f"{len(files)} instances of {files[0].stat().st_size / 1024:.0f} KiB")
        plain = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
        storescu = [str(Path(os.environ["DCMTK"], "storescu")), "-aec", "ORTHANC", HOST, PORT, "+sd", folder, "+r"]
        for _ in range(2):
            for name, environment in (("storescu", plain), ("storescu, TCP_NODELAY=1", os.environ)):
                empty()
                start = time.perf_counter()
                subprocess.run(storescu, check=True, env=environment)
                print(f"{name:26}{len(files) / (time.perf_counter() - start):8.0f}/s", flush=True)
            for jobs in (1, 2, 4):
                empty()
                start = time.perf_counter()
                report = send(files, f"dicom://{HOST}:{PORT}/ORTHANC", jobs=jobs)
                seconds = time.perf_counter() - start
                there = json.load(urllib.request.urlopen(f"{HTTP}/statistics"))["CountInstances"]
                print(f"imagedata_xr, jobs={jobs:<11}{len(report) / seconds:8.0f}/s, {there} there", flush=True)


if __name__ == "__main__":
    main()
