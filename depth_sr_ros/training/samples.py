# SPDX-License-Identifier: Apache-2.0
"""From frames to what the networks are trained on."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset, Sampler

from depth_sr_ros.data.degradation import (
    VALIDATION_DEGRADATIONS,
    Degradation,
    parse_degradation,
    training_degradation,
    training_kind,
)
from depth_sr_ros.data.depth_holes import seen_through_glass
from depth_sr_ros.data.frame import DatasetError, RGBDFrame
from depth_sr_ros.data.imitated_guide import imitate_guide, misplace_guide
from depth_sr_ros.data.relief import with_relief
from depth_sr_ros.model.averaging import averaging_matrix, spreading_matrix
from depth_sr_ros.model.consistency import SMALLEST_RATIO, Cells
from depth_sr_ros.model.depth_sr import PreparedDepth, normalisation_of, prepare_depth
from depth_sr_ros.model.interpolation import valid_mask
from depth_sr_ros.model.relative_depth import normalise_relative_depth
from depth_sr_ros.model.repetition import RUN_LENGTHS
from depth_sr_ros.nearest_upsampling import undo_nearest_upsampling
from depth_sr_ros.pipeline import ASPECT_TOLERANCE
from depth_sr_ros.training.config import SourceConfig, TrainingConfig

Sample = dict[str, Tensor]

# A crop with less known truth than this teaches nothing.
_MINIMUM_TRUTH = 0.2
_CROP_ATTEMPTS = 8
# Of the crops of frames with glass, those for which some is looked for, and how much of it.
_GLASS_SHARE, _MINIMUM_GLASS = 0.7, 0.005
# Of imitated guides, those whose outlines are beside the image's.
_MISPLACED_GUIDES = 0.3
# Of crops, those whose surfaces are not as smooth as they were rendered, and how high their relief
# is at most, relative to the depth. Beside a sensor's noise a network that knows of high ones takes
# noise for relief.
_RELIEF_SHARES = {'downsampling': 0.3, 'dense sensor': 0.12, 'sparse': 0.2}
_RELIEF_SIZES = {'downsampling': 0.02, 'dense sensor': 0.01, 'sparse': 0.02}
# Of imitated guides, 0 to 1: neither the best nor the worst that training sees.
_VALIDATION_GUIDE_QUALITY = 0.5


def build_frames(source: SourceConfig, *, validation: bool) -> Sequence[RGBDFrame]:
    """The frames of a source.

    Raises:
        ValueError, OSError: naming the folder or file that is missing or unreadable.
    """
    if source.type == 'rendered':
        from depth_sr_ros.data.rendered_scenes import RenderedScenes

        split = 'validation' if validation else 'train'
        return RenderedScenes(source.seed, split=split, count=source.count)
    if not source.path:
        raise ValueError(f'source {source.type} needs a path: set train.path and validation.path')
    if source.type == 'mvs_synth':
        from depth_sr_ros.data.mvs_synth import MVSSynth

        return MVSSynth(source.path, split='validation' if validation else 'train')
    from depth_sr_ros.data.rgbd_folder import RGBDFolder

    return RGBDFolder(source.path, strict=True)


def guide_cache(source: SourceConfig) -> Path | None:
    """Folder where the small guide's outputs for a folder of frames are kept."""
    return Path(source.path) / 'guide' if source.type == 'rgbd_folder' else None


class StepSampler(Sampler[int]):
    """Counts samples from where training stopped: resuming goes on with the next one.

    Args:
        start: samples already seen.
        total: samples of the whole run.
        rank, world: of this process when several train together.
    """

    def __init__(self, start: int, total: int, rank: int = 0, world: int = 1):
        self.indices = range(start + rank, total, world)
        self._whole = len(range(rank, total, world))

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        """Of the whole run: Lightning compares it with the steps made before, too."""
        return self._whole


def to_image_tensor(rgb: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1))).float() / 255.0


def make_sample(
    rgb: np.ndarray,
    truth: np.ndarray,
    degraded: np.ndarray,
    relative: np.ndarray | None,
    statistics: tuple[float, float] | None = None,
) -> Sample:
    """One crop as tensors.

    Args:
        rgb: uint8 (H, W, 3).
        truth: float32 (H, W), metres; 0 where unknown.
        degraded: float32 (h, w), metres; 0 = no measurement.
        relative: normalised relative depth float32 (H, W), or None for no guide.
        statistics: median and scale of the frame that this is a crop of.

    Returns:
        rgb (3, H, W); truth, relative and what PreparedDepth holds (1, H, W), but repetition (3,),
        all zero for depth of low resolution; what Cells hold,
        zero-padded to half of (H, W) so that crops of every ratio stack, as cell_NAME;
        median, scale (1, 1, 1).
    """
    degraded = undo_nearest_upsampling(np.ascontiguousarray(degraded, np.float32))
    depth = torch.from_numpy(degraded)[None, None]
    valid = valid_mask(depth)
    if not valid.any():
        # Nothing can be learnt from it: known truth is taken away, and the loss skips it.
        truth = np.zeros_like(truth)
        depth, valid = torch.ones_like(depth), torch.ones_like(valid)
    prepared = prepare_depth(depth, valid, truth.shape)
    if prepared.repetition is None:
        # Nothing of it reaches the network then.
        prepared = prepared._replace(repetition=torch.zeros(1, len(RUN_LENGTHS)))
    if statistics is None:
        median, scale = normalisation_of(torch.where(valid, depth, 0.0), valid)
    else:
        median, scale = (torch.full((1, 1, 1, 1), value) for value in statistics)
    if relative is None:
        relative = np.zeros_like(truth)
    return {
        'rgb': to_image_tensor(rgb),
        'truth': torch.from_numpy(np.ascontiguousarray(truth))[None],
        'relative': torch.from_numpy(np.ascontiguousarray(relative, np.float32))[None],
        'median': median[0],
        'scale': scale[0],
        **{name: value[0] for name, value in prepared._asdict().items() if name != 'cells'},
        **_padded_cells(prepared.cells, depth.shape[-2:], truth.shape),
    }


def _padded_cells(
    cells: Cells | None, low: tuple[int, ...], high: tuple[int, ...]
) -> dict[str, Tensor]:
    """Cells as matrices and padded; without any, nothing is measured."""
    most = [max(1, int(side / SMALLEST_RATIO)) for side in high]
    values = {
        'cell_residual': torch.zeros(1, *most),
        'cell_valid': torch.zeros(1, *most),
        'cell_rows': torch.zeros(1, most[0], high[0]),
        'cell_columns': torch.zeros(1, most[1], high[1]),
        'cell_spread_rows': torch.zeros(1, high[0], most[0]),
        'cell_spread_columns': torch.zeros(1, high[1], most[1]),
        'cell_averaged': torch.zeros(1, 1, 1),
        'cell_present': torch.full((1, 1, 1), cells is not None),
    }
    if cells is not None:
        height, width = low
        values['cell_residual'][:, :height, :width] = cells.residual[0]
        values['cell_valid'][:, :height, :width] = cells.valid[0]
        values['cell_averaged'] = cells.averaged[0]
        for name, count, length in (('rows', height, high[0]), ('columns', width, high[1])):
            values[f'cell_{name}'][0, :count] = averaging_matrix(count, length)
            spread = spreading_matrix(count, length, beyond=False)
            values[f'cell_spread_{name}'][0, :, :count] = spread
    return values


def prepared_depth(sample: Sample) -> PreparedDepth:
    """What `make_sample` made of the depth input, of a batch."""
    cells = Cells(**{name: sample[f'cell_{name}'] for name in Cells._fields})
    names = (name for name in PreparedDepth._fields if name != 'cells')
    return PreparedDepth(**{name: sample[name] for name in names}, cells=cells)


def normalise_guide(relative: np.ndarray) -> np.ndarray:
    """As the model normalises a guide's output over the whole frame; float32 (H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(relative, np.float32))
    return normalise_relative_depth(tensor[None, None])[0, 0].numpy()


def at_depth_size(frame: RGBDFrame) -> RGBDFrame:
    """The frame with RGB as small as its depth; itself where they are of one size.

    Raises:
        DatasetError: naming the frame, when depth is larger or of another aspect.
    """
    (rows, columns), (height, width) = frame.depth.shape, frame.rgb.shape[:2]
    if (rows, columns) == (height, width):
        return frame
    aspect = rows * width / (height * columns)
    if rows > height or columns > width or abs(aspect - 1) > ASPECT_TOLERANCE:
        raise DatasetError(
            f'{frame.name}: depth is {columns} x {rows} and rgb {width} x {height}: training needs '
            f'depth of the same aspect (within {ASPECT_TOLERANCE:.0%}) and no larger'
        )
    rgb = cv2.resize(frame.rgb, (columns, rows), interpolation=cv2.INTER_AREA)
    return dataclasses.replace(frame, rgb=rgb, intrinsics=None)  # those were of the former size


def resize_frame(
    rgb: np.ndarray, truth: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Resize RGB by area and truth without mixing depths; `size` is (W, H)."""
    rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return rgb, cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _for_guide(
    rgb: np.ndarray, window: tuple[slice, slice], size: tuple[int, int] | None
) -> Sample:
    """The whole frame at the guide's input size, and `crop_window`'s argument; {} without one."""
    if size is None:
        return {}
    frame = cv2.resize(np.ascontiguousarray(rgb), size[::-1], interpolation=cv2.INTER_AREA)
    scales = [
        (place.stop - place.start) / length
        for place, length in zip(window, rgb.shape[:2], strict=True)
    ]
    shifts = [
        (place.stop + place.start) / length - 1
        for place, length in zip(window, rgb.shape[:2], strict=True)
    ]
    matrix = [[scales[1], 0.0, shifts[1]], [0.0, scales[0], shifts[0]]]
    return {'frame': to_image_tensor(frame), 'window': torch.tensor(matrix)}


def crop_window(relative: Tensor, window: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut out of what a guide says of whole frames what it says of their crops.

    Args:
        relative: float32 (B, 1, h, w), of any size.
        window: float32 (B, 2, 3), from [-1, 1] over the crop to [-1, 1] over the frame.
        size: (H, W) of the crops.
    """
    grid = functional.affine_grid(window, [len(window), 1, *size], align_corners=False)
    return functional.grid_sample(relative, grid, padding_mode='border', align_corners=False)


class FusionSamples(Dataset[list[Sample]]):
    """Random crops with random degradations and guides; deterministic in (seed, index).

    Args:
        frames: source of truth.
        config: sizes, shares and seeds.
        guides: folder with the small guide's cached output, normalised, STEM.npy; None when there
            is none.
        guide_input: size (h, w) of the frames for a guide that is trained too; None without one.
    """

    def __init__(
        self,
        frames: Sequence[RGBDFrame],
        config: TrainingConfig,
        guides: Path | None = None,
        guide_input: tuple[int, int] | None = None,
    ):
        if len(frames) == 0:
            raise ValueError('the training source holds no frames')
        self.frames = frames
        self.config = config
        self.guides = guides
        self.guide_input = guide_input
        self._epoch = -1
        self._order = np.arange(0)

    def __len__(self) -> int:
        return len(self.frames)

    def _frame(self, index: int) -> RGBDFrame:
        """Every epoch is a permutation of its own, so that any index can be reached at once."""
        epoch, position = divmod(index, len(self.frames))
        if epoch != self._epoch:
            self._order = np.random.default_rng((self.config.seed, epoch)).permutation(
                len(self.frames)
            )
            self._epoch = epoch
        return self.frames[int(self._order[position])]

    def __getitem__(self, index: int) -> list[Sample]:
        config = self.config
        rng = np.random.default_rng((config.seed, 1, index))
        frame = at_depth_size(self._frame(index))
        rgb, truth = frame.rgb, np.where(np.isfinite(frame.depth), frame.depth, 0.0)
        truth = truth.astype(np.float32)
        # What the sensor looks at: not the truth where there is glass.
        sensed = truth
        glass = frame.depth_behind_glass is not None
        if frame.depth_behind_glass is not None:
            sensed = seen_through_glass(truth, frame.depth_behind_glass, rng)
        relative = self._relative(frame.name, truth, rng)
        # Seen from nearer and from farther: another focal length.
        height, width = truth.shape
        smallest = config.frame_short_side or min(height, width)
        zoom = max(smallest / min(height, width) * float(rng.uniform(0.6, 1.2)),
                   (config.crop + 1) / min(height, width))  # fmt: skip
        if zoom < 0.95 or config.frame_short_side or min(height, width) < config.crop:
            size = (round(width * zoom), round(height * zoom))
            sensed = cv2.resize(sensed, size, interpolation=cv2.INTER_NEAREST_EXACT)
            rgb, truth = resize_frame(rgb, truth, size)
        if relative is not None and relative.shape != truth.shape:
            relative = cv2.resize(relative, truth.shape[::-1], interpolation=cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            rgb, truth, sensed = rgb[:, ::-1], truth[:, ::-1], sensed[:, ::-1]
            relative = None if relative is None else relative[:, ::-1]
        known = truth[truth > 0]
        if known.size == 0:
            known = np.ones(1, np.float32)
        median = float(np.median(known))
        scale = max(float(np.median(np.abs(known - median))), 0.05 * median)
        return [
            self._crop(rgb, truth, sensed, relative, (median, scale), rng, glass=glass)
            for _ in range(config.crops_per_frame)
        ]

    def _relative(
        self, name: str, truth: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray | None:
        draw = rng.random()
        shares = self.config.guides
        if draw < shares.none:
            return None
        if draw < shares.none + shares.small and self.guides is not None:
            path = self.guides / f'{name}.npy'
            if path.is_file():
                return np.load(path, allow_pickle=False).astype(np.float32)
        height, width = truth.shape
        factor = min(1.0, 320 / min(height, width))
        small = cv2.resize(
            truth,
            (round(width * factor), round(height * factor)),
            interpolation=cv2.INTER_NEAREST_EXACT,
        )
        guide = imitate_guide(small, rng)
        if rng.random() < _MISPLACED_GUIDES:
            guide = misplace_guide(guide, rng)
        return normalise_guide(guide)

    def _crop(
        self,
        rgb: np.ndarray,
        truth: np.ndarray,
        sensed: np.ndarray,
        relative: np.ndarray | None,
        statistics: tuple[float, float],
        rng: np.random.Generator,
        *,
        glass: bool,
    ) -> Sample:
        side = self.config.crop
        height, width = truth.shape
        # Glass is rare: where there is some, most crops have it.
        glass = glass and rng.random() < _GLASS_SHARE
        for _ in range(_CROP_ATTEMPTS):
            top = int(rng.integers(0, height - side + 1))
            left = int(rng.integers(0, width - side + 1))
            window = (slice(top, top + side), slice(left, left + side))
            if np.mean(truth[window] > 0) < _MINIMUM_TRUTH:
                continue
            if not glass or np.mean(sensed[window] != truth[window]) > _MINIMUM_GLASS:
                break
        crop = np.ascontiguousarray(truth[window])
        # Scenes of every size: the network must not know how large things are.
        factor = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
        if self.config.loss_space == 'linear_300':
            factor = 1.0  # that loss knows how large they are, and nothing beyond 300 metres
        crop = crop * np.float32(factor)
        image = np.ascontiguousarray(rgb[window])
        seen = np.ascontiguousarray(sensed[window]) * np.float32(factor)
        if self.config.degradation == 'training':
            kind = training_kind(rng)
            if rng.random() < _RELIEF_SHARES[kind]:
                image, (crop, seen) = with_relief(image, (crop, seen), rng, _RELIEF_SIZES[kind])
            # Densities are those of the whole frame that the crop is cut from.
            degradation = training_degradation(rng, truth.shape, kind)
        else:
            degradation = parse_degradation(self.config.degradation)
        degraded = degradation(image, seen, rng)
        image = self._recolour(image, rng)
        # The frame's statistics come from its measurements: those are noisier than the truth.
        median = statistics[0] * factor * float(np.exp(rng.normal(0, 0.1)))
        scale = statistics[1] * factor * float(np.exp(rng.normal(0, 0.2)))
        view = None if relative is None else relative[window]
        sample = make_sample(image, crop, degraded, view, (median, scale))
        return sample | _for_guide(rgb, window, self.guide_input)

    def _recolour(self, rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Exposure, white balance, and edges that no geometry made: shadows, foreign textures."""
        image = rgb.astype(np.float32) / 255.0
        draw = rng.random()
        if draw < 0.15:
            other = self.frames[int(rng.integers(len(self.frames)))].rgb
            side = rgb.shape[0]
            top = int(rng.integers(0, max(1, other.shape[0] - side + 1)))
            left = int(rng.integers(0, max(1, other.shape[1] - side + 1)))
            patch = cv2.resize(other[top : top + side, left : left + side], rgb.shape[1::-1])
            # Its edges are not this crop's: what it adds is texture without geometry.
            image = image * (1.0 + rng.uniform(0.2, 0.7) * (patch.astype(np.float32) / 127.5 - 1.0))
        elif draw < 0.35:
            points = rng.uniform(-0.2, 1.2, (int(rng.integers(3, 7)), 2)) * rgb.shape[0]
            mask = np.zeros(rgb.shape[:2], np.float32)
            cv2.fillPoly(mask, [cv2.convexHull(points.astype(np.int32))], 1.0)
            if rng.random() < 0.5:
                mask = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.7, 8)))
            image = image * (1.0 - mask[..., None] * rng.uniform(0.2, 0.7))
        gain = np.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.06, 3))
        image = np.clip(image * gain.astype(np.float32), 0, 1) ** float(np.exp(rng.normal(0, 0.2)))
        image += rng.normal(0, rng.uniform(0, 0.02), image.shape).astype(np.float32)
        return np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8)


def collate(batch: list[list[Sample]]) -> Sample:
    """Stack the crops of several frames."""
    samples = [sample for crops in batch for sample in crops]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def collate_by_size(samples: list[Sample]) -> list[Sample]:
    """Stack neighbours of one size: frames smaller than the validation crop may differ."""
    groups = itertools.groupby(samples, key=lambda sample: sample['rgb'].shape)
    return [collate([list(group)]) for _, group in groups]


class FusionValidation(Dataset[Sample]):
    """A fixed set: the middle of each frame under every validation degradation.

    Item i is frame i // n under degradation i % n; the noise is the same in every run, whatever
    other degradations there are.
    """

    def __init__(
        self,
        frames: Sequence[RGBDFrame],
        config: TrainingConfig,
        guides: Path | None = None,
        guide_input: tuple[int, int] | None = None,
    ):
        count = min(config.validation_frames, len(frames))
        if count == 0:
            raise ValueError('the validation source holds no frames')
        self.indices = np.linspace(0, len(frames) - 1, count).round().astype(int)
        self.frames = frames
        self.config = config
        self.guides = guides
        self.guide_input = guide_input
        self.degradations: dict[str, Degradation] = VALIDATION_DEGRADATIONS
        if config.degradation != 'training':
            self.degradations = {config.degradation: parse_degradation(config.degradation)}

    def __len__(self) -> int:
        return len(self.indices) * len(self.degradations)

    def __getitem__(self, index: int) -> Sample:
        position, kind = divmod(index, len(self.degradations))
        frame = at_depth_size(self.frames[int(self.indices[position])])
        height, width = frame.depth.shape
        rows, columns = (
            min(a, b) for a, b in zip(self.config.validation_crop, (height, width), strict=True)
        )
        top, left = (height - rows) // 2, (width - columns) // 2
        window = (slice(top, top + rows), slice(left, left + columns))
        rgb = np.ascontiguousarray(frame.rgb[window])
        truth = np.ascontiguousarray(frame.depth[window], np.float32)
        truth = np.where(np.isfinite(truth), truth, 0.0).astype(np.float32)
        name, degradation = list(self.degradations.items())[kind]
        seed = (position, zlib.crc32(name.encode()))
        degraded = degradation(rgb, truth, np.random.default_rng((2**31, *seed)))
        relative = self._relative(frame, np.random.default_rng((2**31 + 1, *seed)))
        if relative is not None:
            relative = cv2.resize(relative, (width, height))[window]
        sample = make_sample(rgb, truth, degraded, relative)
        sample['kind'] = torch.tensor(kind)
        return sample | _for_guide(frame.rgb, window, self.guide_input)

    def _relative(self, frame: RGBDFrame, rng: np.random.Generator) -> np.ndarray | None:
        """The guide that training sees most often: the small one, an imitated one, or none."""
        if self.guides is not None:
            path = self.guides / f'{frame.name}.npy'
            return np.load(path, allow_pickle=False).astype(np.float32) if path.is_file() else None
        if self.config.guides.imitated <= self.config.guides.none:
            return None
        truth = np.where(np.isfinite(frame.depth), frame.depth, 0.0).astype(np.float32)
        return normalise_guide(imitate_guide(truth, rng, quality=_VALIDATION_GUIDE_QUALITY))


class GuideSamples(Dataset[Sample]):
    """Whole frames at the guide's input size; deterministic in (seed, index)."""

    def __init__(self, frames: Sequence[RGBDFrame], config: TrainingConfig, size: tuple[int, int]):
        self._fusion = FusionSamples(frames, config)
        self.size = size

    def __len__(self) -> int:
        return len(self._fusion)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng((self._fusion.config.seed, 2, index))
        frame = at_depth_size(self._fusion._frame(index))
        rgb, truth = frame.rgb, np.where(np.isfinite(frame.depth), frame.depth, 0.0)
        height, width = truth.shape
        share = float(rng.uniform(0.6, 1.0))
        rows, columns = round(height * share), round(width * share)
        top = int(rng.integers(0, height - rows + 1))
        left = int(rng.integers(0, width - columns + 1))
        window = (slice(top, top + rows), slice(left, left + columns))
        rgb, truth = resize_frame(
            np.ascontiguousarray(rgb[window]),
            np.ascontiguousarray(truth[window], np.float32),
            self.size[::-1],
        )
        if rng.random() < 0.5:
            rgb, truth = rgb[:, ::-1], truth[:, ::-1]
        rgb = self._fusion._recolour(np.ascontiguousarray(rgb), rng)
        return {
            'rgb': to_image_tensor(rgb),
            'truth': torch.from_numpy(np.ascontiguousarray(truth))[None],
        }


class GuideValidation(Dataset[Sample]):
    """A fixed set of whole frames at the guide's input size."""

    def __init__(self, frames: Sequence[RGBDFrame], count: int, size: tuple[int, int]):
        count = min(count, len(frames))
        self.indices = np.linspace(0, len(frames) - 1, count).round().astype(int)
        self.frames = frames
        self.size = size

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        frame = at_depth_size(self.frames[int(self.indices[index])])
        truth = np.where(np.isfinite(frame.depth), frame.depth, 0.0).astype(np.float32)
        rgb, truth = resize_frame(frame.rgb, truth, self.size[::-1])
        return {'rgb': to_image_tensor(rgb), 'truth': torch.from_numpy(truth)[None]}
