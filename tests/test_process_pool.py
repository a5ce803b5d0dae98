import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from deeplens_tf import process_pool
from deeplens_tf.errors import ResourceError
from deeplens_tf.process_pool import THREAD_LIMITS, Workers, map_unordered


def square(number):
    return number**2


def thread_limits(_):
    return {os.environ.get(name) for name in THREAD_LIMITS}


def die(_, **options):
    os.kill(os.getpid(), signal.SIGKILL)


def ignores_interrupts(_):
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def is_told_to_end(_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    return os.getpid()


def fail(number):
    raise ValueError(f"no {number}")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def own_pid(_):
    time.sleep(0.05)
    return os.getpid()


def test_one_process_computes_in_this_process():
    assert list(map_unordered(own_pid, [0, 0], 1)) == [os.getpid()] * 2


def test_every_task_is_done_once():
    assert sorted(map_unordered(square, range(50), 2)) == [number**2 for number in range(50)]


def test_workers_use_one_thread_each_and_ignore_ctrl_c(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert list(map_unordered(thread_limits, [0], 2)) == [{"1"}]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert list(map_unordered(ignores_interrupts, [0], 2)) == [True]


def test_a_worker_that_is_told_to_end_finishes_its_task():
    # A batch system may signal all processes of a job, of which the parent saves first.
    (pid,) = map_unordered(is_told_to_end, [0], 2)
    assert not is_running(pid)


def test_an_ended_pool_starts_no_process(monkeypatch):
    monkeypatch.setattr(process_pool, "_new_pool", None)
    with Workers(2) as workers:
        pass
    with pytest.raises(CancelledError):
        list(workers.map(square, [1]))


def test_a_killed_worker_is_a_resource_error():
    with pytest.raises(ResourceError, match="a worker process was killed"):
        list(map_unordered(die, [0, 1], 2))


def test_a_script_without_a_guard_is_told_of_it(tmp_path):
    script = tmp_path / "script.py"
    work = "from deeplens_tf.process_pool import map_unordered\nlist(map_unordered(abs, [1, 2], 2))"
    script.write_text(work)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert 'In a script, several processes need `if __name__ == "__main__":`' in ended.stderr


def test_the_error_of_a_task_is_raised():
    with pytest.raises(ValueError, match="no 1"):
        list(map_unordered(fail, [1], 2))


def test_closing_early_ends_the_workers():
    results = map_unordered(own_pid, range(10_000), 2)
    pids = {next(results) for _ in range(20)}
    results.close()
    assert not any(is_running(pid) for pid in pids)


def test_no_signal_can_interrupt_a_submission(monkeypatch):
    # Signals are handled in the main thread.
    threads = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *call):
            threads.append(threading.current_thread())
            return super().submit(*call)

    monkeypatch.setattr(process_pool, "_new_pool", Pool)
    with Workers(2) as workers:
        assert list(workers.map(abs, [-3, 2, -1])) == [3, 2, 1]
        assert sorted(workers.map_unordered(abs, [-3, 2, -1])) == [1, 2, 3]
    assert len(threads) == 6
    assert threading.main_thread() not in threads
