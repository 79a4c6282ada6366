"""Reading ahead and writing behind: order, failures, and an end at any moment."""

from __future__ import annotations

import threading
from concurrent import futures

import pytest

from spcli.pipeline.background import READ_AHEAD, in_background


def test_results_come_in_order():
    assert list(in_background(lambda n: n * n, range(20))) == [n * n for n in range(20)]


def test_work_runs_beside_the_consumer_and_not_far_ahead():
    """While item 0 is held by the consumer, the items after it are being worked on, but only a few."""
    started = []
    ahead = threading.Event()

    def work(n):
        started.append(n)
        if len(started) == 1 + READ_AHEAD:
            ahead.set()
        return n

    iterator = in_background(work, iter(range(50)))
    assert next(iterator) == 0
    assert next(iterator) == 1
    assert ahead.wait(10)
    assert len(started) <= 3 + READ_AHEAD
    assert list(iterator) == list(range(2, 50))


def test_an_exception_in_the_work_reaches_the_consumer_in_its_turn():
    def work(n):
        if n == 2:
            raise ValueError("two")
        return n

    seen = []
    with pytest.raises(ValueError, match="two"):
        for n in in_background(work, range(9)):
            seen.append(n)
    assert seen == [0, 1]


def test_the_end_finishes_what_has_begun_and_drops_the_rest(monkeypatch):
    """Item 1 is being worked on when the iteration ends; it is let go only then, and the items behind it never run."""
    ahead, begun, ending = (threading.Event() for _ in range(3))
    done = []

    class Pool(futures.ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(False, cancel_futures=cancel_futures)
            ending.set()
            super().shutdown(wait)

    def items():
        yield from range(READ_AHEAD)
        ahead.set()
        yield from range(READ_AHEAD, 1000)

    def work(n):
        assert ahead.wait(10)
        if n == 1:
            begun.set()
            assert ending.wait(10)
        done.append(n)

    monkeypatch.setattr(futures, "ThreadPoolExecutor", Pool)
    iterator = in_background(work, items())
    next(iterator)
    assert begun.wait(10)
    iterator.close()
    assert done == [0, 1]


def test_an_exception_in_the_items_ends_the_work():
    def items():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_background(lambda n: n, items()))
