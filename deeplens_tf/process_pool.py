"""A pool of processes that end with their parent, even if the parent is killed."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from types import FrameType
from typing import Any, TypeAlias, TypeVar

from deeplens_tf.errors import STOP_SIGNALS, ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")
Call: TypeAlias = tuple[Callable[[Any], object], Any, Callable[[Future[Any]], None]]
Done: TypeAlias = SimpleQueue[tuple[int, Future[Any]]]  # futures that are finished, with numbers

TASKS_AHEAD = 3  # for each process, so that none waits while earlier results are used
SECONDS_TO_SAVE = 5  # in which a process that is asked to end still gives results
THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class Workers:
    """Processes that compute functions, each with one thread; 1 is the calling process itself.

    They start with the first task and end with the `with` block. A function must be defined at the
    top level of a module, so that a new process can import it.

    Args:
        processes: number of processes.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._starting, self._has_ended = threading.Lock(), False

    def __enter__(self) -> "Workers":
        """Return these workers; nothing starts yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes when they have finished the tasks that they are at."""
        with self._starting:
            self._has_ended = True
        if self._pool is not None:
            self._calls.put(None)
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield `function(task)` of each task in order; few tasks and results are held at a time.

        Raises:
            ResourceError: a process was killed from outside.
        """
        if self.processes == 1:
            yield from map(function, tasks)
            return
        done: Done = SimpleQueue()
        finished: dict[int, Future[Any]] = {}
        first = last = 0
        for last, task in enumerate(tasks, 1):
            self._submit(function, task, last - 1, done)
            if last - first > TASKS_AHEAD * self.processes:
                yield _awaited(first, finished, done)
                first += 1
        for number in range(first, last):
            yield _awaited(number, finished, done)

    def map_unordered(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[Result]:
        """Yield `function(task)` of each task as it finishes.

        Raises:
            ResourceError: a process was killed from outside.
        """
        if self.processes == 1:
            yield from map(function, tasks)
            return
        done: Done = SimpleQueue()
        for number, task in enumerate(tasks):
            self._submit(function, task, number, done)
        for _ in tasks:
            yield _result(done.get()[1])

    def _submit(
        self, function: Callable[[Task], object], task: Task, number: int, done: Done
    ) -> None:
        """Have a task computed; `done` gets its number and its future, which is finished then.

        Raises:
            CancelledError: the `with` block has ended, in another thread.
        """
        with self._starting:
            if self._has_ended:
                raise CancelledError
            if self._pool is None:
                self._pool = _new_pool(self.processes)
                arguments = (self._pool, self._calls)
                threading.Thread(target=_submit_calls, args=arguments, daemon=True).start()
            self._calls.put((function, task, lambda future: done.put((number, future))))


IN_THIS_PROCESS = Workers(1)


def map_unordered(
    function: Callable[[Task], Result], tasks: Sequence[Task], processes: int
) -> Generator[Result, None, None]:
    """Yield `function(task)` of each task as it finishes, see `Workers.map_unordered`."""
    with Workers(processes) as workers:
        yield from workers.map_unordered(function, tasks)


def _new_pool(processes: int) -> ProcessPoolExecutor:
    # Spawned, because a fork would copy the threads and locks of a notebook.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)


def _submit_calls(pool: ProcessPoolExecutor, calls: SimpleQueue[Call | None]) -> None:
    """Submit calls to a pool until None comes.

    In a thread of its own, since a signal is handled in the main one: there it could interrupt a
    submission that has locked a part of the pool, which then could never end.
    """
    # Workers inherit the mask: while they start, only the parent handles a Ctrl-C that reaches the
    # whole process group.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    while call := calls.get():
        function, task, tell = call
        try:
            with _one_thread_each():
                future = pool.submit(function, task)
        except RuntimeError as error:  # a worker was killed, or the pool is ending
            future = Future()
            future.set_exception(error)
        future.add_done_callback(tell)


def _awaited(number: int, finished: dict[int, Future[Any]], done: Done) -> Any:
    """Return the result of a task, keeping those that finish before it."""
    while number not in finished:
        finished.update([done.get()])
    return _result(finished.pop(number))


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        # Without the guard, a spawned process runs the script again and ends there.
        raise ResourceError(
            "a worker process was killed, perhaps for lack of memory: run the same command again. "
            'In a script, several processes need `if __name__ == "__main__":` around its work'
        ) from error


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave_later)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_later(signum: int, frame: FrameType | None) -> None:
    """End after a while: a batch system may signal all processes, and the parent saves first."""
    timer = threading.Timer(SECONDS_TO_SAVE, os._exit, [128 + signum])
    timer.daemon = True
    timer.start()


def _leave_with_parent() -> None:
    # A killed parent can't stop its workers; they would wait for work forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    # Set before a worker starts, because libraries read them when they load.
    earlier = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
