# SPDX-License-Identifier: Apache-2.0
"""`depth_sr render`: write rendered frames to a folder that RGBDFolder reads."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from depth_sr_ros.data.scene_builder import GLASS_SHARE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument('--count', type=int, default=1000, help='frames (1000)')
    parser.add_argument('--seed', type=int, default=0, help='0 or larger (0)')
    parser.add_argument(
        '--split', choices=('train', 'validation', 'texture_copying'), default='train',
        help='which family of scenes (train)',
    )  # fmt: skip
    parser.add_argument('--size', default='640x480', help='WIDTHxHEIGHT in pixels (640x480)')
    parser.add_argument('--workers', type=int, default=1, help='processes (1)')
    parser.add_argument('--views', type=int, default=6, help='frames of one scene (6)')
    parser.add_argument(
        '--glass-share', type=float, default=GLASS_SHARE,
        help=f'of bottles and the like that are of glass, 0 to 1 ({GLASS_SHARE})',
    )  # fmt: skip
    parser.add_argument('--textures', type=Path, nargs='*', help='folders of photographs')


def run(args: argparse.Namespace) -> int:
    """Render what is not there yet; return the exit status."""
    from tqdm import tqdm

    size = parse_size(args.size)
    for name in ('count', 'workers', 'views'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} is {getattr(args, name)}; allowed is 1 or larger')
    if not 0 <= args.glass_share <= 1:
        raise ValueError(f'--glass-share is {args.glass_share}; allowed is 0 to 1')
    for folder in ('rgb', 'depth'):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    options = {
        'seed': args.seed, 'size': list(size), 'split': args.split, 'views': args.views,
        'glass_share': args.glass_share,
    }  # fmt: skip
    _write_metadata(args.out / 'dataset.json', options, args.textures)

    missing = [i for i in range(args.count) if not _files(args.out, i)[1].exists()]
    # Whole scenes go to one worker, since building a scene costs as much as several frames.
    scenes: dict[int, list[int]] = {}
    for index in missing:
        scenes.setdefault(index // args.views, []).append(index)
    jobs = [(str(args.out), options, args.textures, group) for group in scenes.values()]
    done = args.count - len(missing)
    with tqdm(total=args.count, initial=done, unit='frame', file=sys.stdout) as progress:
        if args.workers == 1:
            for job in jobs:
                progress.update(_render(job))
        else:
            # Mesa's software renderer would start a thread per core in each of them.
            os.environ.setdefault('LP_NUM_THREADS', '1')
            with multiprocessing.get_context('spawn').Pool(args.workers) as pool:
                for count in pool.imap_unordered(_render, jobs):
                    progress.update(count)
    print(f'{args.count} frames in {args.out}')
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """Read 'WIDTHxHEIGHT'. Raises ValueError."""
    parts = text.lower().split('x')
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f'size is {text!r}; allowed is WIDTHxHEIGHT, for example 640x480')
    return int(parts[0]), int(parts[1])


_sources: dict[str, object] = {}


def _render(job) -> int:
    from depth_sr_ros.data.rendered_scenes import RenderedScenes

    out, options, textures, indices = job
    cv2.setNumThreads(1)
    key = json.dumps([out, options])
    if key not in _sources:
        _sources[key] = RenderedScenes(
            options['seed'], tuple(options['size']), split=options['split'],
            views=options['views'], textures=textures, glass_share=options['glass_share'],
        )  # fmt: skip
    scenes = _sources[key]
    for index in indices:
        frame = scenes[index]  # type: ignore[index]
        rgb, depth = _files(Path(out), index)
        # JPEG at 4:4:4: chroma edges stay where they are.
        flags = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                 cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
        encoded = cv2.imencode('.jpg', frame.rgb[..., ::-1], flags)[1]
        _replace(rgb, encoded.tobytes())
        # Depth comes last: its file says that the frame is whole.
        if frame.depth_behind_glass is not None:
            behind = depth.parent.with_name('depth_behind_glass') / depth.name
            behind.parent.mkdir(exist_ok=True)
            _save_depth(behind, frame.depth_behind_glass)
        _save_depth(depth, frame.depth)
    return len(indices)


def _save_depth(file: Path, depth: np.ndarray) -> None:
    # Half precision keeps 0.05%.
    part = file.with_name(f'.{file.name}.{os.getpid()}.npy')
    np.save(part, depth.astype(np.float16))
    part.replace(file)


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(f'.{path.name}.{os.getpid()}')
    part.write_bytes(data)
    part.replace(path)


def _files(out: Path, index: int) -> tuple[Path, Path]:
    return out / 'rgb' / f'{index:07d}.jpg', out / 'depth' / f'{index:07d}.npy'


def _write_metadata(path: Path, options: dict, textures) -> None:
    from depth_sr_ros.data.textures import TextureLibrary

    if path.exists():
        before = json.loads(path.read_text(encoding='utf-8')).get('render')
        if before != options:
            raise ValueError(
                f'{path} was rendered with {before}, not with {options}; choose another --out'
            )
        return
    library = TextureLibrary(textures, split=options['split'])
    found = len(library.surfaces) + len(library.pictures)
    metadata = {
        'depth_scale': None,
        'intrinsics': None,
        'sensor': 'rendered scenes, a random pinhole camera each',
        'ground_truth': 'dense metres along the optical axis, 0 = sky',
        'photographic_textures': found,
        'render': options,
    }
    path.write_text(json.dumps(metadata, indent=2) + '\n', encoding='utf-8')
    if not found:
        print('no photographic textures found: every texture is procedural', file=sys.stderr)
