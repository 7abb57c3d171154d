# SPDX-License-Identifier: Apache-2.0
"""One line that says how far something is: rewritten on a terminal, now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO


class ProgressLine:
    """On a terminal the line is rewritten up to 10 times a second; into a file or pipe a new line
    is written every 5 seconds."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._period = 0.1 if self._is_terminal else 5.0
        self._next = 0.0
        self._open = False

    def show(self, text: str, share: float | None = None) -> None:
        """Show `text`, after a bar when `share` (0 to 1) is given."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._period
        if share is not None:
            filled = round(24 * min(max(share, 0.0), 1.0))
            text = f'[{"#" * filled}{"." * (24 - filled)}] {text}'
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f'\r\x1b[K{text[:width]}')
            self._open = True
        else:
            self._stream.write(f'{text}\n')
        self._stream.flush()

    def end(self, text: str = '') -> None:
        """Replace the line for good; without `text` it is taken away."""
        if self._open:
            self._stream.write('\r\x1b[K')
        if text:
            self._stream.write(f'{text}\n')
        self._stream.flush()
        self._open = False
        self._next = 0.0
