"""Part of core.pyx: sums of products of spectra, and samples on their way to transforms."""


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


cdef fused _real:
    float
    double


cdef bint _copy_within(const _real *x, _real *to, int64_t count, _real limit) noexcept nogil:
    cdef bint over = False
    cdef int64_t i
    for i in range(count):
        to[i] = x[i]
        over |= not -limit <= x[i] <= limit
    return not over


def copy_within(cnp.ndarray x, cnp.ndarray y, double limit):
    """Copy x to y; whether no sample, or part of a complex one, is NaN or larger than the limit.

    x and y are (rows, samples) of one dtype, float32, float64, complex64 or complex128, each row in
    one piece.
    """
    cdef int dtype = cnp.PyArray_TYPE(x)
    cdef int64_t count = cnp.PyArray_DIMS(x)[1], i
    cdef const char *source = <const char *>cnp.PyArray_DATA(x)
    cdef char *to = <char *>cnp.PyArray_DATA(y)
    cdef bint within = True
    if dtype == cnp.NPY_CFLOAT or dtype == cnp.NPY_CDOUBLE:
        count *= 2
    for i in range(cnp.PyArray_DIMS(x)[0]):
        if dtype == cnp.NPY_FLOAT or dtype == cnp.NPY_CFLOAT:
            within &= _copy_within[float](<const float *>source, <float *>to, count, <float>limit)
        else:
            within &= _copy_within[double](<const double *>source, <double *>to, count, limit)
        source += cnp.PyArray_STRIDES(x)[0]
        to += cnp.PyArray_STRIDES(y)[0]
    return within
