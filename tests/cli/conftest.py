"""The one-node Slurm that long tests share."""

from collections.abc import Iterator

import pytest

from tests.helpers.slurm_cluster import one_node


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str] | None]:
    """Environment in which jobs are submitted; None where Slurm is not installed."""
    with one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment
