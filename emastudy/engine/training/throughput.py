"""Whether training waits for its data."""

import time
from collections.abc import Iterable, Iterator
from typing import Any


class Timed:
    """Iterates over batches and measures the seconds that each makes its user wait.

    A GPU may go on computing while its process waits, so that waiting costs no more than this, and
    perhaps less.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches
        self.count, self.waiting, self.working = 0, 0.0, 0.0

    def __iter__(self) -> Iterator[Any]:
        asked = time.monotonic()
        for batch in self._batches:
            got = time.monotonic()
            self.waiting += got - asked
            self.count += 1
            yield batch
            asked = time.monotonic()
            self.working += asked - got

    def summary(self, images: float) -> str:
        """Images per second, ``images`` being in a batch, and the share of time spent waiting."""
        total = self.waiting + self.working
        if not self.count or total <= 0:
            return "no batch was loaded"
        rate, share = self.count * images / total, self.waiting / total
        advice = "; more workers would help" if share > 0.1 else ""
        return f"{rate:.1f} images/s, {share:.0%} of the time waiting for data{advice}"
