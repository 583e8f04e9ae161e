"""Part of core.pyx: float16 and bfloat16 from and to float32."""

cdef extern from "drivers/halves.h" nogil:
    void fc_widen(const fc_kernels *, int64_t, const void *, int64_t, int64_t, void *)
    void fc_narrow(const fc_kernels *, int64_t, const void *, int64_t, int64_t, void *)


cdef bint _is_whole(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two arrays of one shape lie alike, each without a gap."""
    cdef int d
    cdef int64_t bytes_a = cnp.PyArray_ITEMSIZE(a), bytes_b = cnp.PyArray_ITEMSIZE(b), reach = 1
    for d in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[d] > 1:
            if cnp.PyArray_STRIDES(a)[d] <= 0:
                return False
            if cnp.PyArray_STRIDES(a)[d] * bytes_b != cnp.PyArray_STRIDES(b)[d] * bytes_a:
                return False
            reach += (cnp.PyArray_DIMS(a)[d] - 1) * (cnp.PyArray_STRIDES(a)[d] // bytes_a)
    return reach == cnp.PyArray_SIZE(a)


def widen(cnp.ndarray x, int64_t threads, str isa=None):
    """A copy of x, float16 or bfloat16 in this machine's byte order, in float32."""
    cdef const fc_kernels *kernels = _kernels(isa or _isa)
    cdef int64_t kind = x.dtype.char != "e", count = cnp.PyArray_SIZE(x)
    cdef cnp.ndarray y
    if x.flags.c_contiguous:
        y = empty((<object>x).shape, np.dtype(np.float32))
    else:
        y = np.empty_like(x, dtype=np.float32)
        if count and not _is_whole(x, y):
            return widen(x.copy(order="C"), threads, isa)
    cdef const void *source = cnp.PyArray_DATA(x)
    cdef void *target = cnp.PyArray_DATA(y)
    with nogil:
        fc_widen(kernels, kind, source, count, threads, target)
    return y


def narrow(cnp.ndarray x, cnp.ndarray y, int64_t threads, str isa=None):
    """Round float32 x to y, float16 or bfloat16 of the same shape."""
    cdef const fc_kernels *kernels = _kernels(isa or _isa)
    cdef int64_t kind = y.dtype.char != "e", count = cnp.PyArray_SIZE(y)
    cdef const void *source
    cdef void *target
    if count and not _is_whole(x, y):
        x = np.ascontiguousarray(x)
        to = np.empty((<object>y).shape, y.dtype)
        narrow(x, to, threads, isa)
        y[...] = to
        return
    source, target = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y)
    with nogil:
        fc_narrow(kernels, kind, source, count, threads, target)
