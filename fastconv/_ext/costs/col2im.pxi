"""Part of core.pyx: what `fastconv/solvers/col2im.py` is estimated to take."""

cdef struct _Col2imConstants:
    double gflops, latency, call, store, sum, weave, apart, row, end, copy, far, moved, from_memory
    int64_t vector_bytes, rows, vectors, few, near_plane


@cython.cdivision(True)
cdef class Col2imCost:
    """Constants of an instruction set, those of the solver's module."""

    cdef _Col2imConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, dict config, machine, int64_t threads):
        cdef _Col2imConstants of = self.of
        cdef int64_t size = p.itemsize, last = p.dims - 1, d, e, l2 = machine.l2, l3 = machine.l3
        cdef int64_t lanes = of.vector_bytes // size, window = 1, positions = 1, samples = 1, phases = 1
        cdef int64_t bytes = config["block_bytes"], met, before, after, beyond, most, blocks
        cdef int64_t rows = p.filters * <int64_t>p.kernel, register_tiles = max(1, _up(rows, of.rows))
        cdef bint few = rows <= of.few * of.rows, gaps = False
        cdef double vector = 2 * lanes / (of.gflops * 1e9 * 4 / size), each, row = 1, pixels, lines
        cdef double vectors, work, sums, moved, pack = 0
        for d in range(last, -1, -1):  # the driver's plan_axis, but for where phases begin
            e = p.input_dilation[d]
            phases *= e
            window = (e + p.span[d] - 1) // e
            positions = max(1, _up(p.out[d], e))
            met, before = positions + window - 1, p.before[d] // e
            after = max(0, met - before - p.size[d])
            samples = max(1, met - min(before, after, window - 1))
            if d > 0:
                row *= samples
                gaps = gaps or samples != p.size[d]
        beyond = window - 1
        each = max(1 if few else p.channels, <int64_t>p.kernel) * row * size
        most = max(1, <int64_t>(bytes / each) - beyond, 4 * beyond)
        blocks = _up(positions, most)
        pixels = (p.size[0] + (blocks - 1) * beyond) * row
        lines = pixels / (row if last == 0 else p.size[last])
        vectors = ceil(pixels / lanes)
        if few and gaps:  # rows of x end with a part of a vector
            vectors = lines * _up(p.size[last], lanes)
        # products: no tap takes less than its latency; each vector of them is stored and added
        each = rows / <double>register_tiles
        work = p.channels * max(each * vector, of.latency / of.vectors) + each * of.store
        work = register_tiles * vectors * (work + of.call / of.vectors)
        sums = positions * row / lanes
        work += p.filters * sums * (p.kernel + phases) * of.sum
        e = p.input_dilation[last]
        work += p.filters * p.outputs * (of.weave if e < 5 or e == 8 else of.apart)
        work += p.filters * p.outputs / max(1, p.out[last]) * of.end
        work += blocks * rows * of.row
        if not few:
            if last == 0:
                lines = blocks
            work += p.channels * (lines * of.row + pixels * of.copy)
        if few and row * samples * size > of.near_plane:  # not asked for in time
            work += size * p.x / p.batch / p.groups / of.far
        work *= p.batch * p.groups
        moved = size * (p.x + p.y)
        work += size * p.x / (of.moved if moved < l3 else of.from_memory)
        work += size * p.y / (of.moved if size * p.y < l2 else of.from_memory)
        if not p.prepared:
            pack = 1e-6 + p.w * 1.5e-9
        return 2.5e-6 + work / threads + pack + _waking(threads)
