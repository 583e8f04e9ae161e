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

#: Integers that lie in memory; those of 64 bits are computed in as many, others in 32, modulo that.
INTEGERS = ("bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64")

#: How elements lie in memory, and the type and Numba's type that they are computed in.
STORED = {"f16": F16, "bf16": I16, "f32": F32, "f64": F64,
          **{name: ir.IntType(8 * SIZES[name]) for name in INTEGERS}}  # fmt: skip
COMPUTED = {"f16": F32, "bf16": F32, "f32": F32, "f64": F64,
            **{name: I64 if SIZES[name] == 8 else I32 for name in INTEGERS}}  # fmt: skip
NUMBA = {name: {F32: types.float32, F64: types.float64, I32: types.int32, I64: types.int64}[kind]
         for name, kind in COMPUTED.items()}  # fmt: skip

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


def given() -> Any:
    """``given(pointer)``: 1 where there is one, else 0."""
    return _operation(
        types.int32, (types.int64,), lambda b, p: b.zext(b.icmp_signed("!=", p, I64(0)), I32)
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


def load(dtype: str, constant: bool = True, to: str = "") -> Any:
    """``load(pointer, index)``, by default of an array that no thread writes; where they are not
    computed in their own type, as `to`."""

    def read(b: Any, pointer: Any, index: Any) -> Any:
        value = b.load(_pointer(b, pointer, index, STORED[dtype], GLOBAL), align=SIZES[dtype])
        if constant:
            value.set_metadata("invariant.load", b.module.add_metadata([]))
        return _as(b, _widened(b, value, dtype), dtype, to)

    return _operation(NUMBA[to or dtype], (types.int64, types.int32), read)


def _as(b: Any, value: Any, dtype: str, to: str) -> Any:
    """What was loaded, in the type that `to` is computed in."""
    kind = COMPUTED[to or dtype]
    if value.type == kind:
        return value
    if dtype not in INTEGERS:
        return b.fpext(value, kind)
    signed = dtype[0] == "i"
    if kind in (F32, F64):
        return b.sitofp(value, kind) if signed else b.uitofp(value, kind)
    if kind == I32:
        return b.trunc(value, kind)
    return b.sext(value, kind) if signed else b.zext(value, kind)


#: Letter of a register, and suffix of a move, of each type of element.
_LETTERS = {"f16": ("h", "b16"), "bf16": ("h", "b16"), "f32": ("f", "f32"), "f64": ("d", "f64")}


def load_if(dtype: str, to: str = "") -> Any:
    """``load_if(pointer, index, ok, other)``: `other` where `ok` is 0; `to` is as in `load`.

    One predicated instruction. A branch around a load, which LLVM would make, keeps the loads
    that follow from being on their way at the same time.
    """
    if to or dtype in INTEGERS:
        return _load_if_as(dtype, to)
    letter, kind = _LETTERS[dtype]
    text = (
        f"{{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.{kind} $0, $3;"
        f" @p ld.global.nc.{kind} $0, [$1]; }}"
    )

    def read(b: Any, pointer: Any, index: Any, ok: Any, other: Any) -> Any:
        address = b.ptrtoint(_pointer(b, pointer, index, STORED[dtype], GLOBAL), I64)
        narrow = _bits(b, _narrowed(b, other, dtype))
        constraints = f"=&{letter},l,r,{letter}"
        value = _assembly(b, narrow.type, text, constraints, [address, ok, narrow])
        return _widened(b, b.bitcast(value, F16) if dtype == "f16" else value, dtype)

    kinds = (types.int64, types.int32, types.int32, NUMBA[dtype])
    return _operation(NUMBA[dtype], kinds, read)


def _load_if_as(dtype: str, to: str) -> Any:
    """`load_if` of what is converted: `other` is of the type computed in."""
    bits = 8 * SIZES[dtype]
    if dtype in INTEGERS:
        # PTX loads fewer than 32 bits into a register of 32, extended by their sign
        letter, kind = ("l" if bits == 64 else "r"), f"{'s' if dtype[0] == 'i' else 'u'}{bits}"
        register = I64 if bits == 64 else I32
    else:
        letter, kind = _LETTERS[dtype]
        register = I16 if letter == "h" else STORED[dtype]
    nothing = {"f": "0f00000000", "d": "0d0000000000000000"}.get(letter, "0")
    moved = f"b{register.width}" if isinstance(register, ir.IntType) else kind
    zero = f"mov.{moved} $0, {nothing};"
    text = f"{{ .reg .pred p; setp.ne.b32 p, $2, 0; {zero} @p ld.global.nc.{kind} $0, [$1]; }}"

    def read(b: Any, pointer: Any, index: Any, ok: Any, other: Any) -> Any:
        address = b.ptrtoint(_pointer(b, pointer, index, STORED[dtype], GLOBAL), I64)
        value = _assembly(b, register, text, f"=&{letter},l,r", [address, ok])
        if dtype not in INTEGERS:
            value = _widened(b, b.bitcast(value, F16) if dtype == "f16" else value, dtype)
        return b.select(b.icmp_signed("!=", ok, I32(0)), _as(b, value, dtype, to), other)

    kind_of = NUMBA[to or dtype]
    return _operation(kind_of, (types.int64, types.int32, types.int32, kind_of), read)


def pair_if(dtype: str) -> Any:
    """``pair_if(pointer, i, j, is_first, is_second)``: two elements of 16 bits, +0 where not `is`,
    as the lower and the upper half of a word, which passes for a float32 and is none."""
    text = (
        "{ .reg .pred p, q; .reg .b16 a, b; setp.ne.b32 p, $3, 0; setp.ne.b32 q, $4, 0;"
        " mov.b16 a, 0; mov.b16 b, 0; @p ld.global.nc.b16 a, [$1]; @q ld.global.nc.b16 b, [$2];"
        " mov.b32 $0, {a, b}; }"
    )

    def read(b: Any, pointer: Any, i: Any, j: Any, first: Any, second: Any) -> Any:
        at = [b.ptrtoint(_pointer(b, pointer, n, STORED[dtype], GLOBAL), I64) for n in (i, j)]
        # an effect, so that it is started where it stands, and not where its result is used
        return b.bitcast(_assembly(b, I32, text, "=r,l,l,r,r", [*at, first, second], True), F32)

    kinds = (types.int64, *(types.int32,) * 4)
    return _operation(types.float32, kinds, read)


def _bits(b: Any, value: Any) -> Any:
    """A value as registers of `_LETTERS` hold it."""
    return b.bitcast(value, I16) if value.type == F16 else value


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
    if dtype in INTEGERS and SIZES[dtype] < 4:
        return b.sext(value, I32) if dtype[0] == "i" else b.zext(value, I32)
    return value


def store(dtype: str, of: str = "") -> Any:
    """``store(pointer, index, value)``; 16-bit floats are rounded to nearest, ties to even.

    Where values are computed in another type they are of `of`: integers are kept modulo 2**bits,
    floats that become integers cut towards zero first, and are 0 where they are not finite.
    """

    def write(b: Any, pointer: Any, index: Any, value: Any) -> None:
        to = _pointer(b, pointer, index, STORED[dtype], GLOBAL)
        if dtype in INTEGERS:
            value = _cut(b, value) if value.type in (F32, F64) else value
            less = value.type.width > STORED[dtype].width
            value = b.trunc(value, STORED[dtype]) if less else value
        elif value.type != COMPUTED[dtype]:
            value = b.fptrunc(value, COMPUTED[dtype])
        b.store(_narrowed(b, value, dtype), to, align=SIZES[dtype])

    return _operation(types.void, (types.int64, types.int32, NUMBA[of or dtype]), write)


def _cut(b: Any, value: Any) -> Any:
    """A float cut towards zero, modulo 2**64; every step is exact."""
    value = b.fpext(value, F64) if value.type == F32 else value
    value = _call(b, "__nv_trunc", value)
    turns = _call(b, "__nv_floor", b.fmul(value, ir.Constant(F64, 2.0**-64)))
    left = _fma(b, turns, ir.Constant(F64, -(2.0**64)), value)
    known = b.fcmp_ordered(">=", left, ir.Constant(F64, 0.0))
    return b.fptoui(b.select(known, left, ir.Constant(F64, 0.0)), I64)


def finish(activation: str, dtype: str) -> Any:
    """``finish(sum, bias, residual, index, has_residual, y, index, ok, low, high)``: an output,
    where `ok` is 1.

    One operation without a branch: of 64 outputs, each with its branches, Numba takes 9 s.
    """
    letter, kind = _LETTERS[dtype]
    reading = (
        f"{{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.{kind} $0, $3;"
        f" @p ld.global.{kind} $0, [$1]; }}"
    )
    writing = f"{{ .reg .pred p; setp.ne.b32 p, $0, 0; @p st.global.{kind} [$1], $2; }}"
    activated = _activation(activation, COMPUTED[dtype])

    def work(
        b: Any, total: Any, bias: Any, rs: Any, at_r: Any, has: Any, ys: Any, at_y: Any, ok: Any,
        low: Any, high: Any,
    ) -> None:  # fmt: skip
        registers = I16 if letter == "h" else STORED[dtype]
        nothing = ir.Constant(registers, 0 if letter == "h" else 0.0)
        source = b.ptrtoint(_pointer(b, rs, at_r, STORED[dtype], GLOBAL), I64)
        to = b.ptrtoint(_pointer(b, ys, at_y, STORED[dtype], GLOBAL), I64)
        residual = _assembly(
            b, registers, reading, f"=&{letter},l,r,{letter},~{{memory}}",
            [source, b.and_(has, ok), nothing], effect=True,
        )  # fmt: skip
        residual = _widened(b, b.bitcast(residual, STORED[dtype]), dtype)
        value = activated(b, b.fadd(b.fadd(total, bias), residual), low, high)
        value = _bits(b, _narrowed(b, value, dtype))
        _assembly(b, VOID, writing, f"r,l,{letter},~{{memory}}", [ok, to, value], effect=True)

    one, i = NUMBA[dtype], types.int32
    kinds = (one, one, types.int64, i, i, types.int64, i, i, one, one)
    return _operation(types.void, kinds, work)


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
    """0."""
    nothing = 0 if dtype in INTEGERS else 0.0
    return _operation(NUMBA[dtype], (), lambda b: ir.Constant(COMPUTED[dtype], nothing))


def fma(dtype: str) -> Any:
    """``x * y + z``, rounded once; of integers, modulo 2**32 or 2**64."""
    kind = NUMBA[dtype]
    if dtype in INTEGERS:
        return _operation(kind, (kind,) * 3, lambda b, x, y, z: b.add(b.mul(x, y), z))
    return _operation(kind, (kind,) * 3, _fma)


def add(dtype: str) -> Any:
    """``x + y``."""
    kind = NUMBA[dtype]
    if dtype in INTEGERS:
        return _operation(kind, (kind,) * 2, lambda b, x, y: b.add(x, y))
    return _operation(kind, (kind,) * 2, lambda b, x, y: b.fadd(x, y))


def activate(name: str, dtype: str) -> Any:
    """``activate(x, low, high)``: clamp (NaN stays NaN), or silu or gelu, which have no limits."""
    return _operation(NUMBA[dtype], (NUMBA[dtype],) * 3, _activation(name, COMPUTED[dtype]))


def _activation(name: str, kind: Any) -> Any:
    single = kind == F32
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

    return {"clamp": clamp, "silu": silu, "gelu": gelu}[name]


# ---- tiles of sums in registers ------------------------------------------------------------------
# A whole step is one operation: loops over a tuple are not unrolled by LLVM, and 500 statements
# take Numba five times as long as one.


def _unpacked(b: Any, value: Any, count: int) -> list[Any]:
    return [b.extract_value(value, i) for i in range(count)]


def _quad(b: Any, position: Any, element: int, dtype: str) -> list[Any]:
    """Four elements of shared memory, by loads of 16 bytes."""
    lanes = 16 // SIZES[dtype]
    kind = ir.VectorType(STORED[dtype], lanes)
    found = []
    for first in range(0, 4, lanes):
        at = b.add(position, I32((element + first) * SIZES[dtype]))
        vector = b.load(b.inttoptr(at, ir.PointerType(kind, SHARED)), align=16)
        found += [b.extract_element(vector, I32(i)) for i in range(lanes)]
    return found


def zeros(dtype: str, count: int) -> Any:
    """A tuple of `count` sums, 0.0 each."""
    kind = types.UniTuple(NUMBA[dtype], count)
    return _operation(
        kind, (), lambda b: cgutils.pack_array(b, [ir.Constant(COMPUTED[dtype], 0.0)] * count)
    )


def tile_step(dtype: str, m: int, n: int, k: int, quads_m: int, quads_n: int) -> Any:
    """``tile_step(sums, a, i, b, j)``: sums of a thread's rows and columns, k products each more.

    a (k, m) and b (k, n) lie in shared memory; the thread's quads of rows begin at element i of a
    and are m / quads_m apart, those of columns at element j of b and n / quads_n apart.
    """
    count = 16 * quads_m * quads_n
    size = SIZES[dtype]

    def step(b: Any, sums: Any, pa: Any, i: Any, pb: Any, j: Any) -> Any:
        found = _unpacked(b, sums, count)
        pa, pb = b.add(pa, b.mul(i, I32(size))), b.add(pb, b.mul(j, I32(size)))
        for row in range(k):
            rows = [v for q in range(quads_m)
                    for v in _quad(b, pa, row * m + q * (m // quads_m), dtype)]  # fmt: skip
            columns = [v for q in range(quads_n)
                       for v in _quad(b, pb, row * n + q * (n // quads_n), dtype)]  # fmt: skip
            for y, left in enumerate(rows):
                for x, right in enumerate(columns):
                    at = y * len(columns) + x
                    found[at] = _fma(b, left, right, found[at])
        return cgutils.pack_array(b, found)

    kind = types.UniTuple(NUMBA[dtype], count)
    return _operation(kind, (kind, *(types.int32,) * 4), step)


def totals(do: str, dtype: str, count: int, threads: int) -> Any:
    """``totals(sums, position, thread)`` on a thread's own totals in shared memory.

    `do` is "clear", "fold" (add sums to them, and return zeros) or "add" (return sums with them).
    """
    size = SIZES[dtype]

    def work(b: Any, sums: Any, position: Any, thread: Any) -> Any:
        found = _unpacked(b, sums, count)
        position = b.add(position, b.mul(thread, I32(size)))
        nothing = ir.Constant(COMPUTED[dtype], 0.0)
        for i in range(count):
            at = b.inttoptr(
                b.add(position, I32(i * threads * size)), ir.PointerType(STORED[dtype], SHARED)
            )
            if do == "add":
                found[i] = b.fadd(b.load(at, align=size), found[i])
                continue
            total = nothing if do == "clear" else b.fadd(b.load(at, align=size), found[i])
            b.store(total, at, align=size)
            found[i] = nothing
        return cgutils.pack_array(b, found)

    kind = types.UniTuple(NUMBA[dtype], count)
    return _operation(kind, (kind, types.int32, types.int32), work)


# ---- transforms in registers ---------------------------------------------------------------------


def converted(dtype: str, to: str) -> Any:
    """``converted(x)``: a number of one floating type in another, rounded to nearest."""
    kind = COMPUTED[to]

    def convert(b: Any, x: Any) -> Any:
        if x.type == kind:
            return x
        return b.fpext(x, kind) if kind == F64 else b.fptrunc(x, kind)

    return _operation(NUMBA[to], (NUMBA[dtype],), convert)


def gathered(dtype: str, count: int) -> Any:
    """``gathered(v0, v1, ...)``: a tuple of so many numbers."""
    kind = NUMBA[dtype]
    return _operation(
        types.UniTuple(kind, count), (kind,) * count, lambda b, *v: cgutils.pack_array(b, list(v))
    )


def transform(dtype: str, matrix: Sequence[Sequence[float]]) -> Any:
    """``transform(values)``: M v M', of a square v and its result a tuple each, by rows."""
    kind, columns, rows = NUMBA[dtype], len(matrix[0]), len(matrix)

    def dot(b: Any, row: Sequence[float], values: list[Any]) -> Any:
        total = None
        for factor, value in zip(row, values):
            if factor == 0:
                continue
            constant = ir.Constant(value.type, factor)
            if total is None:
                total = value if factor == 1 else b.fmul(constant, value)
            else:
                total = _fma(b, constant, value, total)
        return total

    def apply(b: Any, values: Any) -> Any:
        v = _unpacked(b, values, columns**2)
        # down the columns, then along the rows
        half = [[dot(b, row, v[j::columns]) for j in range(columns)] for row in matrix]
        return cgutils.pack_array(b, [dot(b, row, line) for line in half for row in matrix])

    of, to = (types.UniTuple(kind, n * n) for n in (columns, rows))
    return _operation(to, (of,), apply)


def magnitude(dtype: str) -> Any:
    """``magnitude(x)``: its absolute value."""
    kind = NUMBA[dtype]
    return _operation(kind, (kind,), _magnitude)


def _magnitude(b: Any, x: Any) -> Any:
    return _call(b, "__nv_fabsf" if x.type == F32 else "__nv_fabs", x)


def larger(dtype: str) -> Any:
    """``larger(x, y)``: the larger of two numbers, NaN where one is."""
    kind = NUMBA[dtype]

    def choose(b: Any, x: Any, y: Any) -> Any:
        if x.type == F32:  # one instruction; float64 has none
            return _assembly(b, F32, "max.NaN.f32 $0, $1, $2;", "=f,f,f", [x, y])
        more = b.select(b.fcmp_unordered(">", y, x), y, x)
        return b.select(b.fcmp_unordered("!=", x, x), x, more)

    return _operation(kind, (kind, kind), choose)


def unclear(dtype: str) -> Any:
    """``unclear(size, limit)``: 1 unless `size` is above `limit`, NaN never being so; else 0."""
    kind = NUMBA[dtype]

    def ask(b: Any, size: Any, limit: Any) -> Any:
        return b.zext(b.fcmp_unordered("<=", size, limit), I32)

    return _operation(types.int32, (kind, kind), ask)


def doubtful(dtype: str, count: int) -> Any:
    """``doubtful(values, limit)``: a bit for each value, 1 where its size is `unclear`; 0 where the
    limit is 0, which says that the value is exact."""
    kind = NUMBA[dtype]

    def ask(b: Any, values: Any, limit: Any) -> Any:
        bits = I32(0)
        for i, value in enumerate(_unpacked(b, values, count)):
            no = b.fcmp_unordered("<=", _magnitude(b, value), limit)
            bits = b.or_(bits, b.select(no, I32(1 << i), I32(0)))
        some = b.fcmp_unordered("!=", limit, ir.Constant(limit.type, 0.0))
        return b.select(some, bits, I32(0))

    return _operation(types.int32, (types.UniTuple(kind, count), kind), ask)


def placed(dtype: str, count: int) -> Any:
    """``placed(values, i, value)``: the tuple with another i-th value, without the stack."""
    kind = types.UniTuple(NUMBA[dtype], count)

    def place(b: Any, values: Any, i: Any, value: Any) -> Any:
        made = [b.select(b.icmp_signed("==", i, I32(n)), value, old)
                for n, old in enumerate(_unpacked(b, values, count))]  # fmt: skip
        return cgutils.pack_array(b, made)

    return _operation(kind, (kind, types.int32, NUMBA[dtype]), place)


# ---- tensor cores --------------------------------------------------------------------------------
# TF32 is float32 with 10 bits behind the point: the unit ignores the lower 13 of an operand.


def _tf32(b: Any, x: Any) -> tuple[Any, Any]:
    """x rounded to TF32, ties away from zero, as bits: with what is beyond TF32 left in, and cut.

    Not by cvt.rna.tf32, which has as many instructions before sm_100 and makes infinity of finite
    numbers: here those next to the largest are cut instead, as infinity and NaN are.
    """
    size = _call(b, "__nv_fabsf", x)
    most = ir.Constant(F32, float.fromhex("0x1.ffep127"))  # what rounds up to 2**128 is beyond
    up = b.select(b.fcmp_ordered("<", size, most), I32(0x1000), I32(0))
    raised = b.add(b.bitcast(x, I32), up)
    return raised, b.and_(raised, I32(0xFFFFE000))


def tf32() -> Any:
    """``tf32(x)``: x rounded to TF32."""
    return _operation(types.float32, (types.float32,), lambda b, x: b.bitcast(_tf32(b, x)[1], F32))


def rest() -> Any:
    """``rest(x)``: what `tf32` leaves of x, rounded in turn; NaN of infinity and NaN."""

    def left(b: Any, x: Any) -> Any:
        less = b.fsub(x, b.bitcast(_tf32(b, x)[1], F32))
        return b.bitcast(_tf32(b, less)[1], F32)

    return _operation(types.float32, (types.float32,), left)


def mma_step(
    dtype: str, k: int, pitch: int, tiles_m: int, tiles_n: int, a_line: int, split: int
) -> Any:
    """``mma_step(sums, a, i, b, j)``: a warp's sums in tiles of 16 x 8, k words' products more.

    a (parts, k / 8, m / 16, 32 lanes, 4) and b (k, pitch) lie in shared memory; a lane's first
    fragment begins at element i of a, those of 8 rows are `a_line` elements apart and the second
    part `split` elements; its first sample is element j of b. A word is a float32, rounded to TF32,
    or two channels of "f16" or "bf16": fragments of m16n8k16 are those of m16n8k8 in such words.
    Where `split` is not 0, a is the sum of two parts, samples are split into two, and the sums of
    the small products follow the others.

    The products of a step are summed from zero by the tensor core, which cuts what it drops, and
    then added to the sums, rounded to nearest (Ootomo and Yokota, arXiv:2203.03341, section 4.2).
    """
    main = tiles_m * tiles_n * 4
    sums_kind = ir.LiteralStructType([F32] * 4)
    mma_kind = ir.FunctionType(sums_kind, [I32] * 6 + [F32] * 4)
    shape, kind_of_a = ("m16n8k8", "tf32") if dtype == "f32" else ("m16n8k16", dtype)
    mma_text = (
        f"mma.sync.aligned.{shape}.row.col.f32.{kind_of_a}.{kind_of_a}.f32"
        " {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )
    four = ir.VectorType(I32, 4)

    def step(b: Any, sums: Any, pa: Any, i: Any, pb: Any, j: Any) -> Any:
        mma = ir.InlineAsm(mma_kind, mma_text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f")
        found = _unpacked(b, sums, main * (2 if split else 1))
        pa, pb = b.add(pa, b.mul(i, I32(4))), b.add(pb, b.mul(j, I32(4)))
        nothing = [ir.Constant(F32, 0.0)] * 4

        def fragment(element: int) -> list[Any]:
            at = b.add(pa, I32(element * 4))
            vector = b.load(b.inttoptr(at, ir.PointerType(four, SHARED)), align=16)
            return [b.extract_element(vector, I32(r)) for r in range(4)]

        def samples(row: int, column: int) -> tuple[list[Any], list[Any]]:
            big, small = [], []
            for r in (0, 4):
                at = b.add(pb, I32(((row + r) * pitch + column) * 4))
                if dtype != "f32":
                    big.append(b.load(b.inttoptr(at, ir.PointerType(I32, SHARED)), align=4))
                    continue
                x = b.load(b.inttoptr(at, ir.PointerType(F32, SHARED)), align=4)
                raised, cut = _tf32(b, x)
                big.append(cut if split else raised)
                if split:
                    small.append(b.bitcast(b.fsub(x, b.bitcast(cut, F32)), I32))
            return big, small

        def add(x: list[Any], y: list[Any], z: list[Any]) -> list[Any]:
            made = b.call(mma, [*x, *y, *z])
            return [b.extract_value(made, r) for r in range(4)]

        blocks = range(k // 8)
        right = [[samples(8 * at, 8 * n) for at in blocks] for n in range(tiles_n)]
        for m in range(tiles_m):
            left = [fragment(at * a_line + m * 128) for at in blocks]
            less = [fragment(split + at * a_line + m * 128) for at in blocks] if split else []
            for n in range(tiles_n):
                first = (m * tiles_n + n) * 4
                fresh = nothing
                for at in blocks:
                    fresh = add(left[at], right[n][at][0], fresh)
                if split:
                    own = slice(main + first, main + first + 4)
                    for at in blocks:
                        found[own] = add(less[at], right[n][at][0], found[own])
                        found[own] = add(left[at], right[n][at][1], found[own])
                for r in range(4):
                    found[first + r] = b.fadd(found[first + r], fresh[r])
        return cgutils.pack_array(b, found)

    kind = types.UniTuple(types.float32, main * (2 if split else 1))
    return _operation(kind, (kind, *(types.int32,) * 4), step)


def joined(count: int) -> Any:
    """``joined(sums)``: the first half with the second, the small products, added where finite."""

    def join(b: Any, sums: Any) -> Any:
        values = _unpacked(b, sums, 2 * count)
        infinite = ir.Constant(F32, float("inf"))
        found = []
        for big, small in zip(values[:count], values[count:]):
            finite = b.fcmp_ordered("<", _call(b, "__nv_fabsf", big), infinite)
            found.append(b.select(finite, b.fadd(big, small), big))
        return cgutils.pack_array(b, found)

    half, whole = (types.UniTuple(types.float32, n) for n in (count, 2 * count))
    return _operation(half, (whole,), join)
