"""A pool of processes that end with their parent, even if the parent is killed."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from deeplens_tf.errors import STOP_SIGNALS, ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")
Done: TypeAlias = "SimpleQueue[Future[Any]]"

TASKS_AHEAD = 3  # for each process, so that none waits while earlier results are used
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

    def __enter__(self) -> "Workers":
        """Return these workers; nothing starts yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes when they have finished the tasks that they are at."""
        if self._pool is not None:
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
        waiting: deque[Future[Result]] = deque()
        done: Done = SimpleQueue()
        finished: set[Future[Any]] = set()

        def first_result() -> Result:
            while waiting[0] not in finished:
                finished.add(done.get())
            finished.remove(waiting[0])
            return _result(waiting.popleft())

        for task in tasks:
            waiting += self._submit(function, [task], done)
            if len(waiting) > TASKS_AHEAD * self.processes:
                yield first_result()
        while waiting:
            yield first_result()

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
        for _ in self._submit(function, tasks, done):
            yield _result(done.get())

    def _submit(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], done: Done
    ) -> list["Future[Result]"]:
        """Let the workers compute the tasks; each future is put into `done` when it is.

        Nothing else may look at a future before that: a signal at this moment could leave it
        locked, and the pool could never end.
        """
        if self._pool is None:  # before the mask, since the first locks of a process lift it
            self._pool = _new_pool(self.processes)
        # Workers inherit the mask: while they start, only the parent handles a Ctrl-C that reaches
        # the whole process group, and the parent isn't interrupted halfway through starting one.
        earlier = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            with _one_thread_each():
                futures = [self._pool.submit(function, task) for task in tasks]
            for future in futures:
                future.add_done_callback(done.put)
            return futures
        except BrokenProcessPool as error:
            raise _killed() from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


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


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _killed() from error


def _killed() -> ResourceError:
    return ResourceError(
        "a worker process was killed, perhaps for lack of memory; run the same command again"
    )


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


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
