# SPDX-License-Identifier: Apache-2.0
"""The engine that runs the model in PyTorch, on a CPU or a CUDA device."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from depth_sr_ros.inference.engine import no_mark
from depth_sr_ros.inference.graphs import (
    LOG,
    CudaGraphRecorder,
    GraphCache,
    Recorder,
    is_out_of_memory,
)
from depth_sr_ros.inference.staging import Staging
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.model.relative_depth import RelativeDepth
from depth_sr_ros.point_samples import cell_factor

EXECUTIONS = ('auto', 'eager', 'graph', 'compile')
# Field notes: below this short side a guide is of no use any more.
_SMALLEST_GUIDE = 196
# So many image sizes are remembered for which the memory did not suffice.
_SIZES = 64


class _Mode(NamedTuple):
    """How frames of one size are computed; further down the list it takes less memory.

    Attributes:
        text: what a warning says of it.
        graphs: by CUDA graphs, which hold their memory between frames.
        largest_guide: bound of the guide's short side in pixels; 0 for no guide.
        halved: the network sees the image at half its size, the result is interpolated.
    """

    text: str
    graphs: bool = False
    largest_guide: int = 1 << 16
    halved: bool = False


_MODES = (
    _Mode('as asked for', graphs=True),
    _Mode('without CUDA graphs'),
    _Mode(f'with the guide at {_SMALLEST_GUIDE} pixels', largest_guide=_SMALLEST_GUIDE),
    _Mode('without the guide', largest_guide=0),
    _Mode('without the guide and at half the size', largest_guide=0, halved=True),
)


@contextlib.contextmanager
def tf32_off() -> Iterator[None]:
    """Full float32 in matrix products and convolutions: TF32 has steps of 4 mm at 5 m."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class TorchEngine:
    """PyTorch, eagerly, by CUDA graphs or compiled; see `Engine`.

    Where the device's memory does not suffice for a size of image, that size is computed in a
    mode that takes less, which is said once in the log and in `description['reduced']`.

    Args:
        model: the fusion network; its own guide is not used.
        guide: Depth Anything, or None for no guide.
        device: 'cpu' or 'cuda:N'.
        dtype: of convolutions and attention; everything else is float32.
        execution: 'eager', 'graph' (CUDA graphs), 'compile' (torch.compile, and CUDA graphs on a
            GPU), or 'auto': 'graph' on a GPU, 'eager' on a CPU.
        recorder: in the place of CUDA graphs, for tests.

    Raises:
        ValueError: for another execution, or 'graph' without a GPU.
    """

    def __init__(
        self,
        model: DepthSR,
        *,
        guide: RelativeDepth | None,
        device: torch.device,
        dtype: torch.dtype,
        execution: str = 'auto',
        recorder: Recorder | None = None,
    ):
        if execution not in EXECUTIONS:
            raise ValueError(f'execution is {execution!r}: allowed are {", ".join(EXECUTIONS)}')
        cuda = device.type == 'cuda'
        if execution == 'graph' and not cuda and recorder is None:
            raise ValueError("execution is 'graph': CUDA graphs need a CUDA device")
        if execution == 'auto':
            execution = 'graph' if cuda else 'eager'
        self.mark: Callable[[str], None] = no_mark
        self._device = device
        self._stream = torch.cuda.Stream(device) if cuda else None
        if self._stream is not None and execution != 'eager':
            recorder = CudaGraphRecorder(self._stream)
        self._recorder = recorder
        model.relative_depth = None
        self._model: DepthSR | None = model.eval().to(device, memory_format=torch.channels_last)
        model.fusion.to(dtype)
        self._guide = guide
        if guide is not None:
            guide.eval().to(device)
            guide.network.to(dtype)
            if cuda:
                guide.network.to(memory_format=torch.channels_last)
        self._compiled = execution == 'compile'
        self._network: Callable[..., Any] = model
        self._estimator: Callable[..., Tensor] | None = guide
        if self._compiled:
            self._network = torch.compile(model, dynamic=False)
            self._estimator = None if guide is None else torch.compile(guide, dynamic=False)
        if cuda:
            # Parameters were made on the default stream, for which ours does not wait.
            torch.cuda.synchronize(device)
        self._staging = Staging(device)
        self._guide_calls = GraphCache(self._estimate, recorder)
        self._fusion_calls = GraphCache(self._fuse, recorder)
        # Image size -> index into _MODES, where that is not 0.
        self._modes: OrderedDict[tuple[int, ...], int] = OrderedDict()
        self._description = {
            'device': _device_name(device),
            'precision': str(dtype).removeprefix('torch.'),
            'execution': execution,
        }

    @property
    def description(self) -> dict[str, Any]:
        described: dict[str, Any] = dict(self._description)
        if self._modes:
            described['reduced'] = '; '.join(
                f'{size[1]}x{size[0]} {_MODES[index].text}'
                for size, index in list(self._modes.items())
            )
        return described

    def run(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        out: np.ndarray,
        relative: np.ndarray | None = None,
    ) -> np.ndarray:
        return self._within_memory(
            rgb.shape[:2], lambda mode: self._run(mode, rgb, depth, out, relative)
        )

    def relative_depth(self, rgb: np.ndarray) -> np.ndarray | None:
        if self._guide is None:
            return None

        def estimate(mode: _Mode) -> np.ndarray | None:
            found = self._guide_of(mode, self._staging.upload('rgb', rgb), prepare=False)
            # What a graph writes to is overwritten by its next run.
            return None if found is None else found[0, 0].float().cpu().numpy().copy()

        return self._within_memory(rgb.shape[:2], estimate)

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        # Not a plain image: what is recorded here is compared with what it should be.
        generator = np.random.default_rng(0)
        rgb = generator.integers(0, 256, (rgb_size[1], rgb_size[0], 3), np.uint8)
        out = np.empty(rgb.shape[:2], np.float32)
        sizes = [depth_size]
        if self._recorder is not None and not self._compiled:
            # What turns out to be points is put at RGB's pixels; a recording among a camera's
            # frames would have them wait.
            points = cell_factor(rgb_size, depth_size) is not None
            sizes = [rgb_size, depth_size] if points else sizes
        for width, height in sizes:
            depth = generator.uniform(1, 4, (height, width)).astype(np.float32)
            run = functools.partial(
                self._run, rgb=rgb, depth=depth, out=out, relative=None, prepare=True
            )
            self._within_memory(rgb.shape[:2], run)

    def memory(self) -> dict[str, int]:
        if self._device.type != 'cuda':
            return {}
        return {
            'allocated': torch.cuda.memory_allocated(self._device),
            'reserved': torch.cuda.memory_reserved(self._device),
            'peak': torch.cuda.max_memory_allocated(self._device),
        }

    def close(self) -> None:
        self._free()
        self._model = self._guide = self._estimator = None
        self._network = _closed
        if self._compiled:
            # What was compiled counts for all engines together: from the ninth size on, the next
            # ones would run eagerly and not say so.
            torch.compiler.reset()
        self._free()

    def _free(self) -> None:
        """Give back all memory but that of the parameters."""
        if self._stream is not None:
            self._stream.synchronize()
        self._guide_calls.clear()
        self._fusion_calls.clear()
        self._staging.clear()
        gc.collect()
        if self._stream is not None:
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            # PyTorch allows it in convolutions, and holes are filled by some.
            stack.enter_context(tf32_off())
            if self._stream is not None:
                stack.enter_context(torch.cuda.device(self._device))
                stack.enter_context(torch.cuda.stream(self._stream))
            yield

    def _within_memory(self, size: tuple[int, ...], compute: Callable[[_Mode], Any]) -> Any:
        """`compute(mode)`, in the first mode for which the memory suffices."""
        if self._model is None:
            raise RuntimeError('the engine has been closed')
        while True:
            index = self._modes.get(size, 0)
            try:
                with self._session():
                    return compute(_MODES[index])
            except RuntimeError as error:
                index = self._smaller(index)
                if not is_out_of_memory(error) or index == len(_MODES):
                    raise
            # Not in the handler: there the exception still holds the tensors of the attempt.
            self._free()
            self._modes[size] = index
            while len(self._modes) > _SIZES:
                self._modes.popitem(last=False)
            LOG.warning(
                'the memory of %s does not suffice for %dx%d: this size goes on %s; '
                'a smaller output_scale or a smaller guide avoids it',
                self._description['device'],
                size[1],
                size[0],
                _MODES[index].text,
            )

    def _smaller(self, index: int) -> int:
        """Index of the next mode that makes a difference, or len(_MODES)."""
        index += 1
        while self._guide is None and index < len(_MODES) and _MODES[index].largest_guide:
            # The step without graphs also is the second attempt after everything was freed.
            if index == 1:
                break
            index += 1
        return index

    def _run(
        self,
        mode: _Mode,
        rgb: np.ndarray,
        depth: np.ndarray,
        out: np.ndarray,
        relative: np.ndarray | None,
        prepare: bool = False,
    ) -> np.ndarray:
        mark = self.mark
        mark('inspect')
        image = self._staging.upload('rgb', rgb)
        measured = self._staging.upload('depth', depth)
        guide = None
        if relative is not None:
            guide = self._staging.upload('relative', relative)[None, None]
        mark('upload')
        if guide is None:
            guide = self._guide_of(mode, image, prepare)
            mark('guide')
        dense, confidence = self._call(
            self._fusion_calls, mode, mode.halved, (image, measured, guide), prepare
        )
        mark('fusion')
        confidence_array = self._staging.download(dense, confidence, out)
        mark('download')
        return confidence_array

    def _guide_of(self, mode: _Mode, image: Tensor, prepare: bool) -> Tensor | None:
        if self._guide is None or not mode.largest_guide:
            return None
        short_side = min(self._guide.config.short_side, mode.largest_guide)
        return self._call(self._guide_calls, mode, short_side, (image,), prepare)[0]

    @staticmethod
    def _call(
        calls: GraphCache, mode: _Mode, variant: Any, arguments: tuple, prepare: bool
    ) -> tuple[Tensor, ...]:
        if not mode.graphs:
            return calls.plainly(variant, *arguments)
        return calls.prepare(variant, *arguments) if prepare else calls(variant, *arguments)

    # What is recorded. The control flow may depend on shapes only, and nothing may wait for the
    # device or copy to it from the host.

    def _estimate(self, short_side: int, rgb: Tensor) -> tuple[Tensor, ...]:
        """The guide: uint8 (H, W, 3) -> float32 (1, 1, g, k)."""
        assert self._estimator is not None
        return (self._estimator(_image(rgb), short_side),)

    def _fuse(
        self, halved: bool, rgb: Tensor, depth: Tensor, relative: Tensor | None
    ) -> tuple[Tensor, ...]:
        """uint8 (H, W, 3), float32 (h, w) -> depth and confidence, float32 (H, W) each."""
        image = _image(rgb)
        if halved:
            image = functional.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)
        options = {}
        if self._recorder is None and not self._compiled and self.mark is not no_mark:
            options['mark'] = self.mark
        output = self._network(image, depth[None, None], relative, **options)
        dense, confidence = output.depth, torch.sigmoid(output.confidence_logit)
        if halved:
            both = torch.cat([dense, confidence], dim=1)
            both = functional.interpolate(
                both, size=rgb.shape[:2], mode='bilinear', align_corners=False
            )
            dense, confidence = both.chunk(2, dim=1)
        return dense[0, 0], confidence[0, 0]


def _image(rgb: Tensor) -> Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1]; in memory it stays channels_last."""
    return rgb.permute(2, 0, 1)[None].float() / 255.0


def _closed(*_: Any) -> Any:
    raise RuntimeError('the engine has been closed')


def _device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return f'{device} ({torch.cuda.get_device_name(device)})'
    return f'cpu ({torch.get_num_threads()} threads)'
