# SPDX-License-Identifier: Apache-2.0
"""`depth_sr export`: the whole model in one file for ONNX Runtime and TensorRT."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from depth_sr_ros.inference.onnx_graph import GraphSizes

FORMATS = ('onnx',)
# Largest relative difference from PyTorch at the median and the 99th percentile.
MEDIAN_TOLERANCE, P99_TOLERANCE = 0.001, 0.005
_CHECKED_FRAMES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.add_argument('--format', choices=FORMATS, default='onnx', help='onnx')
    parser.add_argument('--out', type=Path, required=True, help='file to write (NAME.onnx)')
    parser.add_argument('--weights', help='default: embedded; base, or a folder or hub id')
    parser.add_argument(
        '--relative-depth',
        help="'embedded', 'off' or a Depth Anything checkpoint; default: what the weights "
        'validate best with; it becomes part of the file',
    )
    parser.add_argument('--size', default='640x480', metavar='WxH', help='RGB (640x480)')
    parser.add_argument('--depth-size', default='640x480', metavar='WxH', help='depth (640x480)')
    parser.add_argument(
        '--check',
        type=Path,
        metavar='DIR',
        help='compare with PyTorch on the frames of this folder (rgb/, depth/, dataset.json) '
        'instead of synthetic ones',
    )
    parser.add_argument(
        '--frames', type=int, default=_CHECKED_FRAMES, help=f'to compare on ({_CHECKED_FRAMES})'
    )


def parse_size(option: str, text: str) -> tuple[int, int]:
    """'640x480' -> (640, 480).

    Raises:
        ValueError: for anything else; says why there are no dynamic sizes.
    """
    if text == 'dynamic':
        raise ValueError(
            f'{option} is dynamic: sizes are fixed in an exported file, since the levels of the '
            'hole-filling pyramid and the pooling windows follow from them; write a file per size'
        )
    try:
        width, height = (int(part) for part in text.lower().split('x'))
    except ValueError:
        raise ValueError(f'{option} is {text!r}: expected WxH, such as 640x480') from None
    return width, height


def run(args: argparse.Namespace) -> int:
    """Export, check, and only then put the file in its place."""
    import numpy as np

    from depth_sr_ros.inference.onnx_graph import GraphSizes, write_atomically
    from depth_sr_ros.pipeline import check_depth, check_rgb, load_model

    sizes = GraphSizes(parse_size('--size', args.size), parse_size('--depth-size', args.depth_size))
    check_rgb(np.empty((*sizes.rgb[::-1], 3), np.uint8))
    check_depth(np.empty(sizes.depth[::-1], np.float32), sizes.rgb[::-1])
    if args.frames < 1:
        raise ValueError(f'--frames is {args.frames}: expected 1 or more')
    if not args.out.parent.is_dir():
        raise FileNotFoundError(f'--out {args.out}: there is no folder {args.out.parent}')
    for package in ('onnx', 'onnxruntime'):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(
                f"{package} is not installed: pip install 'depth_sr_ros[export]' brings it",
                name=package,
            )
    frames = _read_frames(args.check, sizes, args.frames) if args.check else None
    model, guide, names = load_model(args.weights, args.relative_depth)
    model.relative_depth = None
    start = time.perf_counter()
    content = export(model, guide, sizes, names)
    print(
        f'{names["weights"]} ({names["digest"]}), guide {names["relative_depth"]}, RGB '
        f'{args.size}, depth {args.depth_size}: {len(content) / 1e6:.1f} MB in '
        f'{time.perf_counter() - start:.1f} s'
    )
    differences = compare(content, model, guide, frames or _synthetic_frames(sizes, args.frames))
    where = f'frames of {args.check}' if args.check else 'synthetic frames'
    median, p99 = (float(np.percentile(differences, q)) for q in (50, 99))
    print(
        f'ONNX Runtime against PyTorch, {args.frames} {where}: relative difference of depth '
        f'median {median:.2e}, p99 {p99:.2e}, max {differences.max():.2e}'
    )
    if not (median <= MEDIAN_TOLERANCE and p99 <= P99_TOLERANCE):
        print(
            f'depth_sr export: the exported graph differs too much (allowed: median '
            f'{MEDIAN_TOLERANCE:.1%}, p99 {P99_TOLERANCE:.1%}); {args.out} was not written',
            file=sys.stderr,
        )
        return 1
    write_atomically(args.out, content)
    print(f'wrote {args.out}: weights:={args.out} makes the node use it')
    return 0


def export(model: Any, guide: Any, sizes: GraphSizes, names: dict[str, str]) -> bytes:
    """The graph with metadata and golden values.

    Args:
        model: DepthSR, float32 on the CPU.
        guide: RelativeDepth or None.
        sizes: of its inputs.
        names: 'weights', 'digest' and 'relative_depth', for logs.
    """
    from importlib import metadata

    import torch

    from depth_sr_ros.inference.onnx_graph import (
        GRAPH_VERSION,
        build_graph,
        golden_input,
        golden_values,
        with_metadata,
    )

    golden = golden_input(sizes)
    return with_metadata(
        build_graph(model, guide, sizes),
        {
            'graph_version': GRAPH_VERSION,
            'release': metadata.version('depth_sr_ros'),
            'torch': torch.__version__,
            **names,
            'config': model.config.to_dict(),
            'precision': 'float32',
            'rgb_size': sizes.rgb,
            'depth_size': sizes.depth,
            'golden': golden_values(*_reference(model, guide, golden['rgb'], golden['depth'])),
        },
    )


def compare(content: bytes, model: Any, guide: Any, frames: Any) -> np.ndarray:
    """Relative differences |ONNX Runtime - PyTorch| / PyTorch of the depth of all pixels."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from depth_sr_ros.inference.onnx_session import check_golden, open_session, read_metadata

    session = open_session(content, 'cpu', torch.get_num_threads())
    check_golden(session, read_metadata(session))
    differences = []
    for rgb, depth in tqdm(list(frames), desc='checking', unit='frame', leave=False):
        dense_depth, _ = session.run(None, {'rgb': rgb, 'depth': depth})
        expected, _ = _reference(model, guide, rgb, depth)
        differences.append(np.abs(dense_depth - expected) / expected)
    return np.concatenate([difference.ravel() for difference in differences])


def _reference(
    model: Any, guide: Any, rgb: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What plain PyTorch makes of a frame: depth and confidence."""
    import torch

    with torch.inference_mode():
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255.0
        relative = None if guide is None else guide(image)
        output = model(image, torch.from_numpy(depth)[None, None], relative)
        confidence = torch.sigmoid(output.confidence_logit)
    return output.depth[0, 0].numpy(), confidence[0, 0].numpy()


def _synthetic_frames(sizes: GraphSizes, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Boxes at seeded places and distances before a wall, with noise, holes and texture."""
    import numpy as np

    (width, height), (columns, rows) = sizes.rgb, sizes.depth
    for seed in range(count):
        generator = np.random.default_rng(seed)
        rgb = generator.normal(120, 10, (height, width, 3))
        depth = generator.uniform(2.0, 4.0) + np.linspace(0, 1, rows * columns).reshape(
            rows, columns
        )
        for _ in range(8):
            left, top, right, bottom = generator.uniform(0, 1, 4)
            x, y = sorted((left, right)), sorted((top, bottom))
            rgb[int(y[0] * height) : int(y[1] * height), int(x[0] * width) : int(x[1] * width)] += (
                generator.normal(0, 50, 3)
            )
            depth[
                int(y[0] * rows) : int(y[1] * rows), int(x[0] * columns) : int(x[1] * columns)
            ] = generator.uniform(0.5, 4.0)
        depth *= generator.normal(1, 0.01, depth.shape)
        depth[generator.random(depth.shape) < 0.1 * (seed % 3)] = 0
        yield rgb.clip(0, 255).astype(np.uint8), depth.astype(np.float32)


def _read_frames(
    folder: Path, sizes: GraphSizes, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Up to `count` frames, spread over the folder, brought to the graph's sizes."""
    import cv2
    import numpy as np

    from depth_sr_ros.data.rgbd_folder import RGBDFolder

    frames = RGBDFolder(folder)
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    pairs = []
    for index in chosen:
        frame = frames[int(index)]
        rgb = cv2.resize(frame.rgb, sizes.rgb, interpolation=cv2.INTER_AREA)
        # Sampled: a mean over an edge is a distance at which nothing is.
        depth = cv2.resize(frame.depth, sizes.depth, interpolation=cv2.INTER_NEAREST_EXACT)
        pairs.append((rgb, depth))
    return pairs
