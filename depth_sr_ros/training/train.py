# SPDX-License-Identifier: Apache-2.0
"""`depth_sr train CONFIG`: train the fusion network or the guide with Lightning."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from lightning.fabric.plugins import CheckpointIO
    from lightning.pytorch.loggers import TensorBoardLogger

    from depth_sr_ros.data.frame import DatasetError, RGBDFrame
    from depth_sr_ros.model.depth_sr import DepthSR
    from depth_sr_ros.model.relative_depth import RelativeDepth
    from depth_sr_ros.training.config import TrainingConfig

_NEVER = 2**62  # in steps
# Of what the weights' header says of the guide.
_GUIDE_PREFIX = 'guide_'


class InterruptedTraining(BaseException):
    """Training was asked to stop and has ended after the step given.

    Not an Exception, as KeyboardInterrupt is none, which Lightning would handle by killing the
    other processes.
    """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `depth_sr train`."""
    parser.add_argument('config', help='a YAML file, or the name of one in the package')
    parser.add_argument('--out', required=True, metavar='DIR', help='checkpoints, logs and weights')
    parser.add_argument('--train', metavar='DIR', help='folder of training frames')
    parser.add_argument('--validation', metavar='DIR', help='folder of validation frames')
    parser.add_argument(
        '--set', action='append', default=[], metavar='KEY=VALUE', help='override the configuration'
    )
    parser.add_argument('--minutes', type=float, help='stop after so long; resume with the same')
    parser.add_argument(
        '--preview', action='store_true', help='only write DIR/preview.png: what the network sees'
    )
    parser.add_argument('--devices', default='auto', help="Lightning's devices (auto)")
    parser.add_argument('--nodes', type=int, default=1, help='machines (1)')
    parser.add_argument('--accelerator', default='auto', help="Lightning's accelerator (auto)")
    parser.add_argument('--strategy', default='auto', help="Lightning's strategy (auto, ddp, ...)")


def run(args: argparse.Namespace) -> int:
    """Train, or write the preview."""
    from depth_sr_ros.training.config import load_config

    overrides = list(args.set)
    if args.train:
        overrides.append(f'train.path={json.dumps(args.train)}')
    if args.validation:
        overrides.append(f'validation.path={json.dumps(args.validation)}')
    config = load_config(args.config, overrides)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    if args.preview:
        return write_preview(config, out)
    trained = train(
        config,
        out,
        minutes=args.minutes,
        trainer_options={
            'devices': args.devices if not args.devices.isdigit() else int(args.devices),
            'num_nodes': args.nodes,
            'accelerator': args.accelerator,
            'strategy': args.strategy,
        },
    )
    print(f'best weights in {trained}')
    return 0


def git_revision() -> str:
    """The commit that the code was trained at, '-dirty' when changed; 'unknown' outside git."""
    folder = Path(__file__).resolve().parent
    try:
        revision = subprocess.run(
            ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*'],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return revision or 'unknown'


def build_model(config: TrainingConfig) -> DepthSR:
    """The model that a run starts from.

    `initial_weights` may be of a configuration that has grown since, or of a smaller one (`base`
    starts from `embedded`): what it does not hold starts as in a new network, where
    zero-initialised ends leave the outputs as they were. Weights of no known configuration are
    trained as they are.

    Raises:
        ValueError: for an unknown model, or initial weights of another shape.
    """
    from depth_sr_ros.model.config import CONFIGURATIONS
    from depth_sr_ros.model.depth_sr import DepthSR
    from depth_sr_ros.model.relative_depth import RelativeDepth

    if config.model not in CONFIGURATIONS:
        raise ValueError(f'model is {config.model!r}: allowed are {", ".join(CONFIGURATIONS)}')
    if config.initial_weights:
        initial = DepthSR.from_pretrained(config.initial_weights)
        wanted = CONFIGURATIONS[config.model]
        if initial.config.name not in CONFIGURATIONS or initial.config.fusion == wanted.fusion:
            model = initial
        else:
            # A configuration without a guide gets none from those that had one.
            guide = initial.config.relative_depth if wanted.relative_depth else None
            initial.relative_depth = initial.relative_depth if guide else None
            model = DepthSR(dataclasses.replace(wanted, relative_depth=guide))
            _grow(model, initial, config.initial_weights)
    else:
        model = DepthSR(CONFIGURATIONS[config.model])
    if config.relative_depth:
        short_side = model.config.relative_depth.short_side if model.config.relative_depth else 518
        model.relative_depth = RelativeDepth.from_pretrained(
            config.relative_depth, short_side=short_side
        )
    return model


def _grow(model: DepthSR, initial: DepthSR, origin: str) -> None:
    """Load what `initial` holds into `model`, which may have more parameters but none fewer.

    Of a tensor that only its first dimension has outgrown (a head with more channels) the first
    entries are loaded; what only its second has (a convolution of more inputs) is zero.
    """
    import torch

    own, former = model.state_dict(), initial.state_dict()
    for name, tensor in former.items():
        more = [
            new - old for new, old in zip(own.get(name, tensor).shape, tensor.shape, strict=True)
        ]
        if more[:1] > [0] and not any(more[1:]):
            former[name] = torch.cat([tensor, own[name][len(tensor) :]])
        elif more[1:2] > [0] and not any(more[:1] + more[2:]):
            shape = (len(tensor), more[1], *tensor.shape[2:])
            former[name] = torch.cat([tensor, tensor.new_zeros(shape)], dim=1)
    try:
        report = model.load_state_dict(former, strict=False)
    except RuntimeError as error:
        raise ValueError(f'initial_weights {origin}: {error}') from error
    if report.unexpected_keys:
        raise ValueError(
            f'initial_weights {origin}: {model.config.name} has no {report.unexpected_keys[0]} '
            f'and {len(report.unexpected_keys) - 1} others of its parameters'
        )
    print(f'initial_weights {origin}: {len(report.missing_keys)} parameters start anew')


def cache_guide(model: DepthSR, frames: Sequence[RGBDFrame], folder: Path) -> Path:
    """Run the guide once over whole frames and keep its normalised output: STEM.npy, float16.

    A folder made by another guide (by its digest) is made again.
    """
    import numpy as np
    import torch
    from tqdm import tqdm

    from depth_sr_ros.model.relative_depth import normalise_relative_depth
    from depth_sr_ros.pipeline import state_digest
    from depth_sr_ros.training.samples import to_image_tensor

    assert model.relative_depth is not None
    guide = model.relative_depth.eval()
    folder = folder.with_name(f'{folder.name}_{state_digest(guide)}')
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    guide.to(device)
    for index in tqdm(range(len(frames)), desc='guide', unit='frame'):
        # The name is known without reading the frame where the frames are files.
        names = getattr(frames, 'names', None)
        if names is not None and (folder / f'{names[index]}.npy').is_file():
            continue
        frame = frames[index]
        with torch.inference_mode():
            # Normalised first: what varies may be far below the half-precision step of its level.
            relative = normalise_relative_depth(guide(to_image_tensor(frame.rgb)[None].to(device)))[
                0, 0
            ]
        temporary = folder / f'{frame.name}.part.npy'
        np.save(temporary, relative.cpu().numpy().astype(np.float16))
        temporary.replace(folder / f'{frame.name}.npy')
    guide.to('cpu')
    return folder


def write_preview(config: TrainingConfig, out: Path) -> int:
    """Write DIR/preview.png: 64 training samples as the network will see them."""
    import cv2
    import torch
    from torch.utils.data import DataLoader

    from depth_sr_ros.training.preview import sample_sheet
    from depth_sr_ros.training.samples import FusionSamples, build_frames, collate

    torch.set_num_threads(1)
    dataset = FusionSamples(build_frames(config.train, validation=False), config)
    loader = DataLoader(
        dataset,
        batch_size=64 // config.crops_per_frame,
        sampler=range(64),
        collate_fn=collate,
        num_workers=config.workers,
    )
    sheet = sample_sheet(next(iter(loader)))
    path = out / 'preview.png'
    if not cv2.imwrite(str(path), sheet[..., ::-1]):
        raise OSError(f'{path} could not be written')
    print(f'wrote {path}')
    return 0


def _header_of(task: str, entries: dict[str, str]) -> dict[str, str]:
    """What a run says of the part that it trains: weights hold a network and its guide."""
    return {(_GUIDE_PREFIX if task == 'guide' else '') + key: text for key, text in entries.items()}


def _metadata(config: TrainingConfig, *, guide: bool) -> dict[str, str]:
    """Of this run, and what the initial weights say of the part that it leaves as it is.

    guide: whether the model holds one: without it, nothing is said of one.
    """
    from depth_sr_ros.model.depth_sr import read_metadata

    own = {'git': git_revision(), 'training_config': json.dumps(config.provenance())}
    kept: dict[str, str] = {}
    if config.initial_weights and (guide or config.task == 'guide'):
        kept = {
            key: text
            for key, text in read_metadata(config.initial_weights).items()
            if key.startswith(_GUIDE_PREFIX) != (config.task == 'guide') and key != 'config'
        }
    return {**kept, **_header_of(config.task, own)}


def _callbacks(config: TrainingConfig, out: Path, metadata: dict[str, str], minutes: float | None):
    import datetime

    from lightning.pytorch.callbacks import (
        Callback,
        EMAWeightAveraging,
        ModelCheckpoint,
        TQDMProgressBar,
    )
    from lightning.pytorch.callbacks.timer import Timer
    from lightning.pytorch.strategies import DDPStrategy
    from lightning.pytorch.trainer.states import TrainerFn
    from safetensors import SafetensorError

    from depth_sr_ros.model.depth_sr import read_metadata

    class AveragedWeights(EMAWeightAveraging):
        """Average the weights, and write safetensors whenever they validate best.

        The parent puts the averaged weights aside before the module has logged its score: here
        they stay until after it, so that what is written is what was scored.
        """

        def __init__(self) -> None:
            super().__init__(decay=config.ema_decay)
            self.best = float('inf')
            self.swapped = False

        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), 'best': self.best}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            # The weights may be newer than the checkpoint, when the run was killed since.
            (key,) = _header_of(config.task, {'score': ''})
            written = float(read_metadata(out / 'best').get(key, 'inf'))
            self.best = min(state_dict['best'], written)

        def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            super().on_validation_epoch_start(trainer, pl_module)
            self.swapped = True

        def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            pass

        def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.export(trainer, pl_module)
            self.put_back(trainer, pl_module)

        def on_exception(self, trainer: pl.Trainer, pl_module: Any, _: BaseException) -> None:
            self.put_back(trainer, pl_module)

        def put_back(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if self.swapped:
                super().on_validation_epoch_end(trainer, pl_module)
            self.swapped = False

        def export(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            score = float(trainer.callback_metrics['score'])
            if not trainer.is_global_zero:
                return
            record = {
                name: round(float(value), 5) for name, value in trainer.callback_metrics.items()
            }
            record = {'step': module.trained_steps, 'time': round(time.time()), **record}
            header = {
                'score': f'{score:.5f}',
                'step': str(module.trained_steps),
                'validation': json.dumps(record),
            }
            header = {**metadata, **_header_of(config.task, header)}
            folder = out
            try:
                with open(out / 'validation.jsonl', 'a') as file:
                    file.write(json.dumps(record) + '\n')
                if score < self.best:
                    folder = out / 'best'
                    self.write(module, folder, header)
                    self.best = score
                folder = out / 'latest'
                self.write(module, folder, header)
            except (OSError, SafetensorError) as error:
                print(
                    f'{folder}: the weights could not be written ({error}); '
                    'training goes on, the former ones are kept',
                    file=sys.stderr,
                )

        def write(self, module: Any, folder: Path, header: dict[str, str]) -> None:
            if config.task == 'guide':
                model = module.export_model
                model.relative_depth.load_state_dict(module.guide.state_dict())
            else:
                model = module.model
            model.save(folder, metadata=header)

    class ValidationClock(Callback):
        """The first process tells all when to validate.

        Lightning's own `val_check_interval` of time asks each process's clock: when it is up
        between two of them, one trains a step while the other validates, and both die.
        """

        def on_train_start(self, *_: Any) -> None:
            self.validated = time.monotonic()

        def on_validation_end(self, *_: Any) -> None:
            self.validated = time.monotonic()

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            minutes = (time.monotonic() - self.validated) / 60
            due = trainer.strategy.broadcast(minutes >= config.validate_every_minutes)
            trainer.val_check_batch = 1 if due else _NEVER

    class Interruption(Callback):
        """Ctrl+C or SIGTERM ends the run after a step, the same one in all processes, and saves it.

        Lightning's own handler of SIGTERM communicates wherever the process is: with a step's
        gradients under way, the processes then wait for each other. A second signal is not waited
        with.
        """

        def __init__(self) -> None:
            self.asked = False

        def on_train_start(self, *_: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                # The trainer's teardown puts back those that were there before its own.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, self.ask)

        def ask(self, *_: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.strategy.reduce_boolean_decision(self.asked, all=False):
                trainer.save_checkpoint(out / 'last.ckpt')
                raise InterruptedTraining(trainer.global_step)

    class LastSteps(Callback):
        """An error in mid-run, as of an unreadable frame, does not cost what was trained."""

        def __init__(self) -> None:
            self.start = _NEVER

        def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
            self.start = trainer.global_step

        def on_exception(self, trainer: pl.Trainer, _: Any, exception: BaseException) -> None:
            if (
                not isinstance(exception, Exception)  # an interruption has saved already
                or trainer.state.fn != TrainerFn.FITTING
                or trainer.global_step <= self.start
                # Others than these two need all processes, which may be anywhere.
                or (trainer.world_size > 1 and type(trainer.strategy) is not DDPStrategy)
            ):
                return
            try:
                # As `save_checkpoint`, but for its end, where each process waits for the others.
                state = trainer._checkpoint_connector.dump_checkpoint()
                trainer.strategy.save_checkpoint(state, out / 'last.ckpt')
            except Exception as error:  # The first error is the one to tell.
                print(f'{out / "last.ckpt"}: could not be written ({error})', file=sys.stderr)

    class Progress(TQDMProgressBar):
        """Knows the whole length and how far a resumed run has come: within an epoch it skips the
        epoch's start, where the bar would learn its length, and later epochs count anew."""

        def count_all(self, trainer: pl.Trainer) -> None:
            bar = self.train_progress_bar
            bar.total, bar.initial = trainer.max_steps, trainer.global_step
            bar.n = trainer.global_step

        def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
            super().on_train_start(trainer)
            self.count_all(trainer)

        def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            super().on_train_epoch_start(trainer)
            self.count_all(trainer)

        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            # Batches are counted anew in a resumed run.
            super().on_train_batch_end(trainer, *arguments[:-1], trainer.global_step - 1)

    checkpoint = ModelCheckpoint(
        dirpath=out,
        filename='last',
        save_top_k=1,
        monitor=None,
        enable_version_counter=False,
        train_time_interval=datetime.timedelta(minutes=config.checkpoint_every_minutes),
    )
    callbacks: list[pl.Callback] = [
        AveragedWeights(),
        checkpoint,
        ValidationClock(),
        Interruption(),
        LastSteps(),
        Progress(refresh_rate=10),
    ]
    if minutes is not None:
        callbacks.append(Timer(duration=datetime.timedelta(minutes=minutes)))
    return callbacks


def _checkpoint_files() -> CheckpointIO:
    """How checkpoints are written: one that cannot be does not end the training."""
    import io

    import torch
    from lightning.pytorch.plugins.io import TorchCheckpointIO

    class CheckpointFiles(TorchCheckpointIO):
        """Writes beside the former checkpoint and renames: the parent, which copies into its
        place, would destroy it. Only the first process comes here, between two that all take
        part in, so that an error must not leave it.
        """

        def save_checkpoint(
            self, checkpoint: dict[str, Any], path: Any, *_: Any, **__: Any
        ) -> None:
            temporary = Path(f'{path}.part')
            # What torch cannot write to a file is no OSError, and names no reason.
            content = io.BytesIO()
            torch.save(checkpoint, content)
            try:
                temporary.write_bytes(content.getbuffer())
                temporary.replace(path)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                print(
                    f'{path}: the checkpoint could not be written ({error}); '
                    'training goes on, the former one is kept',
                    file=sys.stderr,
                )

    return CheckpointFiles()


def _curves(folder: Path) -> TensorBoardLogger:
    """TensorBoard's curves and pictures: where they cannot be written, training has none."""
    import contextlib

    from lightning.fabric.loggers.logger import _DummyExperiment
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.utilities import rank_zero_only

    class Curves(TensorBoardLogger):
        lost = False

        @contextlib.contextmanager
        def guarded(self) -> Iterator[None]:
            try:
                yield
            except (OSError, ValueError) as error:
                # The parent makes a ValueError of whatever a scalar fails with.
                reason = error.__cause__ or error
                if not isinstance(reason, OSError):
                    raise
                if not self.lost:
                    print(
                        f'{folder}: curves could not be written ({reason}); '
                        'training goes on without them',
                        file=sys.stderr,
                    )
                self.lost = True

        @property
        def experiment(self) -> Any:
            if not self.lost:
                with self.guarded():
                    return super().experiment
            return _DummyExperiment()

        def log_metrics(self, *arguments: Any, **options: Any) -> None:
            with self.guarded():
                super().log_metrics(*arguments, **options)

        @rank_zero_only
        def add_image(self, *arguments: Any, **options: Any) -> None:
            with self.guarded():
                self.experiment.add_image(*arguments, **options)

        def save(self) -> None:
            with self.guarded():
                super().save()

        def finalize(self, status: str) -> None:
            with self.guarded():
                super().finalize(status)

    return Curves(folder.parent, name=folder.name, version='')


def train(
    config: TrainingConfig,
    out: Path,
    *,
    minutes: float | None = None,
    trainer_options: dict[str, Any] | None = None,
) -> Path:
    """Train until the configured length, `minutes`, or an interruption; resumes from `out`.

    Args:
        config: the run.
        out: folder of last.ckpt (Lightning), best/ and latest/ (safetensors and config.json of
            the validation with the best score, and of the last one), validation.jsonl (one line
            per validation) and the TensorBoard logs.
        minutes: stop after so long.
        trainer_options: passed on to lightning's Trainer (devices, strategy, ...).

    Returns:
        The folder of the best weights.

    Raises:
        KeyboardInterrupt: after Ctrl+C or SIGTERM, with the state saved where it could be.
    """
    import lightning.pytorch as pl
    import torch
    from torch.utils.data import DataLoader

    from depth_sr_ros.data.frame import DatasetError
    from depth_sr_ros.training.module import FusionTraining, GuideTraining
    from depth_sr_ros.training.samples import (
        FusionSamples,
        FusionValidation,
        GuideSamples,
        GuideValidation,
        StepSampler,
        build_frames,
        collate,
        collate_by_size,
        guide_cache,
    )

    pl.seed_everything(config.seed, workers=True, verbose=False)
    frames = build_frames(config.train, validation=False)
    validation_frames = build_frames(config.validation, validation=True)
    total_steps = config.steps or config.epochs * max(1, len(frames) // config.batch_size)
    model = build_model(config)
    metadata = _metadata(config, guide=model.relative_depth is not None)

    module: pl.LightningModule
    training_set: Any
    validation_set: Any
    collate_function: Any
    validation_collate_function: Any
    if config.task == 'guide':
        if model.relative_depth is None:
            raise ValueError(f'model {config.model!r} holds no guide to train')
        size = _guide_input(frames, model.relative_depth)
        module = GuideTraining(model.relative_depth, config, total_steps)
        training_set = GuideSamples(frames, config, size)
        validation_set = GuideValidation(validation_frames, config.validation_frames, size)
        # Outside the module's parameters: only what is written to disk.
        object.__setattr__(module, 'export_model', _copy_of(model))
        collate_function = validation_collate_function = None
    else:
        guides = validation_guides = size = None
        if config.joint_guide and model.relative_depth is not None:
            size = _guide_input(frames, model.relative_depth)
        # Validation sees the guide that training sees: without one, none.
        if model.relative_depth is not None and config.guides.small > 0 and not config.joint_guide:
            cache, validation_cache = guide_cache(config.train), guide_cache(config.validation)
            if cache is not None:
                guides = cache_guide(model, frames, cache)
            if validation_cache is not None:
                validation_guides = cache_guide(model, validation_frames, validation_cache)
        training_set = FusionSamples(frames, config, guides, size)
        validation_set = FusionValidation(validation_frames, config, validation_guides, size)
        module = FusionTraining(model, config, total_steps, list(validation_set.degradations))
        collate_function, validation_collate_function = collate, collate_by_size

    last = out / 'last.ckpt'
    # Beside the checkpoint, so that the first sample after it is known before it is read.
    start_step = _step_of(last, module) if last.is_file() else 0
    trainer = pl.Trainer(
        max_steps=total_steps,
        logger=_curves(out / 'tensorboard'),
        plugins=_checkpoint_files(),
        callbacks=_callbacks(config, out, metadata, minutes),
        gradient_clip_val=config.gradient_clip or None,
        precision=config.precision,  # type: ignore[arg-type]
        use_distributed_sampler=False,
        val_check_interval=_NEVER,  # ValidationClock says when
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_model_summary=False,
        **(trainer_options or {}),
    )
    per_step = config.batch_size * trainer.world_size
    sampler = StepSampler(
        start_step * per_step, total_steps * per_step, trainer.global_rank, trainer.world_size
    )
    loader = DataLoader(
        training_set,
        batch_size=config.batch_size,
        sampler=sampler,
        collate_fn=collate_function,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        **_worker_options(config.workers),
    )
    validation_loader = DataLoader(
        validation_set,
        batch_size=max(1, min(config.batch_size, 8)),
        collate_fn=validation_collate_function,
        **_worker_options(min(config.workers, 4)),
    )
    if last.is_file():
        print(f'resuming from {last} at step {start_step}')
    try:
        trainer.fit(
            module,
            loader,
            validation_loader,
            ckpt_path=str(last) if last.is_file() else None,
            weights_only=True,
        )
        if trainer.global_step > start_step:
            # Before the validation, which may fail, and after it, which knows the best score.
            trainer.save_checkpoint(last)
            trainer.validate(module, validation_loader, verbose=False)
            trainer.save_checkpoint(last)
    except InterruptedTraining as stopped:
        if trainer.is_global_zero:
            # What is there, which a full disk may have kept from being the newest.
            saved = f'{last} holds step {_step_of(last)}' if last.is_file() else 'nothing is saved'
            print(f'stopped after step {stopped}; {saved}; the same command goes on from there')
        raise KeyboardInterrupt from None
    except DatasetError as error:
        raise DatasetError(_said_by_worker(error)) from error
    return out / 'best'


def _guide_input(frames: Sequence[RGBDFrame], guide: RelativeDepth) -> tuple[int, int]:
    """Size (h, w) at which the guide sees all frames in training: that of the first."""
    from depth_sr_ros.model.relative_depth import guide_size

    height, width = frames[0].rgb.shape[:2]
    return guide_size(height, width, guide.config.short_side)


def _single_thread(_worker: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _worker_options(workers: int) -> dict[str, Any]:
    if workers == 0:
        return {'num_workers': 0}
    return {
        'num_workers': workers,
        'worker_init_fn': _single_thread,
        'persistent_workers': True,
        'prefetch_factor': 4,
        # A forked worker inherits the locks of the threads of OpenCV and torch, and hangs.
        'multiprocessing_context': 'spawn',
    }


def _said_by_worker(error: DatasetError) -> str:
    """The error's own sentence, without the traceback that a loader's process puts before it."""
    name = f'{type(error).__module__}.{type(error).__qualname__}: '
    return str(error).rpartition(name)[2].strip()


def _copy_of(model: DepthSR) -> DepthSR:
    import copy

    return copy.deepcopy(model)


def _step_of(checkpoint: Path, module: pl.LightningModule | None = None) -> int:
    """Global step of a Lightning checkpoint.

    Raises:
        ValueError: naming the file, when it is truncated, no checkpoint, or not of `module`.
    """
    import torch

    try:
        content = torch.load(checkpoint, map_location='cpu', weights_only=True)
        step = int(content['global_step'])
        held = {name: tuple(tensor.shape) for name, tensor in content['state_dict'].items()}
    except Exception as error:
        raise ValueError(
            f'{checkpoint} cannot be read ({error}): remove it to start from best/ again '
            '(--set initial_weights=DIR/best)'
        ) from error
    if module is not None:
        wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        others = sorted(
            name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name)
        )
        if others:
            sizes = (str(sizes.get(others[0], 'absent')) for sizes in (held, wanted))
            raise ValueError(
                f'{checkpoint} is of another model or version ({others[0]} is {next(sizes)} there '
                f'and {next(sizes)} here, and {len(others) - 1} more): use another --out, or go on '
                'from its weights with --set initial_weights=DIR/best'
            )
    return step
