# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime sessions: execution providers, and the files that `depth_sr export` writes."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from depth_sr_ros.inference.onnx_graph import (
    GRAPH_VERSION,
    METADATA_KEY,
    GraphSizes,
    golden_input,
    golden_values,
)

LOG = logging.getLogger(__name__)
# Relative difference of depth from the golden values: rounding in float32, TF32 or float16 on an
# accelerator. Wrong weights, scales or operators are far beyond.
_CPU_TOLERANCE, _ACCELERATOR_TOLERANCE = 0.002, 0.02
_CONFIDENCE_TOLERANCE = 0.1


class OnnxFileError(ValueError):
    """A file that is no ONNX, not one of ours, damaged, or wrong in this runtime."""


def import_onnxruntime() -> Any:
    """The module.

    Raises:
        ModuleNotFoundError: naming the extra that brings it.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "backend is 'onnxruntime', which is not installed: pip install 'depth_sr_ros[export]' "
            'brings it (onnxruntime-gpu instead for CUDA and TensorRT)',
            name='onnxruntime',
        ) from error
    return onnxruntime


def choose_providers(device: str, available: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Execution providers for 'auto', 'cpu', 'cuda' or 'cuda:N', best first.

    Raises:
        ValueError: for a CUDA device when the installed ONNX Runtime has no provider for it.
    """
    providers: list[tuple[str, dict[str, Any]]] = []
    if device != 'cpu':
        number = device.partition(':')[2]
        options: dict[str, Any] = {'device_id': int(number)} if number else {}
        if 'TensorrtExecutionProvider' in available:
            providers.append(('TensorrtExecutionProvider', {**options, **_engine_cache()}))
        if 'CUDAExecutionProvider' in available:
            # TF32 would leave three digits of depth.
            providers.append(('CUDAExecutionProvider', {**options, 'use_tf32': 0}))
        if device != 'auto' and not providers:
            raise ValueError(
                f'device is {device!r}, but the installed ONNX Runtime has only '
                f'{", ".join(available)}: install onnxruntime-gpu in its place, or use '
                "device 'cpu' or backend 'torch'"
            )
    return [*providers, ('CPUExecutionProvider', {})]


def _engine_cache() -> dict[str, Any]:
    """TensorRT's options for keeping engines, which take minutes to build; {} where none can be."""
    folder = cache_folder() / 'tensorrt'
    try:
        # ONNX Runtime makes no parents, and goes on with CUDA and none of the options instead.
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        LOG.info('TensorRT engines are not kept: %s', error)
        return {}
    return {'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(folder)}


def cache_folder() -> Path:
    """Where what was made on this machine may be kept: below XDG_CACHE_HOME or ~/.cache."""
    import os

    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root) / 'depth_sr_ros'


def open_session(graph: bytes, device: str, threads: int, *, spinning: bool = False) -> Any:
    """An `onnxruntime.InferenceSession`.

    Args:
        graph: content of an ONNX file.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        threads: of the CPU that one frame may use.
        spinning: whether threads spin while they wait. A frame is a little faster then, and the
            robot's other processes are kept off the cores.

    Raises:
        OnnxFileError: ONNX Runtime cannot read or run the graph.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry('session.intra_op.allow_spinning', str(int(spinning)))
    options.log_severity_level = 3
    providers = choose_providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # ONNX Runtime has a type for each of its status codes
        reason = ' '.join(str(error).split())[:300]
        raise OnnxFileError(f'ONNX Runtime cannot run this graph: {reason}') from error
    used = session.get_providers()[0]
    if used != providers[0][0]:
        # Its Python part goes on with another one, whatever the reason was.
        LOG.warning('ONNX Runtime runs the graph by %s, not by %s', used, providers[0][0])
    return session


def describe_session(session: Any, threads: int) -> dict[str, str]:
    """'backend' and 'device' for logs."""
    onnxruntime = import_onnxruntime()
    provider = session.get_providers()[0].removesuffix('ExecutionProvider')
    device = f'cpu ({threads} threads)' if provider == 'CPU' else provider
    return {'backend': f'onnxruntime {onnxruntime.__version__}', 'device': device}


def read_metadata(session: Any) -> dict[str, Any]:
    """What `depth_sr export` wrote about the file.

    Raises:
        OnnxFileError: the file is from elsewhere, or of another version.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise OnnxFileError(
            'this ONNX file has no metadata of depth_sr_ros: only files that `depth_sr export` '
            'wrote are run'
        )
    try:
        metadata = json.loads(text)
        version = metadata['graph_version']
    except (ValueError, KeyError, TypeError) as error:
        raise OnnxFileError(f'its metadata is damaged: {error}') from error
    if version != GRAPH_VERSION:
        raise OnnxFileError(
            f'its version is {version!r}, this release reads {GRAPH_VERSION}: export it again'
        )
    return metadata


def sizes_of(metadata: dict[str, Any]) -> GraphSizes:
    """The fixed sizes that a file was made for."""
    relative = metadata.get('relative_size')
    return GraphSizes(
        tuple(metadata['rgb_size']),
        tuple(metadata['depth_size']),
        tuple(relative) if relative else None,
    )


def check_golden(session: Any, metadata: dict[str, Any]) -> None:
    """Run the golden input and compare with what PyTorch made of it when the file was written.

    Raises:
        OnnxFileError: with the difference.
    """
    came = np.array(golden_values(*session.run(None, golden_input(sizes_of(metadata)))))
    expected = np.array(metadata['golden'])
    if came.shape != expected.shape:
        raise OnnxFileError(f'its golden values are {expected.shape}, expected {came.shape}')
    depth = float(np.max(np.abs(came[0] - expected[0]) / np.maximum(expected[0], 1e-6)))
    confidence = float(np.max(np.abs(came[1] - expected[1])))
    on_cpu = session.get_providers()[0] == 'CPUExecutionProvider'
    tolerance = _CPU_TOLERANCE if on_cpu else _ACCELERATOR_TOLERANCE
    # Not `depth > tolerance`: NaN must not pass.
    if not (depth <= tolerance and confidence <= _CONFIDENCE_TOLERANCE):
        raise OnnxFileError(
            f'the golden input gives depth that is off by {depth:.2%} (allowed {tolerance:.1%}) '
            f'and confidence off by {confidence:.3f}: the file is damaged, or this '
            'runtime computes it wrongly'
        )
