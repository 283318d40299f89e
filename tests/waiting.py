"""Waiting for what other processes do."""

import time


def within_minutes(condition):
    """Wait for a condition, but not for ever: a test that hangs says nothing."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "still waiting after five minutes"
        time.sleep(0.05)
