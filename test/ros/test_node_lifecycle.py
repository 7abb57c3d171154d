# SPDX-License-Identifier: Apache-2.0
"""Start, transitions, load and end of the real `sr_node`."""

import signal
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

RGB = np.zeros((64, 96, 3), np.uint8)
DEPTH = np.full((32, 48), 1500, np.uint16)

# What the real node does around this pipeline is what is tested. A frame whose first pixel is 7
# stays in it until a file named 'go' appears.
PIPELINE = """
    import os
    if rgb[0, 0, 0] == 7:
        open(os.path.join({folder!r}, 'entered'), 'w').close()
        while not os.path.exists(os.path.join({folder!r}, 'go')):
            time.sleep(0.01)
    if rgb[0, 0, 0] == 255:
        raise RuntimeError('out of memory')
    dense = np.full(rgb.shape[:2], depth.max(), np.float32)
    return SimpleNamespace(depth=dense, confidence=np.ones_like(dense))
"""


@pytest.fixture(scope='module')
def gate(tmp_path_factory):
    return tmp_path_factory.mktemp('gate')


@pytest.fixture(scope='module')
def start(start_injected, make_client, gate):
    """Start the node with the pipeline above; its client comes back."""

    def start(name, *arguments, **wait_for):
        process = start_injected(name, PIPELINE.format(folder=str(gate)), *arguments, **wait_for)
        client = make_client(name)
        client.node_process = process
        return client

    return start


@pytest.fixture(scope='module')
def managed(start):
    """A node that waits to be configured, on the clock of a simulation that never comes."""
    return start('managed', '-p', 'autostart:=false', '-p', 'use_sim_time:=true', wait_for=None)


@pytest.fixture(scope='module')
def active(start):
    client = start('active')
    client.wait_for_node()
    return client


def change_state(client, label):
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    request = ChangeState.Request(transition=Transition(label=label))
    return client.call(ChangeState, 'change_state', request, timeout=60).success


def state(client):
    from lifecycle_msgs.srv import GetState

    return client.call(GetState, 'get_state', GetState.Request()).current_state.label


def test_transitions(managed):
    assert state(managed) == 'unconfigured'
    assert not managed.rgb.get_subscription_count()
    assert change_state(managed, 'configure')
    assert state(managed) == 'inactive'
    for _ in range(2):
        assert change_state(managed, 'activate')
        managed.wait_for_node()
        managed.exchange(RGB, DEPTH)
        assert change_state(managed, 'deactivate')
        assert managed.wait_until(lambda: not managed.rgb.get_subscription_count())
        assert managed.wait_until(lambda: 'inactive' in managed.sentence())
        assert 'ros2 lifecycle set /managed/managed activate' in managed.sentence()
    # One status comes each second: on a slow machine the newest may still be of before.
    assert managed.wait_until(lambda: 'gpu memory allocated [MB]' in managed.values())
    memory = managed.values()
    assert memory['gpu memory allocated [MB]'] == '3.0'
    assert memory['gpu memory peak [MB]'] == '5.0'
    assert 'pipeline closed' not in managed.node_process.output
    assert change_state(managed, 'cleanup')
    assert state(managed) == 'unconfigured'
    managed.node_process.wait_for_line('pipeline closed')
    seen = len(managed.statuses)
    assert managed.wait_until(lambda: len(managed.statuses) >= seen + 2)
    assert 'gpu memory allocated [MB]' not in managed.values()
    assert change_state(managed, 'configure')
    assert change_state(managed, 'activate')
    managed.wait_for_node()
    managed.exchange(RGB, DEPTH)
    assert change_state(managed, 'shutdown')
    assert state(managed) == 'finalized'
    assert 'Traceback' not in managed.node_process.output


def test_under_load_the_newest_frame_wins(active, gate, messages):
    assert active.set_parameters(max_age=60.0)[0]
    superseded = active.fresh_counter('dropped superseded')
    seen, paired = len(active.depths), active.counter('paired')
    sent = [active.send(np.full_like(RGB, 7), DEPTH)]
    assert active.wait_until((gate / 'entered').exists)
    for number in range(5):
        sent.append(active.send(RGB, DEPTH))
        active.wait_for_counter('paired', paired + number + 2)
    assert active.fresh_counter('dropped superseded') == superseded + 4
    assert len(active.depths) == seen
    (gate / 'go').touch()
    assert active.wait_until(lambda: active.outputs_of(sent[-1])), active.values()
    assert [messages.stamp(output) for output in active.depths[seen:]] == [sent[0], sent[-1]]
    assert active.set_parameters(max_age=0.25)[0]


def test_a_failing_pipeline_is_reported_and_the_next_frame_published(active):
    dropped = active.fresh_counter('dropped pipeline error')
    active.send(np.full_like(RGB, 255), DEPTH)
    active.wait_for_counter('dropped pipeline error', dropped + 1)
    active.node_process.wait_for_line('RuntimeError: out of memory')
    active.exchange(RGB, DEPTH)


def test_silence_is_explained(active):
    """Without depth, then without a partner, the sentence and the log say so."""
    client = active
    for _ in range(300):
        client.send(RGB)
        if client.sentence().startswith('no depth/image'):
            break
        time.sleep(0.1)
    assert client.sentence().startswith('no depth/image arrives although 1 publisher(s)')
    assert 'FASTDDS_DEFAULT_PROFILES_FILE=' in client.sentence()
    for _ in range(300):
        stamp_ns = client.next_stamp()
        client.send(RGB, DEPTH, stamp_ns=stamp_ns, depth_stamp_ns=stamp_ns - 300_000_000)
        if client.sentence().startswith('no output'):
            break
        time.sleep(0.1)
    assert client.sentence().startswith('no output: no depth stamp within slop (20 ms)')
    assert 'the nearest is 300.0 ms away' in client.sentence()
    client.node_process.wait_for_line('no output: no depth stamp within slop')


def test_an_incompatible_publisher_is_named(active):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import Image

    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    active.collect(Image, f'{active.own}/depth/image', [], qos)
    line = active.node_process.wait_for_line('incompatible')
    assert '/active/active/depth/image' in line
    assert 'DURABILITY' in line


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_cleanly(start_injected, number):
    process = start_injected(f'ended_by_{number}', PIPELINE.format(folder=''))
    assert process.stop(number) == 0
    assert 'Traceback' not in process.output


def test_a_missing_model_ends_the_node_with_one_line(start_process):
    process = start_process(
        '-c',
        'import sys\nfrom depth_sr_ros.ros.node import main\n'
        'sys.exit(main(load=lambda parameters: open(parameters.weights)))',
        '--ros-args',
        '-p',
        'weights:=/nowhere/at/all',
    )
    assert process.wait() == 1
    assert 'the pipeline could not be loaded: FileNotFoundError' in process.output
    assert '/nowhere/at/all' in process.output
    assert 'Traceback' not in process.output


def test_without_torch_the_remedy_is_said(start_process):
    blocked = "import sys; sys.modules['torch'] = None; from depth_sr_ros.ros.node import main"
    process = start_process('-c', f'{blocked}; sys.exit(main([]))')
    assert process.wait() == 1
    assert f'{sys.executable} -m pip install torch' in process.output
    assert 'Traceback' not in process.output


def test_approximate_pairing_needs_its_package(start_process):
    blocked = "import sys; sys.modules['message_filters'] = None"
    process = start_process(
        '-c',
        f'{blocked}; from depth_sr_ros.ros.node import main; sys.exit(main())',
        '--ros-args',
        '-p',
        'pairing:=approximate',
    )
    assert process.wait() == 1
    assert 'message-filters' in process.output
    assert 'or set it to nearest' in process.output
    assert 'Traceback' not in process.output


def test_approximate_pairing(start, messages):
    pytest.importorskip('message_filters')
    client = start('approximate', '-p', 'pairing:=approximate')
    client.wait_for_node()
    stamp = client.next_stamp()
    client.exchange(RGB, DEPTH, stamp_ns=stamp, depth_stamp_ns=stamp - 5_000_000)


def test_reliable_inputs_and_remapped_outputs(start_injected, make_client, messages):
    process = start_injected(
        'far',
        PIPELINE.format(folder=''),
        *('-p', 'input_reliability:=reliable', '-r', '~/depth/image:=/far/dense'),
    )
    line = process.wait_for_line('rgb/image <-')
    assert 'rgb/image <- /far/rgb/image (reliable, volatile, keep last 5)' in line
    assert 'depth/image <- /far/depth/image (reliable, volatile, keep last 5)' in line
    assert 'rgb/camera_info <- /far/rgb/camera_info (best effort' in line
    client = make_client('far')
    assert client.wait_until(lambda: client.node.count_publishers('/far/dense/compressedDepth'))
    assert not client.node.count_publishers(f'{client.own}/depth/image/compressedDepth')


def test_a_fault_in_a_callback_does_not_end_the_node(start_process, make_client, messages):
    code = """
        import sys
        from depth_sr_ros.ros import node
        from depth_sr_ros.ros.pass_through_node import PassThroughPipeline

        class Faulty(node.NearestPairing):
            def add_depth(self, stamp_ns, item, now_ns):
                if item.message.encoding == 'fault':
                    raise KeyError('nobody expected this')
                return super().add_depth(stamp_ns, item, now_ns)

        node.NearestPairing = Faulty
        sys.exit(node.main(load=lambda parameters: PassThroughPipeline()))
    """
    process = start_process(
        '-c', textwrap.dedent(code), '--ros-args', '-r', '__node:=faulty', '-r', '__ns:=/faulty'
    )
    process.wait_for_line('rgb/image <-')
    client = make_client('faulty')
    client.wait_for_node()
    client.send(None, messages.image(DEPTH, 'fault'))
    process.wait_for_line('nobody expected this')
    client.exchange(RGB, DEPTH)


def test_wrong_start_parameters_are_all_named(start_node):
    process = start_node(name='wrong', wait_for=None, slop=-3.0, output_encoding='mono8')
    assert process.wait() == 1
    assert 'slop' in process.output
    assert '-3.0' in process.output
    assert "output_encoding is 'mono8'" in process.output
    assert 'Traceback' not in process.output


def test_nothing_under_ros_imports_torch(start_process):
    code = 'import depth_sr_ros.ros.node, sys; print("torch" in sys.modules)'
    process = start_process('-c', code)
    assert process.wait() == 0
    assert process.lines[-1] == 'False'


def test_an_idle_node_rests(active, record_property):
    """Measured and recorded, not asserted: other processes share the machine."""

    def cpu_seconds():
        fields = Path(f'/proc/{active.node_process.pid}/stat').read_text().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    if not Path('/proc/self/stat').exists():
        pytest.skip('needs /proc')
    before = cpu_seconds()
    time.sleep(3)
    share = (cpu_seconds() - before) / 3
    record_property('idle CPU share of a core', share)
    print(f'idle: {share:.1%} of a core')
