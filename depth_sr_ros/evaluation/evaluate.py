# SPDX-License-Identifier: Apache-2.0
"""`depth_sr evaluate`: our pipeline beside everything classical, on any RGB-D folder."""

from __future__ import annotations

import argparse
import contextlib
import sys
import textwrap
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's arguments."""
    # Without cv2 the command still comes as far as to say that it is missing.
    with contextlib.suppress(ModuleNotFoundError):
        from depth_sr_ros.data.degradation import degradation_help

        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = (
            '--degradation takes any of these, applied from left to right, as NAME=VALUE with '
            'commas between;\nwhere (=VALUE) stands here, NAME alone will do:\n'
            + textwrap.indent(degradation_help(), '  ')
        )
    parser.add_argument(
        'dataset',
        type=Path,
        help='folder of rgb/, depth/ and dataset.json; with --suite, a folder of them',
    )
    poor = parser.add_argument_group('what the input is made of (default: x8 with 2% noise)')
    poor.add_argument('--scale', type=float, help='downsample depth by this factor')
    poor.add_argument('--noise', type=float, help='Gaussian noise, sigma relative to depth')
    poor.add_argument('--sparse', type=int, help='keep this many random points')
    poor.add_argument('--degradation', help="any other, as 'kinect,holes=0.1'; see below")
    poor.add_argument('--hide', type=float, metavar='SHARE',
                      help='hide blocks of raw depth and score them only')  # fmt: skip
    poor.add_argument('--truth', type=Path, help='folder with the truth of this raw depth')
    poor.add_argument('--pair-suffixes', nargs=2, metavar=('INPUT', 'TRUTH'),
                      help='NAME+INPUT is scored against NAME+TRUTH inside mask/')  # fmt: skip
    parser.add_argument('--seed', type=int, default=0, help='of every random choice (0)')
    parser.add_argument(
        '--frames', type=int, help='at most this many frames of a set, spread over it'
    )
    parser.add_argument(
        '--weights',
        help="default: embedded; base; 'interpolation' for no network; a folder or hub id",
    )
    parser.add_argument('--relative-depth', help="a Depth Anything checkpoint, or 'off'")
    parser.add_argument(
        '--guide', choices=('own', 'off', 'imitated'), default='own',
        help='imitated: made from the truth, as a large network might see it',
    )  # fmt: skip
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:N')
    parser.add_argument('--precision', default='auto', help='auto, float32, bfloat16, float16')
    parser.add_argument(
        '--no-oracle', action='store_true',
        help="leave out the baselines' best settings on the scored frames",
    )  # fmt: skip
    parser.add_argument('--pictures', type=int, default=3, help='sheets per row (3)')
    parser.add_argument(
        '--out', type=Path, default=Path('out/evaluation'), help='folder to write to'
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument('--suite', action='store_true',
                       help='every row and check of the accuracy goals')  # fmt: skip
    modes.add_argument(
        '--guide-interval', type=int, nargs='+', metavar='N',
        help="score the frames as a sequence (DATASET 'clip': the demo's) with the guide at every "
        'N-th of them, and without it',
    )  # fmt: skip
    modes.add_argument('--tune-baselines', action='store_true',
                       help='find the baselines\' settings on these frames')  # fmt: skip
    parser.add_argument(
        '--texture-copying', type=int, default=24, metavar='N',
        help='with --suite: render this many smooth, strongly textured surfaces (24)',
    )  # fmt: skip


def degradation_text(args: argparse.Namespace) -> str:
    """Return the degradation that the arguments name, as `parse_degradation` reads it."""
    parts = []
    for name in ('scale', 'noise', 'sparse'):
        value = getattr(args, name)
        if value is not None:
            parts.append(f'{name}={value:g}')
    if args.degradation is not None:
        parts.append(args.degradation)
    return ','.join(parts) or 'scale=8,noise=0.02'


def spread(items: Any, limit: int | None) -> list:
    """Return at most `limit` of the items, evenly spread; raises ValueError below 1."""
    import numpy as np

    items = list(items)
    if limit is None or len(items) <= limit:
        return items
    if limit < 1:
        raise ValueError(f'--frames is {limit}; allowed is 1 or more')
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def run(args: argparse.Namespace) -> int:
    """Run `depth_sr evaluate`; 0, or 1 when the suite falls short."""
    if args.tune_baselines:
        return _tune(args)
    if args.suite:
        from depth_sr_ros.evaluation.suite import run_suite

        return run_suite(args)
    if args.guide_interval:
        return _evaluate_intervals(args)
    return _evaluate(args)


def load_network(args: argparse.Namespace, label: str, guide: str) -> Any:
    """Return the pipeline that the arguments name, as a Network with this guide."""
    from depth_sr_ros.evaluation.network import Network
    from depth_sr_ros.pipeline import DepthSRPipeline

    pipeline = DepthSRPipeline.from_pretrained(
        args.weights,
        relative_depth='off' if guide == 'off' else args.relative_depth,
        device=args.device,
        precision=args.precision,
    )
    return Network(label, pipeline, 'imitated' if guide == 'imitated' else 'own')


def build_row(args: argparse.Namespace) -> Any:
    """Return the Row that the arguments describe, without frames that have no depth."""
    row = _whole_row(args)
    row.cases, row.left_out = _measured(row.cases, args.dataset)
    return row


def _measured(cases: list, dataset: Path) -> tuple[list, list[str]]:
    """Leave out cases without depth and say which; raises ValueError where none is left."""
    from depth_sr_ros.evaluation.cases import part_measured

    kept, left_out = part_measured(cases)
    for name in left_out:
        print(f'left out: {name}: no depth measurement', file=sys.stderr)
    if not kept:
        raise ValueError(
            f'{dataset}: no depth measurement in any of {len(cases)} frames, as they are scored: '
            'needed is one frame with depth in the input and in the truth'
        )
    return kept, left_out


def _whole_row(args: argparse.Namespace) -> Any:
    from depth_sr_ros.data.degradation import parse_degradation
    from depth_sr_ros.data.rgbd_folder import RGBDFolder
    from depth_sr_ros.evaluation import cases
    from depth_sr_ros.evaluation.comparison import Row

    folder = RGBDFolder(args.dataset)
    name = args.dataset.resolve().name
    chosen = [key for key in ('hide', 'truth', 'pair_suffixes') if getattr(args, key) is not None]
    if len(chosen) > 1:
        raise ValueError(f'--{" and --".join(chosen)} do not go together')
    if args.hide is not None:
        rows = cases.hidden_cases(spread(folder, args.frames), args.seed, args.hide)
        return Row(f'{name} hide={args.hide:g}', rows, 'rectangles=0.1')
    if args.truth is not None:
        truths = list(RGBDFolder(args.truth))
        rows = cases.paired_cases(spread(folder, args.frames), truths, folder.mask)
        return Row(f'{name} raw', rows, 'kinect')
    if args.pair_suffixes is not None:
        measured, truth = args.pair_suffixes
        rows = cases.suffix_pairs(list(folder), measured, truth, folder.mask)
        return Row(f'{name} {args.pair_suffixes[0]}', spread(rows, args.frames), 'glass')
    text = degradation_text(args)
    rows = cases.degraded_cases(spread(folder, args.frames), parse_degradation(text), args.seed)
    return Row(f'{name} {text}', rows, text)


def _evaluate(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from depth_sr_ros.evaluation.comparison import compare
    from depth_sr_ros.evaluation.report import circumstances, table, write_pictures, write_report
    from depth_sr_ros.evaluation.scoring import ScoreCache

    row = build_row(args)
    label = 'ours' if args.guide == 'own' else f'ours, guide {args.guide}'
    networks = [load_network(args, label, args.guide)]
    cache = ScoreCache(args.out / 'cache')
    with tqdm(unit='step', desc=row.name) as bar:

        def progress(step: str) -> None:
            bar.set_postfix_str(step, refresh=False)
            bar.update()

        comparison = compare(row, networks, cache, oracle=not args.no_oracle, progress=progress)
    print(table(comparison))
    facts = circumstances(networks, seed=args.seed)
    write_report(args.out, [comparison], facts)
    for path in write_pictures(args.out, comparison, networks, args.pictures):
        print(f'look at {path}')
    print(f'written: {args.out / "evaluation.md"}, {args.out / "evaluation.json"}')
    return 0


def _evaluate_intervals(args: argparse.Namespace) -> int:
    import json

    from tqdm import tqdm

    from depth_sr_ros.data.degradation import parse_degradation
    from depth_sr_ros.data.rgbd_folder import RGBDFolder
    from depth_sr_ros.evaluation import guide_interval
    from depth_sr_ros.evaluation.cases import degraded_cases

    if args.guide == 'off':
        raise ValueError('--guide is off: --guide-interval asks what a guide is worth')
    network = load_network(args, 'ours', args.guide)
    if args.guide == 'own' and network.pipeline.description['relative_depth'] == 'none':
        raise ValueError(
            'these weights do without a guide: name one by --relative-depth (embedded is the one '
            'stored with the weights), or take --guide imitated'
        )
    clip = str(args.dataset) == guide_interval.CLIP
    # The first ones: a sequence with gaps would be another question.
    frames = guide_interval.clip_frames(args.frames) if clip else list(RGBDFolder(args.dataset))
    frames = frames[: args.frames]
    text = degradation_text(args)
    cases, left_out = _measured(
        degraded_cases(frames, parse_degradation(text), args.seed), args.dataset
    )
    total = len(cases) * (1 + len(args.guide_interval))
    with tqdm(total=total, unit='frame', desc='guide interval') as bar:
        rows = guide_interval.measure_intervals(
            network.pipeline,
            cases,
            args.guide_interval,
            imitated=args.guide == 'imitated',
            progress=bar.update,
        )
    count = f'{len(cases)} frames'
    if left_out:
        count += f', {len(left_out)} without depth left out'
    facts = {
        'frames': f'{args.dataset.resolve().name}, {count}, {text}',
        'guide': args.guide if args.guide == 'imitated' else args.relative_depth or 'own',
        **{key: network.pipeline.description[key] for key in ('weights', 'digest')},
    }
    tables = ', '.join(f'{key} {value}' for key, value in facts.items())
    tables += '\n\n' + guide_interval.markdown(rows)
    print(tables)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'guide_interval.md').write_text(tables + '\n')
    (args.out / 'guide_interval.json').write_text(
        json.dumps({**facts, 'rows': rows}, indent=2) + '\n'
    )
    print(f'written: {args.out / "guide_interval.md"}, {args.out / "guide_interval.json"}')
    return 0


def _tune(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from depth_sr_ros.data.rgbd_folder import RGBDFolder
    from depth_sr_ros.evaluation.report import circumstances
    from depth_sr_ros.evaluation.scoring import ScoreCache
    from depth_sr_ros.evaluation.tuning import TUNED_FILE, tune_baselines, write_tuned

    folder = RGBDFolder(args.dataset)
    frames = spread(folder, args.frames)
    with tqdm(unit='baseline', desc='tuning') as bar:

        def report(line: str) -> None:
            bar.update()
            bar.write(line)

        tuned = tune_baselines(
            frames, ScoreCache(args.out / 'cache'), seed=args.seed, report=report
        )
    # The package's copy must not name folders of the machine that it was made on.
    command = f'depth_sr evaluate {args.dataset.resolve().name} --tune-baselines --seed {args.seed}'
    if args.frames is not None:
        command += f' --frames {args.frames}'
    origin = {
        'command': command,
        'render': folder.metadata.get('render'),
        'seed': args.seed,
        'frames': [frame.name for frame in frames],
        'versions': circumstances([])['versions'],
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_tuned(args.out / TUNED_FILE, tuned, origin)
    print(f'written: {args.out / TUNED_FILE}')
    return 0
