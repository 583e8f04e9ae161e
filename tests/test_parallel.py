"""Threads: any number of them, calls from many at once, the GIL, fork."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest
from problems import arrays, oracle

from fastconv._engine import run
from fastconv._planner import choose
from fastconv._problem import Problem
from fastconv.solvers import SOLVERS
from fastconv.solvers._driver import DriverPlan

pytestmark = pytest.mark.usefixtures("every_thread")

#: Methods that solve a layer of several channels.
LAYER = Problem.parse("conv2d f32 n1 c3 h9 w9 k2 r3 s3")
METHODS = [s.name for s in SOLVERS if s.device == "cpu" and s.why_not(LAYER) is None]
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("text", ["conv2d f32 n1 c8 h20 w21 k16 r3 s3 p1",
                                  "conv2d f64 n5 c3 h9 w9 k2 r3 s3",
                                  "conv1d f32 n1 c1 w3000 k1 s65 p64 flip",
                                  "conv2d u16 n2 c3 h9 w9 k7 r3 s3 p1"])  # fmt: skip
def test_any_number_of_threads(method: str, text: str) -> None:
    """More than there are cores, units of work or outputs."""
    problem = Problem.parse(text)
    try:
        choose(problem, method=method)
    except ValueError as error:
        pytest.skip(str(error))
    x, w, bias = arrays(problem)
    right, s = oracle(problem, x, w, bias)
    for threads in (1, 2, 3, 8, 300):
        plan = choose(problem.replace(threads=threads), method=method).plan
        y = np.empty(problem.y_shape, x.dtype)
        plan(x, plan.pack_stored(w), bias, y)
        if problem.is_exact:
            np.testing.assert_array_equal(y, right)
        else:
            assert (abs(y - right) <= 1e-5 * s.max()).all()


@pytest.mark.parametrize("method", ["direct", "implicit_gemm", "im2col", "winograd"])
@pytest.mark.parametrize("text", ["conv2d f32 n1 c33 h7 w7 k230 r3 s3 p1",
                                  "conv2d f32 n1 c34 h5 w5 k222 r3 s3 g2 p1",
                                  "conv2d c64 n1 c20 h5 w5 k150 r3 s3"])  # fmt: skip
def test_weights_are_packed_by_any_number_of_threads(method: str, text: str) -> None:
    """Several times the 64 KB that a thread gets, in tiles that do not divide the filters."""
    problem = Problem.parse(text)
    try:
        config = choose(problem, method=method).candidate.config
    except ValueError as error:
        pytest.skip(str(error))
    x, w, _ = arrays(problem)
    results = []
    for threads in (1, 2, 3, 300):
        plan = choose(problem.replace(threads=threads), method=method, config=config).plan
        _, packed = plan.pack_stored(w)
        y = np.empty(problem.y_shape, x.dtype)
        plan = choose(problem.replace(threads=1), method=method, config=config).plan
        assert isinstance(plan, DriverPlan)
        plan(x, (plan._call, packed), None, y)
        results.append(y.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_calls_from_many_threads(method: str) -> None:
    """Different shapes at once, each itself on two threads: the pool is shared, results are not."""
    jobs = []
    for i in range(12):
        groups = 3 if method == "depthwise" else 1
        x = RNG.standard_normal((1 + i % 2, 3, 10 + i, 11)).astype("f4")
        w = RNG.standard_normal((groups * (2 + i), 3 // groups, 3, 3)).astype("f4")
        jobs.append((x, w, groups, run(x, w, method=method, groups=groups, threads=2)))
    wrong: list[Any] = []
    begin = threading.Barrier(len(jobs))

    def work(i: int) -> None:
        x, w, groups, expected = jobs[i]
        begin.wait()
        try:
            for _ in range(15):
                y = run(x, w, method=method, groups=groups, threads=1 + i % 3)
                if not np.allclose(y, expected, rtol=0, atol=1e-4):
                    wrong.append((i, np.abs(y - expected).max()))
        except BaseException as error:
            wrong.append((i, error))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "method", ["naive", "direct", "implicit_gemm", "panels", "col2im", "im2col", "depthwise"]
)
def test_the_gil_is_released(method: str) -> None:
    """Another Python thread runs during a call of a driver.

    With so long a switch interval it cannot take the GIL, only be given it; it gives it back
    itself. A call that ends before the system has run the other thread is tried with more work.
    """
    begun, done, count = threading.Event(), threading.Event(), [0]

    def work() -> None:
        begun.set()
        while not done.is_set():
            count[0] += 1
            time.sleep(0)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    sys.setswitchinterval(1000)
    during = 0
    try:
        for length in (20_000, 200_000, 2_000_000):
            problem = Problem.parse(f"conv1d f32 n1 c1 w{length} k1 s200")
            plan = choose(problem, method=method).plan
            x, y = np.ones(problem.x_shape, "f4"), np.empty(problem.y_shape, "f4")
            packed = plan.pack(np.ones(problem.w_shape, "f4"))
            before = count[0]
            plan.execute(x, packed, None, y)
            during = count[0] - before
            if during:
                break
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()
    assert during > 0


def in_child(program: str, **environment: str) -> str:
    """What a fresh interpreter prints; its failure is the test's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], text=True,
        capture_output=True, check=False, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork() -> None:
    """A child of a process whose pool has threads has none of them, and starts its own."""
    printed = in_child(
        """
        import os, threading
        import numpy as np
        from fastconv._engine import run
        from fastconv.solvers import _driver

        _driver.FLOPS_A_THREAD = 1

        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((4, 8, 30, 30)), rng.standard_normal((8, 8, 3, 3))
        methods = ("naive", "direct", "im2col", "fft")
        expected = {m: run(x, w, method=m, threads=3) for m in methods}

        def same():
            return all(
                np.allclose(run(x, w, method=m, threads=t), expected[m], rtol=0, atol=1e-10)
                for m in methods for t in (1, 2, 3, 5)
            )

        stop = threading.Event()
        def busy():
            while not stop.is_set():
                run(x, w, method="direct", threads=2)
        other = threading.Thread(target=busy)
        other.start()  # holds the pool, as often as not, when the fork comes
        codes = []
        for _ in range(6):
            child = os.fork()
            if child == 0:
                os._exit(0 if same() else 3)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        stop.set()
        other.join()
        print(codes, same())
        """
    )
    assert printed.strip() == "[0, 0, 0, 0, 0, 0] True"


def test_exits_with_idle_workers() -> None:
    assert in_child(
        """
        import numpy as np
        from fastconv._engine import run
        from fastconv.solvers import _driver

        _driver.FLOPS_A_THREAD = 1
        x, w = np.ones((4, 2, 40, 40)), np.ones((4, 2, 3, 3))
        print(run(x, w, method="naive", threads=8)[0, 0, 0, 0])
        """
    ) == "18.0\n"  # fmt: skip


def test_scratch_of_a_thread_is_its_own() -> None:
    """A large call, then a small one, then the large one again: scratch memory is reused."""
    x = RNG.standard_normal((1, 4, 60, 60)).astype("f4")
    narrow, wide = (RNG.standard_normal((4, 4, n, n)).astype("f4") for n in (3, 40))
    for method in METHODS:
        groups, w = 4 if method == "depthwise" else 1, wide if method == "dot" else narrow
        large = x, w[:, : 4 // groups]
        side = 5 + w.shape[-1]
        small = x[..., :side, :side].copy(), w[:, : 4 // groups]
        first = [run(*a, method=method, groups=groups) for a in (large, small)]
        again = [run(*a, method=method, groups=groups) for a in (large, small, large)]
        np.testing.assert_array_equal(again[0], first[0])
        np.testing.assert_array_equal(again[1], first[1])
        np.testing.assert_array_equal(again[2], first[0])


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no affinity of threads"
)
def test_workers_run_where_their_caller_may() -> None:
    """Also when that changes after they have started; and not on its core, if there are others."""
    printed = in_child(
        """
        import os, time
        import numpy as np
        from fastconv._engine import run
        from fastconv.solvers import _driver

        _driver.FLOPS_A_THREAD = 1
        before = set(map(int, os.listdir("/proc/self/task")))
        x, w = np.ones((4, 2, 40, 40)), np.ones((4, 2, 3, 3))
        cores = os.sched_getaffinity(0)
        for allowed in (cores, {max(cores)}, {min(cores)}, cores):
            os.sched_setaffinity(0, allowed)
            for _ in range(2000):  # until all workers have woken up to a call
                run(x, w, method="naive", threads=4)
                workers = set(map(int, os.listdir("/proc/self/task"))) - before
                seen = [os.sched_getaffinity(worker) for worker in workers]
                follow = len(workers) == 3 and all(s <= allowed for s in seen)
                if follow and all(len(s) == max(1, len(allowed) - 1) for s in seen):
                    break
                time.sleep(0.001)
            else:
                raise AssertionError(f"{seen} while the caller may use {allowed}")
        print("followed")
        """
    )
    assert printed.strip() == "followed"


def _rss_is_known() -> bool:
    """Whether this system says how much memory a process has had at most, and forgets it."""
    return os.access("/proc/self/clear_refs", os.W_OK) and os.access("/proc/self/status", os.R_OK)


@pytest.mark.skipif(not _rss_is_known(), reason="this system has no /proc/self/clear_refs")
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_of_a_call(threads: int) -> None:
    """Pages that a call takes at most, also those that C allocates, within workspace_bytes.

    Calls beforehand start workers and make BLAS's own buffers; x, w, y are there.
    """
    printed = in_child(
        f"""
        import numpy as np
        from fastconv._planner import choose
        from fastconv._problem import Problem
        from fastconv.solvers import SOLVERS, _driver

        _driver.FLOPS_A_THREAD = 1

        def kilobytes(name):
            for line in open("/proc/self/status"):
                if line.startswith(name):
                    return int(line.split()[1])

        small = Problem.parse("conv2d f32 n1 c32 h20 w20 k16 r3 s3 p1")
        large = Problem.parse("conv2d f32 n2 c32 h200 w200 k32 r3 s3 p1")
        for solver in SOLVERS:
            if solver.device != "cpu" or solver.why_not(large) is not None:
                continue
            if solver.name == "naive":
                continue
            for problem in (small, large):
                problem = problem.replace(threads={threads})
                plan = choose(problem, method=solver.name, workspace_limit=1 << 40).plan
                x, w = np.ones(problem.x_shape, "f4"), np.ones(problem.w_shape, "f4")
                y = np.ones(problem.y_shape, "f4")
                with open("/proc/self/clear_refs", "w") as file:
                    file.write("5")
                before = kilobytes("VmRSS")
                plan(x, plan.pack_stored(w), None, y)
                peak = kilobytes("VmHWM")
            # rounding to pages, malloc's own, and the kernel's batches of 64 pages a thread
            allowed = plan.workspace_bytes // 1024 + 2048
            print(solver.name, peak - before, allowed, peak - before <= allowed)
        """
    )
    lines = printed.splitlines()
    assert len(lines) >= 5
    assert all(line.endswith("True") for line in lines), printed
