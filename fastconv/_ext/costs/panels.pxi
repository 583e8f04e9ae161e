"""Part of core.pyx: what `fastconv/solvers/panels.py` is estimated to take."""

cdef struct _PanelsConstants:
    double gflops, latency, next, call, whole, broken, spread, one, four, copies, sample, pixel
    double weave, apart, moved, runs, from_memory, gap
    double copy[5]
    int64_t vector_bytes, rows, vectors, few, near_plane, near_tile


@cython.cdivision(True)
cdef class PanelsCost:
    """Constants of an instruction set, those of the solver's module."""

    cdef _PanelsConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, dict config, machine, int64_t threads, tuple pixels,
                tuple window):
        """`pixels` along each axis, and taps of the kernel that their panels have."""
        cdef _PanelsConstants of = self.of
        cdef int64_t l2 = machine.l2, l3 = machine.l3, size = p.itemsize, last = p.dims - 1, d
        cdef int64_t lanes = of.vector_bytes // size, nr = of.vectors * lanes, left, run, edges
        cdef int64_t outputs = 1, row, kernel = 1, phases = 1, register_tiles, blocks, u, reach
        cdef int64_t most = config["taps"], panel_bytes = config["panel_bytes"], e
        cdef bint band = config["band"], flat, near, far, gaps = False
        cdef double vector = 2 * lanes / (of.gflops * 1e9 * 4 / size), whole, each, store = 0, work
        cdef double tiles, one, overlap, alone, taps, runs, copies, weights, passes, moved, pack = 0
        flat = True
        for d in range(p.dims):
            outputs *= <int64_t>pixels[d]
            kernel *= <int64_t>window[d]
            phases *= p.input_dilation[d]
            flat = flat and p.stride[d] == 1 and p.size[d] == <int64_t>pixels[d]
        flat = flat and kernel == 1
        row = max(1, <int64_t>pixels[last])
        register_tiles = max(1, _up(p.filters, of.rows))
        blocks = max(1, _up(p.channels, max(1, most // kernel)))
        near = outputs * size <= of.near_plane and p.channels // blocks * nr * size <= of.near_tile
        whole, left = outputs // nr, outputs % nr
        if band:  # tiles of runs, rows or joined ones, of which the last overlaps the one before
            run = max(row, outputs) if p.span[last] <= p.stride[last] else row
            whole, left = outputs // row * row // run * _up(run, nr), 0
            # or they run on over gaps: `fc_panels_gaps` of the driver
            reach = (p.span[last] - 1) // p.stride[last]
            gaps = row < nr or (reach > 0 and (row + reach) * 10 <= _up(row, nr) * nr * 9)
        if gaps:
            run = outputs + (outputs // row - 1) * reach
            whole, left = run // nr, _up(run % nr, lanes) * lanes
        # products: no tap takes less than its latency, and no tile less than its stores
        each = p.filters / <double>register_tiles
        moved = size * (p.x + p.y)
        far = phases == 1 and p.y * size > l2
        if far and config["weight_bytes"] == 1 and moved < l3:  # while others are multiplied
            store = each * nr * size / of.runs
            moved -= size * p.y
        elif far:
            store = each * nr * size / of.from_memory
        work = whole * max(p.taps * max(each * of.vectors * vector, of.latency), store)
        if left == 1 and phases == 1:
            work += p.taps * ceil(each / lanes) * of.pixel
        elif left:
            work += p.taps * max(each * _up(left, lanes) * vector, of.latency)
        work *= register_tiles
        tiles = whole + (left > 0)
        work += tiles * register_tiles * blocks * phases * (of.next if phases == 1 else of.call)
        if phases > 1:
            e = p.input_dilation[last]
            one = of.weave if e < 5 or e == 8 else of.apart
            work += <double>blocks * outputs * phases * p.filters * one
        elif left > 1 and left % lanes:  # through a buffer, one by one
            work += <double>left * p.filters * 1e-9
        if gaps:
            overlap = _band_rows(p, p.channels, panel_bytes)
            work += p.channels * _product(p.padded, 0, p.dims) * overlap * of.gap
            work += <double>outputs * p.filters * of.gap + tiles * of.call
        elif band:
            overlap = _band_rows(p, p.channels, panel_bytes)
            work += p.channels * _product(p.padded, 0, p.dims) * overlap * of.sample * of.copies
        elif flat and (register_tiles <= of.few or near):
            work += (left > 0) * p.channels * of.vectors * of.spread
        elif flat:
            work += tiles * p.channels * of.vectors * of.spread
        else:
            u = p.stride[last]
            edges = _up(p.before[last], u) + _up(p.after[last], u)
            if phases > 1:
                edges = <int64_t>window[last] - 1
            alone = 1.0 if row % nr == 0 else max(0.0, 1 - nr / <double>row)
            alone *= max(0.0, 1 - edges / <double>row) if nr < row else 0
            taps = <double>kernel * blocks
            runs = 1 + nr / <double>row
            if u > 4:  # all are picked
                alone = 0
            copies = alone
            work += tiles * alone * taps * of.whole
            if u < 3:
                copies += (1 - alone) * runs
                work += tiles * taps * (1 - alone) * runs * of.broken
            else:
                one = of.one
                if of.four and size == 4 and <int64_t>window[last] >= 4 and p.dilation[last] == 1:
                    one = of.four
                    taps /= 4
                work += tiles * (1 - alone) * (taps * of.whole + p.channels * kernel * nr * one)
            if u < 5:
                work += tiles * p.channels * kernel * of.vectors * of.copy[u] * copies * of.copies
        work *= p.batch * p.groups
        # weights that L2 does not hold come from L3 at 90 GB/s, once a block of tiles
        weights = p.filters * p.taps * size
        if weights > l2 // 2:
            passes = max(1.0, tiles * (<double>p.channels * kernel / blocks * nr * size) / panel_bytes)
            work += p.batch * p.groups * passes * weights / 90e9
        work += moved / (of.moved if moved < l3 else of.from_memory)
        if not p.prepared:
            pack = 1e-6 + p.w * 1e-9
        return 2.5e-6 + work / threads + pack + _waking(threads)
