"""Fixtures of batch runs."""

from collections.abc import Iterator

import pytest

from tests.support.ray_cluster import RayCluster, ray_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """A Ray cluster with four CPUs; tests must not stop it."""
    with ray_cluster(4) as cluster:
        yield cluster
