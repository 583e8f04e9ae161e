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


cdef struct _FourierConstants:
    double butterfly[2]
    double byte[2]
    double product[2]
    double inner_axis, sample, spectrum_byte, weight, piece, call
    int64_t matmul_products


@cython.cdivision(True)
cdef class FourierCost:
    """Constants of a real's size, those of `_fourier.py`: in cache and beyond, or elementwise and
    by matrix products."""

    cdef _FourierConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, tuple layout, machine, int64_t threads, int64_t chunk):
        """Of the circles of a layout, in pieces of about `chunk` bytes."""
        cdef _FourierConstants of = self.of
        cdef int64_t l2 = machine.l2, real = p.itemsize // p.parts, d, n, last = 0, images, groups
        cdef double samples = 1, blocks = 1, half = 1, circle = 1, transform = 0, one, frequencies
        cdef double product, together, pieces, total, butterfly, filters = p.filters * p.groups
        cdef double channels = p.channels * p.groups
        cdef bint matrix, beyond, plain
        matrix = min(p.filters, p.channels) > 1 and p.filters * p.channels >= of.matmul_products
        for d in range(p.dims):
            axis = layout[d]
            if not axis[3]:  # of one tap
                last = d
            samples *= <int64_t>axis[0]
            blocks *= _up(p.out[d], axis[1])
        for d in range(p.dims):
            axis = layout[d]
            n, plain = axis[0], axis[3]
            if plain:
                continue
            beyond = n * p.itemsize > l2 // 4
            butterfly = of.butterfly[beyond] * (of.inner_axis if d != last else 1)
            transform += samples * p.parts * (
                butterfly * log2(<double>max(2, n)) + 2 * real * of.byte[beyond])
            circle *= n
            half *= n // 2 + 1 if d == last and p.parts == 1 else n
        frequencies = samples / circle * half
        together = max(1.0, floor(chunk / max(1.0, max(1, p.channels) * samples * p.itemsize)))
        groups = <int64_t>max(1.0, min(<double>p.groups, together))
        images = <int64_t>max(1.0, min(<double>p.batch, floor(together / groups)))
        pieces = _up(p.batch, images) * _up(p.groups, groups) * blocks
        product = frequencies * of.product[matrix]
        if p.channels == 1:  # without a sum
            product /= 2
        elif matrix:  # the spectra are read from memory for each piece
            product += frequencies * 2 * real * of.spectrum_byte / images
        one = (channels + filters) * (transform + samples * p.parts * of.sample)
        one += filters * p.channels * product
        total = p.batch * blocks * one * 1e-9 + pieces * of.piece
        if not p.prepared:
            # the weights' circle is mostly zeros, which inner axes skip
            one = (transform + frequencies * of.weight) * 0.5e-9
            total += 35e-6 + p.groups * 3e-6 + filters * p.channels * one
        # of pieces; else scipy.fft shares the lines of one transform
        one = max(1.0, min(<double>threads, floor(p.batch * channels * blocks * samples * p.itemsize
                                                  / chunk), pieces))
        if one > 1 or (p.dims == 1 and channels * p.batch <= 1):
            threads = <int64_t>one
        # transforms out of cache share its bandwidth: a second thread took 1.1 to 1.6 times less
        return of.call * threads + total / (1 + 0.45 * (threads - 1))
