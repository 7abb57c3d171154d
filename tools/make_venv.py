# SPDX-License-Identifier: Apache-2.0
"""Makes .venv with all that `make demo` (or, with --dev, `make test`) needs, telling how far it is.

With --beside-ros, which the Makefile says where a ROS installation is sourced whose rclpy this
Python can import, the environment sees the system's packages, ROS and its cv2 come from there, and
what is installed keeps its version. Otherwise ROS 2 and cv2 are installed as wheels. Only the
standard library is needed.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
VENV = HERE / '.venv'
PIN = re.compile(r'^([A-Za-z0-9._-]+)==')
DOWNLOAD = re.compile(r'^\s*Downloading (?:.*/)?([A-Za-z0-9_.]+)-\d\S* \(([^)]*)\)')
PROGRESS = re.compile(r'^Progress (\d+) of (\d+)')


def constraints_beside_ros(text):
    """constraints.txt for an environment that sees ROS's packages, as text.

    The pins of what is installed are dropped: ROS was built against that. The others become upper
    bounds, since the newest may ask for more than ROS's versions. numpy stays in the major version
    that ROS's extension modules were built for, and pytest below 9, which refuses the plugin of
    ROS's launch_testing.
    """
    lines = []
    for line in text.splitlines():
        pin = PIN.match(line)
        if not pin:
            continue
        try:
            installed = metadata.version(pin[1])
        except metadata.PackageNotFoundError:
            installed = None
        if pin[1] == 'pytest':
            lines.append('pytest<9')
        elif installed is None:
            lines.append(line.replace('==', '<=', 1))
        elif pin[1] == 'numpy':
            lines.append(f'numpy<{int(installed.split(".")[0]) + 1}')
    return '\n'.join(dict.fromkeys(lines)) + '\n'


class StatusLine:
    """One line that is written over on a terminal, and otherwise a line every twenty seconds."""

    def __init__(self, title):
        self.title = title
        self.start = self.last = time.monotonic()
        self.tty = sys.stdout.isatty()
        print(f'{title} ...', end='' if self.tty else '\n', flush=True)

    def update(self, text):
        now = time.monotonic()
        if now - self.last < (0.2 if self.tty else 20):
            return
        self.last = now
        line = f'{self.title} ... {now - self.start:.0f} s  {text}'
        if self.tty:
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f'\r\033[K{line}', end='', flush=True)
        else:
            print(line, flush=True)

    def done(self, word='done'):
        lead = '\r\033[K' if self.tty else ''
        print(f'{lead}{self.title} ... {word} ({time.monotonic() - self.start:.0f} s)', flush=True)


def pip_install(title, *arguments, progress_bar='raw'):
    """Runs pip, shows what it is at on one line, and its last words when it fails."""
    command = [
        VENV / 'bin/python',
        '-m',
        'pip',
        'install',
        f'--progress-bar={progress_bar}',
        *arguments,
    ]
    environment = {**os.environ, 'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'PYTHONUNBUFFERED': '1'}
    status, log, package = StatusLine(title), [], ''
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors='replace',
        env=environment,
        cwd=HERE,
    ) as pip:
        for line in pip.stdout:
            progress = PROGRESS.match(line)
            if progress:
                done, total = (int(n) / 1e6 for n in progress.groups())
                status.update(f'{package} {done:.0f} of {total:.0f} MB')
                continue
            log.append(line)
            download = DOWNLOAD.match(line)
            if download:
                package = download[1]
                status.update(f'{package} {download[2]}')
            elif line.startswith('Installing collected'):
                status.update('unpacking')
    if pip.returncode:
        status.done('failed')
        sys.exit(
            ''.join(log[-25:])
            + f'pip ended with {pip.returncode}; the command was\n  '
            + ' '.join(map(str, command))
        )
    status.done()


def make_venv(title, beside_ros):
    """A fresh .venv where there is none, or one of another kind (beside ROS or not) or Python."""
    flag = f'include-system-site-packages = {str(beside_ros).lower()}'
    version = f'version = {".".join(map(str, sys.version_info[:2]))}.'
    configuration = VENV / 'pyvenv.cfg'
    text = configuration.read_text() if configuration.exists() else ''
    if flag in text and version in text and (VENV / 'bin/pip').exists():
        return
    options = ['--system-site-packages'] if beside_ros else []
    status = StatusLine(f'{title} creating .venv (Python {sys.version.split()[0]})')
    made = subprocess.run(
        [sys.executable, '-m', 'venv', '--clear', *options, VENV], check=False
    ).returncode
    if made:
        sys.exit('python3 -m venv failed (on Debian and Ubuntu: apt install python3-venv)')
    status.done()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dev', action='store_true', help='also what tests and lint need')
    parser.add_argument('--beside-ros', action='store_true', help='use the ROS that is sourced')
    arguments = parser.parse_args()
    dev, beside_ros = arguments.dev, arguments.beside_ros
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        sys.exit(
            f'Python {sys.version.split()[0]} at {sys.executable}: 3.10 to 3.13 are supported. '
            'Choose one with: make PYTHON=/path/to/python3'
        )

    distribution = os.environ.get('ROS_DISTRO', '')
    if distribution and not beside_ros:
        print(
            f'ROS {distribution} is sourced, but {sys.executable} (Python '
            f'{sys.version.split()[0]}) cannot import its rclpy: using ROS 2 wheels instead. '
            'To use the sourced ROS: make PYTHON=/usr/bin/python3',
            flush=True,
        )
    # ONNX Runtime is what computes on a CPU.
    extras = ['dev', 'train', 'export', 'bag'] if dev else ['export']
    if not beside_ros:
        extras.append('ros')
    if not (beside_ros and importlib.util.find_spec('cv2')):
        extras.append('opencv')

    make_venv('[1/4]', beside_ros)
    text = (HERE / 'constraints.txt').read_text(encoding='utf-8')
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / 'constraints.txt'
        constraints.write_text(constraints_beside_ros(text) if beside_ros else text)
        pinned = ['--constraint', constraints]
        pip_install(
            '[2/4] preparing pip', '--upgrade', 'pip', *pinned, progress_bar='off'
        )  # old pips know no raw
        pip_install('[3/4] installing torch (with a GPU build the largest part)', 'torch', *pinned)
        what = 'depth_sr_ros' + (' for development' if dev else '')
        where = f'ROS {distribution} as sourced' if beside_ros else 'ROS 2 wheels'
        package = f'.[{",".join(extras)}]' if extras else '.'
        pip_install(f'[4/4] installing {what}, {where}', '--editable', package, *pinned)


if __name__ == '__main__':
    main()
