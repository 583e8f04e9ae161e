"""Part of core.pyx: what `fastconv/solvers/direct.py` is estimated to take."""

cdef struct _DirectConstants:
    double gflops
    int64_t vector_bytes
    int64_t filters[4]
    int64_t vectors[4]
    double share[4]


cdef struct _Rows:
    # of outputs, outputs of a row, the gap that tiles run across between two, samples of one of x
    int64_t rows, last, gap, padded


@cython.cdivision(True)
cdef _Rows _rows_of(Geometry p) noexcept:
    """Trailing axes without a kernel belong to the row."""
    cdef int64_t axis = p.dims - 1, unit = 1, d
    cdef _Rows found
    while axis > 0 and p.ker[axis] == 1 and p.stride[axis] == 1:
        if p.before[axis] or p.after[axis]:
            break
        unit *= p.out[axis]
        axis -= 1
    found.rows = 1
    for d in range(axis):
        found.rows *= p.out[d]
    found.last = p.out[axis] * unit
    found.gap = (p.ker[axis] - 1) * p.dilation[axis] // p.stride[axis] * unit
    found.padded = max(1, p.padded[axis] * unit)
    return found


@cython.cdivision(True)
cdef class DirectCost:
    """Constants of an instruction set and a dtype: 1e9 operations a second in full tiles, tiles of
    filters and vectors, and the share of that rate that they reach."""

    cdef _DirectConstants of

    def __init__(self, **constants):
        self.of = constants

    cdef double _tiled(self, Geometry p, _Rows row) noexcept:
        """Seconds that one thread takes for the tiles of an image of a group."""
        cdef int64_t left = p.parts * p.filters, size = p.itemsize // p.parts
        cdef int64_t i, tile, columns, tiles, blocks
        cdef double seconds = 0, taps = p.parts * p.taps
        for i in range(4):
            tile = self.of.filters[i]
            blocks = left // tile
            left %= tile
            if not blocks:
                continue
            columns = self.of.vectors[i] * self.of.vector_bytes // size
            if row.gap >= columns:
                tiles = row.rows * _up(row.last, columns)
            else:
                tiles = _up(row.rows * row.last + (row.rows - 1) * row.gap, columns)
            # about 40 ns a tile to set up and store, and 7 ns a run of outputs
            seconds += 2 * (<double>(blocks * tile) * (tiles * columns) * taps) / (
                self.of.gflops * 1e9 * self.of.share[i])
            seconds += <double>blocks * tiles * 40e-9
            seconds += <double>(blocks * tile) * row.rows * 7e-9
        return seconds

    def seconds(self, Geometry p, dict config, machine, int64_t threads):
        cdef int64_t size = p.itemsize // p.parts, filters = p.parts * p.filters, d
        cdef int64_t last = p.dims - 1, l2 = machine.l2, l3 = machine.l3
        cdef double planes = config["plane_bytes"], images = <double>p.batch * p.groups
        cdef double cells, each, copy, bands, halo, work, stored, weights, units, pack = 0
        cdef bint vectors
        cdef _Rows row = _rows_of(p)
        # planes: a copy at 14 GB/s where rows are dense, 1 ns an element where they are strided;
        # 20 ns a row either way
        cells = _product(p.padded, 0, p.dims) / _product(p.stride, 0, p.dims)
        for d in range(p.dims):
            cells *= min(p.ker[d], p.stride[d] // _gcd(p.stride[d], p.dilation[d]))
        cells = cells * p.parts * p.channels
        if p.stride[last] != 1 or p.layout == 1:
            each = 1e-9
        else:
            each = size / 14e9 if p.parts == 1 else 0.3e-9
        copy = cells * each + cells / row.padded * 20e-9
        # each band of planes but the first copies its halo again
        bands = max(1.0, cells * size / planes)
        halo = <double>(p.span[0] - 1) / p.padded[0]
        work = images * (self._tiled(p, row) + copy * (1 + (bands - 1) * halo))
        stored = p.itemsize * p.y
        work += stored / (40e9 if stored < l3 // 4 else 12e9)
        # weights that L2 does not hold come from L3 at 30 GB/s, once for each set of columns
        weights = filters * (p.parts * p.taps) * size * p.groups
        if weights > l2 // 2:
            work += weights / 30e9 * ceil(<double>row.rows * row.last / 48)
        units = images * bands
        if units * filters < threads:
            threads = 1
        if not p.prepared:
            vectors = p.parts == 1 and size == 4 and filters >= 8 and not p.flip
            pack = 1e-6 + weights / size * (0.22e-9 if vectors else 2.7e-9)
        return 2e-6 + 0.1e-6 * units + work / threads + pack + _waking(threads)
