"""Answers computed in a thread: the latest request wins, the main thread stays free, nothing comes after a cancel."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from BreastBiomarkersLib.errors import InputError
from BreastBiomarkersLib.volume import Volume

WINDOW_MS = 50
"""No pause of the main thread may be longer."""


@pytest.fixture
def live(slicer_host):
    """A LatestWins with lists of what it delivered and what failed."""
    from BreastBiomarkersLib.inslicer.live import LatestWins

    class Live:
        delivered, errors = [], []

    Live.it = LatestWins(Live.delivered.append, Live.errors.append)
    yield Live
    Live.it.close()


def answer(*results):
    return lambda: lambda progress: iter(results)


def until_cancelled(started, ended):
    """Return work that runs until it is cancelled, and says when it starts and ends."""

    def work(progress):
        started.set()
        try:
            while True:
                time.sleep(0.001)
                progress(0.5, "")
        finally:
            ended.set()
            yield "never"

    return lambda: work


def test_results_come_in_order_and_in_the_main_thread(slicer_host, live):
    threads = []

    def work(progress):
        threads.append(threading.current_thread())
        yield "preview"
        yield "final"

    def prepare():
        threads.append(threading.current_thread())
        return work

    live.it.request(prepare, delay_ms=0)
    assert live.it.busy
    slicer_host.wait_until(lambda: not live.it.busy, 5)
    assert live.delivered == ["preview", "final"]
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


def test_first_result_does_not_wait_for_the_second(slicer_host, live):
    go_on = threading.Event()

    def work(progress):
        yield "preview"
        go_on.wait(5)
        yield "final"

    live.it.request(lambda: work, delay_ms=0)
    slicer_host.wait_until(lambda: live.delivered, 5)
    assert live.delivered == ["preview"]
    assert live.it.busy
    go_on.set()
    slicer_host.wait_until(lambda: not live.it.busy, 5)
    assert live.delivered == ["preview", "final"]


def test_a_burst_of_requests_prepares_one(slicer_host, live):
    prepared = []

    def question(n):
        def prepare():
            prepared.append(n)
            return lambda progress: [n]

        return prepare

    for n in range(10):
        live.it.request(question(n), delay_ms=100)
        slicer_host.process_events(0)
    slicer_host.wait_until(lambda: not live.it.busy, 5)
    assert prepared == [9]
    assert live.delivered == [9]


def test_newer_request_ends_the_running_one(slicer_host, live):
    started, ended = threading.Event(), threading.Event()
    live.it.request(until_cancelled(started, ended), delay_ms=0)
    slicer_host.wait_until(started.is_set, 5)
    asked = time.perf_counter()
    live.it.request(answer("newer"), delay_ms=0)
    slicer_host.wait_until(lambda: not live.it.busy, 5)
    assert ended.is_set()
    assert live.delivered == ["newer"]
    assert time.perf_counter() - asked < 1


def test_cancel_drops_what_is_already_computed(slicer_host, live):
    done = threading.Event()

    def work(progress):
        yield "computed"
        done.set()

    live.it.request(lambda: work, delay_ms=0)
    live.it._timer.stop()  # the main thread is busy elsewhere
    live.it._step()
    assert done.wait(5)
    live.it.cancel()
    assert not live.it.busy
    slicer_host.process_events(0.1)
    assert live.delivered == []
    live.it.request(answer("again"), delay_ms=0)
    slicer_host.wait_until(lambda: not live.it.busy, 5)
    assert live.delivered == ["again"]


@pytest.mark.parametrize("where", ["prepare", "thread"])
def test_errors_reach_the_main_thread_and_end_the_request(slicer_host, live, where):
    error = InputError("no contrast")

    def work(progress):
        yield "preview"
        raise error

    def prepare():
        if where == "prepare":
            raise error
        return work

    live.it.request(prepare, delay_ms=0)
    slicer_host.wait_until(lambda: not live.it.busy, 5)
    assert live.errors == [error]
    assert live.delivered == (["preview"] if where == "thread" else [])


def test_error_of_the_receiver_does_not_stop_the_rest(slicer_host):
    from BreastBiomarkersLib.inslicer.live import LatestWins

    seen = []

    def deliver(result):
        seen.append(result)
        if result == 1:
            raise KeyError("a bug in the panel")

    live = LatestWins(deliver, seen.append)
    go_on = threading.Event()

    def work(progress):
        yield 1
        go_on.wait(5)
        yield 2

    live.request(lambda: work, delay_ms=0)
    with slicer_host.expected_error(KeyError, "a bug"):
        slicer_host.wait_until(lambda: seen == [1], 5)
        go_on.set()
        slicer_host.wait_until(lambda: not live.busy, 5)
    assert seen == [1, 2]
    live.close()


def test_nothing_after_close(slicer_host, live):
    started, ended = threading.Event(), threading.Event()
    live.it.request(until_cancelled(started, ended), delay_ms=0)
    slicer_host.wait_until(started.is_set, 5)
    live.it.close()
    assert ended.wait(5), "the thread ends by itself"
    slicer_host.process_events(0.1)
    assert live.delivered == []
    assert live.errors == []


def longest_pause_ms(slicer_host, running):
    """Return the longest time between two turns of the event loop while `running()` holds."""
    import qt

    timer, turns = qt.QTimer(), []
    timer.connect("timeout()", lambda: turns.append(time.perf_counter()))
    timer.start(1)
    while running():
        slicer_host.process_events(0)
    timer.stop()
    return 1000 * float(np.diff(turns).max())


def test_main_thread_is_never_held_while_a_lesion_is_segmented(slicer_host, live):
    """The best of five runs counts: other programs on the machine lengthen the rest."""
    from WeakSegmentLib.points import ExtremePoints
    from WeakSegmentLib.segmentation import segment_by_random_walk
    from WeakSegmentLib.settings import RandomWalkSettings

    k, j, i = np.indices((90, 120, 130), sparse=True)
    lesion = ((i - 66) / 30) ** 2 + ((j - 61) / 26) ** 2 + ((k - 44) / 18) ** 2 <= 1
    array = np.random.default_rng(5).normal(100, 10, lesion.shape).astype(np.float32) + 80 * lesion
    volume = Volume(array, np.diag([-0.7, -0.7, 1.2, 1.0]), "post")
    ends = [(66, 61, 26), (66, 61, 62), (66, 35, 44), (66, 87, 44), (36, 61, 44), (96, 61, 44)]
    points = ExtremePoints.from_ras(volume.points_to_ras(np.array(ends)), volume)

    def work(progress):
        for side in (32, 48):
            yield segment_by_random_walk(volume, points, RandomWalkSettings(longest_side=side), progress)

    pauses = []
    for n in range(5):
        live.it.request(lambda: work, delay_ms=0)
        pauses.append(longest_pause_ms(slicer_host, lambda: live.it.busy))
        assert live.errors == []
        assert len(live.delivered) == 2 * (n + 1)
        if pauses[-1] < WINDOW_MS:
            break
    assert min(pauses) < WINDOW_MS, pauses
