"""How many random inputs the tests try, and that they are the same ones each time."""

import os

import hypothesis

# More of them are tried with LRN_TF_WILD=1000, and others each time.
MANY = int(os.environ.get("LRN_TF_WILD", 0))


def wild(few: int) -> hypothesis.settings:
    """Settings of a test that tries so many inputs, or as many as the environment asks for."""
    return hypothesis.settings(
        max_examples=MANY or few,
        derandomize=not MANY,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
