"""Clusters for tests, on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from distributed import LocalCluster


def local_cluster(**options: Any) -> LocalCluster:
    """Return a cluster that others on the machine do not disturb; without `distributed` the test skips."""
    distributed = pytest.importorskip("distributed")
    # Without a dashboard a page is served all the same, and a port that another cluster has is a warning.
    page = {"dashboard_address": "127.0.0.1:0"}
    alone = {"host": "127.0.0.1", "protocol": "tcp", "dashboard_address": None, "scheduler_kwargs": page}
    cluster: LocalCluster = distributed.LocalCluster(**alone, **options)
    return cluster
