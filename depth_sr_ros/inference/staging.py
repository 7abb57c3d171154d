# SPDX-License-Identifier: Apache-2.0
"""Arrays to the device and back, through page-locked memory where the device is a GPU."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Of each of these, so many shapes are kept; a camera has one, a camera that changes has two.
_SHAPES = 8


class Staging:
    """Buffers that are used again for every frame of the same size.

    From page-locked memory a GPU copies by itself, twice as fast as from ordinary memory, and the
    processor goes on meanwhile. On a CPU nothing is copied that need not be.

    Args:
        device: where the tensors live.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._pinned = device.type == 'cuda'
        self._uploads: OrderedDict[tuple, tuple[Tensor, Tensor, Any]] = OrderedDict()
        self._downloads: OrderedDict[tuple, Tensor] = OrderedDict()

    def upload(self, name: str, array: np.ndarray) -> Tensor:
        """`array` as a tensor on the device; on a GPU the copy may still be going on.

        On a GPU, the tensor is the same one for every array of that name and shape, so that a CUDA
        graph can have it as its input; the next upload overwrites it.
        """
        if not self._pinned:
            # torch warns about arrays that it may not write to, such as views of a message.
            if not array.flags.writeable or not array.flags.c_contiguous:
                array = array.copy()
            return torch.from_numpy(array)
        key = (name, array.shape, array.dtype.str)
        if key not in self._uploads:
            dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
            self._uploads[key] = (
                torch.empty(array.shape, dtype=dtype, pin_memory=True),
                torch.empty(array.shape, dtype=dtype, device=self._device),
                torch.cuda.Event(),
            )
            _shorten(self._uploads)
        self._uploads.move_to_end(key)
        host, device, copied = self._uploads[key]
        # The copy of the array before may still read from there.
        copied.synchronize()
        np.copyto(host.numpy(), array)
        device.copy_(host, non_blocking=True)
        copied.record()
        return device

    def download(self, depth: Tensor, confidence: Tensor, out: np.ndarray) -> np.ndarray:
        """Write `depth` (H, W) to `out` and return `confidence` (H, W) as an array to keep.

        On a GPU both copies are under way before the first is waited for, and `out` is written
        by the GPU itself where it is page-locked.
        """
        if not self._pinned:
            np.copyto(out, depth.numpy())
            return confidence.numpy().copy()
        finish = self._start_download(depth, out)
        # From PyTorch's pool of page-locked memory: back to it when the caller lets go.
        kept = torch.empty(confidence.shape, dtype=torch.float32, pin_memory=True)
        kept.copy_(confidence, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        finish()
        done.synchronize()
        return kept.numpy()

    def download_one(self, depth: Tensor, out: np.ndarray) -> None:
        """Write `depth` (H, W) to `out`."""
        if self._pinned:
            self._start_download(depth, out)()
        else:
            np.copyto(out, depth.numpy())

    def _start_download(self, depth: Tensor, out: np.ndarray) -> Callable[[], None]:
        """Begin to copy; what comes back waits for the end of it."""
        target = torch.from_numpy(out) if out.flags.c_contiguous else None
        if target is None or not target.is_pinned():
            target = self._download_buffer(depth)
        target.copy_(depth, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def finish() -> None:
            done.synchronize()
            if target.data_ptr() != out.ctypes.data:
                np.copyto(out, target.numpy())

        return finish

    def _download_buffer(self, depth: Tensor) -> Tensor:
        key = tuple(depth.shape)
        if key not in self._downloads:
            self._downloads[key] = torch.empty(key, dtype=torch.float32, pin_memory=True)
            _shorten(self._downloads)
        self._downloads.move_to_end(key)
        return self._downloads[key]

    def clear(self) -> None:
        """Free all buffers."""
        self._uploads.clear()
        self._downloads.clear()


def _shorten(buffers: OrderedDict) -> None:
    while len(buffers) > _SHAPES:
        buffers.popitem(last=False)
