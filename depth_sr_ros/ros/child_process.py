# SPDX-License-Identifier: Apache-2.0
"""A process that never outlives the one that started it, whatever ends that one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """In the child: have the kernel end it when the parent is gone, even by SIGKILL (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_LIBC = ctypes.CDLL(None) if sys.platform == 'linux' else None


class ChildProcess:
    """A command in a process group of its own, with all it says in FOLDER/NAME.log.

    Start it from the main thread and before other threads exist: it runs code between fork and
    exec, and the kernel takes the end of the starting thread for the end of the parent.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.log = folder / f'{name}.log'
        with self.log.open('wb') as output:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509
            )

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def last_lines(self, number: int = 12) -> str:
        """The end of what the process has said."""
        lines = self.log.read_text(errors='replace').splitlines()
        return '\n'.join(lines[-number:])

    def stop(self, timeout: float = 8.0) -> None:
        """Ask the group to end (SIGINT, as Ctrl-C would), and end it after `timeout` seconds."""
        if self.returncode is None:
            self._signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
