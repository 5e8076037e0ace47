"""One profile for all: the same examples in every run, and no deadline on a loaded machine."""

from hypothesis import settings

settings.register_profile("keepshot", derandomize=True, deadline=None)
settings.load_profile("keepshot")
