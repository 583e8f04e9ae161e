"""The operations that kernels name, as LLVM and inline PTX. Imports Numba: only `build` imports it.

Each public function makes an operation for its constants: ``load("f32")`` is called in a kernel as
``load_x(pointer, index)``. Pointers are 64-bit numbers, positions in shared memory 32-bit ones, so
every load and store states its own address space. PTX ISA 9.0 is the reference of the
instructions; the emulator of the tests has an operation of each of these names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

from fastconv.cuda.kernel import SIZES

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64, VOID = ir.HalfType(), ir.FloatType(), ir.DoubleType(), ir.VoidType()

#: How elements lie in memory, and the type and Numba's type that they are computed in.
STORED = {"f16": F16, "bf16": I16, "f32": F32, "f64": F64}
COMPUTED = {"f16": F32, "bf16": F32, "f32": F32, "f64": F64}
NUMBA = {"f16": types.float32, "bf16": types.float32, "f32": types.float32, "f64": types.float64}

GLOBAL, SHARED = 1, 3


def _operation(result: Any, arguments: Sequence[Any], body: Any) -> Any:
    """An intrinsic of a fixed signature; `body` is given the builder and the LLVM values."""

    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = body(builder, *args)
        return context.get_dummy_value() if value is None else value

    # Numba inspects the parameters' names
    names = ", ".join(f"a{i}" for i in range(len(arguments)))
    space: dict[str, Any] = {"sig": result(*arguments), "lowered": lowered}
    exec(f"def operation(typingctx, {names}):\n    return sig, lowered", space)
    return intrinsic(space["operation"])


def _pointer(builder: Any, address: Any, index: Any, kind: Any, space: int) -> Any:
    base = builder.inttoptr(address, ir.PointerType(kind, space))
    return builder.gep(base, [index if index.type == I64 else builder.sext(index, I64)])


def _assembly(
    builder: Any, result: Any, text: str, constraints: str, values: Sequence[Any],
    effect: bool = False,
) -> Any:  # fmt: skip
    kind = ir.FunctionType(result, [v.type for v in values])
    return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=effect), values)


# ---- integers ------------------------------------------------------------------------------------


def _integer(operate: Any) -> Any:
    return lambda: _operation(types.int32, (types.int32, types.int32), operate)


i_add = _integer(lambda b, x, y: b.add(x, y, flags=("nsw",)))
i_sub = _integer(lambda b, x, y: b.sub(x, y, flags=("nsw",)))
i_mul = _integer(lambda b, x, y: b.mul(x, y, flags=("nsw",)))
i_div = _integer(lambda b, x, y: b.udiv(x, y))
i_mod = _integer(lambda b, x, y: b.urem(x, y))
i_and = _integer(lambda b, x, y: b.and_(x, y))
i_shl = _integer(lambda b, x, y: b.shl(x, y))
i_shr = _integer(lambda b, x, y: b.lshr(x, y))


def i32() -> Any:
    """A 32-bit integer."""
    return _operation(types.int32, (types.int32,), lambda b, x: x)


def quotient() -> Any:
    """``quotient(n, multiplier, shift)``: n divided as `kernel.divisor` says; n is not negative."""

    def divide(b: Any, n: Any, multiplier: Any, shift: Any) -> Any:
        return b.trunc(b.lshr(b.mul(b.zext(n, I64), multiplier), b.zext(shift, I64)), I32)

    return _operation(types.int32, (types.int32, types.int64, types.int32), divide)


def inside() -> Any:
    """``inside(i, n)``: 1 where 0 <= i < n, else 0."""
    return _operation(
        types.int32, (types.int32,) * 2, lambda b, i, n: b.zext(b.icmp_unsigned("<", i, n), I32)
    )


def edge(boundary: str) -> Any:
    """``edge(i, n)``: the index within n samples that stands at i, however far beyond the ends."""

    def remainder(b: Any, i: Any, n: Any) -> Any:
        r = b.srem(i, n)
        return b.select(b.icmp_signed("<", r, I32(0)), b.add(r, n), r)

    def nearest(b: Any, i: Any, n: Any) -> Any:
        i = b.select(b.icmp_signed("<", i, I32(0)), I32(0), i)
        last = b.sub(n, I32(1))
        return b.select(b.icmp_signed(">", i, last), last, i)

    def reflect(b: Any, i: Any, n: Any) -> Any:
        r = remainder(b, i, b.mul(n, I32(2)))
        return b.select(b.icmp_signed("<", r, n), r, b.sub(b.sub(b.mul(n, I32(2)), I32(1)), r))

    def mirror(b: Any, i: Any, n: Any) -> Any:
        period = b.sub(b.mul(n, I32(2)), I32(2))
        alone = b.icmp_signed("==", period, I32(0))
        r = remainder(b, i, b.select(alone, I32(1), period))
        return b.select(b.icmp_signed("<", r, n), r, b.sub(period, r))

    body = {"nearest": nearest, "reflect": reflect, "mirror": mirror, "wrap": remainder}[boundary]
    return _operation(types.int32, (types.int32,) * 2, body)


# ---- where a thread is ---------------------------------------------------------------------------


def _register(name: str) -> Any:
    def read(builder: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(I32, []), f"llvm.nvvm.read.ptx.sreg.{name}"
        )
        return builder.call(function, [])

    return lambda: _operation(types.int32, (), read)


thread = _register("tid.x")
block_x = _register("ctaid.x")
block_y = _register("ctaid.y")
block_z = _register("ctaid.z")


def sync() -> Any:
    """Wait for all threads of the block."""

    def barrier(builder: Any) -> None:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VOID, []), "llvm.nvvm.barrier0"
        )
        builder.call(function, [])

    return _operation(types.void, (), barrier)


# ---- global memory -------------------------------------------------------------------------------


def advance(dtype: str) -> Any:
    """``advance(pointer, n, stride)``: n strides on, in 64 bits; n and stride in elements."""
    size = SIZES[dtype]

    def move(b: Any, pointer: Any, n: Any, stride: Any) -> Any:
        return b.add(pointer, b.mul(b.mul(b.sext(n, I64), stride), I64(size)))

    return _operation(types.int64, (types.int64, types.int32, types.int64), move)


def load(dtype: str) -> Any:
    """``load(pointer, index)``, of an array that no thread writes."""

    def read(b: Any, pointer: Any, index: Any) -> Any:
        value = b.load(_pointer(b, pointer, index, STORED[dtype], GLOBAL), align=SIZES[dtype])
        value.set_metadata("invariant.load", b.module.add_metadata([]))
        return _widened(b, value, dtype)

    return _operation(NUMBA[dtype], (types.int64, types.int32), read)


#: Letter of a register, and suffix of a move, of each type of element.
_LETTERS = {"f16": ("h", "b16"), "bf16": ("h", "b16"), "f32": ("f", "f32"), "f64": ("d", "f64")}


def load_if(dtype: str) -> Any:
    """``load_if(pointer, index, ok, other)``: `other` where `ok` is 0.

    One predicated instruction. A branch around a load, which LLVM would make, keeps the loads
    that follow from being on their way at the same time.
    """
    letter, kind = _LETTERS[dtype]
    text = (
        f"{{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.{kind} $0, $3;"
        f" @p ld.global.nc.{kind} $0, [$1]; }}"
    )

    def read(b: Any, pointer: Any, index: Any, ok: Any, other: Any) -> Any:
        address = b.ptrtoint(_pointer(b, pointer, index, STORED[dtype], GLOBAL), I64)
        stored = {"f16": I16, "bf16": I16}.get(dtype, STORED[dtype])
        narrow = _narrowed(b, other, dtype)
        narrow = b.bitcast(narrow, I16) if dtype == "f16" else narrow
        constraints = f"=&{letter},l,r,{letter}"
        value = _assembly(b, stored, text, constraints, [address, ok, narrow])
        return _widened(b, b.bitcast(value, F16) if dtype == "f16" else value, dtype)

    kinds = (types.int64, types.int32, types.int32, NUMBA[dtype])
    return _operation(NUMBA[dtype], kinds, read)


def _narrowed(b: Any, value: Any, dtype: str) -> Any:
    if dtype == "f16":
        return b.fptrunc(value, F16)
    if dtype == "bf16":
        return _assembly(b, I16, "cvt.rn.bf16.f32 $0, $1;", "=h,f", [value])
    return value


def _widened(b: Any, value: Any, dtype: str) -> Any:
    if dtype == "f16":
        return b.fpext(value, F32)
    if dtype == "bf16":
        return b.bitcast(b.shl(b.zext(value, I32), I32(16)), F32)
    return value


def store(dtype: str) -> Any:
    """``store(pointer, index, value)``; 16-bit floats are rounded to nearest, ties to even."""

    def write(b: Any, pointer: Any, index: Any, value: Any) -> None:
        to = _pointer(b, pointer, index, STORED[dtype], GLOBAL)
        b.store(_narrowed(b, value, dtype), to, align=SIZES[dtype])

    return _operation(types.void, (types.int64, types.int32, NUMBA[dtype]), write)


# ---- shared memory -------------------------------------------------------------------------------


def shared(dtype: str, byte: int, count: int) -> Any:
    """``shared()``: where `count` elements begin, `byte` bytes into the block's shared memory."""
    del count  # for the emulator

    def address(b: Any) -> Any:
        name = "fastconv_shared"
        memory = b.module.globals.get(name)
        if memory is None:
            kind = ir.ArrayType(I8, 0)
            memory = ir.GlobalVariable(b.module, kind, name, addrspace=SHARED)
            memory.linkage, memory.align = "external", 16
        return b.add(b.ptrtoint(memory, I32), I32(byte))

    return _operation(types.int32, (), address)


def load_shared(dtype: str) -> Any:
    """``load_shared(position, index)``."""

    def read(b: Any, position: Any, index: Any) -> Any:
        return b.load(_pointer(b, position, index, STORED[dtype], SHARED), align=SIZES[dtype])

    return _operation(NUMBA[dtype], (types.int32, types.int32), read)


def store_shared(dtype: str) -> Any:
    """``store_shared(position, index, value)``."""

    def write(b: Any, position: Any, index: Any, value: Any) -> None:
        b.store(value, _pointer(b, position, index, STORED[dtype], SHARED), align=SIZES[dtype])

    return _operation(types.void, (types.int32, types.int32, NUMBA[dtype]), write)


def copy_async(dtype: str, count: int) -> Any:
    """``copy_async(position, index, pointer, index, ok)``: `count` elements from global to shared
    memory, or zeros where `ok` is 0, there when `wait_async` says so."""
    size = SIZES[dtype] * count
    cache = "cg" if size == 16 else "ca"
    text = f"cp.async.{cache}.shared.global [$0], [$1], {size}, $2;"

    def copy(b: Any, to: Any, i: Any, pointer: Any, j: Any, ok: Any) -> None:
        to = b.ptrtoint(_pointer(b, to, i, STORED[dtype], SHARED), I32)
        pointer = b.ptrtoint(_pointer(b, pointer, j, STORED[dtype], GLOBAL), I64)
        read = b.select(b.icmp_signed("!=", ok, I32(0)), I32(size), I32(0))
        _assembly(b, VOID, text, "r,l,r,~{memory}", [to, pointer, read], effect=True)

    kinds = (types.int32, types.int32, types.int64, types.int32, types.int32)
    return _operation(types.void, kinds, copy)


def commit_async() -> Any:
    """The copies of this thread that were started since the last are a group."""

    def commit(b: Any) -> None:
        _assembly(b, VOID, "cp.async.commit_group;", "~{memory}", [], effect=True)

    return _operation(types.void, (), commit)


def wait_async(groups: int) -> Any:
    """Wait until at most `groups` of this thread's latest groups are on their way."""

    def wait(b: Any) -> None:
        _assembly(b, VOID, f"cp.async.wait_group {groups};", "~{memory}", [], effect=True)

    return _operation(types.void, (), wait)


# ---- arithmetic ----------------------------------------------------------------------------------


def _call(b: Any, name: str, *values: Any) -> Any:
    kind = ir.FunctionType(values[0].type, [v.type for v in values])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), values)


def _fma(b: Any, x: Any, y: Any, z: Any) -> Any:
    return _call(b, "llvm.fma.f32" if x.type == F32 else "llvm.fma.f64", x, y, z)


def zero(dtype: str) -> Any:
    """0.0."""
    return _operation(NUMBA[dtype], (), lambda b: ir.Constant(COMPUTED[dtype], 0.0))


def fma(dtype: str) -> Any:
    """``x * y + z``, rounded once."""
    kind = NUMBA[dtype]
    return _operation(kind, (kind,) * 3, _fma)


def add(dtype: str) -> Any:
    """``x + y``."""
    kind = NUMBA[dtype]
    return _operation(kind, (kind,) * 2, lambda b, x, y: b.fadd(x, y))


def activate(name: str, dtype: str) -> Any:
    """``activate(x, low, high)``: clamp (NaN stays NaN), or silu or gelu, which have no limits."""
    kind, single = COMPUTED[dtype], COMPUTED[dtype] == F32
    suffix = "f" if single else ""

    def constant(value: float) -> Any:
        return ir.Constant(kind, value)

    def clamp(b: Any, x: Any, low: Any, high: Any) -> Any:
        x = b.select(b.fcmp_ordered("<", x, low), low, x)
        return b.select(b.fcmp_ordered(">", x, high), high, x)

    def silu(b: Any, x: Any, low: Any, high: Any) -> Any:
        # where exp(-x) overflows, x / inf is the limit, 0; of minus infinity NaN would come
        grown = b.fadd(constant(1.0), _call(b, f"__nv_exp{suffix}", b.fsub(constant(-0.0), x)))
        lost = b.fcmp_ordered("==", x, constant(float("-inf")))
        return b.select(lost, constant(-0.0), b.fdiv(x, grown))

    def gelu(b: Any, x: Any, low: Any, high: Any) -> Any:
        tail = _call(b, f"__nv_erfc{suffix}", b.fmul(x, constant(-(0.5**0.5))))
        lost = b.fcmp_ordered("==", x, constant(float("-inf")))
        return b.select(lost, constant(-0.0), b.fmul(b.fmul(x, constant(0.5)), tail))

    body = {"clamp": clamp, "silu": silu, "gelu": gelu}[name]
    return _operation(NUMBA[dtype], (NUMBA[dtype],) * 3, body)
