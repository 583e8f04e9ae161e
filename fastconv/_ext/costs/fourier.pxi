"""Part of core.pyx: what no transform of `_fourier.py` and `_blocks.py` of `fastconv/solvers` is
estimated below."""


@cython.cdivision(True)
def fourier_floor(Geometry p, double butterfly, double byte_ns, double sample,
                  double product):
    """Nanoseconds of one piece: transforms of x, in cache, along the axes of the kernel, and the
    products of half as many frequencies."""
    cdef double samples = p.batch, length = 1, each, total_channels = p.channels * p.groups
    cdef double filters = p.filters * p.groups
    cdef int64_t d
    for d in range(p.dims):
        samples *= p.size[d] if p.span[d] > 1 else min(p.size[d], p.out[d])
        if p.span[d] > 1:
            length *= p.size[d]
    each = butterfly * log2(max(2.0, length)) + 2 * (p.itemsize // p.parts) * byte_ns + sample
    return samples * ((total_channels + filters) * each + filters * p.channels * product / 4)


@cython.cdivision(True)
def blocks_floor(Geometry p, double rate, double product_byte, double weight, double factor):
    """Nanoseconds of the transforms and products of all blocks, and of packing.

    Each output is in one, which is no shorter than a window, nor than the least number of lanes
    that are transformed side by side, and moves by the stride.
    """
    cdef int64_t real = p.itemsize // p.parts, d, multiple, shortest, moved, transformed = 0
    cdef int64_t lanes = 8 if p.exact else 64 // real  # digits of whole numbers are doubles
    cdef double least = 1, samples = p.batch / (1.0 if p.parts == 2 else 2.0), total
    for d in range(p.dims - 1, -1, -1):
        if p.ker[d] == 1 or transformed == 3:
            samples *= p.out[d]
            continue
        # of its length
        multiple = lanes if transformed == 0 else 8 if transformed == 1 else 1
        transformed += 1
        shortest = _up(p.span[d] + p.stride[d] - 1, multiple) * multiple
        least *= shortest
        moved = 1 if p.exact else p.stride[d]  # whole numbers are cut before, into chunks
        samples *= max(<double>shortest, min(<double>p.out[d] * min(moved, p.span[d]),
                                             <double>(p.out[d] - 1) * moved + 1))
    if transformed == 1:  # rows and columns are whole lanes
        least = max(least, <double>lanes * lanes)
    least = max(2.0, floor(least / 2))  # of halves
    total = p.groups * samples * ((p.channels + p.filters) * 5 * log2(least) / rate
                                  + <double>p.channels * p.filters * 2 * real * product_byte)
    if not p.prepared:
        total += least * (<double>p.filters * p.groups * p.channels * weight + factor)
    return total
