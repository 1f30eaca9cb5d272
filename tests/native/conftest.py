"""What the tests of several kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sleeptools import native

CPU_VARIANTS = native.variants()[1:] or [
    pytest.param("none", marks=pytest.mark.skip(reason=native.describe()))
]


@pytest.fixture(params=CPU_VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kind of kernels that this CPU runs."""
    with native.using_variant(request.param):
        yield request.param
