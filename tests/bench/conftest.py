"""What the tests of the benchmark share."""

from collections.abc import Iterator

import pytest

from tests.bench.stand import Stand


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    """One stand for all tests of a module."""
    with Stand() as stand:
        yield stand
