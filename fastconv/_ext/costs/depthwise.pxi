"""Part of core.pyx: what `fastconv/solvers/depthwise.py` is estimated to take."""

cdef struct _DepthwiseConstants:
    double rows_gflops, row_gflops
    int64_t vector_bytes
    double in_place, memory, apart, sample, row, image, deep, weave, call, copy, split


cdef enum:
    _SHUFFLED = 4  # strides up to which rows are taken apart by shuffles: FC_DEPTHWISE_APART


cdef bint _is_strip(Geometry p) noexcept:
    """Whether rows of x are copied to strips rather than read where they are."""
    cdef int64_t last = p.dims - 1
    return (p.boundary != 0 and p.out[last] < 256) or p.stride[last] > _SHUFFLED or p.layout == 1 or p.stored


cdef bint _is_picture(Geometry p) noexcept:
    """Whether narrow channels are copied amid zeros, each of them one call."""
    if not p.floating or _is_strip(p) or p.dims != 2 or p.boundary != 0:
        return False
    return p.ker[0] > 1 or p.stride[1] > 1


@cython.cdivision(True)
cdef bint _are_paired(Geometry p, int64_t lanes) noexcept:
    """Whether two channels share vectors: `find_beside` of the driver."""
    cdef int64_t last = p.dims - 1, u = p.stride[last], pad = p.before[last], beyond, apart
    beyond = max(0, (p.span[last] - 1) // u - pad // u)
    apart = max(p.out[last] + beyond, _up(pad + p.size[last], u))
    return lanes * p.itemsize >= 64 and apart + p.out[last] <= lanes and _is_picture(p)


@cython.cdivision(True)
cdef bint _are_stacked(Geometry p, int64_t vector_bytes) noexcept:
    """Whether the planes of a volume are copied once for all taps that meet them.

    `cut_columns` of the driver, VOLUME_VECTORS and VOLUME_ROWS.
    """
    cdef int64_t last = p.dims - 1, lanes = vector_bytes // p.itemsize, u = p.stride[last]
    if p.dims < 3 or p.boundary != 0 or _is_strip(p):
        return False
    cdef int64_t rows = min((8 - 1) * p.stride[last - 1] + p.span[last - 1], p.size[last - 1])
    cdef int64_t columns = (_up(p.out[last] + (p.span[last] - 1) // u, lanes) + 1) * lanes
    columns = columns * min(u, p.ker[last]) + lanes
    return _product(p.size, 0, last - 1) * columns * rows * p.itemsize <= vector_bytes << 13


@cython.cdivision(True)
cdef class DepthwiseCost:
    """Constants of an instruction set, those of the solver's module."""

    cdef _DepthwiseConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, machine, int64_t threads):
        cdef _DepthwiseConstants of = self.of
        cdef int64_t l3 = machine.l3, last = p.dims - 1, size = p.itemsize, d
        cdef int64_t rows = p.ker[last - 1] if p.dims > 1 else 1, lanes = of.vector_bytes // size
        cdef double columns = p.out[last], vectors, products, served, moved, seconds, x_rows, along
        cdef double outer = 1, halo
        cdef bint stacked = _are_stacked(p, of.vector_bytes)
        products = p.flops / ((of.row_gflops if rows == 1 else of.rows_gflops) * 1e9 * 4 / size)
        if p.ker[last] == 1:
            columns *= _product(p.out, 0, last)
        vectors = ceil(columns / lanes)
        if _are_paired(p, lanes):
            vectors /= 2
        products *= vectors * lanes / columns
        if rows == 1 and p.ker[last] > 1:
            # a load that straddles cache lines takes the time of 3 products, and serves one of
            # every `lanes` taps, up to 4
            served = p.ker[last] / <double>p.stride[last] / lanes
            products *= min(1.5, max(1.0, 3 / max(served, 1.0)))
        if p.dims == 3 and p.floating and stacked:
            products *= of.deep
        moved = p.x * p.x_itemsize + p.y * size
        if moved < l3:
            seconds = products + moved / of.in_place
        else:  # a filter's x and y are asked for while it multiplies: 1e8 by 64 as 1e6, a sample
            along = moved / of.memory
            seconds = max(products, along) if rows == 1 else products + along
        if 2 < p.stride[last] <= _SHUFFLED:
            seconds += moved * of.split
        if p.filters > 1:  # each filter's outputs apart from the others'
            seconds += p.y * size / of.apart
        if p.stride[last] > 1 and columns < 16 and not _is_picture(p):
            # neither whole vectors nor dense loads
            seconds += p.y / p.out[last] * of.row
        seconds += <double>p.batch * p.filters * p.groups * of.image
        x_rows = <double>p.batch * p.groups * _product(p.size, 0, last)
        if not stacked:
            for d in range(p.dims - 2):
                outer *= p.ker[d] * min(1.0, p.out[d] / <double>max(1, p.size[d]))
        if _is_strip(p) or (p.dims > 2 and _product(p.ker, 0, p.dims - 2) > 1):
            # once for each tap of the axes before the last two, unless planes are copied together
            halo = 1 + (rows - 1) / <double>max(8, p.out[0])
            seconds += outer * halo * (p.x * of.sample + x_rows * of.row)
        elif p.boundary != 0 or (rows == 1 < p.dims and (p.before[last] or p.after[last])):
            seconds += 2 * x_rows * of.row  # both ends of each row
        return 2e-6 + seconds / threads + _waking(threads)

    def woven_seconds(self, Geometry p, machine, int64_t threads):
        """Where all phases of a row of outputs are made together."""
        cdef _DepthwiseConstants of = self.of
        cdef int64_t l2 = machine.l2, last = p.dims - 1, lanes = of.vector_bytes // p.itemsize
        cdef double columns = p.out[last], wide, products, seconds, moved
        wide = ceil(columns / (2 * lanes)) * 2 * lanes / columns  # of vectors, to outputs
        products = p.flops / _product(p.input_dilation, 0, p.dims)  # those that are there
        seconds = products / (of.rows_gflops * 1e9 * 4 / p.itemsize) * wide
        seconds += p.y / lanes * wide * of.weave
        seconds += (<double>p.batch * p.filters * p.groups
                    * _product(p.input_dilation, 0, last) * of.call)
        seconds += <double>p.batch * p.groups * _product(p.size, 0, last) * of.copy
        if p.layout == 1:
            seconds += (p.x + p.y) * of.sample
        moved = (p.x + p.y) * p.itemsize
        if moved >= l2:
            seconds = max(seconds, moved / of.memory)
        return 2e-6 + seconds / threads + _waking(threads)
