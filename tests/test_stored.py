"""`reads_stored`: solvers that get x in the dtype it is stored in, and the memory this saves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from problems import PROBLEMS, Array, arrays

from fastconv import _planner
from fastconv._epilogue import Epilogue
from fastconv._ext import core
from fastconv._machine import this_machine
from fastconv._plan import Plan, conversion_bytes
from fastconv._problem import Problem, numpy_dtype
from fastconv._solver import Config, Solver
from fastconv.solvers import BY_NAME, SOLVERS
from fastconv.solvers.naive import Naive

IMAGE = Problem.parse("conv2d f32 n1 c3 h9 w11 k5 r3 s3 p1 x:u8")


class Seen(Plan):
    """A plan that keeps what it is given, and computes nothing."""

    def pack(self, w: Array) -> Any:
        return w

    def execute(self, x: Array, packed: Any, epilogue: Epilogue | None, y: Array) -> None:
        self.x = x
        y[...] = 0


class Reader(Naive):
    """A solver that reads uint8 and nothing else in its stored dtype."""

    name = "reader"

    def reads_stored(self, problem: Problem) -> bool:
        return problem.x_dtype == "u8"

    def workspace(self, problem: Problem, config: Config) -> int:
        return 0

    def plan(self, problem: Problem, config: Config, machine: Any) -> Seen:
        return Seen(problem, self, config)


def seen(solver: Solver, x: Array, problem: Problem = IMAGE) -> Array:
    plan = solver.plan(problem, {}, this_machine())
    assert isinstance(plan, Seen)
    w = np.zeros(problem.w_shape, numpy_dtype(problem.w_dtype))
    plan(x, plan.pack_stored(w), None, np.empty(problem.y_shape, "f4"))
    return plan.x


def test_x_arrives_as_it_is_stored() -> None:
    x, _, _ = arrays(IMAGE)
    assert seen(Reader(), x) is x
    halves = IMAGE.replace(x_dtype="f16")
    assert seen(Reader(), x.astype("f2"), halves).dtype == np.float32


def test_fields_of_records_are_copied_in_the_stored_dtype() -> None:
    wide = IMAGE.replace(x_dtype="u16", w_dtype="f32")

    class Reader16(Reader):
        def reads_stored(self, problem: Problem) -> bool:
            return True

    x = np.zeros(wide.x_shape, np.dtype([("pad", "u1"), ("value", "u2")]))["value"]
    x[...] = np.arange(x.size).reshape(x.shape)
    got = seen(Reader16(), x, wide)
    assert got is not x and got.dtype == np.uint16 and got.flags.aligned
    np.testing.assert_array_equal(got, x)
    swapped = x.astype(">u2")
    assert seen(Reader16(), swapped, wide).dtype == np.dtype("=u2")


def test_memory_of_the_copy_is_counted_where_it_is_made() -> None:
    copied = IMAGE.batch * IMAGE.channels * 9 * 11 * 4
    assert conversion_bytes(IMAGE, BY_NAME["naive"]) == copied
    assert conversion_bytes(IMAGE, Reader()) == 0
    assert Reader().plan(IMAGE, {}, this_machine()).workspace_bytes == 0
    by_name = {
        c.method: c for c in _planner.candidates(IMAGE, solvers=(BY_NAME["naive"], Reader()))
    }
    alone = BY_NAME["naive"].workspace(IMAGE, {})
    assert by_name["naive"].workspace_bytes == alone + copied
    assert by_name["reader"].workspace_bytes == 0


@pytest.mark.parametrize("solver", [s for s in SOLVERS if s.device == "cpu"], ids=lambda s: s.name)
def test_phases_of_a_dilated_input_are_converted(solver: Solver) -> None:
    """They are slices of x that name no stored dtype of their own."""
    problem = Problem.parse("conv2d f32 n1 c1 h9 w11 k1 r3 s3 p2 e2 x:u8")
    assert not solver.reads_stored(problem)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: s.name)
def test_solvers_answer_for_every_problem(solver: Solver) -> None:
    for text in PROBLEMS:
        problem = Problem.parse(text)
        if solver.why_not(problem) is None:
            assert isinstance(solver.reads_stored(problem), bool)


def test_core_knows_every_stored_dtype() -> None:
    """Sizes of x are those of its own dtype: a driver asks for strides in elements of x."""
    for name in ("bool", "u8", "i8", "u16", "i16", "u32", "i32", "i64", "u64", "f32", "f64"):
        call = core.Call("naive", core.isa(), IMAGE.replace(x_dtype=name), (), 1, name)
        assert call.packed_bytes > 0
    with pytest.raises(ValueError):
        core.Call("naive", core.isa(), IMAGE, (), 1, "f12")
