# SPDX-License-Identifier: Apache-2.0
"""Gives a larger network what the smaller one that it began from has learnt since.

    .venv/bin/python tools/transfer_training.py depth_sr_ros/weights/base \
        --began-from OLD_EMBEDDED --now depth_sr_ros/weights/embedded --share 1 --out OUT

Parameters that both networks have become NOW + share (LARGER - BEGAN_FROM): the smaller one as it
is now, and what the larger one learnt beyond the one that it began from (Ilharco et al., Editing
models with task arithmetic, ICLR 2023). Its further blocks stay. tools/average_weights.py says how
to score the result; --validation SCORED/validation.jsonl puts the score into the header, which is
LARGER's otherwise, with the three digests and the share as `transferred`.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from average_weights import kept_header

from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.pipeline import state_digest


def transferred(larger: DepthSR, former: DepthSR, now: DepthSR, share: float) -> DepthSR:
    """`larger`, moved by what changed from `former` to `now`.

    Args:
        larger: of a configuration that `former`'s was grown to.
        former: what `larger` began from.
        now: of `former`'s configuration, trained further.
        share: of what `larger` learnt since, 0 to 1.

    Raises:
        ValueError: the networks do not belong together.
    """
    if former.config.fusion != now.config.fusion:
        raise ValueError('BEGAN_FROM and NOW are of different configurations')
    state = larger.fusion.state_dict()
    began, trained = former.fusion.state_dict(), now.fusion.state_dict()
    for name, tensor in began.items():
        if name not in state or state[name].shape != tensor.shape:
            raise ValueError(f'LARGER has no {name} of {tuple(tensor.shape)}, so it did not begin '
                             'from BEGAN_FROM')  # fmt: skip
    with torch.no_grad():
        for name, tensor in began.items():
            state[name].copy_(trained[name].float() + share * (state[name] - tensor.float()))
    return larger


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('larger', type=Path, help='folder of weights')
    parser.add_argument('--began-from', type=Path, required=True, help='folder of weights')
    parser.add_argument('--now', type=Path, required=True, help='folder of weights')
    parser.add_argument('--share', type=float, default=1.0, help='0 to 1')
    parser.add_argument('--validation', type=Path, help='validation.jsonl of a run that scored it')
    parser.add_argument('--out', type=Path, required=True, help='folder to write')
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        parser.error(f'--share is {args.share}; allowed is 0 to 1')
    try:
        folders = {'larger': args.larger, 'began_from': args.began_from, 'now': args.now}
        models = {name: DepthSR.from_pretrained(folder) for name, folder in folders.items()}
        digests = {name: state_digest(model) for name, model in models.items()}
        model = transferred(models['larger'], models['began_from'], models['now'], args.share)
        header = kept_header(args.larger, args.validation)
        header['transferred'] = json.dumps({**digests, 'share': args.share})
        model.save(args.out, metadata=header)
    except (OSError, ValueError) as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: digest {state_digest(DepthSR.from_pretrained(args.out))}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
