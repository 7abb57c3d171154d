# SPDX-License-Identifier: Apache-2.0
"""Decode RVL, the run-length and variable-length code for depth images.

A. D. Wilson, Fast Lossless Depth Image Compression, ISS 2017. The stream is made of 32-bit
little-endian words of eight nibbles, the first one uppermost. A number is a chain of nibbles with
three bits each, the lowest first, whose top bit says that more follow. The numbers are: pixels
without measurement, pixels with, then for each of these the zigzag-coded difference to the measured
pixel before it; and so on.
"""

from __future__ import annotations

import numpy as np

_MOST_NIBBLES = 10


def decode_rvl(data: np.ndarray, pixels: int) -> np.ndarray:
    """Return `pixels` uint16 values from an RVL stream of uint8.

    Raises:
        ValueError: a stream that ends too early, or that does not add up to `pixels`.
    """
    numbers = _numbers(data)
    gaps, runs, first_of_run = [], [], []
    position = done = 0
    while done < pixels:
        if position + 2 > numbers.size:
            raise ValueError(f'RVL stream ends after {done} of {pixels} pixels')
        gap, run = numbers.item(position), numbers.item(position + 1)
        if gap == 0 == run:
            raise ValueError(f'RVL stream has an empty run after {done} of {pixels} pixels')
        gaps.append(gap)
        runs.append(run)
        first_of_run.append(position + 2)
        position += 2 + run
        done += gap + run
    if done > pixels or position > numbers.size:
        raise ValueError(f'RVL stream describes {done} pixels, the image has {pixels}')
    # Element i of the concatenated runs is at i plus an offset that is constant within a run.
    in_run = np.arange(sum(runs))
    run_starts = np.cumsum(runs) - runs
    coded = numbers[in_run + np.repeat(np.array(first_of_run) - run_starts, runs)]
    values = np.zeros(pixels, np.uint16)
    differences = (coded >> 1) ^ -(coded & 1)
    values[in_run + np.repeat(np.cumsum(gaps), runs)] = np.cumsum(differences).astype(np.uint16)
    return values


def _numbers(data: np.ndarray) -> np.ndarray:
    """Read all numbers of the stream as int64; what is left over at the end reads as zeros."""
    words = data[: data.size // 4 * 4].reshape(-1, 4)[:, ::-1]
    nibbles = np.stack([words >> 4, words & 15], axis=-1).ravel()
    ends = np.flatnonzero(nibbles < 8)
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > _MOST_NIBBLES:
        raise ValueError(f'RVL stream has a number of {longest} nibbles; at most {_MOST_NIBBLES}')
    bits = (nibbles & 7).astype(np.int64)
    numbers = bits[starts]
    longer = np.arange(starts.size)
    for index in range(1, longest):
        longer = longer[lengths[longer] > index]
        numbers[longer] |= bits[starts[longer] + index] << 3 * index
    return numbers
