# SPDX-License-Identifier: Apache-2.0
"""Writes constraints.txt: the newest versions that each Python given resolves to, by markers.

    python3 tools/pin_constraints.py python3.10 python3.11 python3.12 python3.13

In rising order. Each interpreter's own pip resolves setup.py with all extras; nothing is installed.
CUDA's packages are left out: torch pins them itself, and a CPU build has none.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
TORCH = 'torch==2.13.0'
OWN_PINS = ('nvidia-', 'cuda-', 'triton')
HEADER = """\
# Made by tools/pin_constraints.py for Python {versions}: the newest that each takes.
# torch names no build: a CPU build that pip finds locally serves, elsewhere it brings its CUDA.
"""


def resolve(python):
    """The Python's version ('3.11') and {distribution: version} of all that it would install."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, '-m', 'venv', folder], check=True)
        own = Path(folder) / 'bin/python'
        subprocess.run([own, '-m', 'pip', 'install', '--quiet', '--upgrade', 'pip'], check=True)
        options = ['--quiet', '--dry-run', '--ignore-installed', '--report', '-']
        packages = ['.[opencv,ros,train,bag,export,dev]', 'pip', TORCH]
        report = subprocess.run(
            [own, '-m', 'pip', 'install', *options, *packages],
            check=True,
            cwd=HERE,
            stdout=subprocess.PIPE,
        ).stdout
    report = json.loads(report)
    found = {}
    for item in report['install']:
        name = item['metadata']['name'].lower().replace('_', '-')
        if name != 'depth-sr-ros' and not name.startswith(OWN_PINS):
            found[name] = item['metadata']['version'].split('+')[0]
    return report['environment']['python_version'], found


def marker(pythons, versions):
    """'; python_version ...', true for pythons among versions; '' where it is true for all."""
    if pythons == versions:
        return ''
    if pythons == versions[-len(pythons) :]:
        return f"; python_version >= '{pythons[0]}'"
    if pythons == versions[: len(pythons)]:
        return f"; python_version < '{versions[len(pythons)]}'"
    return '; ' + ' or '.join(f"python_version == '{python}'" for python in pythons)


def main():
    if not sys.argv[1:]:
        sys.exit(__doc__)
    pins = defaultdict(lambda: defaultdict(list))  # name -> version -> Pythons
    versions = []
    for python in sys.argv[1:]:
        version, found = resolve(python)
        versions.append(version)
        for name, pin in found.items():
            pins[name][pin].append(version)
    lines = []
    for name in sorted(pins):
        for pin, pythons in pins[name].items():
            lines.append(f'{name}=={pin}{marker(pythons, versions)}')
    text = HEADER.format(versions=', '.join(versions)) + '\n'.join(lines) + '\n'
    (HERE / 'constraints.txt').write_text(text, encoding='utf-8')
    print(f'{len(lines)} pins of {len(pins)} distributions')


if __name__ == '__main__':
    main()
