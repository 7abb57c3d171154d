# SPDX-License-Identifier: Apache-2.0
"""The whole model as an ONNX graph of fixed sizes: uint8 RGB and float32 depth to dense depth.

Fixed, because the pyramids that fill holes have as many levels as the sizes ask for, and because
sizes known in advance turn every resize and every pooling into a product with a constant. Operators
are those that TensorRT has too.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from depth_sr_ros.inference import graph_operators
from depth_sr_ros.model.consistency import has_cells
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.model.folding import fold
from depth_sr_ros.model.interpolation import valid_mask
from depth_sr_ros.model.relative_depth import RelativeDepth

INPUTS = ('rgb', 'depth', 'relative')
OUTPUTS = ('dense_depth', 'confidence')
# Key of the metadata in which a file says what it is.
METADATA_KEY = 'depth_sr_ros'
# Of the inputs, outputs and metadata; files of another one are refused.
GRAPH_VERSION = 1
_GOLDEN_STEP = 37

_exporting = threading.Lock()


class GraphSizes(NamedTuple):
    """Sizes (width, height) of a graph's inputs.

    Attributes:
        rgb: of the RGB image, and of the outputs.
        depth: of the depth map.
        relative: of relative inverse depth given from outside; None where the graph has no such
            input.
    """

    rgb: tuple[int, int]
    depth: tuple[int, int]
    relative: tuple[int, int] | None = None


class _WholeModel(nn.Module):
    def __init__(self, model: DepthSR, guide: RelativeDepth | None):
        super().__init__()
        self.model = model
        self.guide = guide

    def forward(
        self, rgb: Tensor, depth: Tensor, relative: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        # TensorRT takes uint8 only if it is cast before anything else.
        image = rgb.float().permute(2, 0, 1)[None] / 255.0
        if relative is not None:
            relative = relative[None, None]
        elif self.guide is not None:
            relative = self.guide(image)
        output = self.model(image, depth[None, None], relative)
        confidence = torch.sigmoid(output.confidence_logit)
        measured = valid_mask(depth).any()
        return tuple(
            torch.where(measured, image[0, 0], 0.0) for image in (output.depth, confidence)
        )


class _Guide(nn.Module):
    def __init__(self, guide: RelativeDepth):
        super().__init__()
        self.guide = guide

    def forward(self, rgb: Tensor) -> Tensor:
        return self.guide(rgb.float().permute(2, 0, 1)[None] / 255.0)[0, 0]


def build_graph(model: DepthSR, guide: RelativeDepth | None, sizes: GraphSizes) -> bytes:
    """Export inputs (see INPUTS, of `sizes`) -> dense_depth, confidence, float32 (H, W) each.

    Args:
        model: float32 on the CPU; its own guide is not used, and it is not changed.
        guide: part of the graph unless `sizes.relative` is given; None for none.
        sizes: see GraphSizes.

    Returns:
        The file's content. Without any measurement both outputs are zero.

    Raises:
        ImportError: `onnx` is not installed.
    """
    folded = copy.deepcopy(model).eval().to(memory_format=torch.contiguous_format)
    folded.relative_depth = None
    guided = sizes.relative is not None or guide is not None
    low_resolution = has_cells(sizes.depth, sizes.rgb)
    fold(folded.fusion, folded.needed_heads(guided=guided, low_resolution=low_resolution))
    inputs = [
        torch.zeros(sizes.rgb[1], sizes.rgb[0], 3, dtype=torch.uint8),
        torch.ones(sizes.depth[1], sizes.depth[0]),
    ]
    if sizes.relative is not None:
        guide = None
        inputs.append(torch.ones(sizes.relative[1], sizes.relative[0]))
    whole = _WholeModel(folded, copy.deepcopy(guide))
    return _export(whole, inputs, INPUTS[: len(inputs)], OUTPUTS)


def build_guide_graph(guide: RelativeDepth, rgb_size: tuple[int, int]) -> bytes:
    """Export rgb -> relative inverse depth, float32 (g, k), at the guide's own size."""
    rgb = torch.zeros(rgb_size[1], rgb_size[0], 3, dtype=torch.uint8)
    return _export(_Guide(copy.deepcopy(guide)), [rgb], INPUTS[:1], INPUTS[2:])


def _export(
    module: nn.Module, inputs: list[Tensor], names: tuple[str, ...], outputs: tuple[str, ...]
) -> bytes:
    content = io.BytesIO()
    with _exporting, torch.no_grad(), warnings.catch_warnings(), _static_shapes():
        # Tracing warns of every shape that becomes a constant, which is what is wanted.
        warnings.simplefilter('ignore')
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        graph_operators.register()
        torch.onnx.export(
            module.eval(),
            tuple(inputs),
            content,  # type: ignore[arg-type]
            opset_version=graph_operators.OPSET,
            input_names=list(names),
            output_names=list(outputs),
            # The other exporter needs one more package and five times as long.
            dynamo=False,
        )
    return content.getvalue()


@contextlib.contextmanager
def _static_shapes() -> Iterator[None]:
    """Tensor.shape gives plain numbers while tracing, so that arithmetic on it leaves no nodes."""
    original = torch._C.TensorBase.shape

    def shape(tensor: Tensor) -> Any:
        state = torch._C._get_tracing_state()
        if state is None:
            return original.__get__(tensor)
        torch._C._set_tracing_state(None)
        try:
            return original.__get__(tensor)
        finally:
            torch._C._set_tracing_state(state)

    torch.Tensor.shape = property(shape)  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        del torch.Tensor.shape


def golden_input(sizes: GraphSizes) -> dict[str, np.ndarray]:
    """A fixed input without random numbers: stripes, a checkerboard, steps of depth and a hole."""
    columns, rows = np.meshgrid(np.arange(sizes.rgb[0]), np.arange(sizes.rgb[1]))
    checkers = (columns // 16 + rows // 16) % 2 * 120 + 60
    rgb = np.stack([columns * 7 % 251, (columns + 2 * rows) % 256, checkers], axis=-1)
    width, height = sizes.depth
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    depth = 1.0 + (4 * columns // width + 3 * rows // height) % 2 + 0.5 * rows / height
    depth[height // 2 : height // 2 + 2, width // 3 : width // 2] = 0.0
    values: dict[str, np.ndarray] = {'rgb': rgb.astype(np.uint8), 'depth': depth.astype(np.float32)}
    if sizes.relative is not None:
        width, height = sizes.relative
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        values['relative'] = (columns / width + (3 * rows // height)).astype(np.float32)
    return values


def golden_values(dense_depth: np.ndarray, confidence: np.ndarray) -> list[list[float]]:
    """What is kept of the outputs for the golden input: every 37th pixel in both directions."""
    return [
        [round(float(value), 6) for value in image[::_GOLDEN_STEP, ::_GOLDEN_STEP].flat]
        for image in (dense_depth, confidence)
    ]


def with_metadata(content: bytes, metadata: dict[str, Any]) -> bytes:
    """The graph with `metadata` as JSON under METADATA_KEY; see GRAPH_VERSION."""
    import onnx

    graph = onnx.load_from_string(content)
    graph.producer_name = METADATA_KEY
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(metadata)})
    return graph.SerializeToString()


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the place and rename, so that nobody reads half a file."""
    temporary = path.with_name(f'.{path.name}.{threading.get_ident()}.part')
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
