# SPDX-License-Identifier: Apache-2.0
"""`depth_sr info`: layers, shapes and parameter counts."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `depth_sr info`."""
    parser.add_argument(
        'name',
        nargs='?',
        default='embedded',
        help='a configuration (seed, base, embedded), or a folder or hub id of weights',
    )
    parser.add_argument('--size', default='640x480', metavar='WxH', help='RGB size (640x480)')
    parser.add_argument('--depth', type=int, default=2, help='levels of modules to print (2)')


def run(args: argparse.Namespace) -> int:
    """Print the table of modules with output shapes and parameters."""
    import torch

    from depth_sr_ros.model.config import CONFIGURATIONS
    from depth_sr_ros.model.depth_sr import DepthSR

    try:
        width, height = (int(value) for value in args.size.lower().split('x'))
    except ValueError:
        raise ValueError(f'--size is {args.size!r}: expected WxH, such as 640x480') from None
    if args.name in CONFIGURATIONS:
        model = DepthSR(CONFIGURATIONS[args.name])
    else:
        model = DepthSR.from_pretrained(args.name)
    model.eval()

    shapes: dict[str, str] = {}

    def record(name: str):
        def hook(_module, _inputs, output) -> None:
            if isinstance(output, (tuple, list)):
                output = output[-1]
            if isinstance(output, torch.Tensor):
                shapes[name] = 'x'.join(str(side) for side in output.shape)

        return hook

    listed = [
        (name, module)
        for name, module in model.named_modules()
        if name and name.count('.') < args.depth + name.startswith('relative_depth')
    ]
    for name, module in listed:
        module.register_forward_hook(record(name))
    with torch.inference_mode():
        model(torch.zeros(1, 3, height, width), torch.ones(1, 1, height // 8, width // 8))

    print(f'{args.name}: RGB {width}x{height}, depth {width // 8}x{height // 8}')
    print(f'{"module":<44} {"type":<30} {"output":<18} {"parameters":>12}')
    for name, module in listed:
        count = sum(parameter.numel() for parameter in module.parameters())
        row = f'{name:<44} {type(module).__name__:<30} {shapes.get(name, ""):<18} {count:>12,}'
        print(row)
    fusion = sum(parameter.numel() for parameter in model.fusion.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    print(
        f'total {total:,} parameters ({total / 1e6:.2f}M): fusion {fusion:,}, '
        f'relative depth {total - fusion:,}'
    )
    return 0
