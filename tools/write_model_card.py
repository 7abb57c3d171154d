# SPDX-License-Identifier: Apache-2.0
"""Writes the figures of a model card, from the weights' own header and a run of the suite.

    depth_sr evaluate DATA --suite --weights WEIGHTS --out OUT
    .venv/bin/python tools/write_model_card.py depth_sr_ros/weights/embedded OUT/evaluation.json

Refuses figures that other weights made. What stands between the markers of the card,
WEIGHTS/README.md, is replaced, and with --readme the short table between those of the project's.

Searching the baselines' best settings on the scored frames takes most of an hour and has nothing to
do with the weights: after `evaluate --no-oracle`, --oracle CARD takes over what an earlier card
says of it, for those rows whose tuned baselines came out as they did there.
"""

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

from depth_sr_ros.model.depth_sr import DepthSR, read_metadata
from depth_sr_ros.pipeline import state_digest

# Millimetres by which a baseline's error may differ from one CPU to another.
_ROUNDING = 0.15
BEGIN, END = '<!-- figures: begin -->\n', '<!-- figures: end -->\n'


def validation_lines(header):
    """How the weights validated when they were written."""
    record = json.loads(header.get('validation', '{}'))
    ratios = {key.partition('/')[2]: value for key, value in record.items() if '/' in key}
    lines = [
        f'Step {header["step"]} of the run, commit {header["git"]}: score **{header["score"]}** '
        '(geometric mean over rendered validation frames and degradations of RMSE / RMSE of the '
        'interpolated input).',
        '',
    ]
    if ratios:
        lines += [
            '| ' + ' | '.join(ratios) + ' |',
            '|---' * len(ratios) + '|',
            '| ' + ' | '.join(f'{value:.3f}' for value in ratios.values()) + ' |',
            '',
        ]
    return lines


def short_command(text):
    """The command as a user types it: folders by their names, no interpreter."""
    words = shlex.split(text)
    words = [Path(word).name if '/' in word else word for word in words]
    return ' '.join(['depth_sr', *words[words.index('evaluate') :]])


def metric_of(row):
    """What a row is judged by: where pixels were hidden, those alone."""
    return 'rmse_hole' if row['row'].startswith('mosd') else 'rmse'


def best_baseline(methods, metric, settings='mean'):
    """Name and mean of the classical method with the least `metric`.

    settings: 'mean' for those tuned on rendered scenes, 'oracle' for those chosen on the scored
    frames; None where the suite was run without the latter.
    """
    scores = (
        (method.get(settings, {}).get(metric), name)
        for name, method in methods.items()
        if method['kind'] == 'baseline'
    )
    return min((score for score in scores if score[0] is not None), default=(None, None))[::-1]


def best_by_oracle(methods, metric):
    """A cell: the least error that settings chosen on the scored frames give."""
    name, best = best_baseline(methods, metric, 'oracle')
    return '-' if name is None else f'{1e3 * best:.1f} ({name})'


def title_of(row):
    """What a row of the tables is called."""
    hidden = ', hidden pixels' if 'hole' in metric_of(row) else ''
    return f'{row["row"]} ({len(row["frames"])}){hidden}'


class EarlierOracle:
    """The oracle's figures of a card; none of no card.

    Args:
        text: of the card.

    Attributes:
        digest: of the weights that the evaluation with an oracle was made with.
        used: whether any figure was taken from it.
    """

    def __init__(self, text=''):
        lines = (line.strip('| ').split(' | ') for line in text.splitlines() if line[:1] == '|')
        self._rows = {cells[0]: cells[1:4] for cells in lines if len(cells) > 4}
        said = re.search(r"oracle's figures of ([0-9a-f]{12})", text)
        said = said or re.search(r'digest ([0-9a-f]{12})', text)
        self.digest = said.group(1) if said else ''
        self.used = False

    def get(self, row):
        """The cell of a row of an evaluation without one; '-' where there is none that fits."""
        methods, metric = row['methods'], metric_of(row)
        own = best_by_oracle(methods, metric)
        if own != '-':
            return own
        name, best = best_baseline(methods, metric)
        interpolated = methods['interpolated input']['mean'][metric]
        earlier = self._rows.get(title_of(row))
        if earlier is None or earlier[2] == '-' or f'({name})' not in earlier[1]:
            return '-'
        for cell, value in zip(earlier, (interpolated, best), strict=False):
            if abs(float(cell.partition(' ')[0]) - 1e3 * value) > _ROUNDING:
                return '-'
        self.used = True
        return earlier[2]


def row_line(row, oracle):
    """One row of the suite, in millimetres."""
    methods = row['methods']
    ours = methods['ours']['mean']
    metric = metric_of(row)
    name, best = best_baseline(methods, metric)
    interpolated = methods['interpolated input']['mean'][metric]
    cells = [
        title_of(row),
        f'{1e3 * interpolated:.1f}',
        f'{1e3 * best:.1f} ({name})',
        oracle.get(row),
        f'**{1e3 * ours[metric]:.1f}** ({ours[metric] / best - 1:+.0%})',
        *(
            f'{1e3 * methods[key]["mean"][metric]:.1f}' if key in methods else '-'
            for key in ('ours, guide off', 'ours, good guide')
        ),
    ]
    # Maps with holes are not merely resized: there the interpolated input stands for bilinear.
    plain = methods.get('bilinear', methods['interpolated input'])['mean']
    edge = plain.get('rmse_edge'), ours.get('rmse_edge')
    cells.append('-' if None in edge else f'{1e3 * edge[0]:.0f} -> {1e3 * edge[1]:.0f}')
    ause = ours.get('ause')
    cells.append('-' if ause is None else f'{ause:.2f} ({ours["ause_constant"]:.2f})')
    return '| ' + ' | '.join(cells) + ' |'


def short_line(row, oracle):
    """One row of the suite for those who only want to know what it brings."""
    methods, metric = row['methods'], metric_of(row)
    _, best = best_baseline(methods, metric)
    by_oracle = oracle.get(row).partition(' ')[0]
    interpolated, ours = (methods[key]['mean'][metric] for key in ('interpolated input', 'ours'))
    least = min(interpolated, best, ours)

    def cell(value):
        text = f'{1e3 * value:.1f}'
        return f'**{text}**' if value == least else text

    cells = [cell(interpolated), cell(best), by_oracle, cell(ours)]
    return '| ' + ' | '.join([title_of(row), *cells]) + ' |'


def short_table(report, oracle):
    """The text between the markers of the project's README: the rows on real frames."""
    rows = [
        short_line(row, oracle)
        for row in report['rows']
        if not row['row'].startswith(('texture', 'cleargrasp synthetic'))
    ]
    earlier = (
        f' (the fourth column by the same without `--no-oracle`, at {oracle.digest})'
        if oracle.used
        else ''
    )
    return '\n'.join(
        [
            '| frames (number), depth input | interpolated | best classical filter, tuned '
            '| best, tuned on these frames | ours |',
            '|---|---|---|---|---|',
            *rows,
            '',
            f'made by `{short_command(report["command"])}`{earlier}; '
            f'{sum(check["passed"] for check in report["checks"])} of the {len(report["checks"])} '
            'goals that we set ourselves are reached.',
            '',
        ]
    )


def replace_between(path, begin, end, text):
    """Put `text` between two lines of a file.

    Raises:
        ValueError: when the file has no such lines.
    """
    head, _, rest = path.read_text(encoding='utf-8').partition(begin)
    if end not in rest:
        raise ValueError(f'{path} has no lines {begin.strip()} and {end.strip()}')
    path.write_text(head + begin + text + end + rest.partition(end)[2], encoding='utf-8')


def figures(weights, report, oracle):
    """The text between the markers.

    Raises:
        ValueError: when the report is of other weights.
    """
    digest = state_digest(DepthSR.from_pretrained(weights))
    measured = report['networks']['ours']
    if measured['digest'] != digest:
        raise ValueError(
            f'{weights} has digest {digest}, the evaluation was made with {measured["digest"]}'
        )
    header = read_metadata(weights)
    passed = sum(check['passed'] for check in report['checks'])
    rows = [row_line(row, oracle) for row in report['rows']]
    earlier = (
        f"; oracle's figures of {oracle.digest}'s evaluation, without --no-oracle"
        if oracle.used
        else ''
    )
    return '\n'.join(
        [
            *validation_lines(header),
            f'`{short_command(report["command"])}`, digest {digest}, {measured["precision"]} on '
            f'{measured["device"].partition(" (")[0]}, {report["machine"]}; relative depth: '
            f"{measured['relative_depth']}. RMSE in mm, mean over frames of each frame's; "
            'baselines tuned on rendered scenes (oracle: on the scored frames, which nobody could '
            f'have done before{earlier}); edges: within 4 px of depth edges, bilinear -> '
            'ours; AUSE: of the confidence (of a constant).',
            '',
            '| row (frames) | interpolated | best classical | best classical, oracle | ours '
            '| guide off | good guide, imitated | edges | AUSE |',
            '|---|---|---|---|---|---|---|---|---|',
            *rows,
            '',
            f'Goals: {passed} of {len(report["checks"])} reached.',
            '',
            '| | goal | figure | limit | |',
            '|---|---|---|---|---|',
            *(
                f'| {"reached" if check["passed"] else "SHORT"} | {check["name"]} | '
                f'{check["figure"]:+.3g} | {check["limit"]:+.3g} | {check["note"]} |'
                for check in report['checks']
            ),
            '',
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('weights', type=Path, help='folder of the weights and their README.md')
    parser.add_argument('evaluation', type=Path, help='evaluation.json of the suite')
    parser.add_argument('--readme', type=Path, help="the project's README.md")
    parser.add_argument('--oracle', type=Path, help="card whose oracle's figures are taken over")
    arguments = parser.parse_args()
    oracle = EarlierOracle(arguments.oracle.read_text(encoding='utf-8') if arguments.oracle else '')
    report = json.loads(arguments.evaluation.read_text(encoding='utf-8'))
    try:
        text = figures(arguments.weights, report, oracle)
        replace_between(arguments.weights / 'README.md', BEGIN, END, text)
        if arguments.readme:
            replace_between(arguments.readme, BEGIN, END, short_table(report, oracle))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
