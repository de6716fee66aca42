"""Hypothesis for the core: no deadline, since a shared runner's clock proves nothing."""

from hypothesis import settings

settings.register_profile("core", deadline=None, max_examples=60)
settings.load_profile("core")
