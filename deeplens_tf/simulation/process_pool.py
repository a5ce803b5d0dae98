"""A pool of processes that end with their parent, even if the parent is killed."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from deeplens_tf.errors import STOP_SIGNALS, ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def map_unordered(
    function: Callable[[Task], Result], tasks: Sequence[Task], processes: int
) -> Generator[Result, None, None]:
    """Yield `function(task)` of each task as it finishes, computed by several processes.

    Args:
        function: defined at the top level of a module, so that a new process can import it.
        tasks: arguments of the function, one per call.
        processes: number of processes to start; 1 computes in this process.

    Raises:
        ResourceError: a process was killed from outside.
    """
    if processes == 1:
        yield from map(function, tasks)
        return
    with _one_thread_each(), _pool(processes) as pool:
        for future in as_completed(_submit(pool, function, tasks)):
            yield _result(future)


@contextlib.contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, because a fork would copy the threads and locks of a notebook.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Task], Result], tasks: Sequence[Task]
) -> list["Future[Result]"]:
    # Workers inherit the mask: while they start, only the parent handles a Ctrl-C that reaches the
    # whole process group, and the parent isn't interrupted halfway through starting a worker.
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return [pool.submit(function, task) for task in tasks]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "a worker process was killed, perhaps for lack of memory; "
            "run the same command again to resume"
        ) from error


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
