# SPDX-License-Identifier: Apache-2.0
"""Time per frame, by wall clock and by the GPU's own, per stage, and peak memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depth_sr_ros.benchmark.frames import Frame
from depth_sr_ros.benchmark.subjects import Contestant

STAGES = ('inspect', 'upload', 'preprocess', 'guide', 'fusion', 'network', 'download')
# More than a stream takes to know its camera.
_WARM_UP_FRAMES = 7
# Contestants take turns in so many rounds, so that a machine that slows down slows all of them.
_ROUNDS = 5
_LEAST_FRAMES = 3


class StageClock:
    """Milliseconds between a pipeline's marks; on a GPU it waits at each, so that they add up."""

    def __init__(self, device: torch.device):
        self._device = device
        self.frames: list[dict[str, float]] = []
        self._last = 0.0

    def __call__(self, stage: str) -> None:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        if stage == 'start':
            self.frames.append({})
        elif self.frames:
            frame = self.frames[-1]
            frame[stage] = frame.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def medians(self) -> dict[str, float]:
        """Stage -> median over the frames."""
        return {
            stage: float(np.median([frame.get(stage, 0.0) for frame in self.frames]))
            for stage in STAGES
            if any(stage in frame for frame in self.frames)
        }


class EventClock:
    """Milliseconds from the first to the last mark on the GPU's own clock; nothing waits for it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._first: Any = None
        self._last: Any = None

    def __call__(self, stage: str) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        # What is inspected before is no matter of the GPU, nor on the engine's stream.
        if stage in ('start', 'inspect'):
            self._first = event
        self._last = event

    def end_frame(self) -> None:
        """Read the clock, after the frame has been waited for."""
        if self._first is not None and self._last is not self._first:
            self._last.synchronize()
            self.times.append(self._first.elapsed_time(self._last))


class PeakMemory:
    """Megabytes that come on top of what was there when this was made.

    On a GPU what PyTorch allocated, on a CPU the resident memory of the process.
    """

    def __init__(self, device: torch.device):
        self._device = device
        if device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device) / 2**20
        else:
            with contextlib.suppress(OSError):
                Path('/proc/self/clear_refs').write_text('5')  # the peak begins anew
            self._before = _status_megabytes('VmRSS')

    def read(self) -> float | None:
        """None where the system does not tell."""
        if self._device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self._device) / 2**20 - self._before
        peak = _status_megabytes('VmHWM')
        return max(peak - self._before, 0.0) if peak else None


def _status_megabytes(name: str) -> float:
    try:
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith(name + ':'):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def warm_up(contestant: Contestant, frames: Sequence[Frame]) -> None:
    """As the node does at start, and a few frames more."""
    height, width = frames[0].rgb.shape[:2]
    rows, columns = frames[0].depth.shape
    contestant.warm_up((width, height), (columns, rows))
    for index in range(_WARM_UP_FRAMES):
        frame = frames[index % len(frames)]
        contestant(frame.rgb, frame.depth)


def time_in_turns(
    contestants: Sequence[Contestant],
    frames: Sequence[Frame],
    count: int,
    seconds: float,
    device: torch.device,
    progress: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Time `count` frames of each, in turns; none takes longer than about `seconds`.

    Returns:
        For each: 'frames', 'median_ms', 'p90_ms', 'p99_ms', 'fps' by wall clock, copies included;
        'device_ms', the median on the GPU's clock, None on a CPU; 'stages_ms'.
    """
    times: list[list[float]] = [[] for _ in contestants]
    events = [EventClock() for _ in contestants]
    rounds = min(_ROUNDS, count)
    for round_number in range(rounds):
        until = count * (round_number + 1) // rounds
        for contestant, own, clock in zip(contestants, times, events, strict=True):
            if device.type == 'cuda':
                contestant.set_mark(clock)
            while len(own) < until and (len(own) < _LEAST_FRAMES or sum(own) < 1000 * seconds):
                frame = frames[len(own) % len(frames)]
                start = time.perf_counter()
                contestant(frame.rgb, frame.depth)
                own.append((time.perf_counter() - start) * 1000)
                clock.end_frame()
                progress()
    results = []
    for contestant, own, events_clock in zip(contestants, times, events, strict=True):
        stages = StageClock(device)
        contestant.set_mark(stages)
        for index in range(min(max(3, len(own) // 5), 20)):
            frame = frames[index % len(frames)]
            contestant(frame.rgb, frame.depth)
            progress()
        median, p90, p99 = (float(np.percentile(own, q)) for q in (50, 90, 99))
        results.append(
            {
                'frames': len(own),
                'median_ms': median,
                'p90_ms': p90,
                'p99_ms': p99,
                'fps': 1000.0 / median,
                'device_ms': float(np.median(events_clock.times)) if events_clock.times else None,
                'stages_ms': stages.medians(),
            }
        )
    return results
