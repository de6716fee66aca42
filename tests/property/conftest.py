"""Hypothesis for the core: no deadline, since a shared runner's clock proves nothing.

``make test`` tries some examples of each property, ``make wide`` many.
"""

import os

from hypothesis import HealthCheck, settings

_NO_CLOCK = [HealthCheck.too_slow]
settings.register_profile("some", deadline=None, suppress_health_check=_NO_CLOCK, max_examples=20)
settings.register_profile("many", deadline=None, suppress_health_check=_NO_CLOCK, max_examples=150)
settings.load_profile(os.environ.get("BACKFILL_TEST_EXAMPLES", "some"))
