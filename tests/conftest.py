"""One profile for all: the same examples in every run, and no deadline on a loaded machine."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("keepshot", derandomize=True, deadline=None)
settings.load_profile("keepshot")


@pytest.fixture(scope="session", autouse=True)
def answers_stay_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads what another program computed, or leaves something for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
