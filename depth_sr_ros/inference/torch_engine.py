# SPDX-License-Identifier: Apache-2.0
"""The engine that runs the model in PyTorch, on a CPU or a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depth_sr_ros.inference.engine import no_mark
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.model.relative_depth import RelativeDepth


class TorchEngine:
    """Eager PyTorch; see `Engine`.

    Args:
        model: the fusion network; its own guide is not used.
        guide: Depth Anything, or None for no guide.
        device: 'cpu' or 'cuda:N'.
        dtype: of convolutions and attention; everything else is float32.
    """

    def __init__(
        self,
        model: DepthSR,
        *,
        guide: RelativeDepth | None,
        device: torch.device,
        dtype: torch.dtype,
    ):
        self.mark: Callable[[str], None] = no_mark
        self._device = device
        model.relative_depth = None
        self._model: DepthSR | None = model.eval().to(device, memory_format=torch.channels_last)
        model.fusion.to(dtype)
        self._guide = guide
        if guide is not None:
            guide.eval().to(device)
            guide.network.to(dtype)
        self.description: dict[str, Any] = {
            'device': _device_name(device),
            'precision': str(dtype).removeprefix('torch.'),
        }

    def run(
        self, rgb: np.ndarray, depth: np.ndarray, out: np.ndarray, relative: Any = None
    ) -> np.ndarray:
        if self._model is None:
            raise RuntimeError('the engine has been closed')
        self.mark('start')
        with torch.inference_mode():
            image = self._image(rgb)
            depth_tensor = self._upload(depth)[None, None]
            if isinstance(relative, np.ndarray):
                relative = self._upload(relative)[None, None]
            self.mark('upload')
            if relative is None and self._guide is not None:
                relative = self._guide(image)
            output = self._model(image, depth_tensor, relative, mark=self.mark)
            confidence = torch.sigmoid(output.confidence_logit)
            self.mark('fusion')
            np.copyto(out, output.depth[0, 0].cpu().numpy())
            confidence_array = confidence[0, 0].cpu().numpy()
            self.mark('download')
        return confidence_array

    def relative_depth(self, rgb: np.ndarray) -> Tensor | None:
        if self._guide is None:
            return None
        with torch.inference_mode():
            return self._guide(self._image(rgb))

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        rgb = np.zeros((rgb_size[1], rgb_size[0], 3), np.uint8)
        depth = np.ones((depth_size[1], depth_size[0]), np.float32)
        self.run(rgb, depth, np.empty(rgb.shape[:2], np.float32))

    def memory(self) -> dict[str, int]:
        if self._device.type != 'cuda':
            return {}
        return {
            'allocated': torch.cuda.memory_allocated(self._device),
            'reserved': torch.cuda.memory_reserved(self._device),
            'peak': torch.cuda.max_memory_allocated(self._device),
        }

    def close(self) -> None:
        self._model = self._guide = None
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()

    def _image(self, rgb: np.ndarray) -> Tensor:
        return self._upload(rgb).permute(2, 0, 1)[None].float() / 255.0

    def _upload(self, array: np.ndarray) -> Tensor:
        # torch warns about arrays that it may not write to, such as views of a message's bytes.
        if not array.flags.writeable or not array.flags.c_contiguous:
            array = array.copy()
        return torch.from_numpy(array).to(self._device, non_blocking=True)


def _device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return f'{device} ({torch.cuda.get_device_name(device)})'
    return f'cpu ({torch.get_num_threads()} threads)'
