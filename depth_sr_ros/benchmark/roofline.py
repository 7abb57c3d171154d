# SPDX-License-Identifier: Apache-2.0
"""How fast a frame could be on this machine: its operations and bytes against measured rates.

The bound (Williams et al., Roofline, CACM 2009) is taken operator by operator: a convolution,
product or attention takes at least as long as its operations at the rate of large matrix products,
and as its input, parameters and output at the rate of large copies; everything between them
(normalisation, gates, interpolation) is taken to be free, as if it were fused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Operation(NamedTuple):
    """One operator that cannot be fused away: multiply-adds count as two."""

    flops: float
    bytes: float


class Work(NamedTuple):
    """What one frame takes.

    Attributes:
        operations: convolutions, products, attention.
        all_bytes: what every operator reads and writes when nothing is fused, as PyTorch does.
        launches: number of operators that compute.
    """

    operations: list[Operation]
    all_bytes: float
    launches: int

    @property
    def flops(self) -> float:
        return sum(operation.flops for operation in self.operations)

    @property
    def bytes(self) -> float:
        return sum(operation.bytes for operation in self.operations)


class Rates(NamedTuple):
    """What the machine was measured to do: operations and bytes per second.

    Attributes:
        flops: of a large matrix product, by precision.
        bytes: read and written by a large copy on the device.
        transfer: from and to page-locked host memory; infinite on a CPU.
    """

    flops: dict[str, float]
    bytes: float
    transfer: float


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.all_bytes = 0.0
        self.launches = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = operator(*args, **(kwargs or {}))
        read, written = _tensors((args, kwargs)), _tensors(result)
        memory = {tensor.untyped_storage()._cdata for tensor in read}
        if all(tensor.untyped_storage()._cdata in memory for tensor in written):
            return result  # a view
        size = sum(_size(tensor) for tensor in (*read, *written))
        self.all_bytes += size
        self.launches += 1
        count = _FLOPS.get(operator.name().partition('.')[0])
        if count is not None:
            self.operations.append(Operation(float(count(result, *args)), size))
        return result


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _size(tensor: torch.Tensor) -> float:
    # Of an expanded tensor only what is there is read.
    lengths = [n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return float(math.prod(lengths) * tensor.element_size())


def _convolution(result: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, *_: Any) -> int:
    return 2 * result.numel() * weight[0].numel()


def _transposed(result: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, *_: Any) -> int:
    return 2 * image.numel() * weight[0].numel()


def _product(result: torch.Tensor, first: torch.Tensor, *_: Any) -> int:
    return 2 * result.numel() * first.shape[-1]


def _addmm(result: torch.Tensor, _bias: torch.Tensor, first: torch.Tensor, *_: Any) -> int:
    return _product(result, first)


def _attention(result: torch.Tensor, query: torch.Tensor, key: torch.Tensor, *_: Any) -> int:
    return 4 * query.numel() * key.shape[-2]


_FLOPS: dict[str, Callable[..., int]] = {
    'aten::conv2d': _convolution,
    'aten::conv_transpose2d': _transposed,
    'aten::linear': _product,
    'aten::matmul': _product,
    'aten::mm': _product,
    'aten::bmm': _product,
    'aten::addmm': _addmm,
    'aten::scaled_dot_product_attention': _attention,
}


def count_work(run: Callable[[], Any]) -> Work:
    """Count what `run()` does in every frame; on the device 'meta' nothing is computed for it."""
    # In inference mode operators come whole: a convolution and not what it is made of.
    with torch.inference_mode():
        run()  # constants are made in the first frame
        with _Counter() as counter:
            run()
    return Work(counter.operations, counter.all_bytes, counter.launches)


def bound_ms(work: Work, rates: Rates, precision: str, transferred: float) -> float:
    """Milliseconds that a frame takes at least; `transferred` bytes go to the device and back."""
    rate = rates.flops[precision]
    seconds = sum(max(o.flops / rate, o.bytes / rates.bytes) for o in work.operations)
    return 1000.0 * (seconds + transferred / rates.transfer)


def measure_rates(device: torch.device, precisions: list[str]) -> Rates:
    """Measure large copies and matrix products on the device; takes a second or two."""
    cuda = device.type == 'cuda'
    copied = _copy_rate(torch.empty((1 << 28 if cuda else 1 << 25) // 4, device=device), device)
    transfer = math.inf
    if cuda:
        transfer = _transfer_rate(device)
    side = 8192 if cuda else 1024
    flops = {name: _product_rate(side, getattr(torch, name), device) for name in precisions}
    return Rates(flops, copied, transfer)


def _copy_rate(target: torch.Tensor, device: torch.device) -> float:
    source = torch.ones_like(target)
    return 2 * source.nbytes / _best_seconds(lambda: target.copy_(source), device)


def _transfer_rate(device: torch.device) -> float:
    host = torch.empty(1 << 24, dtype=torch.float32, pin_memory=True)
    there = torch.empty(1 << 24, dtype=torch.float32, device=device)
    up = _best_seconds(lambda: there.copy_(host, non_blocking=True), device)
    down = _best_seconds(lambda: host.copy_(there, non_blocking=True), device)
    return 2 * host.nbytes / (up + down)


def _product_rate(side: int, dtype: torch.dtype, device: torch.device) -> float:
    matrix = torch.randn(side, side, device=device).to(dtype)
    product = torch.empty_like(matrix)
    return 2 * side**3 / _best_seconds(lambda: torch.mm(matrix, matrix, out=product), device)


def _best_seconds(work: Callable[[], Any], device: torch.device, repeats: int = 8) -> float:
    best = math.inf
    for _ in range(repeats):
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best
