"""`Kernel`: one GPU kernel as text, specialised by constants, and the operations that it names.

A kernel is the source of one Python function. It is compiled by Numba with the operations of
`intrinsics.py`, and run by the emulator of the tests with operations of the same names, so its text
names nothing else. Two rules make it short:

- Every arithmetic operator is one of 32-bit integers (Numba would widen each sum to 64 bits);
  floating-point arithmetic is spelt ``fma(a, b, c)``. Operands of ``//`` and ``%`` are never
  negative: they are divided as unsigned numbers.
- Memory is reached through a pointer and an index in elements, ``load_x(x, i)``. What lies further
  than 2**31 elements away is reached by ``advance_x(x, n, stride)``, in 64 bits.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any

#: Format of each kind of parameter in `struct`'s letters; a kernel's parameters lie as in C.
FORMATS = {"pointer": "Q", "i32": "i", "i64": "q", "f32": "f", "f64": "d"}

#: Bytes of the elements that kernels read and write.
SIZES = {
    "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "bool": 1, "i8": 1, "u8": 1, "i16": 2, "u16": 2,
    "i32": 4, "u32": 4, "i64": 8, "u64": 8,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A function of `text`, and what it needs.

    Attributes
    ----------
    name : str
        Of the function.
    text : str
        Its source, operators not yet written out.
    operations : tuple of (name, (operation, *constants))
        What each name in the text stands for: an operation of `intrinsics.py` by its name, made
        for these constants.
    parameters : tuple of (name, kind)
        In order; kinds are those of `FORMATS`.
    threads : int
        Of a block.
    blocks : int
        That should fit a multiprocessor at once, which limits registers.
    shared_bytes : int
        Of a block.
    """

    name: str
    text: str
    operations: tuple[tuple[str, tuple[Any, ...]], ...]
    parameters: tuple[tuple[str, str], ...]
    threads: int
    blocks: int = 1
    shared_bytes: int = 0

    @property
    def source(self) -> str:
        """The text with its integer operators written out."""
        return _written_out(self.text)[0]

    @property
    def format(self) -> str:
        """Of the block of parameters, for `struct`."""
        return "@" + "".join(FORMATS[kind] for _, kind in self.parameters)

    def __hash__(self) -> int:
        return hash((self.name, self.text, self.operations))


def operations(text: str, *tables: Mapping[str, tuple[Any, ...]]) -> Any:
    """The entries of `tables` that a kernel's text names, in order, with those of every kernel."""
    every = {name: made for table in (COMMON, *tables) for name, made in table.items()}
    return tuple((name, every[name]) for name in sorted(_written_out(text)[1] & set(every)))


@functools.lru_cache(256)
def _written_out(text: str) -> tuple[str, frozenset[str]]:
    """A kernel's text, its integer operators written out, and the names in it: made once, being
    most of what a kernel that was compiled before takes."""
    writer = _Integers()
    return ast.unparse(writer.visit(ast.parse(text))), frozenset(writer.named)


def indented(lines: list[str], levels: int) -> list[str]:
    """Lines of a kernel's text, so many levels further in."""
    return ["    " * levels + line for line in lines]


def divisor(d: int) -> tuple[int, int]:
    """(multiplier, shift) with which n // d is ``n * multiplier >> shift`` for 0 <= n < 2**31.

    Granlund and Montgomery, Division by Invariant Integers using Multiplication, PLDI 1994,
    theorem 4.2 with N = 31: the multiplier has at most 32 bits, and the product 63.
    """
    shift = 31 + (d - 1).bit_length()
    return -(-(1 << shift) // d), shift


_OPERATORS = {
    ast.Add: "i_add", ast.Sub: "i_sub", ast.Mult: "i_mul", ast.FloorDiv: "i_div", ast.Mod: "i_mod",
    ast.BitAnd: "i_and", ast.LShift: "i_shl", ast.RShift: "i_shr",
}  # fmt: skip

#: What they make of constants.
_FOLDED = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip

#: Operations that any kernel may name.
COMMON: dict[str, tuple[Any, ...]] = {
    **{name: (name,) for name in _OPERATORS.values()},
    **{
        name: (name,)
        for name in ("i32", "quotient", "inside", "thread", "block_x", "block_y", "block_z", "sync")
    },
}


class _Integers(ast.NodeTransformer):
    """Writes operators out as the 32-bit operations that they stand for; `named` is all names."""

    def __init__(self) -> None:
        self.named: set[str] = set()

    def visit_Name(self, node: ast.Name) -> ast.AST:
        self.named.add(node.id)
        return node

    def _call(self, name: str, *arguments: ast.expr) -> ast.Call:
        self.named.add(name)
        return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            return ast.Constant(_FOLDED[type(node.op)](node.left.value, node.right.value))
        return self._call(_OPERATORS[type(node.op)], node.left, node.right)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        assert isinstance(node.target, ast.Name)
        value = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        return self.visit(ast.copy_location(ast.Assign([node.target], value), node))

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        value = node.value
        if isinstance(value, ast.UnaryOp):
            value = ast.Constant(ast.literal_eval(value)) if _is_number(value) else value
        if isinstance(value, ast.Constant) and type(value.value) is int:
            node.value = self._call("i32", value)  # a variable of 32 bits from the start
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            node.args = [self._call("i32", a) for a in node.args]
        return node


def _is_number(node: ast.UnaryOp) -> bool:
    return isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
