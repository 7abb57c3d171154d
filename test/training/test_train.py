# SPDX-License-Identifier: Apache-2.0
"""Training for real, on six small frames."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from tensorboard.summary.writer import event_file_writer

from depth_sr_ros.data.frame import DatasetError
from depth_sr_ros.data.rgbd_folder import RGBDFolder
from depth_sr_ros.model import config as model_config
from depth_sr_ros.model.config import (
    DEPTH_ANYTHING_EMBEDDED,
    DepthSRConfig,
    FusionUNetConfig,
    RelativeDepthConfig,
)
from depth_sr_ros.model.depth_sr import DepthSR, read_metadata
from depth_sr_ros.pipeline import embedded_weights
from depth_sr_ros.training.config import TrainingConfig, load_config, shipped_configs
from depth_sr_ros.training.module import FusionTraining, rate_factor
from depth_sr_ros.training.samples import FusionSamples, collate
from depth_sr_ros.training.train import InterruptedTraining, _metadata, build_model, train

TINY = DepthSRConfig(
    fusion=FusionUNetConfig(stem=2, widths=(16, 16, 24, 32), training_size=64), name='tiny'
)
OPTIONS = (
    'steps=6', 'crop=64', 'batch_size=2', 'crops_per_frame=1', 'workers=0', 'validation_frames=1',
    'validation_crop=[64,64]', 'guides={none: 0.5, small: 0.0, imitated: 0.5}', 'ema_decay=0.5',
    'schedule=constant',
)  # fmt: skip


@pytest.fixture
def initial_weights(tmp_path):
    header = {'git': 'of the network', 'guide_git': 'of the guide'}
    DepthSR(TINY).save(tmp_path / 'initial', metadata=header)
    return tmp_path / 'initial'


def command(out, frames_folder, validation_folder, initial_weights, *more):
    options = [
        *OPTIONS,
        f'initial_weights={json.dumps(str(initial_weights))}',
        f'train.path={json.dumps(str(frames_folder))}',
        f'validation.path={json.dumps(str(validation_folder))}',
        *(option for option in more if not option.startswith('--')),
    ]
    arguments = [f'--set={option}' for option in options]
    flags = [option for option in more if option.startswith('--')]
    return [
        sys.executable, '-m', 'depth_sr_ros.cli', 'train', 'embedded', '--out', str(out),
        '--accelerator=cpu', *([] if any('devices' in flag for flag in flags) else ['--devices=1']),
        *arguments, *flags,
    ]  # fmt: skip


def run(arguments):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        arguments, capture_output=True, text=True, env=environment, timeout=240, check=False
    )


def test_the_weights_of_the_losses_count(frames_folder):
    def loss(**weights):
        config = TrainingConfig(steps=1, crop=64, degradation='scale=8', **weights)
        torch.manual_seed(0)
        module = FusionTraining(DepthSR(TINY), config, 1, ['scale=8'])
        module.log = lambda name, *_, **__: logged.add(name)
        return module.training_step(batch, 0).item()

    samples = FusionSamples(
        RGBDFolder(frames_folder), TrainingConfig(steps=1, crop=64, degradation='scale=8')
    )
    batch = collate([samples[index] for index in range(2)])
    logged = set()
    assert loss(square_weight=3.0) > loss()
    assert 'ratio_loss' not in logged
    # Untrained, the network gives the interpolated input: a ratio of one.
    assert loss(ratio_weight=0.3) - loss() == pytest.approx(0.3, abs=1e-4)
    assert 'ratio_loss' in logged


@pytest.mark.parametrize(
    ('names', 'allowed', 'wrong'),
    [
        (('edge_weight', 'square_weight', 'ratio_weight', 'confidence_weight'), '0 or more', -0.5),
        (
            (
                'learning_rate',
                'guide_learning_rate',
                'validate_every_minutes',
                'checkpoint_every_minutes',
            ),
            'above 0',
            0.0,
        ),
    ],
)
def test_weights_and_rates_that_cannot_be_are_quoted(names, allowed, wrong):
    for name in names:
        for value in (wrong, math.nan, math.inf):
            with pytest.raises(ValueError, match=f'{name} is {value}: expected {allowed}, finite'):
                TrainingConfig(steps=1, **{name: value})


def test_four_samples_can_be_learnt_by_heart(frames_folder):
    torch.manual_seed(0)
    config = TrainingConfig(
        steps=150, crop=64, degradation='scale=8', learning_rate=4e-3, schedule='cosine',
        warmup_steps=10, confidence_weight=0.02, ratio_weight=0.3,
    )  # fmt: skip
    samples = FusionSamples(RGBDFolder(frames_folder), config)
    batch = collate([samples[index] for index in range(4)])
    module = FusionTraining(DepthSR(TINY), config, 150, ['scale=8'])
    module.log = lambda *_, **__: None
    made = module.configure_optimizers()
    optimizer, schedule = made['optimizer'], made['lr_scheduler']['scheduler']
    for _ in range(150):
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        output = module(batch)
    truth = batch['truth']

    def rmse(depth):
        return (depth - truth)[truth > 0].square().mean().sqrt().item()

    assert rmse(output.depth) < 0.35 * rmse(output.interpolated)


def test_what_initial_weights_say_of_their_guide_stays_with_it(initial_weights):
    config = TrainingConfig(steps=1, initial_weights=str(initial_weights))
    assert _metadata(config, guide=True)['guide_git'] == 'of the guide'
    assert 'guide_git' not in _metadata(config, guide=False)
    for guide in (True, False):
        assert _metadata(config, guide=guide)['git'] != 'of the network'


def test_training_writes_resumes_and_says_where_weights_come_from(
    tmp_path, frames_folder, validation_folder, initial_weights
):
    out = tmp_path / 'out'
    first = run(command(out, frames_folder, validation_folder, initial_weights, 'steps=4'))
    assert first.returncode == 0, first.stderr
    assert (out / 'last.ckpt').is_file()
    metadata = read_metadata(out / 'best')
    assert metadata['git'] not in ('', 'of the network')
    assert json.loads(metadata['training_config'])['crop'] == 64
    # Of a guide that these weights do not hold nothing is said.
    assert 'guide_git' not in metadata
    assert metadata['step'] == '4'
    DepthSR.from_pretrained(out / 'best')
    assert read_metadata(out / 'latest') == metadata
    records = (out / 'validation.jsonl').read_text().splitlines()
    assert json.loads(records[-1])['step'] == 4
    assert 'ratio/x8' in json.loads(records[-1])
    assert list((out / 'tensorboard').glob('events*'))

    second = run(command(out, frames_folder, validation_folder, initial_weights, 'steps=7'))
    assert second.returncode == 0, second.stderr
    assert 'at step 4' in second.stdout
    # The bar knows where it ends, without which there is no ETA.
    assert re.search(r'Epoch \d+: 100%\S* 7/7 \[', second.stdout), second.stdout
    assert json.loads((out / 'validation.jsonl').read_text().splitlines()[-1])['step'] == 7
    assert read_metadata(out / 'latest')['step'] == '7'


def test_a_killed_run_loses_only_what_came_after_its_last_checkpoint(
    tmp_path, frames_folder, validation_folder, initial_weights
):
    out = tmp_path / 'out'
    arguments = command(
        out, frames_folder, validation_folder, initial_weights,
        'steps=100000', 'checkpoint_every_minutes=0.02',
    )  # fmt: skip
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 180
        while not (out / 'last.ckpt').is_file() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.2)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    step = torch.load(out / 'last.ckpt', weights_only=True)['global_step']
    assert step > 0
    resumed = run(
        command(
            out, frames_folder, validation_folder, initial_weights, f'steps={step + 2}',
        )
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert f'at step {step}' in resumed.stdout


def stop(arguments, send, ready):
    """Start a run in processes of its own, `send(its process id)` a signal once `ready(what it
    printed)`, and return what it printed."""
    process = subprocess.Popen(
        arguments, env={**os.environ, 'OMP_NUM_THREADS': '1'}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        shown = ''
        while not ready(shown):
            assert process.poll() is None, shown
            shown += process.stdout.read(1)
        send(process.pid)
        shown += process.communicate(timeout=60)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    return shown


def test_ctrl_c_saves_what_was_trained(tmp_path, frames_folder, validation_folder, initial_weights):
    out = tmp_path / 'out'
    arguments = command(
        out, frames_folder, validation_folder, initial_weights, 'steps=100000',
        'validate_every_minutes=60',
    )  # fmt: skip
    # As a terminal does: to all of the group.
    shown = stop(
        arguments, lambda pid: os.killpg(pid, signal.SIGINT), lambda shown: '10/100000' in shown
    )
    step = torch.load(out / 'last.ckpt', weights_only=True)['global_step']
    assert step >= 10
    assert f'last.ckpt holds step {step}; the same command goes on from there' in shown


# The processes' clocks never show the same: here the second one's runs three times as fast.
FAST_CLOCK = """
import os, sys, time
from pathlib import Path
rank = os.environ.get('LOCAL_RANK', '0')
Path(__file__).with_name('process_' + rank).write_text(str(os.getpid()))
clock = time.monotonic
time.monotonic = lambda: clock() * (3 if rank == '1' else 1)
from depth_sr_ros.cli import main
from depth_sr_ros.training.module import FusionTraining

def on_validation_start(self):
    with Path(__file__).with_name('validated_' + rank).open('a') as file:
        print(self.global_step, file=file)

FusionTraining.on_validation_start = on_validation_start
sys.exit(main())
"""


def test_two_processes_validate_and_stop_together_whatever_their_clocks_say(
    tmp_path, frames_folder, validation_folder, initial_weights
):
    out = tmp_path / 'out'
    script = tmp_path / 'fast_clock.py'
    script.write_text(FAST_CLOCK)
    arguments = command(
        out, frames_folder, validation_folder, initial_weights, 'steps=100000',
        'validate_every_minutes=0.01', '--devices=2', '--strategy=ddp',
    )  # fmt: skip
    arguments[1:3] = [str(script)]

    def validated(rank):
        path = tmp_path / f'validated_{rank}'
        return path.read_text().split() if path.exists() else []

    def ask_the_second(_):
        os.kill(int((tmp_path / 'process_1').read_text()), signal.SIGTERM)

    shown = stop(arguments, ask_the_second, lambda _: len(validated('1')) > 2)
    assert validated('0') == validated('1')
    # Each step consumed the batches of both.
    step = torch.load(out / 'last.ckpt', weights_only=True)['global_step']
    assert f'last.ckpt holds step {step};' in shown
    assert step >= int(validated('0')[-1])
    DepthSR.from_pretrained(out / 'best')


def test_what_cannot_be_written_does_not_end_the_training(
    tmp_path, frames_folder, validation_folder, initial_weights
):
    out = tmp_path / 'out'
    out.mkdir()
    # Where the folder of the weights should be stands a file, as unwritable as a full disk.
    (out / 'best').write_text('')
    done = run(command(out, frames_folder, validation_folder, initial_weights, 'steps=2'))
    assert done.returncode == 0, done.stderr
    assert 'could not be written' in done.stderr
    assert (out / 'last.ckpt').is_file()


def small_run(frames_folder, validation_folder, initial_weights, *more):
    options = [
        *OPTIONS,
        f'initial_weights={json.dumps(str(initial_weights))}',
        f'train.path={json.dumps(str(frames_folder))}',
        f'validation.path={json.dumps(str(validation_folder))}',
        'degradation=scale=4',
    ]
    return load_config('embedded', [*options, *more])


def train_here(config, out):
    return train(config, out, trainer_options={'accelerator': 'cpu', 'devices': 1})


def held(out):
    return torch.load(out / 'last.ckpt', weights_only=True)


def test_a_full_disk_costs_neither_the_training_nor_the_former_checkpoint(
    tmp_path, frames_folder, validation_folder, initial_weights, monkeypatch, capsys
):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    def full_for_weights(*_, **__):
        raise SafetensorError('I/O error: No space left on device')

    out = tmp_path / 'out'
    arguments = (frames_folder, validation_folder, initial_weights)
    train_here(small_run(*arguments, 'steps=1'), out)
    assert 'could not be written' not in capsys.readouterr().err
    best = read_metadata(out / 'best')['step']
    former = (out / 'last.ckpt').read_bytes()
    with monkeypatch.context() as disk:
        disk.setattr(event_file_writer.EventFileWriter, 'add_event', full)
        disk.setattr(Path, 'write_bytes', full)
        disk.setattr('depth_sr_ros.model.depth_sr.save_file', full_for_weights)
        train_here(small_run(*arguments, 'steps=3'), out)
    told = capsys.readouterr().err
    assert told.count(f'{out / "tensorboard"}: curves could not be written') == 1
    assert f'{out / "last.ckpt"}: the checkpoint could not be written' in told
    assert (out / 'last.ckpt').read_bytes() == former
    assert read_metadata(out / 'best')['step'] == best
    assert not list(out.glob('*.part'))


@pytest.mark.parametrize('workers', [0, 1])
def test_an_unreadable_frame_costs_only_the_step_that_needs_it(
    tmp_path, frames_folder, validation_folder, initial_weights, workers
):
    damaged = tmp_path / 'frames'
    shutil.copytree(frames_folder, damaged)
    arguments = (validation_folder, initial_weights, 'steps=3', 'seed=0')
    config = small_run(damaged, *arguments, f'workers={workers}')
    # The frame of the third step's first sample.
    name = FusionSamples(RGBDFolder(damaged), config)._frame(4).name
    whole = (damaged / 'rgb' / f'{name}.png').read_bytes()
    (damaged / 'rgb' / f'{name}.png').write_bytes(whole[:100])
    out = tmp_path / 'out'
    with pytest.raises(DatasetError) as caught:
        train_here(config, out)
    assert str(caught.value).startswith(str(damaged / 'rgb' / f'{name}.png'))
    assert '\n' not in str(caught.value)
    assert held(out)['global_step'] == 2
    (damaged / 'rgb' / f'{name}.png').write_bytes(whole)
    for folder in (out, tmp_path / 'undisturbed'):
        train_here(small_run(damaged, *arguments), folder)
    assert_same_weights(held(out), held(tmp_path / 'undisturbed'))


def assert_same_weights(one, other):
    assert one['global_step'] == other['global_step']
    for part in ('state_dict', 'current_model_state'):
        for name, tensor in one[part].items():
            torch.testing.assert_close(tensor, other[part][name], rtol=0, atol=0)


@pytest.mark.parametrize('minutes', [1e-9, 60])
def test_a_validation_that_fails_costs_no_step(
    tmp_path, frames_folder, validation_folder, initial_weights, minutes
):
    damaged = tmp_path / 'validation'
    shutil.copytree(validation_folder, damaged)
    file = damaged / 'rgb' / '000.png'
    whole = file.read_bytes()
    arguments = (frames_folder, damaged, initial_weights)
    outs = tmp_path / 'out', tmp_path / 'undisturbed'
    for out in outs:
        train_here(small_run(*arguments, 'steps=1'), out)
    file.write_bytes(whole[:100])
    config = small_run(*arguments, 'steps=3', f'validate_every_minutes={minutes}')
    with pytest.raises(DatasetError, match=r'000\.png'):
        train_here(config, outs[0])
    # In mid-run it fails while the averaged weights are where those of the training belong.
    assert held(outs[0])['global_step'] == (2 if minutes < 1 else 3)
    file.write_bytes(whole)
    for out in outs:
        train_here(config, out)
    assert_same_weights(*(held(out) for out in outs))


def test_better_weights_than_the_checkpoint_knows_of_are_not_overwritten(
    tmp_path, frames_folder, validation_folder, initial_weights
):
    out = tmp_path / 'out'
    arguments = (frames_folder, validation_folder, initial_weights)
    train_here(small_run(*arguments, 'steps=1'), out)
    # As when the run was killed after a validation, before the next checkpoint.
    header = {**read_metadata(out / 'best'), 'score': '0.00001', 'step': 'of before'}
    del header['format'], header['config']
    DepthSR(TINY).save(out / 'best', metadata=header)
    train_here(small_run(*arguments, 'steps=2'), out)
    assert read_metadata(out / 'best')['step'] == 'of before'
    assert read_metadata(out / 'latest')['step'] == '2'


def test_a_guide_that_is_trained_too_learns_from_whole_frames(
    tmp_path, frames_folder, validation_folder
):
    architecture = {
        **DEPTH_ANYTHING_EMBEDDED,
        'backbone_config': {**DEPTH_ANYTHING_EMBEDDED['backbone_config'], 'hidden_size': 32},
        'reassemble_hidden_size': 32,
        'neck_hidden_sizes': [8, 8, 8, 8],
        'fusion_hidden_size': 8,
        'head_hidden_size': 8,
    }
    guide = RelativeDepthConfig(architecture=architecture, short_side=28)
    DepthSR(dataclasses.replace(TINY, relative_depth=guide)).save(tmp_path / 'initial')
    arguments = (frames_folder, validation_folder, tmp_path / 'initial', 'joint_guide=true')
    shares = 'guides={none: 0.0, small: 1.0, imitated: 0.0}'
    more = ('steps=2', 'guide_learning_rate=0.01', 'learning_rate=0.01', 'ema_decay=0.0')
    train_here(small_run(*arguments, shares, *more), tmp_path / 'out')
    before, after = (
        DepthSR.from_pretrained(tmp_path / name).relative_depth.state_dict()
        for name in ('initial', 'out/latest')
    )
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_checkpoint_of_another_model_is_named(
    tmp_path, frames_folder, validation_folder, initial_weights
):
    out = tmp_path / 'out'
    arguments = (frames_folder, validation_folder)
    train_here(small_run(*arguments, initial_weights, 'steps=1'), out)
    wider = dataclasses.replace(TINY.fusion, widths=(16, 16, 24, 40))
    DepthSR(dataclasses.replace(TINY, fusion=wider)).save(tmp_path / 'wider')
    with pytest.raises(ValueError, match=r'last\.ckpt is of another model .* \d+ more\): use'):
        train_here(small_run(*arguments, tmp_path / 'wider', 'steps=2'), out)


@pytest.mark.parametrize('devices', [1, 2])
def test_machines_and_their_processes_share_the_samples(
    tmp_path, frames_folder, validation_folder, initial_weights, monkeypatch, devices
):
    shares = []

    def fit(_trainer, _module, loader, *_, **__):
        shares.append(list(loader.sampler))
        raise InterruptedTraining(0)

    monkeypatch.setattr(pl.Trainer, 'fit', fit)
    config = small_run(frames_folder, validation_folder, initial_weights, 'steps=2')
    options = {'accelerator': 'cpu', 'devices': devices, 'num_nodes': 2, 'strategy': 'ddp'}
    for node in range(2):
        for process in range(devices):
            monkeypatch.setenv('NODE_RANK', str(node))
            monkeypatch.setenv('LOCAL_RANK', str(process))
            with pytest.raises(KeyboardInterrupt):
                train(config, tmp_path / 'out', trainer_options=options)
    assert sorted(index for share in shares for index in share) == list(
        range(2 * config.batch_size * 2 * devices)
    )


def test_training_goes_on_from_weights_of_a_network_that_has_grown_since(tmp_path, monkeypatch):
    grown = dataclasses.replace(
        TINY,
        fusion=dataclasses.replace(
            TINY.fusion,
            stem=4,
            detail_width=8,
            consistency_steps=2,
            smoothing_sizes=(8,),
            fitting_size=8,
            softening_sizes=(3,),
            denoising=True,
            keeping=True,
            guided_filter_cells=(4,),
            repetition=True,
        ),
        name='grown',
    )
    former = dataclasses.replace(
        grown,
        fusion=dataclasses.replace(
            grown.fusion,
            detail_width=0,
            consistency_steps=0,
            smoothing_sizes=(),
            fitting_size=0,
            softening_sizes=(),
            denoising=False,
            keeping=False,
            guided_filter_cells=(),
            repetition=False,
        ),
    )
    monkeypatch.setitem(model_config.CONFIGURATIONS, 'grown', grown)
    before = DepthSR(former).eval()
    torch.nn.init.normal_(before.fusion.head[0].weight, std=0.1)
    before.save(tmp_path / 'former', half=False)
    config = TrainingConfig(model='grown', steps=1, initial_weights=str(tmp_path / 'former'))
    after = build_model(config).eval()
    assert after.config.fusion.detail_width == 8
    assert len(after.config.fusion.heads) == 10
    rgb, depth = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 16, 16) + 1
    with torch.inference_mode():
        assert torch.equal(after(rgb, depth).depth, before(rgb, depth).depth)
    monkeypatch.setitem(
        model_config.CONFIGURATIONS,
        'grown',
        dataclasses.replace(grown, fusion=dataclasses.replace(grown.fusion, widths=(8, 8, 8, 24))),
    )
    with pytest.raises(ValueError, match='former'):
        build_model(config)


def test_base_starts_as_the_embedded_weights():
    shipped = embedded_weights()['embedded']
    before = DepthSR.from_pretrained(str(shipped)).eval()
    before.relative_depth = None
    after = build_model(load_config('base', [f'initial_weights={json.dumps(str(shipped))}'])).eval()
    assert after.config == model_config.CONFIGURATIONS['base']
    counts = [sum(p.numel() for p in model.fusion.parameters()) for model in (before, after)]
    assert counts[1] > 2 * counts[0]
    rgb, depth = torch.rand(1, 3, 96, 128), torch.rand(1, 1, 24, 32) + 1
    with torch.inference_mode():
        relative = torch.rand(1, 1, 96, 128)
        expected, got = before(rgb, depth, relative), after(rgb, depth, relative)
    assert torch.equal(got.depth, expected.depth)
    assert not torch.equal(got.depth, got.interpolated)


def test_truncated_checkpoint_is_named(tmp_path, frames_folder, validation_folder, initial_weights):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'last.ckpt').write_bytes(b'PK\x03\x04 nothing more')
    done = run(command(out, frames_folder, validation_folder, initial_weights))
    assert done.returncode == 2
    assert 'last.ckpt' in done.stderr


def test_preview_is_a_picture_of_64_samples(tmp_path, frames_folder, validation_folder):
    done = run(
        [
            sys.executable, '-m', 'depth_sr_ros.cli', 'train', 'embedded', '--preview',
            '--out', str(tmp_path), '--train', str(frames_folder), '--set=crop=64',
            '--set=workers=0',
        ]
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    picture = cv2.imread(str(tmp_path / 'preview.png'))
    assert picture.shape == (32 * 160, 2 * 5 * 160 + 8, 3)
    assert picture.std() > 20


def test_guide_training_writes_weights_that_the_fusion_starts_from(
    tmp_path, frames_folder, validation_folder
):
    arguments = [
        sys.executable, '-m', 'depth_sr_ros.cli', 'train', 'guide', '--out', str(tmp_path / 'g'),
        '--train', str(frames_folder), '--validation', str(validation_folder),
        '--accelerator=cpu', '--devices=1', '--set=steps=1', '--set=batch_size=1',
        '--set=workers=0', '--set=validation_frames=1',
    ]  # fmt: skip
    done = run(arguments)
    assert done.returncode == 0, done.stderr
    model = DepthSR.from_pretrained(tmp_path / 'g' / 'best')
    assert model.relative_depth is not None
    header = read_metadata(tmp_path / 'g' / 'best')
    assert header['guide_step'] == '1'
    assert 'score' not in header


def test_shipped_configurations_can_be_read():
    assert set(shipped_configs()) == {'seed', 'embedded', 'base', 'guide'}
    for name in shipped_configs():
        load_config(name)
    seed = load_config('seed')
    assert (seed.batch_size, seed.epochs) == (8, 500)
    assert (seed.learning_rate, seed.guide_learning_rate) == (2e-4, 2e-6)
    assert seed.loss_space == 'linear_300'
    assert seed.joint_guide
    assert load_config('seed', ['learning_rate=3e-4']).learning_rate == 3e-4


@pytest.mark.parametrize(
    ('override', 'words'),
    [
        ('stepz=3', 'stepz'),
        ('steps=0', 'exactly one'),
        ('batch_size=0', 'batch_size is 0'),
        ('guides={none: 0.9, small: 0.9, imitated: 0.0}', '1.8'),
        ('schedule=linear', 'linear'),
        ('steps', 'KEY=VALUE'),
        ('learning_rate=fast', 'fast'),
    ],
)
def test_wrong_configurations_are_quoted(override, words):
    with pytest.raises(ValueError, match=words):
        load_config('embedded', [override])


def test_unknown_configuration_names_the_known_ones():
    with pytest.raises(FileNotFoundError, match='embedded'):
        load_config('unheard_of')


def test_schedule_warms_up_and_cools_down():
    config = TrainingConfig(steps=1000, schedule='cosine', warmup_steps=100)
    factors = [rate_factor(config, 1000, step) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.02, abs=0.001)
    assert np.argmax(factors) in (99, 100)
