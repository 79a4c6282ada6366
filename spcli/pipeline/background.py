"""Work in one background thread beside its consumer: reading ahead, writing behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

READ_AHEAD = 2


def in_background(work: Callable[[Given], Made], items: Iterable[Given], wait: bool = True) -> Iterator[Made]:
    """`work` of every item, in order, done by one thread that may be `READ_AHEAD` items away from the consumer.

    Whatever ends the iteration, work that has not begun is dropped; with `wait`, work that has begun is finished.
    """
    from concurrent.futures import Future, ThreadPoolExecutor  # of use to several scans only

    pool = ThreadPoolExecutor(1)
    pending: deque[Future[Made]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            while pending and (len(pending) > READ_AHEAD or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)


def read_ahead(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """In front of the slow stage. A reader may wait for standard input forever, so nobody waits for a reader."""
    return in_background(work, items, wait=False)


def write_behind(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """Behind the slow stage: writes while the next item is computed, and leaves no file half-written."""
    return in_background(work, items)
