"""Part of core.pyx: sums of products of spectra."""


def multiply_spectra(cnp.ndarray x, cnp.ndarray w, cnp.ndarray y, int64_t first, int64_t begin,
                     int64_t end, isa=None):
    """y[i, f] = sum over j of x[first + j, i, f] * w[i, j, f] for bins begin <= f < end.

    x is (at least first + count, rows, bins), w (1 or rows, count, bins), y (rows, bins): C-ordered
    arrays of one dtype, complex64 or complex128.
    """
    cdef const fc_kernels *kernels = _kernels(_isa if isa is None else isa)
    cdef int64_t rows = cnp.PyArray_DIMS(x)[1], count = cnp.PyArray_DIMS(w)[1]
    cdef int64_t bins = cnp.PyArray_DIMS(x)[2], size = cnp.PyArray_ITEMSIZE(x), i
    cdef int64_t x_row = cnp.PyArray_STRIDES(x)[1], y_row = cnp.PyArray_STRIDES(y)[0]
    cdef int64_t w_row = cnp.PyArray_STRIDES(w)[0] if cnp.PyArray_DIMS(w)[0] > 1 else 0
    cdef const fc_spectra *kernel = kernels.spectra_f32 if size == 8 else kernels.spectra_f64
    cdef const char *xp = <const char *>cnp.PyArray_DATA(x) + (first * rows * bins + begin) * size
    cdef const char *wp = <const char *>cnp.PyArray_DATA(w) + begin * size
    cdef char *yp = <char *>cnp.PyArray_DATA(y) + begin * size
    with nogil:
        for i in range(rows):
            kernel.run(count, end - begin, xp + i * x_row, 2 * rows * bins, wp + i * w_row, 2 * bins,
                       yp + i * y_row)
