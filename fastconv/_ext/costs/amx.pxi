"""Part of core.pyx: what `amx_split.py` and `amx_winograd.py` of `fastconv/solvers` are estimated
to take, and how wrong `amx_split` may be.

An axis has positions, and its taps reach so far; x is taken apart to phases (plan_axis of the
driver).
"""

cdef struct _AmxAxis:
    int64_t positions, reach, phases, taps


@cython.cdivision(True)
cdef _AmxAxis _amx_axis(Geometry p, int64_t d) noexcept:
    cdef int64_t r = p.ker[d], u = p.stride[d], l = p.dilation[d], e = p.input_dilation[d]
    cdef int64_t reach = (r - 1) * l, pad = p.before[d]
    cdef _AmxAxis axis
    axis.positions = _up(p.out[d], e)
    axis.reach = reach // u if e == 1 else pad // e - (
        (pad - reach) // e if pad >= reach else -_up(reach - pad, e))
    axis.phases = min(r, u // _gcd(u, l))
    axis.taps = _up(r, e // _gcd(l, e))  # that an output meets, at most
    return axis


def amx_axes(Geometry p):
    """(positions, reach, phases, taps) of each axis."""
    found = []
    for d in range(p.dims):
        axis = _amx_axis(p, d)
        found.append((axis.positions, axis.reach, axis.phases, axis.taps))
    return tuple(found)


cdef struct _AmxSplitConstants:
    double product, part, tile, output, unit, weight_bytes, pack, left_out, sizes
    int64_t products, parts, side, channels, line, least_columns, in_tile


@cython.cdivision(True)
cdef class AmxSplitCost:
    """Constants of a number of products, those of the solver's module."""

    cdef _AmxSplitConstants of

    def __init__(self, **constants):
        self.of = constants

    cdef int64_t _layers(self, Geometry p) noexcept:
        """Tiles of channels, for each tap of the axes before the last two."""
        return _up(p.channels, self.of.channels) * <int64_t>_product(p.ker, 0, p.dims - 2)

    cdef int64_t _depth(self, Geometry p, dict config, int64_t *taps) except -1:
        """Of these, those that are summed in one go: depth_of of the driver. And most taps of the
        last two axes that an output meets."""
        cdef int64_t d, positions = 1, line = self.of.line * self.of.parts, least
        cdef int64_t cache = config["cache_bytes"], most = config["most"]
        cdef _AmxAxis axis
        taps[0] = 1
        for d in range(max(0, p.dims - 2), p.dims):
            axis = _amx_axis(p, d)
            least = self.of.least_columns if d == p.dims - 1 else 1
            line *= axis.phases
            taps[0] *= axis.taps
            positions *= min(axis.positions, max(least, axis.reach)) + axis.reach
        most //= taps[0] * self.of.products
        return max(1, min(self._layers(p), cache // max(1, positions * line), most))

    def is_one_block(self, Geometry p, dict config):
        """Whether all tiles of channels are summed in one go."""
        cdef int64_t taps
        return self._depth(p, config, &taps) >= self._layers(p)

    def error_bound(self, Geometry p, dict config, double epsilon, bint exact):
        """What is left out, unless the parts hold their operands `exact`ly, and roundings of
        blocked sums: Higham, sections 3.1 and 4.2."""
        cdef int64_t taps, depth = self._depth(p, config, &taps), layers = self._layers(p), d
        cdef bint cut = depth < layers
        cdef double additions
        # where taps of the axes before meet padding, or nothing, blocks are cut
        for d in range(p.dims - 2):
            cut = cut or p.input_dilation[d] > 1
        additions = self.of.in_tile + depth * taps * self.of.products + _up(layers, depth)
        if cut:
            additions += _product(p.ker, 0, p.dims - 2)
        # and 1 for what may have been flushed beside an output above the limit (amx_split.c)
        return (0 if exact else self.of.left_out) + (additions * self.of.sizes + 1) * epsilon / 2

    def seconds(self, Geometry p, machine, int64_t threads):
        cdef _AmxSplitConstants of = self.of
        cdef int64_t l2 = machine.l2, d
        cdef double rows = 1, tiles, steps, images = p.batch * p.groups, residues, read, seconds
        cdef double packed
        cdef _AmxAxis axis = _amx_axis(p, p.dims - 1)
        # positions between rows are computed too; filters and channels fill whole tiles
        for d in range(p.dims - 1):
            rows *= _up(p.out[d], p.input_dilation[d])
        tiles = ceil(rows * (axis.positions + axis.reach) / of.side) * _up(p.filters, of.side)
        steps = _up(p.channels, of.channels) * p.kernel * of.products
        residues, read = _product(p.input_dilation, 0, p.dims), images * p.channels
        seconds = images * tiles * (steps * of.product + residues * of.tile)
        for d in range(p.dims):
            read *= _up(p.padded[d], p.input_dilation[d])
        seconds += read * of.part * of.parts + p.y * of.output
        packed = 2 * of.parts * p.w
        if packed > l2 // 2:  # read from further away, while tiles wait
            seconds += packed / of.weight_bytes
        seconds = 2e-6 + images * of.unit + seconds / threads + _waking(threads)
        return seconds + (0.0 if p.prepared else 1e-6 + p.w * of.pack)


@cython.cdivision(True)
cdef int64_t _amx_winograd_tiles(Geometry p, int64_t m) noexcept:
    cdef int64_t count = 1, d
    for d in range(p.dims):
        count *= min(p.dilation[d], p.out[d]) * _up(p.out[d], p.dilation[d] * m)
    return count


def amx_winograd_tiles(Geometry p, int64_t m):
    """Tiles of an image: outputs of one are as far apart as taps."""
    return _amx_winograd_tiles(p, m)


cdef struct _AmxWinogradConstants:
    double product, store, input, output, weight_bytes, moved_bytes, pack
    int64_t products, side, channels, large


@cython.cdivision(True)
cdef class AmxWinogradCost:
    """Those of the solver's module."""

    cdef _AmxWinogradConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, dict config, machine, int64_t threads):
        cdef _AmxWinogradConstants of = self.of
        cdef int64_t m = config["m"], cache = config["cache_bytes"], points = (m + 2) ** 2
        cdef int64_t steps = _up(p.channels, of.channels), filter_tiles = _up(p.filters, of.side)
        cdef int64_t tiles = p.batch * _amx_winograd_tiles(p, m), room, blocks
        cdef int64_t weights = points * steps * filter_tiles * 3072
        cdef double seconds, whole, moved
        room = of.large
        if weights <= cache:
            room = max(1, cache // 2 // (points * steps * 6144)) * 2 * of.side
        blocks = max(1, _up(tiles, room))
        whole = <double>blocks * _up(tiles, blocks * of.side)  # of 16
        seconds = points * whole * filter_tiles * (steps * of.products * of.product + of.store)
        seconds += <double>tiles * points * (steps * of.input + filter_tiles * of.output)
        if weights > cache:
            moved = <double>tiles * points * (steps * 192 + filter_tiles * 64)
            seconds += <double>blocks * weights / of.weight_bytes + moved / of.moved_bytes
        if not p.prepared:
            seconds += 1e-6 + of.pack * p.filters * p.channels
        return 2e-6 + p.groups * seconds / threads + _waking(threads)
