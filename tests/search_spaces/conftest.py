"""Examples that repeat: a law holds or does not on every run."""

from hypothesis import settings

settings.register_profile("gaplab", derandomize=True, database=None, deadline=None)
settings.load_profile("gaplab")
