# SPDX-License-Identifier: Apache-2.0
"""What the node counts, and the message on /diagnostics that says it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from depth_sr_ros.ros.diagnosis import Diagnosis, Level

DROP_CAUSES = (
    'no partner',
    'stale',
    'superseded',
    'bad stamp',
    'bad message',
    'frame mismatch',
    'no camera info',
    'no transform',
    'out of frame',
    'no valid depth',
    'pipeline error',
)
STAGES = (
    'pair',  # in the executor, per message
    'wait',  # from arrival to the worker
    'decode',
    'register',
    'pipeline',
    'encode',
    'publish',
    'extras',  # camera_info and what is published only while somebody subscribes
    'own cpu',  # processor time of the worker for decode, encode, publish and extras
    'total',  # from arrival to the end of publish
    'stamp age',  # from the RGB stamp to the end of publish, on the node's clock
)

_LEVELS = {
    Level.OK: DiagnosticStatus.OK,
    Level.WARN: DiagnosticStatus.WARN,
    Level.ERROR: DiagnosticStatus.ERROR,
    Level.STALE: DiagnosticStatus.STALE,
}
_LATENCY_SAMPLES = 1000


class NodeDiagnostics:
    """Counters, rates and latencies. Thread-safe: the executor and the worker both count.

    Counters are named by free text ('received rgb/image', 'dropped stale', 'published
    depth/image'). `tick` closes a second; rates and `recent` cover the last `window` ticks.
    """

    def __init__(self, window: int = 4, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._history: deque[tuple[float, Counter[str]]] = deque(
            [(clock(), Counter())], maxlen=window + 1
        )
        self._latencies = {stage: deque[float](maxlen=_LATENCY_SAMPLES) for stage in STAGES}
        self._last_sentences: dict[str, str] = {}

    def count(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._counts[name] += amount

    def drop(self, cause: str, sentence: str = '', amount: int = 1) -> None:
        """Count a frame that is not published; the sentence says why and what is allowed."""
        if cause not in DROP_CAUSES:
            raise ValueError(f'cause is {cause!r}; it must be one of {DROP_CAUSES}')
        with self._lock:
            self._counts[f'dropped {cause}'] += amount
            if sentence:
                self._last_sentences[cause] = sentence

    def latency(self, stage: str, seconds: float) -> None:
        """Record how long one frame spent in a stage."""
        self._latencies[stage].append(seconds)

    def total(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    def tick(self) -> None:
        """Close a second. Call at about 1 Hz before `recent`, `rate` and `status`."""
        with self._lock:
            self._history.append((self._clock(), Counter(self._counts)))

    def recent(self, name: str) -> int:
        """How much a counter grew within the window."""
        return self._history[-1][1][name] - self._history[0][1][name]

    def rate(self, name: str) -> float:
        """Growth of a counter per second within the window."""
        elapsed = self._history[-1][0] - self._history[0][0]
        return self.recent(name) / elapsed if elapsed > 0 else 0.0

    def recent_drops(self) -> dict[str, tuple[int, str]]:
        """Cause -> (frames dropped within the window, the last sentence about it)."""
        drops = {}
        for cause in DROP_CAUSES:
            number = self.recent(f'dropped {cause}')
            if number:
                drops[cause] = (number, self._last_sentences.get(cause, ''))
        return drops

    def percentiles(self) -> dict[str, tuple[float, float, int]]:
        """Stage -> (median, 99th percentile, samples), seconds, over the last 1000 frames."""
        result = {}
        for stage, samples in self._latencies.items():
            values = list(samples)
            if values:
                median, high = np.percentile(values, (50, 99))
                result[stage] = (float(median), float(high), len(values))
        return result

    def status(
        self, name: str, hardware_id: str, diagnosis: Diagnosis, details: Mapping[str, object]
    ) -> DiagnosticStatus:
        """The whole message: the diagnosis, then every counter, rate and latency, then details."""
        values: dict[str, object] = {}
        with self._lock:
            counts = dict(self._counts)
        for counter, number in counts.items():
            values[counter] = number
        for cause in DROP_CAUSES:
            values[f'dropped {cause}'] = counts.get(f'dropped {cause}', 0)
        for cause, sentence in list(self._last_sentences.items()):
            values[f'last {cause}'] = sentence
        for counter in counts:
            if counter.startswith(('received ', 'published ')):
                values[f'rate {counter} [Hz]'] = f'{self.rate(counter):.2f}'
        for stage, (median, high, _) in self.percentiles().items():
            values[f'latency {stage} p50 [ms]'] = f'{1e3 * median:.3f}'
            values[f'latency {stage} p99 [ms]'] = f'{1e3 * high:.3f}'
        values.update(details)
        return DiagnosticStatus(
            level=_LEVELS[diagnosis.level],
            name=name,
            message=diagnosis.sentence,
            hardware_id=hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
