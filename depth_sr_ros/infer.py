# SPDX-License-Identifier: Apache-2.0
"""`depth_sr infer`: dense depth for one pair of images, or for two folders of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RGB_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
DEPTH_SUFFIXES = ('.png', '.npy', '.tif', '.tiff')
OUTPUT_DEPTH_SCALE = 1000
PNG_MAXIMUM = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.add_argument('--rgb', type=Path, required=True, help='an image, or a folder of them')
    parser.add_argument(
        '--depth', type=Path, required=True,
        help='16-bit or float image, or float .npy, or a folder of them; the same names as RGB',
    )  # fmt: skip
    parser.add_argument(
        '--depth-scale', type=float,
        help='value / depth-scale = metres (default: 1000 for 16-bit depth, 1 for float)',
    )  # fmt: skip
    parser.add_argument(
        '--out', type=Path, required=True,
        help='folder to write to: NAME.png to look at, NAME_depth.png (16 bits, millimetres), '
        'NAME_depth.npy (metres), NAME_confidence.png (8 bits, 255 = sure), '
        'NAME_confidence.npy (0 to 1)',
    )  # fmt: skip
    parser.add_argument('--scale', type=float, help='first downsample depth by this factor')
    parser.add_argument('--noise', type=float, help='first add noise, sigma relative to depth')
    parser.add_argument('--seed', type=int, default=0, help='of the noise (0)')
    parser.add_argument(
        '--weights',
        help="default: embedded; base; 'interpolation' for no network; a folder or hub id",
    )
    parser.add_argument('--relative-depth', help="a Depth Anything checkpoint, or 'off'")
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:N')
    parser.add_argument('--precision', default='auto', help='auto, float32, bfloat16, float16')


@dataclass(frozen=True)
class Pair:
    """Two files that show the same thing; `name` is what their outputs are called."""

    name: str
    rgb: Path
    depth: Path


def find_pairs(rgb: Path, depth: Path) -> tuple[list[Pair], list[str]]:
    """
    Pair two files, or two folders' files by the name without its ending.

    Returns (pairs, messages about files without a partner). Raises ValueError where one is a file
    and the other a folder, or nothing pairs, and FileNotFoundError where one is absent.
    """
    for path in (rgb, depth):
        if not path.exists():
            raise FileNotFoundError(f'{path}: no such file or folder')
    if rgb.is_dir() != depth.is_dir():
        raise ValueError(f'--rgb {rgb} and --depth {depth} must both be files or both folders')
    if not rgb.is_dir():
        return [Pair(rgb.stem, rgb, depth)], []
    rgb_files, depth_files = _by_stem(rgb, RGB_SUFFIXES), _by_stem(depth, DEPTH_SUFFIXES)
    common = sorted(rgb_files.keys() & depth_files.keys())
    lonely = [
        f'{rgb_files[n]}: no depth of that name' for n in sorted(rgb_files) if n not in common
    ]
    lonely += [
        f'{depth_files[n]}: no RGB of that name' for n in sorted(depth_files) if n not in common
    ]
    if not common:
        raise ValueError(
            f'{rgb} ({len(rgb_files)} images) and {depth} ({len(depth_files)} depth maps) have no '
            'name in common'
        )
    return [Pair(name, rgb_files[name], depth_files[name]) for name in common], lonely


def _by_stem(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    return {path.stem: path for path in reversed(files)}


def output_paths(out: Path, name: str) -> dict[str, Path]:
    """The files that a pair called `name` is written to."""
    return {
        'sheet': out / f'{name}.png',
        'depth_png': out / f'{name}_depth.png',
        'depth_npy': out / f'{name}_depth.npy',
        'confidence_png': out / f'{name}_confidence.png',
        'confidence_npy': out / f'{name}_confidence.npy',
    }


def refuse_to_overwrite_input(rgb: Path, depth: Path, out: Path, names: Iterable[str]) -> None:
    """Raise ValueError where an output of `names` would replace a file of `rgb` or `depth`."""
    given: list[Path] = []
    for path in (rgb, depth):
        # All of a folder: what did not pair is the user's too.
        given += path.iterdir() if path.is_dir() else [path]
    # Links and other spellings are the same file.
    inputs = {_identity(path): path for path in given if path.exists()}
    for name in names:
        for path in output_paths(out, name).values():
            if path.exists() and _identity(path) in inputs:
                raise ValueError(
                    f'{path} is an input ({inputs[_identity(path)]}), which the output would '
                    'replace: name another folder by --out'
                )


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as uint8 (H, W, 3) RGB; raises ValueError that names the file."""
    import cv2
    import numpy as np

    # As stored: depth is not rotated by an EXIF entry either.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise ValueError(f'{path}: not a readable image ({data.size} bytes)')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_depth(path: Path, depth_scale: float | None = None) -> NDArray[np.float32]:
    """
    Read a 16-bit image, a float image or a float .npy as float32 metres.

    depth_scale: value / depth_scale = metres; None = 1000 for 16 bits, 1 for float.
    """
    import cv2
    import numpy as np

    if path.suffix.lower() == '.npy':
        try:
            depth = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f'{path}: not a readable .npy: {error}') from error
        if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating):
            raise ValueError(f'{path}: is {depth.dtype} {depth.shape}; needed is float (h, w)')
        return depth.astype(np.float32) / np.float32(depth_scale or 1)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise ValueError(f'{path}: not a readable image ({data.size} bytes)')
    if image.ndim != 2 or image.dtype not in (np.uint16, np.float32):
        raise ValueError(
            f'{path}: is {image.dtype} {image.shape}; needed is one channel of 16 bits, '
            'or of float32'
        )
    usual = 1000 if image.dtype == np.uint16 else 1
    return image.astype(np.float32) / np.float32(depth_scale or usual)


def write_depth_png(path: Path, depth: NDArray[np.float32]) -> int:
    """
    Write depth in metres as a 16-bit PNG in millimetres, 0 for what is not above zero and finite.

    Depths beyond 65.535 m do not fit: they are written as 65535. Returns how many they were.
    """
    import numpy as np

    known = np.isfinite(depth) & (depth > 0)
    units = np.rint(np.where(known, depth, 0).astype(np.float64) * OUTPUT_DEPTH_SCALE)
    saturated = int(np.count_nonzero(units > PNG_MAXIMUM))
    # A measured depth must not become 'no measurement' by rounding.
    units = np.where(known, np.clip(units, 1, PNG_MAXIMUM), 0).astype(np.uint16)
    _write_png(path, units)
    return saturated


def _write_png(path: Path, values: NDArray) -> None:
    import cv2

    encoded, data = cv2.imencode('.png', values)
    if not encoded:
        raise OSError(f'{path}: cannot be encoded as PNG')
    path.write_bytes(data.tobytes())


def run(args: argparse.Namespace) -> int:
    """Run `depth_sr infer`; 1 when a pair failed or had no partner, else 0."""
    if args.depth_scale is not None and not args.depth_scale > 0:
        raise ValueError(f'--depth-scale is {args.depth_scale}; allowed is a number above 0')
    pairs, lonely = find_pairs(args.rgb, args.depth)
    refuse_to_overwrite_input(args.rgb, args.depth, args.out, [pair.name for pair in pairs])
    from tqdm import tqdm

    from depth_sr_ros.data.degradation import parse_degradation
    from depth_sr_ros.pipeline import DepthSRPipeline

    parts = [
        f'{n}={v:g}' for n, v in (('scale', args.scale), ('noise', args.noise)) if v is not None
    ]
    degradation = parse_degradation(','.join(parts)) if parts else None
    pipeline = DepthSRPipeline.from_pretrained(
        args.weights,
        relative_depth=args.relative_depth,
        device=args.device,
        precision=args.precision,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    description = ', '.join(f'{key} {value}' for key, value in pipeline.description.items())
    print(f'{len(pairs)} pairs; {description}')
    for message in lonely:
        print(f'left out: {message}', file=sys.stderr)
    failed = 0
    with tqdm(pairs, unit='frame', desc='infer', disable=len(pairs) == 1) as bar:
        for pair in bar:
            bar.set_postfix_str(pair.name, refresh=False)
            try:
                line = _infer(pair, pipeline, degradation, args)
            except (ValueError, OSError) as error:
                failed += 1
                message = str(error) if str(pair.depth) in str(error) else f'{pair.name}: {error}'
                bar.write(f'failed: {message}', file=sys.stderr)
            else:
                bar.write(line)
    print(f'{len(pairs) - failed} of {len(pairs)} pairs written to {args.out}')
    return 1 if failed or lonely else 0


def _infer(pair: Pair, pipeline, degradation, args: argparse.Namespace) -> str:
    import numpy as np

    from depth_sr_ros.evaluation.pictures import Panel, Scale, depth_scale, sheet, write_image

    rgb, depth = read_rgb(pair.rgb), read_depth(pair.depth, args.depth_scale)
    if degradation is not None:
        depth = degradation(rgb, depth, np.random.default_rng(args.seed))
    start = time.perf_counter()
    result = pipeline(rgb, depth)
    seconds = time.perf_counter() - start
    paths = output_paths(args.out, pair.name)
    saturated = write_depth_png(paths['depth_png'], result.depth)
    np.save(paths['depth_npy'], result.depth)
    _write_png(paths['confidence_png'], np.rint(result.confidence * 255).astype(np.uint8))
    np.save(paths['confidence_npy'], result.confidence)
    metres = depth_scale(depth, result.depth)
    measured = np.isfinite(depth) & (depth > 0)
    height, width = depth.shape
    panels = [
        Panel(f'RGB {rgb.shape[1]}x{rgb.shape[0]}', rgb),
        Panel(f'input depth {width}x{height}, {measured.mean():.1%} measured', depth, metres),
        Panel(f'output depth ({pipeline.description["weights"]})', result.depth, metres),
        Panel('confidence', result.confidence, Scale(0, 1, '', 'confidence')),
    ]
    write_image(paths['sheet'], sheet([panels[:2], panels[2:]], panel_width=640))
    line = (
        f'{pair.name}: {width}x{height} -> {rgb.shape[1]}x{rgb.shape[0]}, '
        f'{result.depth.min():.3f} to {result.depth.max():.3f} m, {seconds:.2f} s'
    )
    if saturated:
        line += f'; {saturated} pixels beyond 65.535 m are 65535 in the PNG (right in the .npy)'
    return line
