# SPDX-License-Identifier: Apache-2.0
"""Folders of what a measurement writes, made before it begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def make_folders(files: Iterable[str | Path | None]) -> None:
    """Make the folder of every file, None apart: minutes later is too late to find it missing.

    Raises:
        ValueError: naming the file whose folder cannot be made.
    """
    for file in files:
        if file is None:
            continue
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f'{file} cannot be written: {error}') from error
