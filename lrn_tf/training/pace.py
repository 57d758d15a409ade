"""How long steps take, as the host sees it."""

import contextlib
import statistics
import time


class Pace:
    """Times of a process's steps: since the last line of metrics.jsonl, and since the last look."""

    def __init__(self):
        self._compiled = False
        self.begin_line()
        self.begin_lap(0)

    def begin_line(self) -> None:
        """What follows is for the next line of metrics.jsonl."""
        self._line = (time.perf_counter(), [])

    def begin_lap(self, step: int) -> None:
        """What follows this step is for the next look."""
        self._lap = (step, time.perf_counter())

    @contextlib.contextmanager
    def of_step(self, number: int):
        """Times the step of this number; a process's first one compiles, so that it is in no lap."""
        began = time.perf_counter()
        yield
        self._line[1].append(time.perf_counter() - began)
        if not self._compiled:
            self._compiled = True
            self.begin_lap(number)

    def lap(self, step: int) -> float:
        """Steps per second since the last look; the next lap begins."""
        before, began = self._lap
        self.begin_lap(step)
        return (step - before) / (self._lap[1] - began)

    def of_line(self, steps: int, batch_size: int) -> dict[str, float]:
        """What a line says of its steps. Those that another process made count as typical ones here."""
        began, times = self._line
        seconds = time.perf_counter() - began
        typical = statistics.median(times[1:] or times or [0.0])  # the first one may have compiled
        return {
            "examples_per_second": round(len(times) * batch_size / seconds, 1),
            "step_ms_median": round(1e3 * statistics.median(times or [0.0]), 2),
            "seconds": round(seconds + (steps - len(times)) * typical, 2),
        }
