"""Clusters for tests, on this machine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client, LocalCluster


def local_cluster(**options: Any) -> LocalCluster:
    """Return a cluster that others on the machine do not disturb; without `distributed` the test skips."""
    distributed = pytest.importorskip("distributed")
    # Without a dashboard a page is served all the same, and a port that another cluster has is a warning.
    page = {"dashboard_address": "127.0.0.1:0"}
    alone = {"host": "127.0.0.1", "protocol": "tcp", "dashboard_address": None, "scheduler_kwargs": page}
    cluster: LocalCluster = distributed.LocalCluster(**alone, **options)
    return cluster


@contextmanager
def two_processes() -> Iterator[Client]:
    """Give the client of a cluster of two processes."""
    with local_cluster(n_workers=2, threads_per_worker=1, processes=True) as cluster, cluster.get_client() as client:
        yield client
