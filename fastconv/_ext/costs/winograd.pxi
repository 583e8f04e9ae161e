"""Part of core.pyx: what `fastconv/solvers/winograd.py` is estimated to take."""

cdef struct _WinogradConstants:
    double gflops, in_ns, out_ns, from_l3
    int64_t vector_bytes, rows, fewest, most, blocks


def winograd_tiles(Geometry p, tuple made):
    """Tiles of an image: those of a dilated axis begin anew in each of its phases."""
    return _winograd_tiles(p, made)


@cython.cdivision(True)
cdef int64_t _winograd_tiles(Geometry p, tuple made) except -1:
    cdef int64_t d, count = 1, o, phases
    for d in range(p.dims):
        o, phases = made[d], max(1, min(p.dilation[d], p.out[d]))
        count *= p.out[d] if o == 1 else phases * _up(p.out[d], phases * o)
    return count


@cython.cdivision(True)
cdef class WinogradCost:
    """Constants of an instruction set, those of the solver's module."""

    cdef _WinogradConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, dict config, machine, int64_t threads, tile):
        """`tile` is a `Tile` of `_tiles.py`."""
        cdef _WinogradConstants of = self.of
        cdef int64_t l2 = machine.l2, l3 = machine.l3, cache = config["cache_bytes"]
        cdef tuple made = tile.outputs
        cdef int64_t last = p.dims - 1, size = p.itemsize, lanes = of.vector_bytes // size
        cdef int64_t points = tile.points, sections = tile.sections, depths = p.channels * sections
        cdef int64_t out = p.out[last], o = made[last], l = p.dilation[last], run, tiles, vectors
        cdef int64_t block, blocks, room, dilation, apart, d
        cdef double weights, whole, products, share = tile.share, pieces, singly, in_ns, out_ns
        cdef double inputs, stores, memory, moved, work, seconds, taps, packed, filters_packed, rate
        # tiles of a run: phases of a dilated axis are neighbours where they fill a vector
        run = out if o == 1 else _up(out, o * l) if l < lanes else min(l, out)
        tiles = p.batch * _winograd_tiles(p, made)
        vectors = _up(tiles, lanes)
        room = cache // (points * depths * of.vector_bytes)
        weights = <double>points * depths * _up(p.filters, of.rows) * of.rows * size
        block = max(of.fewest, min(of.most, room))
        if weights > cache:  # they pass by for several register tiles
            block = max(block, min(room, vectors // of.blocks) // of.most * of.most)
        blocks = _up(vectors, block)
        # half a vector takes half the time where a vector is 64 bytes
        whole = vectors
        if of.vector_bytes == 64 and 0 < tiles % lanes <= lanes // 2:
            whole -= 0.5
        products = 2 * whole * lanes * weights / size / (of.gflops * 1e9 * 4 / size)
        products *= share
        # segments of a vector: about 17 ns each beyond the first
        pieces = 17 * max(0.0, lanes / <double>run - 1)
        # and samples that do not follow each other are gathered: every other by shuffles, others
        # one by one, as are those beyond the ends of a row where these are not constant
        dilation = l if o > 1 and l < lanes else 1
        apart = p.stride[last] * dilation
        singly = 0.2 * (apart == 2)
        if apart > 2 or p.layout == 1:
            singly = 0.5
        singly += 0.3 * (p.boundary > 1)
        in_ns, out_ns = of.in_ns, of.out_ns
        if o == 1:  # lines of points that do not lie along rows
            in_ns, out_ns = 2 * in_ns, 2 * out_ns
        inputs = <double>vectors * depths * (points * (in_ns + singly * lanes) + pieces) * 1e-9
        stores = <double>vectors * p.filters * (points * out_ns + pieces) * 1e-9
        if dilation > 1:  # stored one by one
            for d in range(p.dims):
                tiles *= <int64_t>made[d]
            stores += <double>tiles * p.filters * 0.35e-9
        # weights are read anew for each block, from L3 beside the products, from memory slower;
        # those of many sections hide where L3 has room: 3x3 stride 2, 128 @ 56x56, reads 5.5 MB 4
        # times, and products, 1.6 ms by their rate, take 1.7
        if weights > l2 // 2:
            rate = of.from_l3
            if weights <= l3 // 4 and not _all(p.stride, p.dims, 1):
                rate = 90e9
            if weights > l3 * 3 // 4:
                rate = min(rate, 20e9)
            products += share * weights * blocks / rate
        moved = size * (p.x + p.y)
        memory = moved / 10e9 if moved > l3 // 4 else 0
        if blocks * p.groups < threads:  # each transforms its input by itself
            inputs *= threads
        work = p.groups * (products + inputs + stores) + memory
        seconds = 2e-6 + 1.5e-6 * blocks * p.groups + work / threads + _waking(threads)
        if not p.prepared:
            taps = p.kernel / sections
            filters_packed = <double>p.filters * p.groups * depths
            seconds += 1e-6 + filters_packed * ((0.35 * taps + 0.17 * points) * 1e-9)
            packed = p.groups * weights + filters_packed * taps * size
            seconds += packed / (20e9 if packed < l3 // 2 else 8e9)
        return seconds
