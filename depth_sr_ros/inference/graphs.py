# SPDX-License-Identifier: Apache-2.0
"""Recordings of the device's work (CUDA graphs), one for each set of shapes, bounded in number.

A network of a few hundred small kernels is bound by their launches: on a GPU the processor takes
longer to start them than they take to run. A graph starts them all at once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from depth_sr_ros.model.averaging import borrowed_constants

LOG = logging.getLogger('depth_sr_ros.inference')
MAXIMUM_GRAPHS = 4
# How many keys are remembered that have no recording (yet).
_MAXIMUM_KEYS = 64
_WARM_UP_RUNS = 3
# Largest mean difference between a recording's first answer and the plain one, relative to the
# mean magnitude: the tuner may choose other kernels in half precision, but nothing else differs.
_TOLERANCE = 0.01


class Recording(NamedTuple):
    """What a recorder made: `replay()` writes to `outputs` again from the inputs' memory.

    Attributes:
        outputs: tensors whose memory every replay overwrites.
        replay: runs the recorded work.
        reset: frees it.
    """

    outputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    reset: Callable[[], None]


class Recorder(Protocol):
    """Runs `function` and records its work; the tensors it reads are the inputs of that."""

    def __call__(self, function: Callable[[], tuple[Tensor, ...]]) -> Recording: ...


class CudaGraphRecorder:
    """Records CUDA graphs on one stream.

    Args:
        stream: on which everything is recorded and replayed; not the default stream.
    """

    def __init__(self, stream: torch.cuda.Stream):
        self._stream = stream

    def __call__(self, function: Callable[[], tuple[Tensor, ...]]) -> Recording:
        # The tuner tries algorithms, libraries make their handles: none of that can be recorded.
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=True, allow_tf32=torch.backends.cudnn.allow_tf32
        ):
            for _ in range(_WARM_UP_RUNS):
                function()
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # thread_local: what other threads of the process do with CUDA does not end the capture.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode='thread_local'):
                outputs = function()
        return Recording(outputs, graph.replay, graph.reset)


class _Entry:
    """What is known of one key."""

    def __init__(self) -> None:
        self.calls = 0
        self.inputs: tuple[Tensor | None, ...] = ()
        self.recording: Recording | None = None
        # What the recording reads beside its inputs.
        self.constants: list[Tensor] = []
        self.plain = False


class GraphCache:
    """Calls a function of tensors, by a recording where that pays.

    A key (the variant, and shape and type of every argument) runs plainly the first time, so that
    a folder of pictures of all sizes is not recorded, and is recorded the second time, or at once
    by `prepare`. The least recently used recording goes when there are too many. What cannot be
    recorded, or answers otherwise than the plain call, runs plainly and is said once.

    The tensors that come back are overwritten by the next call with the same key.

    Args:
        function: called with (variant, *tensors or None); its control flow may depend on the
            variant and on shapes, never on what is in the tensors.
        recorder: None runs everything plainly.
        maximum: number of recordings kept.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        recorder: Recorder | None,
        maximum: int = MAXIMUM_GRAPHS,
    ):
        self._function = function
        self._recorder = recorder
        self._maximum = maximum
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    @property
    def recorded(self) -> int:
        """Number of recordings held."""
        return sum(entry.recording is not None for entry in self._entries.values())

    def __call__(self, variant: Hashable, *arguments: Tensor | None) -> tuple[Tensor, ...]:
        if self._recorder is None:
            return self._function(variant, *arguments)
        entry = self._entry(variant, arguments)
        entry.calls += 1
        if entry.recording is None and not entry.plain and entry.calls > 1:
            return self._record(entry, variant, arguments)
        if entry.recording is None:
            return self._function(variant, *arguments)
        for fixed, given in zip(entry.inputs, arguments, strict=True):
            # Where the caller's own buffer was recorded, it is there already.
            if fixed is not None and given is not None and fixed is not given:
                fixed.copy_(given)
        entry.recording.replay()
        return entry.recording.outputs

    def prepare(self, variant: Hashable, *arguments: Tensor | None) -> tuple[Tensor, ...]:
        """As a call, but recorded already the first time."""
        if self._recorder is not None:
            self._entry(variant, arguments).calls += 1
        return self(variant, *arguments)

    def plainly(self, variant: Hashable, *arguments: Tensor | None) -> tuple[Tensor, ...]:
        """As a call, but never recorded."""
        return self._function(variant, *arguments)

    def clear(self) -> None:
        """Free all recordings; what was seen is forgotten."""
        for entry in self._entries.values():
            if entry.recording is not None:
                entry.recording.reset()
        self._entries.clear()

    def _entry(self, variant: Hashable, arguments: Sequence[Tensor | None]) -> _Entry:
        shapes = tuple(None if t is None else (tuple(t.shape), t.dtype) for t in arguments)
        key = (variant, shapes)
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > _MAXIMUM_KEYS:
            _, oldest = self._entries.popitem(last=False)
            if oldest.recording is not None:
                oldest.recording.reset()
        return entry

    def _record(
        self, entry: _Entry, variant: Hashable, arguments: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, ...]:
        assert self._recorder is not None
        expected = tuple(t.clone() for t in self._function(variant, *arguments))
        self._make_room()
        try:
            with borrowed_constants() as entry.constants:
                entry.recording = self._recorder(lambda: self._function(variant, *arguments))
            entry.recording.replay()
            problem = _difference(expected, entry.recording.outputs)
        except RuntimeError as error:
            if is_out_of_memory(error):
                problem = 'there is not enough memory for it'
            else:
                problem = f'{type(error).__name__}: {error}'
        if problem is None:
            # Kept alive with the recording, which reads their memory.
            entry.inputs = arguments
            return entry.recording.outputs  # type: ignore[union-attr]
        if entry.recording is not None:
            entry.recording.reset()
        entry.recording, entry.constants, entry.plain = None, [], True
        LOG.warning('no CUDA graph for %s, which runs slower without: %s', variant, problem)
        return expected

    def _make_room(self) -> None:
        held = [entry for entry in self._entries.values() if entry.recording is not None]
        for oldest in held[: max(0, len(held) - self._maximum + 1)]:
            assert oldest.recording is not None
            oldest.recording.reset()
            oldest.recording, oldest.inputs, oldest.constants = None, (), []
            # It has to come twice again: sizes that take turns are not recorded at each.
            oldest.calls = 0


def _difference(expected: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> str | None:
    """None where two answers agree, else what does not."""
    for number, (one, other) in enumerate(zip(expected, outputs, strict=True)):
        scale = float(one.abs().mean())
        difference = float((one - other).abs().mean())
        # Not `difference > ...`: NaN must not pass.
        if not difference <= _TOLERANCE * scale + 1e-6:
            return f'output {number} differs by {difference:.3g} in the mean, of {scale:.3g}'
    return None


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that there is not enough memory."""
    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            return True
        # The libraries and the driver have no exception of their own for it.
        text = str(error)
        if isinstance(error, RuntimeError) and ('out of memory' in text or 'ALLOC_FAILED' in text):
            return True
        # A capture that ends early covers the error that ended it.
        error = error.__cause__ or error.__context__
    return False
