# SPDX-License-Identifier: Apache-2.0
"""Measures what arrives of a camera's images over a network that is slow and loses packets.

    sudo .venv/bin/python tools/measure_network.py --camera vga --out out/network

Two network namespaces stand for two machines with a cable between them. tbf limits its rate in both
directions, iptables' statistic takes packets out at the far end (each fragment of a datagram by
itself), and each side has a /dev/shm of its own, so that nothing goes through shared memory. One
side runs the real demo_camera, the other a subscriber or, with --node, the real sr_node around a
pass-through pipeline. For each link and each choice of settings: the share of the captured images
that arrived, what crossed the cable, and the latency from stamp to callback.

--discovery measures instead how long it takes until images flow after the subscriber was started.

Writes OUT.json after every run and OUT.md at the end; started again with the same --out it goes on
where it was interrupted. Needs root, iproute2, iptables and util-linux.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from depth_sr_ros.ros.child_process import ChildProcess
from depth_sr_ros.ros.progress_line import ProgressLine
from depth_sr_ros.ros.transport_profile import OLD_VARIABLE, VARIABLE

ROOT = Path(__file__).resolve().parents[1]
CAMERA_ADDRESS, NODE_ADDRESS = '10.77.0.1', '10.77.0.2'
PREFIX = 'depth_sr_'
DISCOVERY_PORT = 11811
# What a driver's network card queues before it drops: 1000 packets.
QUEUE_BYTES = 1_500_000
DISCOVERY_BYTES = 20_000  # in a tenth of a second
START_SECONDS, SETTLE_SECONDS, DISCOVERY_SECONDS = 30.0, 1.5, 30.0

CAMERAS = {
    'vga': {'rgb_size': '640x480', 'degradation': 'noise=0.005,holes=0.05'},
    # The least that the node can make the same output of: less JPEG, depth a quarter as wide.
    'small': {
        'rgb_size': '640x480',
        'jpeg_quality': 80,
        'degradation': 'scale=4,noise=0.005,holes=0.05',
    },
    '1080p': {'rgb_size': '1920x1080', 'degradation': 'scale=3,noise=0.005,holes=0.05'},
}
PROFILES: dict[str, dict[str, str]] = {
    'default': {},
    'ipfrag': {},
    'images': {VARIABLE: str(ROOT / 'config/fastdds_images.xml')},
    'network': {VARIABLE: str(ROOT / 'config/fastdds_network.xml')},
    'large_data': {'FASTDDS_BUILTIN_TRANSPORTS': 'LARGE_DATA'},
}
# What the ROS 2 documentation advises for large messages over a lossy network: give up sooner on
# datagrams of which a fragment is missing, and let more of them wait.
SYSCTLS = {'ipfrag': {'net.ipv4.ipfrag_time': 3, 'net.ipv4.ipfrag_high_thresh': 134217728}}
DISCOVERIES = ('multicast', 'static peers', 'initial peers', 'discovery server')
# Put into the profile's <rtps>, because there is one file of profiles.
INITIAL_PEERS = (
    '<builtin><initialPeersList><locator><udpv4><address>{}</address></udpv4></locator>'
    '</initialPeersList></builtin>'
)
NO_PROFILE = (
    '<profiles><participant profile_name="peers" is_default_profile="true"><rtps>'
    '</rtps></participant></profiles>'
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a user sets. `camera` and `node` are the profiles of the two machines: a key of
    PROFILES, or an XML file."""

    transport: str = 'raw'
    reliability: str = 'best_effort'
    camera: str = 'default'
    node: str = 'default'

    def __post_init__(self) -> None:
        if self.transport not in ('raw', 'compressed'):
            raise ValueError(f'transport is {self.transport!r}; allowed: raw, compressed')
        if self.reliability not in ('best_effort', 'reliable'):
            raise ValueError(f'reliability is {self.reliability!r}; allowed: best_effort, reliable')
        for profile in (self.camera, self.node):
            if profile not in PROFILES and not Path(profile).is_file():
                raise ValueError(
                    f'profile is {profile!r}; allowed: {", ".join(PROFILES)}, or an XML file'
                )

    @classmethod
    def parse(cls, text: str) -> Choice:
        """`transport,reliability,profile` or `transport,reliability,camera profile,node profile`.

        Raises ValueError, quoting what is allowed.
        """
        words = text.split(',')
        if len(words) not in (3, 4):
            raise ValueError(
                f'choice is {text!r}; it must be TRANSPORT,RELIABILITY,PROFILE[,PROFILE]'
            )
        return cls(*words[:3], words[-1])


@dataclasses.dataclass(frozen=True)
class Link:
    """`mbit` per second and per cent of the packets lost, each way."""

    mbit: float
    loss: float
    multicast: bool = True

    def __str__(self) -> str:
        text = f'{self.mbit:g} Mbit/s, {self.loss:g}% lost'
        return text if self.multicast else f'{text}, no multicast'


def default_choices() -> list[Choice]:
    return [
        # The node's own default profile is that for images.
        Choice(transport, reliability, camera, 'images' if camera == 'network' else camera)
        for transport in ('raw', 'compressed')
        for camera in PROFILES
        for reliability in ('best_effort', 'reliable')
    ]


class Machine:
    """One namespace: commands started in it see its network and its /dev/shm."""

    def __init__(self, name: str, address: str) -> None:
        self.name = f'{PREFIX}{name}_{os.getpid()}'
        self.address = address
        self.device = f'dsr{os.getpid() % 10**7}{name[0]}'
        _run('ip', 'netns', 'add', self.name)
        self._holder = subprocess.Popen(
            [
                *('ip', 'netns', 'exec', self.name, 'sh', '-c'),
                'mount -t tmpfs -o size=1g tmpfs /dev/shm && echo && exec sleep infinity',
            ],
            stdout=subprocess.PIPE,
        )
        if not self._holder.stdout.readline():
            raise RuntimeError(
                f'{self.name} could not be given a /dev/shm of its own: is this root?'
            )

    def connect(self) -> None:
        _run('ip', 'link', 'set', self.device, 'netns', self.name)
        # One packet at a time, so that a lost one is a lost one.
        self.do('ip', 'link', 'set', self.device, 'gso_max_segs', '1')
        self.do('ip', 'address', 'add', f'{self.address}/24', 'dev', self.device)
        for device in ('lo', self.device):
            self.do('ip', 'link', 'set', device, 'up')

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command here."""
        return ['nsenter', f'--target={self._holder.pid}', '--mount', '--net', '--', *command]

    def do(self, *command: str) -> str:
        return _run(*self.command(*command))

    def limit(self, link: Link) -> None:
        self.do(
            *('tc', 'qdisc', 'replace', 'dev', self.device, 'root', 'tbf'),
            *('rate', f'{link.mbit}mbit', 'burst', '64kb', 'limit', str(QUEUE_BYTES)),
        )
        self.do('iptables', '-t', 'raw', '-F')
        drop = ('iptables', '-t', 'raw', '-A', 'PREROUTING', '-i', self.device)
        if link.loss:
            probability = ('--mode', 'random', '--probability', str(link.loss / 100))
            self.do(*drop, '-m', 'statistic', *probability, '-j', 'DROP')
        if not link.multicast:
            self.do(*drop, '-d', '224.0.0.0/4', '-j', 'DROP')

    def set_kernel(self, profile: str) -> None:
        for name, value in SYSCTLS.get(profile, {}).items():
            self.do('sh', '-c', f'echo {value} > /proc/sys/{name.replace(".", "/")}')

    def sent(self) -> int:
        """Bytes that went out over the cable."""
        statistics = json.loads(self.do('ip', '-s', '-j', 'link', 'show', 'dev', self.device))
        return statistics[0]['stats64']['tx']['bytes']

    def remove(self) -> None:
        self._holder.kill()
        self._holder.wait()
        subprocess.run(['ip', 'netns', 'delete', self.name], check=False, capture_output=True)


class Network:
    """Two machines and their cable; a context manager that leaves nothing behind."""

    def __enter__(self) -> Network:
        remove_leftovers()
        self._machines: list[Machine] = []
        try:
            for name, address in (('camera', CAMERA_ADDRESS), ('node', NODE_ADDRESS)):
                self._machines.append(Machine(name, address))
            self.camera, self.node = self._machines
            ends = (self.camera.device, 'type', 'veth', 'peer', 'name', self.node.device)
            _run('ip', 'link', 'add', *ends)
            for machine in self._machines:
                machine.connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self._machines:
            machine.remove()

    def limit(self, link: Link) -> None:
        for machine in self._machines:
            machine.limit(link)


def remove_leftovers() -> None:
    """Delete the namespaces of runs that were killed."""
    for line in _run('ip', 'netns', 'list').splitlines():
        name = line.split()[0]
        if name.startswith(PREFIX) and not Path(f'/proc/{name.rsplit("_", 1)[-1]}').exists():
            _run('ip', 'netns', 'delete', name)


def why_not() -> str:
    """Why no network can be made here; '' where one can."""
    missing = [tool for tool in ('ip', 'tc', 'iptables', 'nsenter') if not shutil.which(tool)]
    if missing:
        return f'{", ".join(missing)} not found: install iproute2, iptables and util-linux'
    if os.geteuid():
        return 'network namespaces need root'
    try:
        with Network() as network:
            network.limit(Link(100, 1))
    except (RuntimeError, OSError) as error:
        return f'no network namespaces here: {error}'
    return ''


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'`{" ".join(command)}` failed: {done.stderr.strip()}')
    return done.stdout


# The subscriber's side, in a process of its own


def topics_of(transport: str, node: bool) -> dict[str, str]:
    """What is counted -> its topic."""
    if node:
        return {'output': '/sr_node/depth/image'}
    suffixes = {'raw': ('', ''), 'compressed': ('/compressed', '/compressedDepth')}[transport]
    return {
        'rgb': f'/camera/color/image_raw{suffixes[0]}',
        'depth': f'/camera/depth/image_raw{suffixes[1]}',
    }


def receive(
    topics: dict[str, str], reliability: str, compressed: bool, until_all: bool = False
) -> None:
    """Count until SIGINT (or until each topic has come once), then print one line of JSON:
    latencies in ms by topic, and the seconds from the subscription to the first message of each."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from rclpy.time import Time
    from sensor_msgs.msg import CompressedImage, Image

    rclpy.init()
    node = rclpy.create_node('network_subscriber')
    latencies: dict[str, list[float]] = {name: [] for name in topics}
    first: dict[str, float] = {}
    start = time.monotonic()

    def received(name, message):
        first.setdefault(name, time.monotonic() - start)
        age = node.get_clock().now() - Time.from_msg(message.header.stamp)
        latencies[name].append(age.nanoseconds / 1e6)

    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])
    kind = CompressedImage if compressed else Image
    for name, topic in topics.items():
        node.create_subscription(kind, topic, functools.partial(received, name), qos)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        while not (until_all and len(first) == len(topics)):
            rclpy.spin_once(node)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(json.dumps({'latencies': latencies, 'first': first}), flush=True)
    rclpy.try_shutdown()


# One run


@dataclasses.dataclass(frozen=True)
class Run:
    """One line of the result."""

    camera: str
    link: Link
    choice: Choice
    discovery: str = 'multicast'

    @property
    def key(self) -> str:
        choice = dataclasses.astuple(self.choice)
        return ' | '.join((self.camera, str(self.link), *choice, self.discovery))


def clean_environment() -> dict[str, str]:
    """This one's, without what is measured."""
    dropped = (VARIABLE, OLD_VARIABLE, 'FASTDDS_BUILTIN_TRANSPORTS', 'ROS_STATIC_PEERS')
    environment = {k: v for k, v in os.environ.items() if k not in dropped}
    environment.update(
        PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, [environment.get('PYTHONPATH')])]),
        PYTHONUNBUFFERED='1',
        ROS_DOMAIN_ID='0',
        ROS_AUTOMATIC_DISCOVERY_RANGE='SUBNET',
    )
    return environment


def environments(run: Run, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Of the processes of the camera's machine and of the node's."""
    result = []
    for profile, other in ((run.choice.camera, NODE_ADDRESS), (run.choice.node, CAMERA_ADDRESS)):
        environment = clean_environment()
        environment.update(PROFILES.get(profile, {VARIABLE: profile}))
        if run.discovery == 'static peers':
            environment['ROS_STATIC_PEERS'] = other
        elif run.discovery == 'discovery server':
            environment['ROS_DISCOVERY_SERVER'] = f'{NODE_ADDRESS}:{DISCOVERY_PORT}'
        elif run.discovery == 'initial peers':
            path = folder / f'peers_{other}.xml'
            named = environment.get(VARIABLE)
            profile_text = Path(named).read_text() if named else NO_PROFILE
            peers = INITIAL_PEERS.format(other)
            path.write_text(profile_text.replace('</rtps>', f'{peers}</rtps>'))
            environment[VARIABLE] = str(path)
        result.append(environment)
    return result[0], result[1]


def camera_command(run: Run, seconds: float, wait: bool) -> list[str]:
    compressed = run.choice.transport == 'compressed'
    options = {
        **CAMERAS[run.camera],
        'seconds': seconds,
        'frames': 30,
        'depth_rate': 30.0,
        'reliability': run.choice.reliability,
        'rgb_transport': 'compressed' if compressed else 'raw',
        'depth_transport': 'compressedDepth' if compressed else 'raw',
    }
    words = [f'--{name.replace("_", "-")}={value}' for name, value in options.items()]
    module = 'depth_sr_ros.ros.demo_camera'
    return [sys.executable, '-m', module, *words, *(['--wait'] if wait else [])]


def node_command(run: Run) -> list[str]:
    names = {
        'rgb/image': '/camera/color/image_raw',
        'rgb/camera_info': '/camera/color/camera_info',
        'depth/image': '/camera/depth/image_raw',
    }
    parameters = {}
    if run.choice.transport == 'compressed':
        parameters = {'rgb_transport': 'compressed', 'depth_transport': 'compressedDepth'}
    parameters['input_reliability'] = run.choice.reliability
    words = [word for name, topic in names.items() for word in ('-r', f'{name}:={topic}')]
    words += [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    return [sys.executable, '-m', 'depth_sr_ros.ros.pass_through_node', '--ros-args', *words]


def receiver_command(run: Run, node: bool, until_all: bool = False) -> list[str]:
    settings = {
        'until_all': until_all,
        'topics': topics_of(run.choice.transport, node),
        # The node's own output goes to a neighbour on the same machine.
        'reliability': 'reliable' if node else run.choice.reliability,
        'compressed': run.choice.transport == 'compressed' and not node,
    }
    return [sys.executable, str(Path(__file__).resolve()), '--receive', json.dumps(settings)]


SENT = re.compile(r'sent (\d+) RGB and (\d+) depth frames; skipped (\d+) and (\d+)')
SIZES = re.compile(r'(\d+) kB, at')


def parse_camera(log: str) -> dict[str, object]:
    """What demo_camera said: images captured, published and kilobytes per image.

    Raises ValueError when it did not get to the end.
    """
    match = SENT.search(log)
    sizes = SIZES.findall(log)
    if not match or len(sizes) != 2:
        raise ValueError(f'the camera did not finish:\n{log[-2000:]}')
    rgb, depth, rgb_skipped, depth_skipped = map(int, match.groups())
    return {
        'captured': {'rgb': rgb + rgb_skipped, 'depth': depth + depth_skipped},
        'skipped': {'rgb': rgb_skipped, 'depth': depth_skipped},
        'kilobytes': {'rgb': int(sizes[0]), 'depth': int(sizes[1])},
    }


def parse_receiver(log: str) -> dict:
    """The line of JSON of `receive`. Raises ValueError when there is none."""
    for line in reversed(log.splitlines()):
        if line.startswith('{'):
            return json.loads(line)
    raise ValueError(f'the subscriber did not finish:\n{log[-2000:]}')


def load(samples: list[tuple[float, int]]) -> float:
    """Mbit/s of a counter of bytes, (seconds, bytes), between the first and the last step that is
    more than discovery makes."""
    steps = [
        (before, after)
        for before, after in itertools.pairwise(samples)
        if after[1] - before[1] > DISCOVERY_BYTES
    ]
    if not steps:
        return 0.0
    (start, first), (end, last) = steps[0][0], steps[-1][1]
    return (last - first) * 8e-6 / (end - start)


def summary(received: dict, camera: dict) -> dict[str, dict[str, float | None]]:
    """By what is counted: the share of the captured images and percentiles of latency in ms."""
    result = {}
    for name, latencies in received['latencies'].items():
        captured = camera['captured']['depth' if name == 'depth' else 'rgb']
        ordered = sorted(latencies)
        result[name] = {
            'share': len(ordered) / captured if captured else 0.0,
            'p50': statistics.median(ordered) if ordered else None,
            'p99': ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else None,
        }
    return result


@contextlib.contextmanager
def processes(run: Run) -> Iterator[tuple[Callable[..., ChildProcess], dict, dict]]:
    """Gives start(name, machine, command, environment), and the environments of the camera's and
    the node's processes; what was started is stopped at the end, in reverse."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)

        def start(name, machine, command, environment):
            process = ChildProcess(name, machine.command(*command), environment, folder)
            stack.callback(process.stop)
            return process

        yield start, *environments(run, folder)


def measure(network: Network, run: Run, seconds: float, node: bool) -> dict:
    """Play the camera once. Raises ValueError when a process did not do its part."""
    with processes(run) as (start, camera_environment, node_environment):
        if node:
            start('node', network.node, node_command(run), node_environment)
        receiver = start('receiver', network.node, receiver_command(run, node), node_environment)
        # It waits for the node to subscribe; the receiver is quicker than that.
        camera = start(
            'camera', network.camera, camera_command(run, seconds, wait=True), camera_environment
        )
        deadline = time.monotonic() + START_SECONDS + 3 * seconds
        samples = [(time.monotonic(), network.camera.sent())]
        while camera.returncode is None and time.monotonic() < deadline:
            time.sleep(0.1)
            samples.append((time.monotonic(), network.camera.sent()))
        time.sleep(SETTLE_SECONDS)
        receiver.stop()
        camera.stop()
        log = camera.log.read_text()
        if SIZES.search(log) and not SENT.search(log):
            return {'received': {}, 'mbit_per_second': 0.0}  # nobody to send to was found
        said = parse_camera(log)
        received = parse_receiver(receiver.log.read_text())
        return {
            **said,
            'mbit_per_second': load(samples),
            'received': summary(received, said),
        }


def discovery_server() -> str:
    """The program; Fast DDS brings it. Raises FileNotFoundError."""
    name = 'fast-discovery-server'
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise FileNotFoundError(f'{name} is neither beside {sys.executable} nor on the path')
    return found


def measure_discovery(network: Network, run: Run, repetitions: int) -> dict:
    """Start a subscriber several times beside a camera that plays on: the seconds until images of
    both kinds have come, None where they did not within DISCOVERY_SECONDS."""
    times: list[float | None] = []
    with processes(run) as (start, camera_environment, node_environment):
        if run.discovery == 'discovery server':
            # 42 is the number by which `fastdds discovery` of Fast DDS 3 asks it for a server.
            server = [discovery_server(), '42', '-i', '0', '-l', NODE_ADDRESS]
            server += ['-p', str(DISCOVERY_PORT)]
            prefix = Path(server[0]).parents[1]
            libraries = [prefix / 'lib', *prefix.glob('lib/python*/site-packages/*fastdds.libs')]
            environment = {
                **clean_environment(),
                'LD_LIBRARY_PATH': os.pathsep.join(
                    [*map(str, libraries), os.environ.get('LD_LIBRARY_PATH', '')]
                ),
            }
            wait_for(
                start('server', network.node, server, environment), 'Running on', START_SECONDS
            )
        camera = start(
            'camera', network.camera, camera_command(run, 0.0, wait=False), camera_environment
        )
        wait_for(camera, 'kB, at', START_SECONDS)
        time.sleep(SETTLE_SECONDS)
        for _ in range(repetitions):
            command = receiver_command(run, node=False, until_all=True)
            receiver = start('receiver', network.node, command, node_environment)
            deadline = time.monotonic() + DISCOVERY_SECONDS
            while receiver.returncode is None and time.monotonic() < deadline:
                time.sleep(0.1)
            receiver.stop()
            first = parse_receiver(receiver.log.read_text())['first']
            times.append(max(first.values()) if len(first) == 2 else None)
    return {'seconds_to_images': times}


def wait_for(process: ChildProcess, text: str, timeout: float) -> None:
    """Raises ValueError when the process does not say the text."""
    deadline = time.monotonic() + timeout
    while text not in process.log.read_text():
        if process.returncode is not None or time.monotonic() > deadline:
            raise ValueError(f'{process.name} did not start:\n{process.last_lines()}')
        time.sleep(0.1)


# The report


LEGEND = (
    'In each cell: the share of the captured images that arrived (RGB / depth, or the output), the '
    'latency of the first of them (median / 99th percentile), and the load of the cable.'
)


def markdown(rows: list[dict]) -> str:
    """One table for each camera and rate: a line for each choice, a column for each loss, all in
    the order of the runs."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        link = Link(**row['link'])
        column = f'{link.loss:g}% lost{"" if link.multicast else ", no multicast"}'
        lines = tables.setdefault(f'{row["camera"]}, {link.mbit:g} Mbit/s', {})
        lines.setdefault(_label(row), {})[column] = _cell(row)
    text = []
    for title, lines in tables.items():
        columns = list(dict.fromkeys(column for cells in lines.values() for column in cells))
        text += ['', f'**{title}**', '']
        text += [f'| choice | {" | ".join(columns)} |', f'|---{"|---" * len(columns)}|']
        for label, cells in lines.items():
            text.append(f'| {label} | {" | ".join(cells.get(c, "") for c in columns)} |')
    return '\n'.join(text).strip() + '\n'


def _label(row: dict) -> str:
    if 'seconds_to_images' in row:
        return row['discovery']
    choice = row['choice']
    profiles = dict.fromkeys(Path(choice[side]).stem for side in ('camera', 'node'))
    reliability = choice['reliability'].replace('_', ' ')
    return f'{choice["transport"]}, {reliability}, {" / ".join(profiles)}'


def _cell(row: dict) -> str:
    if 'seconds_to_images' in row:
        times = row['seconds_to_images']
        return ', '.join('never' if t is None else f'{t:.1f} s' for t in times)
    if not row['received']:
        return 'not connected'
    figures = list(row['received'].values())
    arrived = ' / '.join(f'{100 * kind["share"]:.0f}' for kind in figures)
    first = figures[0]
    latency = ''
    if first['p50'] is not None:
        latency = f' {first["p50"]:.0f} / {first["p99"]:.0f} ms,'
    return f'{arrived}%,{latency} {row["mbit_per_second"]:.0f} Mbit/s'


def machine_description() -> str:
    model = ''
    with contextlib.suppress(OSError):
        match = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
        model = match[1] if match else ''
    return f'{os.cpu_count()} cores, {model or platform.machine()}, Linux {platform.release()}'


# The command


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(',')]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--camera', choices=CAMERAS, default='vga')
    parser.add_argument('--mbit', type=numbers, default=[1000, 100, 30], help='rates: 1000,100,30')
    parser.add_argument('--loss', type=numbers, default=[0, 1, 5], help='per cent: 0,1,5')
    parser.add_argument(
        '--choice',
        type=Choice.parse,
        action='append',
        help='TRANSPORT,RELIABILITY,PROFILE or with the profiles of camera and node; repeatable; '
        f'profiles: {", ".join(PROFILES)} or an XML file (default: all, the same on both)',
    )
    parser.add_argument('--seconds', type=float, default=5.0, help='that the camera plays')
    parser.add_argument('--node', action='store_true', help="count the real node's output")
    parser.add_argument('--discovery', action='store_true', help='measure discovery')
    parser.add_argument('--repetitions', type=int, default=3, help='of --discovery')
    parser.add_argument('--out', type=Path, default=Path('out/network'), help='OUT.json, OUT.md')
    parser.add_argument('--receive', type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def planned(arguments: argparse.Namespace) -> list[Run]:
    """What is to be run, link by link."""
    links = [Link(mbit, loss) for mbit in arguments.mbit for loss in arguments.loss]
    if arguments.discovery:
        choice = (arguments.choice or [Choice('compressed')])[0]
        return [
            Run(arguments.camera, dataclasses.replace(link, multicast=multicast), choice, discovery)
            for link in links
            for multicast in (True, False)
            for discovery in DISCOVERIES
        ]
    choices = arguments.choice or default_choices()
    return [Run(arguments.camera, link, choice) for link in links for choice in choices]


def main() -> int:
    arguments = parse_arguments()
    if arguments.receive:
        receive(**arguments.receive)
        return 0
    reason = why_not()
    if reason:
        print(f'measure_network: {reason}', file=sys.stderr)
        return 1
    runs = planned(arguments)
    file = arguments.out.with_suffix('.json')
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        'command': ' '.join(['tools/measure_network.py', *sys.argv[1:]]),
        'machine': machine_description(),
        'seconds': arguments.seconds,
        'node': arguments.node,
    }
    rows: dict[str, dict] = {}
    if file.exists():
        before = json.loads(file.read_text())
        if all(before.get(key) == settings[key] for key in ('seconds', 'node')):
            rows = {row['key']: row for row in before['rows']}
    progress = ProgressLine()
    left = [run for run in runs if run.key not in rows]
    start = time.monotonic()
    for index, run in enumerate(left):
        pace = (time.monotonic() - start) / index if index else None
        eta = (
            f', {pace:.1f} s a run, {pace * (len(left) - index) / 60:.0f} min left' if pace else ''
        )
        text = f'{len(runs) - len(left) + index} of {len(runs)} runs{eta}: {run.key}'
        progress.show(text, (len(runs) - len(left) + index) / len(runs))
        row = {
            'key': run.key,
            'camera': run.camera,
            'link': dataclasses.asdict(run.link),
            'choice': dataclasses.asdict(run.choice),
            'discovery': run.discovery,
        }
        try:
            # A new one each time: fragments of the last run would be waited for, and fill the
            # memory for them, for 30 s.
            with Network() as network:
                network.limit(run.link)
                network.camera.set_kernel(run.choice.camera)
                network.node.set_kernel(run.choice.node)
                if arguments.discovery:
                    row |= measure_discovery(network, run, arguments.repetitions)
                else:
                    row |= measure(network, run, arguments.seconds, arguments.node)
        except ValueError as error:
            progress.end(f'left out, {run.key}: {error}')
            continue
        rows[run.key] = row
        file.write_text(json.dumps({**settings, 'rows': list(rows.values())}, indent=1))
    ordered = [rows[run.key] for run in runs if run.key in rows]
    text = f'`{settings["command"]}`, {settings["machine"]}\n\n{LEGEND}\n\n{markdown(ordered)}'
    arguments.out.with_suffix('.md').write_text(text)
    progress.end(text)
    return 0 if len(ordered) == len(runs) else 1


if __name__ == '__main__':
    sys.exit(main())
