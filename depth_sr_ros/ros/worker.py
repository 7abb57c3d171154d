# SPDX-License-Identifier: Apache-2.0
"""One thread that owns the pipeline, fed by a one-slot mailbox in which the newest item wins."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


class Worker(Generic[Item]):
    """Runs `process(item)` for the newest item offered, in a thread of its own.

    The thread takes one item at a time. While it is busy one more may wait; a third replaces the
    one that waits, and `on_superseded(item)` is told, in the thread that made the offer. So
    `offer` never blocks and nothing grows older than one processing time.

    `process` is expected to handle its own failures; what it lets through goes to
    `on_error(exception)`, and the thread goes on.
    """

    def __init__(
        self,
        process: Callable[[Item], None],
        *,
        on_superseded: Callable[[Item], None] = lambda item: None,
        on_error: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._process = process
        self._on_superseded = on_superseded
        self._on_error = on_error
        self._condition = threading.Condition()
        self._items: deque[Item] = deque()
        self._calls: deque[tuple[Future, Callable]] = deque()
        self._busy = False
        self._stopping = False
        self._last: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name='depth_sr worker', daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> None:
        """Hand over an item without waiting; what it replaces is reported as superseded."""
        superseded = []
        with self._condition:
            self._items.append(item)
            # An idle thread that has not woken up yet already owns the first item: two items that
            # arrive together (one depth image can complete two pairs) are both processed.
            room = 1 if self._busy else 2
            while len(self._items) > room:
                superseded.append(self._items.popleft())
            self._condition.notify_all()
        for old in superseded:
            self._on_superseded(old)

    def call(self, function: Callable[[], Result]) -> Result:
        """Run `function()` in the worker's thread, wait for it, and return or raise as it does."""
        future: Future = Future()
        with self._condition:
            if self._stopping:
                raise RuntimeError('the worker has been stopped')
            self._calls.append((future, function))
            self._condition.notify_all()
        return future.result()

    def drain(self) -> int:
        """Discard what waits, wait for what runs; return the number of items discarded."""
        with self._condition:
            discarded = len(self._items)
            self._items.clear()
            self._condition.wait_for(lambda: not self._busy)
        return discarded

    def stop(
        self, timeout: float | None = None, *, last: Callable[[], object] | None = None
    ) -> bool:
        """Discard what waits and end the thread; False when it is still running at the timeout.

        `last()` is the last thing that the thread does, however long it takes to come to it.
        """
        with self._condition:
            self._last = last
            self._stopping = True
            self._items.clear()
            self._condition.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._stopping or self._calls or self._items)
                if self._stopping:
                    for future, _ in self._calls:
                        future.cancel()
                    break
                self._busy = True
                call = self._calls.popleft() if self._calls else None
                item = self._items.popleft() if call is None else None
            if call is not None:
                _fulfil(*call)
            else:
                try:
                    self._process(item)  # type: ignore[arg-type]
                except Exception as error:  # the node outlives whatever one frame does
                    self._on_error(error)
            # Frames are megabytes: keep none of them while waiting for the next.
            del call, item
        if self._last is not None:
            try:
                self._last()
            except Exception as error:
                self._on_error(error)


def _fulfil(future: Future, function: Callable) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
