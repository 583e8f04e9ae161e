"""Part of core.pyx: what `fastconv/solvers/dot.py` is estimated to take."""

cdef struct _DotConstants:
    double gflops
    int64_t vector_bytes, tile
    double sample, strided, row, plane, output, narrow, memory


@cython.cdivision(True)
cdef class DotCost:
    """Constants of an instruction set, those of the solver's module."""

    cdef _DotConstants of

    def __init__(self, **constants):
        self.of = constants

    cdef bint _is_narrow(self, Geometry p, int64_t lanes) noexcept:
        """3 x 3 outputs of rows that a vector holds are read as they lie: the driver's."""
        cdef int64_t d
        if lanes * p.itemsize < 32 or p.dims < 2 or p.ker[p.dims - 1] > lanes or p.layout == 1:
            return False  # vectors of 32 bytes are loaded in part
        for d in range(p.dims - 2, p.dims):
            if p.out[d] != 3 or p.stride[d] > 1 or p.dilation[d] > 1:
                return False
        return True

    def seconds(self, Geometry p, machine, int64_t threads):
        cdef _DotConstants of = self.of
        cdef int64_t l2 = machine.l2, last = p.dims - 1, lanes = of.vector_bytes // p.itemsize
        cdef int64_t size = p.itemsize, width = p.ker[last], d, beyond, in_rows = 1
        cdef int64_t height = p.ker[last - 1] if p.dims > 1 else 1
        cdef int64_t rows = p.out[last - 1] if p.dims > 1 else 1
        cdef double tile = min(rows, 3) * min(p.out[last], 7), products, planes, samples, copied
        cdef double seconds, moved
        # fewer sums than of.tile wait for each other
        products = p.flops / (of.gflops * 1e9 * 4 / size * min(1.0, tile / of.tile))
        products *= _up(width, lanes) * lanes / <double>max(1, width)
        beyond = min(rows, 3) - 1  # rows of zeros
        products *= (height + beyond) / <double>height
        # planes of x beside each position of the axes before the last two
        planes = <double>p.batch * p.channels * p.groups
        samples = p.size[last]
        if p.dims > 1:
            planes *= _product(p.out, 0, last - 1) * _product(p.ker, 0, last - 1)
            in_rows = p.size[last - 1]
            samples *= in_rows
        if p.dilation[last] <= 2 and p.layout != 1:
            samples *= of.sample
        else:
            samples *= of.strided
        copied = planes * (samples * size / 4 + in_rows * of.row)
        copied += planes * p.filters * of.plane
        if self._is_narrow(p, lanes):
            copied = planes * p.filters * of.narrow
        copied += p.y * of.output
        moved = (p.x + p.w) * size
        seconds = products + copied  # while the next rows come from memory
        if moved > l2:
            seconds = max(seconds, moved / of.memory)
        threads = min(threads, p.batch * p.groups)
        return 2e-6 + seconds / max(1, threads) + _waking(threads)
