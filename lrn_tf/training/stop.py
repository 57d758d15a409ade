"""Being asked to stop: by the scheduler of a cluster (SIGTERM) or from the keyboard (Ctrl-C)."""

import signal
import threading


class Stop:
    """While entered, notes a request instead of dying of it; Ctrl-C a second time ends at once.

    Attributes:
        signal: the signal that asked, the last one, or None.
    """

    def __init__(self):
        self.signal = None
        self._before = {}

    def __enter__(self):
        # Python handles signals in the main thread only; a run in another one cannot be asked.
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, _):
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
