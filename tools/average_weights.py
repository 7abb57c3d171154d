# SPDX-License-Identifier: Apache-2.0
"""Averages two weights of the same network, parameter by parameter.

    .venv/bin/python tools/average_weights.py OUT/best OUT/latest --share 0.5 --out OUT/averaged

Two points of one run, or a run's end and its beginning, often lie on both sides of what is best
(Wortsman et al., Model soups, ICML 2022). The header is that of SECOND, with both digests and the
share as `averaged` and without a score. To score them, train them for one step of nothing:

    depth_sr train embedded --train VALIDATION --validation VALIDATION --out SCORED \
        --set initial_weights=OUT/averaged --set steps=1 --set warmup_steps=0 \
        --set learning_rate=1e-12 --accelerator cpu --devices 1

and --validation SCORED/validation.jsonl puts the score into the header.

--shift kept=-0.2 adds to the bias of one of the network's outputs (`FusionUNetConfig.heads`): one
number, where two kinds of input pull in two directions. It is in the header too.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch

from depth_sr_ros.model.depth_sr import DepthSR, read_metadata
from depth_sr_ros.pipeline import state_digest

# Of the header: said of those weights alone, or written anew.
_DROPPED = ('config', 'format', 'score', 'validation', 'averaged', 'transferred')


def averaged(first: DepthSR, second: DepthSR, share: float) -> DepthSR:
    """`second` with `share` of its parameters and the rest of `first`'s.

    Raises:
        ValueError: they are of different configurations.
    """
    if first.config != second.config:
        raise ValueError('the two weights are of different configurations')
    other = first.state_dict()
    with torch.no_grad():
        for name, tensor in second.state_dict().items():
            tensor.copy_(torch.lerp(other[name].float(), tensor.float(), share))
    return second


def shift_bias(model: DepthSR, text: str) -> None:
    """Add to the bias of one output; `text` is NAME=VALUE.

    Raises:
        ValueError: the network has no such output, or that is no number.
    """
    name, _, number = text.partition('=')
    heads = model.fusion.heads
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if name not in heads or not math.isfinite(value):
        allowed = f'allowed is NAME=NUMBER with one of {", ".join(heads)}'
        raise ValueError(f'--shift is {text!r}; {allowed}')
    with torch.no_grad():
        model.fusion.head[0].bias.view(len(heads), -1)[heads.index(name)] += value


def kept_header(folder: Path, validation: Path | None) -> dict[str, str]:
    """What the header of a folder's weights says that holds for others made of them.

    validation: validation.jsonl of the run that scored those; None leaves the score out.

    Raises:
        FileNotFoundError, ValueError: see `last_record`.
    """
    header = {k: v for k, v in read_metadata(folder).items() if k not in _DROPPED}
    if validation is not None:
        record = last_record(validation)
        record['step'] = int(header.get('step', 0))
        header.update(score=f'{record["score"]:.5f}', validation=json.dumps(record))
    return header


def last_record(path: Path) -> dict:
    """The last line of a run's validation.jsonl.

    Raises:
        FileNotFoundError, ValueError: naming the file that is missing or holds no score.
    """
    try:
        record = json.loads(path.read_text(encoding='utf-8').splitlines()[-1])
        record['score'] = float(record['score'])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} holds no validation: {error!r}') from error
    return record


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('first', type=Path, help='folder of weights')
    parser.add_argument('second', type=Path, help='folder of weights of the same network')
    parser.add_argument('--share', type=float, default=0.5, help='of the second one, 0 to 1')
    parser.add_argument('--shift', metavar='NAME=VALUE', help='of the bias of an output')
    parser.add_argument('--validation', type=Path, help='validation.jsonl of a run that scored it')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        parser.error(f'--share is {args.share}; allowed is 0 to 1')
    try:
        models = [DepthSR.from_pretrained(folder) for folder in (args.first, args.second)]
        digests = [state_digest(model) for model in models]
        model = averaged(*models, args.share)
        if args.shift:
            shift_bias(model, args.shift)
        header = kept_header(args.second, args.validation)
        how = {'digests': digests, 'share_of_the_second': args.share, 'shift': args.shift}
        header['averaged'] = json.dumps(how)
        model.save(args.out, metadata=header)
    except (OSError, ValueError) as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: digest {state_digest(DepthSR.from_pretrained(args.out))}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
