"""The guard of Fourier methods: outputs that rounding has left without a correct digit are redone.

A transform's error is about eps * log2(n) * max|x| * max|W|, the same for every output of a block,
however small the data in that output's own window. Outputs much larger than it are right. The few
others are suspects: each is cleared when a few of its products alone exceed the error by a digit,
and otherwise computed again: by Fourier in double precision when there are many and the data are in
single, else by the definition. NaN and Inf are kept out of the transform, which would spread them
over the block, and put back into the outputs whose windows hold them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv._machine import this_machine
from fastconv._plan import Plan
from fastconv._problem import Array, Problem

if TYPE_CHECKING:
    from fastconv.solvers._fourier import FourierPlan, Spectrum

#: An output this many times the error has a correct decimal digit: abs(y) > 11 e leaves S > 10 e.
DIGIT = 11

#: Products computed by gathering windows, beyond which another way is sought: 0.5 to 4 ns each, so
#: this is a few milliseconds, the price of setting up anything else. Also this many a sample of the
#: piece, which is what transforming it again in double precision costs.
GATHERED = 1 << 21
_GATHERED_A_SAMPLE = 8

#: Outputs compared at once, so that the two masks stay in cache.
_COMPARED = 1 << 17

#: Infinite samples that are scattered one by one; with more, their windows are computed directly.
_SCATTERED = 64

#: Taps of a long kernel, evenly spread, whose products may show that an output is not nothing.
_SPREAD = 512

#: Outputs of one direct tile.
_TILE = 4096

#: Products in direct tiles that cost what transforming one sample again in double precision does:
#: some 50 ns at 25 products a ns on one core.
_TILED_A_SAMPLE = 1250


def direct_plan(problem: Problem) -> Plan:
    """A plan that sums products as they are defined, by the first such solver that applies."""
    from fastconv.solvers import BY_NAME  # the table lists the solvers that import this module

    for name in ("direct", "naive"):
        solver = BY_NAME.get(name)
        if solver is not None and solver.why_not(problem) is None:
            machine = this_machine()
            return solver.plan(problem, solver.configs(problem, machine)[0], machine)
    raise AssertionError(f"naive refused {problem}")


def peak(x: Array) -> Array:
    """max|x| (n, g) of data (n, g, c, *samples); NaN or Inf when one is there.

    Complex moduli are taken at most sqrt(2) too large, which is quicker than a root a sample.
    """
    axes = tuple(range(2, x.ndim))
    if x.dtype.kind == "c":
        both = np.maximum(peak(x.real), peak(x.imag))
        return both * both.dtype.type(math.sqrt(2))
    top: Array = np.maximum(x.max(axis=axes), -x.min(axis=axes))
    return top


def suspects(z: Array, limit: Array) -> Array | None:
    """Which of the outputs z (n, g, k, *sizes) may be nothing but error; None when none is."""
    found: Array | None = None
    # data of zeros has a limit of 0 and outputs of 0, which are right
    bound = np.where(limit > 0, DIGIT * limit, -1).reshape(*limit.shape, *(1,) * (z.ndim - 3))
    with np.errstate(over="ignore"):  # a bound of Inf leaves nothing that is not suspect
        bound = bound.astype(z.real.dtype)
    for part in _parts(z.shape, _COMPARED):
        b = bound[part[:3]]
        v = z[part]
        if z.dtype.kind == "c":  # at most sqrt(2) too many
            clear = (abs(v.real) > b) | (abs(v.imag) > b)
        else:
            clear = v > b
            clear |= v < -b
        if not clear.all():
            if found is None:
                found = np.zeros(z.shape, bool)
            np.logical_not(clear, out=found[part])
    return found


def _parts(shape: tuple[int, ...], size: int) -> list[tuple[slice, ...]]:
    """Cut an array into slabs of about `size` elements, along its leading axes."""
    parts: list[tuple[slice, ...]] = [()]
    rest = math.prod(shape)
    for extent in shape:
        rest //= max(1, extent)
        step = max(1, min(extent, size // max(1, rest)))
        parts = [
            (*part, slice(a, min(a + step, extent)))
            for part in parts
            for a in range(0, extent, step)
        ]
    return parts


def reach(
    mask: Array, kernel: tuple[int, ...], dilation: tuple[int, ...], stride: tuple[int, ...]
) -> Array:
    """Which outputs have a window that touches `mask`, over the trailing axes.

    A window is a product of arithmetic progressions, so axis by axis; and the or of r samples is
    the or of two overlapping runs, so in log2(r) passes.
    """
    first = mask.ndim - len(kernel)
    for axis, (r, step, u) in enumerate(zip(kernel, dilation, stride), first):
        before = (slice(None),) * axis
        run = 1
        while run < r:
            more = min(run, r - run)
            mask = (
                mask[(*before, slice(None, -more * step))]
                | mask[(*before, slice(more * step, None))]
            )
            run += more
        mask = mask[(*before, slice(None, None, u))]
    return mask


def _where(mask: Array) -> tuple[Array, ...]:
    """np.nonzero, ten times quicker where little is set."""
    return np.unravel_index(np.flatnonzero(mask), mask.shape)


def _met(taps: int, outputs: int, first: int, last: int) -> tuple[int, int]:
    """Taps that meet samples `first` to `last` in any of the outputs, from 0 on: begin, end.

    At the ends of a signal most meet nothing but zeros.
    """
    begin = min(max(0, first - outputs + 1), taps - 1)
    return begin, max(begin + 1, min(taps, last + 1))


class Guard:
    """Mends the outputs of one piece of a plan: some images, groups and filters."""

    def __init__(
        self, plan: FourierPlan, spectrum: Spectrum, groups: slice, filters: slice,
        sizes: tuple[int, ...],
    ) -> None:  # fmt: skip
        self._plan = plan
        self._problem = plan.problem
        self._spectrum = spectrum
        self._groups = groups
        self._filters = filters
        self._sizes = sizes
        self._w = spectrum.w[groups, filters]
        self._direct: dict[tuple[int, ...], tuple[Plan, Any]] = {}

    def mend(
        self, rows: Array, windows: Array, z: Array, todo: Array | None, limit: Array | None,
        bad: bool,
    ) -> None:  # fmt: skip
        """Put right z (n, g, k, *sizes), in place.

        `rows` is what was transformed, `windows` (n, g, c, *samples) the same data in padded
        positions, with NaN and Inf when `bad`; `todo` are the suspects, whose error is `limit`.
        """
        if todo is not None and limit is not None:
            clean = np.where(np.isfinite(windows), windows, 0) if bad else windows
            double = rows.dtype.itemsize <= (8 if rows.dtype.kind == "c" else 4)
            with np.errstate(over="ignore"):  # sums of sizes, and outputs that are infinite
                self._settle(rows, clean, z, todo, limit, double=double)
        if bad:
            with np.errstate(invalid="ignore"):
                self._put_back(windows, z)

    # ---- suspects ------------------------------------------------------------------------------
    def _settle(
        self, rows: Array, x: Array, z: Array, todo: Array, limit: Array, double: bool
    ) -> None:
        taps = self._problem.taps
        gathered = max(GATHERED, _GATHERED_A_SAMPLE * x.size)
        many = np.count_nonzero(todo) > todo.size // 16
        if many:
            self._silence(x, z, todo)
            many = np.count_nonzero(todo) > todo.size // 16
        # where most outputs are lost, clearing each costs more than redoing all, unless that is by
        # very many products
        if not many or (taps > _TILE and not double):
            self._clear(x, todo, limit)
        count = np.count_nonzero(todo)
        if count * taps > gathered:
            self._silence(x, z, todo)
            count = np.count_nonzero(todo)
        if count == 0:
            return
        if count * taps <= gathered:
            self._gather(x, z, todo)
        elif double and self._tiled(x, todo) > _TILED_A_SAMPLE * x.size:
            self._again_in_double(rows, x, z, todo)
        else:
            self._directly(x, z, todo)

    def _side(self) -> int:
        """Outputs of a direct tile along each axis."""
        return max(1, round(_TILE ** (1 / self._problem.ndim)))

    def _tiled(self, x: Array, todo: Array) -> int:
        """Products in the direct tiles that hold any of `todo`."""
        p, side = self._problem, self._side()
        n, g, _, *o = _where(todo)
        tiles = np.unique(np.stack([n, g, *(q // side for q in o)], 1), axis=0)
        if not self._trims:
            return len(tiles) * _TILE * p.taps
        sounding = np.flatnonzero(x.any(axis=(0, 1, 2)))
        if not sounding.size:
            return 0
        ends = int(sounding[0]), int(sounding[-1])
        met = [_met(p.kernel[0], side, *(s - side * int(t) for s in ends)) for t in tiles[:, 2]]
        return p.channels // p.groups * side * sum(end - begin for begin, end in met)

    @property
    def _trims(self) -> bool:
        """Whether direct tiles leave out taps that meet nothing but zeros at a signal's ends."""
        p = self._problem
        return p.ndim == 1 and p.stride == p.dilation == (1,)

    def _silence(self, x: Array, z: Array, todo: Array) -> None:
        """Outputs of windows of zeros are 0."""
        p = self._problem
        sounding = reach((x != 0).any(axis=2), p.kernel, p.dilation, p.stride)[:, :, None]
        z[todo & ~sounding] = 0
        todo &= sounding

    def _clear(self, x: Array, todo: Array, limit: Array) -> None:
        """Strike off outputs of which a few products show S to be large.

        Those of the largest taps come first; at the ends of a signal these meet nothing, but taps
        spread over the kernel do.
        """
        p = self._problem
        taps = self._spectrum.largest_taps(self._groups)[:, self._filters]
        spread = [np.arange(0, p.taps, p.taps // _SPREAD)] if p.taps > 8 * _SPREAD else []
        for g, k in zip(*np.nonzero(todo.any(axis=(0, *range(3, todo.ndim))))):
            bound = DIGIT * limit[:, g, k]
            data = x[:, g]
            for few in (taps[g, k][:4], taps[g, k], *spread):
                where = np.unravel_index(few, self._w.shape[2:])
                weight = abs(self._w[g, k][where])
                at = _where(todo[:, g, k])
                for i in range(0, len(at[0]), _TILE):
                    n, *o = (index[i : i + _TILE] for index in at)
                    samples = tuple(
                        q[:, None] * u + r * step
                        for q, u, r, step in zip(o, p.stride, where[1:], p.dilation)
                    )
                    found = abs(data[(n[:, None], where[0], *samples)])
                    clear = (found * weight).sum(1) > bound[n]
                    part = tuple(index[clear] for index in (n, *o))
                    todo[(part[0], g, k, *part[1:])] = False

    def _gather(self, x: Array, z: Array, todo: Array) -> None:
        """Few outputs: copy their windows, a matrix times the kernel."""
        p = self._problem
        step = x.strides[3:]
        view = np.lib.stride_tricks.as_strided(
            x,
            (x.shape[0], x.shape[1], *self._sizes, x.shape[2], *p.kernel),
            (
                x.strides[0], x.strides[1], *(s * u for s, u in zip(step, p.stride)),
                x.strides[2], *(s * d for s, d in zip(step, p.dilation)),
            ),
            writeable=False,
        )  # fmt: skip
        together = max(1, (1 << 18) // p.taps)
        for g, k in zip(*np.nonzero(todo.any(axis=(0, *range(3, todo.ndim))))):
            w = self._w[g, k].ravel()
            at = _where(todo[:, g, k])
            for i in range(0, len(at[0]), together):
                n, *rest = (index[i : i + together] for index in at)
                found = view[(n, g, *rest)].reshape(len(n), -1)
                # not BLAS, whose threads would fight with those of the plan
                z[(n, g, k, *rest)] = np.einsum("mt,t->m", found, w)

    def _again_in_double(self, rows: Array, x: Array, z: Array, todo: Array) -> None:
        plan, s = self._plan, self._spectrum
        double = s.in_double(plan.layout, plan.problem, plan.transforms)
        for i, g in zip(*np.nonzero(todo.any(axis=tuple(range(2, todo.ndim))))):
            one = (slice(i, i + 1), slice(g, g + 1))
            group = g + self._groups.start
            part = double.part(slice(group, group + 1))
            data = rows[one].astype(double.w.dtype)
            top = peak(data)
            y = plan.apply(data, top, part, self._filters, self._sizes, 1)
            limit = plan.limit(top, part, self._filters)
            left = suspects(y, limit)
            old = z[one]
            old[todo[one]] = y[todo[one]]
            if left is not None:
                left &= todo[one]
                groups = slice(group, group + 1)
                again = Guard(plan, s, groups, self._filters, self._sizes)
                again._settle(data, x[one], old, left, limit, double=False)

    def _directly(self, x: Array, z: Array, todo: Array) -> None:
        """Many outputs: tiles of them, by a solver that sums products."""
        p = self._problem
        side = self._side()
        tiles = [
            tuple(slice(a, min(a + side, m)) for a, m in zip(corner, self._sizes))
            for corner in np.ndindex(*(-(-m // side) for m in self._sizes))
            for corner in [tuple(c * side for c in corner)]
        ]
        for n, g in np.ndindex(x.shape[:2]):
            for tile in tiles:
                wanted = todo[(n, g, slice(None), *tile)]
                if not wanted.any():
                    continue
                source = tuple(
                    slice(t.start * u, (t.stop - 1) * u + span)
                    for t, u, span in zip(tile, p.stride, p.span)
                )
                data = x[(n, g, slice(None), *source)][None]
                y = z[(n, g, slice(None), *tile)]
                y[wanted] = self._tile(data, g)[0][wanted]

    def _tile(self, data: Array, g: int) -> Array:
        p, w = self._problem, self._w[g]
        if self._trims:
            outputs = data.shape[-1] - p.kernel[0] + 1
            sounding = np.flatnonzero(data.any(axis=(0, 1)))
            begin, end = 0, 1
            if sounding.size:
                begin, end = _met(p.kernel[0], outputs, int(sounding[0]), int(sounding[-1]))
            data = data[..., begin : end + outputs - 1]
            w = w[..., begin:end]
        else:
            begin = 0
        shape = (g, begin, *data.shape[2:], *w.shape[2:])
        if shape not in self._direct:
            p = p.replace(
                size=data.shape[2:], kernel=w.shape[2:], batch=1, channels=data.shape[1], groups=1,
                filters=w.shape[0], padding=(), boundary="zeros", cval=0.0, flip=False,
                x_dtype="", w_dtype="", y_dtype="", layout="strided",
            )  # fmt: skip
            plan = direct_plan(p)
            self._direct[shape] = plan, plan.pack(w)
        plan, packed = self._direct[shape]
        y = np.empty(plan.problem.y_shape, data.dtype)
        plan.execute(data, packed, None, y)
        return y

    # ---- NaN and Inf ---------------------------------------------------------------------------
    def _put_back(self, x: Array, z: Array) -> None:
        p = self._problem
        geometry = (p.kernel, p.dilation, p.stride)
        bad = ~np.isfinite(x)
        for n, g in zip(*np.nonzero(bad.any(axis=tuple(range(2, x.ndim))))):
            data = x[n, g]
            y = z[n, g]
            infinite = np.isinf(data)
            nans = np.isnan(data)
            infinite &= ~nans
            where = np.argwhere(infinite)
            if len(where) > _SCATTERED:
                one = (slice(n, n + 1), slice(g, g + 1))
                todo = np.zeros(z[one].shape, bool)
                todo[0, 0] = reach(np.any(infinite, axis=0), *geometry)
                guard = Guard(
                    self._plan, self._spectrum,
                    slice(self._groups.start + g, self._groups.start + g + 1),
                    self._filters, self._sizes,
                )  # fmt: skip
                guard._directly(x[one], z[one], todo)
            else:
                for c, *position in where:
                    self._scatter(data[(c, *position)], int(c), position, y, self._w[g])
            if nans.any():
                hit = reach(np.any(nans, axis=0), *geometry)
                y[:, hit] = complex(math.nan, math.nan) if z.dtype.kind == "c" else math.nan

    def _scatter(self, value: Any, c: int, position: list[int], y: Array, w: Array) -> None:
        """Add a sample's products to the outputs whose windows hold it."""
        p = self._problem
        outputs, taps = [], []
        for t, r, step, u, m in zip(position, p.kernel, p.dilation, p.stride, self._sizes):
            tap = np.arange(r)
            start = t - tap * step
            ok = (start % u == 0) & (start >= 0) & (start // u < m)
            outputs.append(start[ok] // u)
            taps.append(tap[ok])
        y[(slice(None), *np.ix_(*outputs))] += value * w[(slice(None), c, *np.ix_(*taps))]
