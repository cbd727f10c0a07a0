"""Progress of long work: a bar on a terminal, a line every few seconds in a log; of several processes, the first's."""

from __future__ import annotations

import sys
import time

from kind import processes

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts steps of `total`; on a terminal a tqdm bar, elsewhere lines on stderr."""

    def __init__(self, label: str, total: int, start: int = 0):
        self.label, self.total, self.done = label, total, start
        self._started_at, self._start, self._bar = time.monotonic(), start, None
        self._next_line = self._started_at + SECONDS_BETWEEN_LINES
        if sys.stderr.isatty() and processes.rank() == 0:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, desc=label)

    def update(self, count: int = 1, note: str = "") -> None:
        if not count:
            return
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
            self._bar.set_postfix_str(note, refresh=False)
        elif processes.rank() == 0 and ((now := time.monotonic()) >= self._next_line or self.done == self.total):
            rate = (self.done - self._start) / max(now - self._started_at, 1e-9)
            left = (self.total - self.done) / max(rate, 1e-9)
            print(f"{self.label}: {self.done}/{self.total} ({rate:.1f}/s, {left:.0f} s left) {note}", file=sys.stderr)
            self._next_line = now + SECONDS_BETWEEN_LINES

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
