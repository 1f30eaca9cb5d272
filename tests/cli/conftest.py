"""What several files of tests of the command line share: a Slurm of one node, planned trainings."""

from collections.abc import Iterator

import pytest

from tests.helpers.planned import epochs, few, no_slurm, slurm
from tests.helpers.slurm_cluster import one_node

__all__ = ["cluster", "epochs", "few", "no_slurm", "slurm"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str] | None]:
    """Environment in which jobs are submitted; None where Slurm is not installed."""
    with one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment
