"""What several tests of stages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Native libraries keep to one thread, as in a worker: sums over several differ in their last digits."""
    with threadpool_limits(1):
        yield
