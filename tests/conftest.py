"""One profile for all: the same examples in every run, and no deadline on a loaded machine."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.architectures import ARCHITECTURES, save_tiny

settings.register_profile("keepshot", derandomize=True, deadline=None)
settings.load_profile("keepshot")


@pytest.fixture(scope="session", autouse=True)
def answers_stay_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads what another program computed, or leaves something for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder for runs whose answers are not what is looked at: random numbers, 1,024 bytes of context."""
    model = ARCHITECTURES["llama"]()
    model.config.max_position_embeddings = 1024
    return str(save_tiny(model, tmp_path_factory.mktemp("tiny") / "base"))
