# SPDX-License-Identifier: Apache-2.0
"""The engine that makes ONNX graphs of the loaded model, one per size of images, and runs those."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from depth_sr_ros.inference.engine import Engine, no_mark
from depth_sr_ros.inference.onnx_graph import (
    GraphSizes,
    build_graph,
    build_guide_graph,
    write_atomically,
)
from depth_sr_ros.inference.onnx_session import (
    OnnxFileError,
    cache_folder,
    describe_session,
    import_onnxruntime,
    open_session,
)
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.model.relative_depth import RelativeDepth, guide_size

LOG = logging.getLogger(__name__)
# Sessions held in memory, and graphs kept on disk; the least recently used go first.
_SESSIONS = 4
_FILES = 16
# So many frames of a size in a row show that it is there to stay.
_FRAMES_BEFORE_GRAPH = 3


class OnnxEngine:
    """ONNX Runtime for images of any size; see `Engine`.

    A graph has fixed sizes and takes seconds to make. `warm_up` makes the one it is told; when
    another size has come several times in a row, its graph is made in the background, and meanwhile
    `eager` answers.
    Graphs are kept in the user's cache folder, so that the next start has them at once.

    Args:
        model: the fusion network, float32 on the CPU; its own guide is not used.
        guide: Depth Anything, or None for no guide.
        eager: the engine for what has no graph yet.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        threads: of the CPU that one frame may use.
        digest: of all weights, names their graphs in the cache.

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
        ValueError: `device` is not one that the installed ONNX Runtime knows.
    """

    def __init__(
        self,
        model: DepthSR,
        *,
        guide: RelativeDepth | None,
        eager: Engine,
        device: str,
        threads: int,
        digest: str,
    ):
        import_onnxruntime()
        self._clock: Callable[[str], None] = no_mark
        self._model: DepthSR | None = model
        self._guide = guide
        self._eager = eager
        self._device = device
        self._threads = threads
        self._cache = GraphFiles(digest)
        self._sessions: OrderedDict[Any, Any] = OrderedDict()
        self._failed: set[Any] = set()
        # Size without a graph -> how often it came, since it was another one.
        self._asked: dict[Any, int] = {}
        self._lock = threading.Lock()
        self._builder: threading.Thread | None = None

        self._described = dict(eager.description)
        self._described.update({'backend': 'onnxruntime', 'precision': 'float32'})
        self._described.pop('execution', None)

    @property
    def mark(self) -> Callable[[str], None]:
        """See Engine."""
        return self._clock

    @mark.setter
    def mark(self, clock: Callable[[str], None]) -> None:
        self._clock = self._eager.mark = clock

    @property
    def description(self) -> dict[str, Any]:
        return dict(self._described)

    def run(
        self, rgb: np.ndarray, depth: np.ndarray, out: np.ndarray, relative: Any = None
    ) -> np.ndarray:
        if self._model is None:
            raise RuntimeError('the engine has been closed')
        self.mark('inspect')
        given = relative
        if relative is None and self._guide is not None:
            relative = self._ask_guide(rgb)
        elif isinstance(relative, torch.Tensor):  # from `eager`, while there was no graph yet
            relative = relative[0, 0].float().cpu().numpy()
        session = None
        if relative is not None or self._guide is None:
            session = self._session(_sizes(rgb, depth, relative))
        if session is None:
            return self._eager.run(rgb, depth, out, given)
        inputs = {'rgb': np.ascontiguousarray(rgb), 'depth': np.ascontiguousarray(depth)}
        if relative is not None:
            inputs['relative'] = np.ascontiguousarray(relative, np.float32)
        dense_depth, confidence = session.run(None, inputs)
        self.mark('fusion')
        np.copyto(out, dense_depth)
        self.mark('download')
        return confidence

    def relative_depth(self, rgb: np.ndarray) -> Any:
        if self._guide is None:
            return None
        relative = self._ask_guide(rgb)
        return self._eager.relative_depth(rgb) if relative is None else relative

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        width, height = rgb_size
        relative = None
        if self._guide is not None:
            rows, columns = guide_size(height, width, self._guide.config.short_side)
            relative = (columns, rows)
            self._build((width, height))
        self._build(GraphSizes((width, height), (depth_size[0], depth_size[1]), relative))
        rgb = np.zeros((height, width, 3), np.uint8)
        depth = np.ones(depth_size[::-1], np.float32)
        self.run(rgb, depth, np.empty((height, width), np.float32))

    def memory(self) -> dict[str, int]:
        return self._eager.memory()

    def wait(self, timeout: float | None = None) -> None:
        """Until no graph is being made."""
        builder = self._builder
        if builder is not None:
            builder.join(timeout)

    def close(self) -> None:
        self._model = self._guide = None
        self._sessions.clear()
        self._eager.close()

    def _ask_guide(self, rgb: np.ndarray) -> np.ndarray | None:
        """What the guide's graph answers; None while there is none."""
        session = self._session(rgb.shape[1::-1])
        if session is None:
            return None
        relative = session.run(None, {'rgb': np.ascontiguousarray(rgb)})[0]
        self.mark('guide')
        return relative

    def _session(self, key: Any) -> Any:
        """The session for a GraphSizes, or the guide's for an RGB size; None: there is none yet."""
        with self._lock:
            session = self._sessions.get(key)
            if session is not None:
                self._sessions.move_to_end(key)
                return session
            kind = type(key)
            self._asked = {k: n for k, n in self._asked.items() if k == key or type(k) is not kind}
            self._asked[key] = self._asked.get(key, 0) + 1
            busy = self._builder is not None and self._builder.is_alive()
            if self._asked[key] >= _FRAMES_BEFORE_GRAPH and key not in self._failed and not busy:
                LOG.info('making the ONNX graph for %s; PyTorch computes meanwhile', _text(key))
                self._builder = threading.Thread(target=self._build, args=(key,), name='onnx graph')
                self._builder.start()
            return None

    def _build(self, key: Any) -> None:
        """Make or load the graph of a GraphSizes, or the guide's of an RGB size; log a failure."""
        model, guide = self._model, self._guide
        if model is None or key in self._sessions:
            return
        try:
            session = self._cached_session(key)
            if session is None:
                if isinstance(key, GraphSizes):
                    content = build_graph(model, None, key)
                else:
                    assert guide is not None
                    content = build_guide_graph(guide, key)
                session = open_session(content, self._device, self._threads)
                self._cache.write(key, content)
        except Exception as error:  # whatever it was, PyTorch goes on
            self._failed.add(key)
            LOG.warning(
                'no ONNX graph for %s, PyTorch computes instead: %s: %s',
                _text(key),
                type(error).__name__,
                ' '.join(str(error).split())[:300],
            )
            return
        with self._lock:
            self._sessions[key] = session
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
            self._described.update(describe_session(session, self._threads))

    def _cached_session(self, key: Any) -> Any:
        content = self._cache.read(key)
        if content is None:
            return None
        try:
            return open_session(content, self._device, self._threads)
        except OnnxFileError as error:
            LOG.info('the cached graph for %s is made anew: %s', _text(key), error)
            return None


def _sizes(rgb: np.ndarray, depth: np.ndarray, relative: np.ndarray | None) -> GraphSizes:
    def size(image: np.ndarray) -> tuple[int, int]:
        return image.shape[1], image.shape[0]

    return GraphSizes(size(rgb), size(depth), None if relative is None else size(relative))


def _text(key: Any) -> str:
    if not isinstance(key, GraphSizes):
        return f'the guide at RGB {key[0]}x{key[1]}'
    return f'RGB {key.rgb[0]}x{key.rgb[1]} with depth {key.depth[0]}x{key.depth[1]}'


class GraphFiles:
    """Graphs on disk, in the user's cache folder; without a writable one nothing is kept.

    Args:
        digest: of the weights. The code that makes graphs has its part in the names too, so that
            no release reads what another one wrote.
    """

    def __init__(self, digest: str):
        sha = hashlib.sha256(digest.encode())
        package = Path(__file__).resolve().parents[1]
        for path in sorted([*package.glob('model/*.py'), *package.glob('inference/*.py')]):
            sha.update(path.read_bytes())
        sha.update(torch.__version__.encode())
        self._name = sha.hexdigest()[:16]
        self.folder = cache_folder() / 'graphs'

    def path(self, key: Any) -> Path:
        """Where the graph for `key` is kept."""
        sizes = [size for size in key if size] if isinstance(key, GraphSizes) else ['guide', key]
        words = [size if isinstance(size, str) else f'{size[0]}x{size[1]}' for size in sizes]
        return self.folder / f'{self._name}_{"_".join(words)}.onnx'

    def read(self, key: Any) -> bytes | None:
        """The graph; None when it is not there or was cut off."""
        try:
            content = self.path(key).read_bytes()
            self.path(key).touch()
        except OSError:
            return None
        digest, graph = content[:32], content[32:]
        return graph if hashlib.sha256(graph).digest() == digest else None

    def write(self, key: Any, graph: bytes) -> None:
        """Keep a graph, and drop the least recently used beyond a bounded number."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path(key), hashlib.sha256(graph).digest() + graph)
            by_age = sorted(self.folder.glob('*.onnx'), key=lambda path: path.stat().st_mtime)
            for path in by_age[:-_FILES]:
                path.unlink(missing_ok=True)
        except OSError as error:
            LOG.info('ONNX graphs are not kept: %s', error)
