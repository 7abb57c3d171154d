# SPDX-License-Identifier: Apache-2.0
"""The engine that runs a file of `depth_sr export`, for one size of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from depth_sr_ros.inference.engine import no_mark
from depth_sr_ros.inference.onnx_session import (
    OnnxFileError,
    check_golden,
    describe_session,
    open_session,
    read_metadata,
    sizes_of,
)


class OnnxFileEngine:
    """ONNX Runtime on a file of fixed sizes; see `Engine`.

    Attributes:
        fixed_sizes: (width, height) of the inputs, no other is taken.
        metadata: what the file says of itself.

    Args:
        path: what `depth_sr export` wrote.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        threads: of the CPU that one frame may use.

    Raises:
        FileNotFoundError: there is no such file.
        OnnxFileError: it is damaged, not from `depth_sr export`, or gives wrong values here.
        ModuleNotFoundError: ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path, device: str, threads: int):
        self.mark: Callable[[str], None] = no_mark
        self._path = Path(path)
        if not self._path.is_file():
            raise FileNotFoundError(f'{path}: no such file')
        try:
            self._session: Any = open_session(self._path.read_bytes(), device, threads)
            self.metadata = read_metadata(self._session)
            self.fixed_sizes = sizes_of(self.metadata)
            check_golden(self._session, self.metadata)
        except OnnxFileError as error:
            raise OnnxFileError(f'{path}: {error}') from error
        self.description: dict[str, Any] = {
            **describe_session(self._session, threads),
            'precision': self.metadata['precision'],
            'file': self._path.name,
        }

    def run(
        self, rgb: np.ndarray, depth: np.ndarray, out: np.ndarray, relative: Any = None
    ) -> np.ndarray:
        if self._session is None:
            raise RuntimeError('the engine has been closed')
        if relative is not None:
            raise ValueError(
                f'{self._path.name} takes no relative depth from outside: it holds '
                f'{self.metadata["relative_depth"]!r}'
            )
        came = (rgb.shape[1::-1], depth.shape[::-1])
        if came != self.fixed_sizes[:2]:
            (width, height), (columns, rows) = came
            raise ValueError(
                f'{self._path.name} was exported for {_text(*self.fixed_sizes[:2])}, but '
                f'{_text(*came)} came: export it again with --size {width}x{height} '
                f'--depth-size {columns}x{rows}'
            )
        self.mark('inspect')
        inputs = {'rgb': np.ascontiguousarray(rgb), 'depth': np.ascontiguousarray(depth)}
        dense_depth, confidence = self._session.run(None, inputs)
        self.mark('fusion')
        np.copyto(out, dense_depth)
        self.mark('download')
        return confidence

    def relative_depth(self, rgb: np.ndarray) -> Any:
        return None

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        """The check of the golden values has warmed it up; other sizes than its own are refused."""

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._session = None


def _text(rgb_size: tuple[int, ...], depth_size: tuple[int, ...]) -> str:
    return f'RGB {rgb_size[0]}x{rgb_size[1]} with depth {depth_size[0]}x{depth_size[1]}'
