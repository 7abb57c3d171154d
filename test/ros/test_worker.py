# SPDX-License-Identifier: Apache-2.0
import threading

import pytest

from depth_sr_ros.ros.worker import Worker


class Gate:
    """A `process` that records items and, while closed, blocks in the first of them."""

    def __init__(self, is_open: bool = True):
        self.done: list = []
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()
        if is_open:
            self._open.set()

    def open(self):
        self._open.set()

    def __call__(self, item):
        self.entered.release()
        assert self._open.wait(10)
        self.done.append(item)


@pytest.fixture
def make_worker():
    workers = []

    def make(process, **kwargs):
        workers.append(Worker(process, **kwargs))
        return workers[-1]

    yield make
    for worker in workers:
        assert worker.stop(10)


def test_newest_item_wins_while_busy(make_worker):
    superseded = []
    gate = Gate(is_open=False)
    worker = make_worker(gate, on_superseded=superseded.append)
    worker.offer(0)
    assert gate.entered.acquire(timeout=10)
    for item in (1, 2, 3):
        worker.offer(item)
    assert superseded == [1, 2]
    gate.open()
    assert gate.entered.acquire(timeout=10)
    worker.drain()
    assert gate.done == [0, 3]


def test_two_items_offered_at_once_to_an_idle_worker_are_both_processed(make_worker):
    superseded = []
    gate = Gate()
    worker = make_worker(gate, on_superseded=superseded.append)
    for number in range(200):
        worker.offer((number, 'first'))
        worker.offer((number, 'second'))
        assert gate.entered.acquire(timeout=10)
        assert gate.entered.acquire(timeout=10)
        worker.drain()
    assert len(gate.done) == 400
    assert not superseded


def test_calls_run_in_one_thread_and_pass_results_and_errors(make_worker):
    worker = make_worker(lambda item: None)
    threads = {worker.call(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 // 0)


def test_an_error_is_reported_and_the_next_item_processed(make_worker):
    errors, done = [], threading.Event()

    def process(item):
        if item == 'bad':
            raise ValueError('no such frame')
        done.set()

    worker = make_worker(process, on_error=errors.append)
    worker.offer('bad')
    worker.call(lambda: None)
    worker.offer('good')
    assert done.wait(10)
    assert [str(error) for error in errors] == ['no such frame']


def test_drain_discards_what_waits_and_waits_for_what_runs(make_worker):
    gate = Gate(is_open=False)
    worker = make_worker(gate)
    worker.offer('running')
    assert gate.entered.acquire(timeout=10)
    worker.offer('waiting')
    threading.Timer(0.05, gate.open).start()
    assert worker.drain() == 1
    assert gate.done == ['running']


def test_a_stopped_worker_takes_no_calls(make_worker):
    worker = make_worker(lambda item: None)
    assert worker.stop(10)
    with pytest.raises(RuntimeError, match='stopped'):
        worker.call(lambda: None)


def test_the_last_thing_is_done_in_the_thread_after_what_runs(make_worker):
    gate = Gate(is_open=False)
    worker = make_worker(gate)
    done = []
    worker.offer('running')
    assert gate.entered.acquire(timeout=10)
    assert not worker.stop(0.05, last=lambda: done.append(gate.done[:]))
    assert done == []
    gate.open()
    assert worker.stop(10, last=lambda: done.append(gate.done[:]))
    assert done == [['running']]
