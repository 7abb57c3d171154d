# SPDX-License-Identifier: Apache-2.0
"""Training configuration: YAML in, validated dataclasses out."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

TASKS = ('fusion', 'guide')
SOURCES = ('rgbd_folder', 'mvs_synth', 'rendered')


@dataclass(frozen=True)
class SourceConfig:
    """Where frames come from.

    Attributes:
        type: rgbd_folder, mvs_synth or rendered (rendered while training).
        path: folder of the first two.
        seed, count: of the third: frames `count` of the endless series `seed`.
    """

    type: str = 'rgbd_folder'
    path: str = ''
    seed: int = 0
    count: int = 100000

    def __post_init__(self) -> None:
        if self.type not in SOURCES:
            raise ValueError(f'source type is {self.type!r}: allowed are {", ".join(SOURCES)}')


@dataclass(frozen=True)
class GuideMixture:
    """How often a training sample comes with which relative depth; the shares add up to 1."""

    none: float = 0.25
    small: float = 0.45
    imitated: float = 0.3

    def __post_init__(self) -> None:
        total = self.none + self.small + self.imitated
        if abs(total - 1.0) > 1e-6 or min(self.none, self.small, self.imitated) < 0:
            raise ValueError(f'shares of guides add up to {total}: expected 1, none negative')


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run. See configs/*.yaml for comments.

    Attributes:
        task: 'fusion' (the U-Net, and with joint_guide Depth Anything too) or 'guide'.
        model: name of a model configuration (`depth_sr info` prints them).
        train, validation: sources of frames, disjoint.
        initial_weights: folder of weights to start from, or '' for none.
        joint_guide: fine-tune the guide with the fusion network.
        relative_depth: checkpoint for the guide, '' keeps what the model holds.
        degradation: 'training' draws one per sample; else a fixed one ('scale=8,noise=0.02').
        frame_short_side: frames are resized so first; 0 leaves them.
        batch_size: frames per step; crops_per_frame of each are cut.
        steps, epochs: length; exactly one of them is not 0.
        learning_rate, guide_learning_rate: of the U-Net, of Depth Anything.
        schedule: 'constant' or 'cosine' (after warmup_steps, down to 2% of the rate).
        loss_space: 'log' or 'linear_300' (the seed's).
        square_weight: of the squared error beside L1 and Sobel; 0 in the seed.
        ratio_weight: of RMSE over that of the interpolated input; 0 in the seed.
        validate_every_minutes: how often to validate, and to write weights.
        checkpoint_every_minutes: how often to write a checkpoint: no more is lost by a kill.
    """

    task: str = 'fusion'
    model: str = 'embedded'
    train: SourceConfig = field(default_factory=SourceConfig)
    validation: SourceConfig = field(default_factory=SourceConfig)
    initial_weights: str = ''
    joint_guide: bool = False
    relative_depth: str = ''
    guides: GuideMixture = field(default_factory=GuideMixture)
    degradation: str = 'training'
    frame_short_side: int = 0
    crop: int = 192
    batch_size: int = 8
    crops_per_frame: int = 1
    workers: int = 1
    steps: int = 0
    epochs: int = 0
    learning_rate: float = 2e-4
    guide_learning_rate: float = 2e-6
    weight_decay: float = 1e-4
    schedule: str = 'constant'
    warmup_steps: int = 200
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    precision: str = '32-true'
    loss_space: str = 'log'
    edge_weight: float = 1.0
    edge_scales: int = 1
    square_weight: float = 0.0
    ratio_weight: float = 0.0
    confidence_weight: float = 0.05
    validation_frames: int = 24
    validation_crop: tuple[int, int] = (320, 320)
    validate_every_minutes: float = 5.0
    checkpoint_every_minutes: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'validation_crop', tuple(self.validation_crop))
        for item in dataclasses.fields(self):
            # YAML reads 2e-4, without a point, as text.
            if item.type == 'float' and isinstance(getattr(self, item.name), str):
                object.__setattr__(self, item.name, float(getattr(self, item.name)))
        if self.task not in TASKS:
            raise ValueError(f'task is {self.task!r}: allowed are {", ".join(TASKS)}')
        if (self.steps > 0) == (self.epochs > 0):
            raise ValueError(
                f'steps is {self.steps} and epochs is {self.epochs}: exactly one must be above 0'
            )
        if self.schedule not in ('constant', 'cosine'):
            raise ValueError(f"schedule is {self.schedule!r}: allowed are 'constant' and 'cosine'")
        for name in ('crop', 'batch_size', 'crops_per_frame', 'validation_frames'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} is {getattr(self, name)}: expected 1 or more')
        for name in ('edge_weight', 'square_weight', 'ratio_weight', 'confidence_weight'):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f'{name} is {getattr(self, name)}: expected 0 or more, finite')
        for name in (
            'learning_rate',
            'guide_learning_rate',
            'validate_every_minutes',
            'checkpoint_every_minutes',
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f'{name} is {getattr(self, name)}: expected above 0, finite')

    def to_dict(self) -> dict[str, Any]:
        """As plain dictionaries and lists."""
        return dataclasses.asdict(self)

    def provenance(self) -> dict[str, Any]:
        """As `to_dict`, for the header of published weights: folders by their names only."""
        values = self.to_dict()
        for source in (values['train'], values['validation']):
            source['path'] = Path(source['path']).name
        values['initial_weights'] = Path(self.initial_weights).name
        return values


def shipped_configs() -> dict[str, Path]:
    """Name -> path of the YAML files in the package."""
    root = Path(str(resources.files('depth_sr_ros'))) / 'training' / 'configs'
    return {path.stem: path for path in sorted(root.glob('*.yaml'))}


def load_config(name_or_path: str, overrides: list[str] | None = None) -> TrainingConfig:
    """Read a configuration: a file, or the name of one in the package.

    Args:
        name_or_path: such as 'embedded' or a path to a YAML file.
        overrides: 'key=value' with YAML values; 'train.path=/data' reaches into a source.

    Raises:
        FileNotFoundError: when there is neither.
        ValueError: for an unknown key or a value that is not allowed, naming both.
    """
    shipped = shipped_configs()
    path = shipped.get(name_or_path.removesuffix('.yaml'), Path(name_or_path))
    if not path.is_file():
        raise FileNotFoundError(
            f'{name_or_path}: no such configuration; in the package are {", ".join(shipped)}'
        )
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f'{path}: not readable as YAML: {error}') from error
    if not isinstance(values, dict):
        raise ValueError(f'{path}: expected keys and values, got a {type(values).__name__}')
    for override in overrides or []:
        key, separator, value = override.partition('=')
        if not separator:
            raise ValueError(f'override is {override!r}: expected KEY=VALUE')
        target = values
        *parents, last = key.split('.')
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = yaml.safe_load(value)
    try:
        for name, kind in (
            ('train', SourceConfig),
            ('validation', SourceConfig),
            ('guides', GuideMixture),
        ):
            if name in values:
                values[name] = kind(**values[name])
        return TrainingConfig(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path}: {error}') from error
