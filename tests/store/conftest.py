"""The chain of commands that the tests of faults and of two writers share."""

from collections.abc import Iterator

import pytest

from tests.helpers import fault_chain, faults
from tests.helpers.fault_chain import Chain


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        with fault_chain.serving() as url, faults.fault_server(folder) as server:
            yield Chain(server, folder / "source", folder / "out", url)
