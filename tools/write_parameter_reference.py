# SPDX-License-Identifier: Apache-2.0
"""Writes config/sr.yaml and the parameter table of docs/node.md, from ros/parameters.py.

    .venv/bin/python tools/write_parameter_reference.py

test/test_packaging.py fails when either has fallen behind.
"""

import dataclasses
import textwrap
from pathlib import Path

from depth_sr_ros.ros.parameters import NodeParameters

HERE = Path(__file__).resolve().parent.parent
BEGIN, END = '<!-- parameters: begin -->\n', '<!-- parameters: end -->\n'


def written(value):
    """A default as YAML (and as `-p name:=value`) writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(written, value))}]'
    return str(value)


def allowed(field):
    """'0.0 to 1.0', "'a', 'b'" or ''."""
    metadata = field.metadata
    if metadata['choices']:
        return ', '.join(f"'{choice}'" for choice in metadata['choices'])
    if metadata['minimum'] is not None:
        return f'{metadata["minimum"]} to {metadata["maximum"]}'
    return ''


def parameters_file():
    """The text of config/sr.yaml."""
    lines = [
        '# SPDX-License-Identifier: Apache-2.0',
        "# Every parameter of sr_node with its default. Those marked 'at start' cannot change",
        '# while the node runs. Made by tools/write_parameter_reference.py from ros/parameters.py.',
        '/**:',
        '  ros__parameters:',
    ]
    for field in dataclasses.fields(NodeParameters):
        notes = [allowed(field)] if allowed(field) else []
        if field.metadata['read_only']:
            notes.append('at start')
        text = field.metadata['text'] + (f' ({"; ".join(notes)})' if notes else '')
        lines += textwrap.wrap(text, 94, initial_indent='    # ', subsequent_indent='    # ')
        lines.append(f'    {field.name}: {written(field.default)}')
    return '\n'.join(lines) + '\n'


def parameters_table():
    """The rows for docs/node.md, in Markdown."""
    lines = ['| parameter | default | allowed | changes | meaning |', '|---|---|---|---|---|']
    for field in dataclasses.fields(NodeParameters):
        changes = 'at start' if field.metadata['read_only'] else 'any time'
        lines.append(
            f'| `{field.name}` | `{written(field.default)}` | {allowed(field)} '
            f'| {changes} | {field.metadata["text"]} |'
        )
    return '\n'.join(lines) + '\n'


def with_table(document):
    """The Markdown text with its parameter table replaced."""
    head, rest = document.split(BEGIN)
    return head + BEGIN + parameters_table() + END + rest.split(END)[1]


def main():
    (HERE / 'config/sr.yaml').write_text(parameters_file(), encoding='utf-8')
    node = HERE / 'docs/node.md'
    node.write_text(with_table(node.read_text(encoding='utf-8')), encoding='utf-8')


if __name__ == '__main__':
    main()
