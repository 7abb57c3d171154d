# SPDX-License-Identifier: Apache-2.0
"""How operators that ONNX runtimes lack, or run slowly, are written in a graph of fixed size.

Resizing becomes two products with constant matrices: exact for every mode that torch has (runtimes
differ in which they know, TensorRT has no antialiasing), and fast everywhere. Only bilinear growth
by whole factors is left to the runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.onnx import symbolic_helper

_RESIZE_OPERATORS: dict[str, dict[str, Any]] = {
    'aten::upsample_bilinear2d': {'mode': 'bilinear'},
    'aten::upsample_bicubic2d': {'mode': 'bicubic'},
    'aten::_upsample_bilinear2d_aa': {'mode': 'bilinear', 'antialias': True},
    'aten::_upsample_bicubic2d_aa': {'mode': 'bicubic', 'antialias': True},
    'aten::_upsample_nearest_exact2d': {'mode': 'nearest-exact'},
}
OPSET = 17


def resize_matrix(length: int, new_length: int, options: dict[str, Any]) -> Tensor:
    """(new_length, length): what `functional.interpolate(**options)` does along one axis."""
    basis = torch.eye(length)[None, None]
    return functional.interpolate(basis, size=(new_length, length), **options)[0, 0]


def _is_grown_evenly(
    options: dict[str, Any], size: tuple[int, int], new_size: tuple[int, int]
) -> bool:
    whole = all(new % old == 0 for old, new in zip(size, new_size, strict=True))
    grown = tuple(new_size) != tuple(size)
    return whole and grown and options == {'mode': 'bilinear', 'align_corners': False}


def _grown(graph: Any, image: Any, *factors: int) -> Any:
    """By whole factors: ONNX Runtime has that in the memory layout of its convolutions."""
    nothing = graph.op('Constant', value_t=torch.zeros(0))
    factors = graph.op('Constant', value_t=torch.tensor([1.0, 1.0, *factors]))
    options = {'coordinate_transformation_mode_s': 'half_pixel', 'mode_s': 'linear'}
    return graph.op('Resize', image, nothing, factors, **options)


def _resize_symbolic(options: dict[str, Any]) -> Callable:
    def symbolic(graph: Any, image: Any, *arguments: Any) -> Any:
        traced = graph.original_node
        chosen = dict(options)
        if options['mode'] != 'nearest-exact':
            chosen['align_corners'] = bool(symbolic_helper._maybe_get_const(arguments[1], 'b'))
        height, width = next(traced.inputs()).type().sizes()[2:]
        new_height, new_width = traced.output().type().sizes()[2:]
        if _is_grown_evenly(chosen, (height, width), (new_height, new_width)):
            return _grown(graph, image, new_height // height, new_width // width)
        result = image
        if new_width != width:
            columns = resize_matrix(width, new_width, chosen).T.contiguous()
            result = graph.op('MatMul', result, graph.op('Constant', value_t=columns))
        if new_height != height:
            rows = resize_matrix(height, new_height, chosen)
            result = graph.op('MatMul', graph.op('Constant', value_t=rows), result)
        return result

    return symbolic


def _asinh_symbolic(graph: Any, value: Any) -> Any:
    """sign(x) log(|x| + sqrt(x^2 + 1)): runtimes evaluate Asinh one value at a time."""
    one = graph.op('Constant', value_t=torch.tensor(1.0))
    root = graph.op('Sqrt', graph.op('Add', graph.op('Mul', value, value), one))
    magnitude = graph.op('Log', graph.op('Add', graph.op('Abs', value), root))
    return graph.op('Mul', graph.op('Sign', value), magnitude)


def _pixel_shuffle_symbolic(graph: Any, image: Any, factor: Any) -> Any:
    """Two transpositions of whole rows: ONNX Runtime's DepthToSpace takes twice as long.

    On a CPU, that is; on a GPU neither was measured.
    """
    batch, channels, height, width = graph.original_node.output().type().sizes()
    side = symbolic_helper._maybe_get_const(factor, 'i')

    def reshaped(value: Any, *sizes: int) -> Any:
        return graph.op('Reshape', value, graph.op('Constant', value_t=torch.tensor(sizes)))

    columns = reshaped(image, batch * channels * side, side, height * width // side**2)
    columns = graph.op('Transpose', columns, perm_i=[0, 2, 1])
    rows = reshaped(columns, batch * channels, side, height // side, width)
    rows = graph.op('Transpose', rows, perm_i=[0, 2, 1, 3])
    return reshaped(rows, batch, channels, height, width)


def register() -> None:
    """Make `torch.onnx.export` use these."""
    for name, options in _RESIZE_OPERATORS.items():
        torch.onnx.register_custom_op_symbolic(name, _resize_symbolic(options), OPSET)
    torch.onnx.register_custom_op_symbolic('aten::asinh', _asinh_symbolic, OPSET)
    torch.onnx.register_custom_op_symbolic('aten::pixel_shuffle', _pixel_shuffle_symbolic, OPSET)
