# SPDX-License-Identifier: Apache-2.0
"""A log that says each thing at most once per period."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class ThrottledLog:
    """Writes at most one line per cause and period; told of repeats, it gives their number."""

    def __init__(
        self, logger: Any, period: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def warn(self, cause: str, sentence: str, period: float | None = None) -> None:
        line = self._line(cause, sentence, period)
        if line:
            self._logger.warning(line)

    def error(self, cause: str, sentence: str, period: float | None = None) -> None:
        # Not one method for both: rclpy refuses two severities from the same line of code.
        line = self._line(cause, sentence, period)
        if line:
            self._logger.error(line)

    def _line(self, cause: str, sentence: str, period: float | None) -> str | None:
        now = self._clock()
        with self._lock:
            last = self._last.get(cause)
            if last is not None and now - last < (self._period if period is None else period):
                self._silent[cause] = self._silent.get(cause, 0) + 1
                return None
            self._last[cause] = now
            silent = self._silent.pop(cause, 0)
        return f'{sentence} ({silent} more like this)' if silent else sentence
