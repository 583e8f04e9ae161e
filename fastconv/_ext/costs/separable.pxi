"""Part of core.pyx: what `fastconv/solvers/separable.py` is estimated to take."""

cdef struct _SeparableConstants:
    double gflops
    int64_t vector_bytes, box, box_taps


@cython.cdivision(True)
cdef class SeparableCost:
    """Constants of an instruction set, those of the solver's module."""

    cdef _SeparableConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, int64_t threads, int64_t row, bint bytes):
        """`row` is the axis that rows begin with; `bytes` are stored, x and y."""
        cdef _SeparableConstants of = self.of
        cdef int64_t size = max(2, p.itemsize), axes = 0, first = -1, last = 0, d, across
        cdef double taps = 0, rate, seconds, columns, pack = 0
        for d in range(p.dims):
            if p.ker[d] > 1:
                axes, last, first = axes + 1, d, d if first < 0 else first
        across = axes - (row == last)
        for d in range(p.dims):
            if p.ker[d] > 1:
                taps += of.box_taps if p.box and across < 2 and p.ker[d] >= of.box else p.ker[d]
        taps *= max(1, p.rank)
        if axes == 1 and bytes:
            size = 4  # bytes along one axis are summed in float, others in 16 bits
        if across == 2:
            taps += p.ker[first]  # bands of the second axis overlap
        rate = of.gflops * 1e9 * 4 / size
        # rows go from L2 to L1 and back between passes
        seconds = p.y * (2 * taps / rate + 2 * size / 60e9)
        if axes == 1 and row == last:  # x is copied amid its borders
            seconds += p.y * size / 60e9
        columns = max(1.0, _product(p.out, row, p.dims))
        seconds += p.y / columns * 30e-9
        if row == last and columns < 8 * of.vector_bytes // size:
            seconds += p.y * p.ker[row] * 0.33e-9  # rows that do not fill a tile
        if not p.prepared:
            pack = 1e-6 + p.w * 10e-9
        return 3e-6 + seconds / threads + pack + _waking(threads)
