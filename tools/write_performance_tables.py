# SPDX-License-Identifier: Apache-2.0
"""Writes the tables and charts of docs/performance.md from what the commands measured.

    .venv/bin/python tools/write_performance_tables.py out/benchmark.json out/*/guide_interval.json

A report of `depth_sr benchmark` goes between the markers 'cpu' or 'gpu', wherever it was measured,
with docs/images/performance_*.png and scaling_*.png; those of
`depth_sr evaluate clip --guide-interval` go between the markers 'guide interval'.
"""

import argparse
import json
from pathlib import Path

from depth_sr_ros.benchmark import report as reporting
from depth_sr_ros.evaluation import guide_interval

HERE = Path(__file__).resolve().parent.parent


def with_section(document, name, text):
    """The Markdown text with what stands between the markers of that name replaced."""
    begin, end = f'<!-- {name}: begin -->\n', f'<!-- {name}: end -->'
    head, found, rest = document.partition(begin)
    if not found or end not in rest:
        raise ValueError(f'there are no markers {begin.strip()} and {end} in the document')
    return head + begin + text.strip() + '\n' + rest[rest.index(end) :]


def benchmark_section(report, images):
    """The tables of a benchmark, after writing its charts to the folder `images`."""
    kind = 'gpu' if report['about']['cuda'] else 'cpu'
    reporting.plot_stages(report, images / f'performance_{kind}.png')
    text = reporting.markdown(report)
    text += f'\n\n![milliseconds per frame and stage](images/performance_{kind}.png)'
    if report['scaling']:
        reporting.plot_scaling(report, images / f'scaling_{kind}.png')
        text += f'\n\n![time against the number of pixels](images/scaling_{kind}.png)'
    return kind, text


def interval_section(reports):
    """The tables of several reports on guide intervals."""
    parts = []
    for report in reports:
        table = guide_interval.markdown(report['rows'])
        parts.append(
            f'Guide {report["guide"]}; {report["frames"]}; weights {report["weights"]} '
            f'({report["digest"]}):\n\n{table}'
        )
    return '\n\n'.join(parts)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('reports', nargs='+', type=Path, help='JSON files of the two commands')
    parser.add_argument('--document', type=Path, default=HERE / 'docs/performance.md')
    parsed = parser.parse_args(arguments)
    document = parsed.document.read_text(encoding='utf-8')
    images = parsed.document.parent / 'images'
    images.mkdir(exist_ok=True)
    intervals = []
    for path in parsed.reports:
        report = json.loads(path.read_text(encoding='utf-8'))
        if 'scaling' in report:
            document = with_section(document, *benchmark_section(report, images))
        else:
            intervals.append(report)
    if intervals:
        document = with_section(document, 'guide interval', interval_section(intervals))
    parsed.document.write_text(document, encoding='utf-8')


if __name__ == '__main__':
    main()
