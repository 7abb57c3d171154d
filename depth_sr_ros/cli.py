# SPDX-License-Identifier: Apache-2.0
"""The command `depth_sr`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

# Each module has `add_arguments(parser)` and `run(args) -> int`, and imports heavy things late.
SUBCOMMANDS = {
    'info': ('depth_sr_ros.model.info', 'layers, shapes and parameter counts of a model'),
    'infer': ('depth_sr_ros.infer', 'dense depth for a pair of images or two folders'),
    'export': ('depth_sr_ros.export', 'the whole model in one ONNX file, checked'),
    'render': ('depth_sr_ros.data.render', 'render RGB-D scenes to train and validate on'),
    'train': ('depth_sr_ros.training.train', 'train the fusion network or the guide'),
    'benchmark': ('depth_sr_ros.benchmark.command', 'speed of the pipeline or of the node'),
    'evaluate': (
        'depth_sr_ros.evaluation.evaluate',
        'accuracy beside the classical filters',
    ),
}


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser of all subcommands; only `only`'s arguments are filled in when it is given."""
    parser = argparse.ArgumentParser(prog='depth_sr', description='Depth super-resolution.')
    subparsers = parser.add_subparsers(dest='subcommand', required=True, metavar='SUBCOMMAND')
    for name, (module, summary) in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary)
        if only is None or only == name:
            importlib.import_module(module).add_arguments(subparser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `depth_sr`; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = arguments[0] if arguments and arguments[0] in SUBCOMMANDS else ''
    parsed = build_parser(chosen).parse_args(arguments)
    try:
        return importlib.import_module(SUBCOMMANDS[parsed.subcommand][0]).run(parsed)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f'depth_sr {parsed.subcommand}: {error}', file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if 'pip install' in str(error):
            print(f'depth_sr {parsed.subcommand}: {error}', file=sys.stderr)
            return 2
        print(
            f'depth_sr {parsed.subcommand} needs {error.name}, which is not installed: '
            "pip install 'depth_sr_ros[train]' brings what training and evaluation need",
            file=sys.stderr,
        )
        return 2


if __name__ == '__main__':
    sys.exit(main())
