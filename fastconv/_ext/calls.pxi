"""Part of core.pyx: what tells one call from another, views of its arrays, and its thread's mode."""

from cpython.ref cimport Py_INCREF
from libc.string cimport memcmp

include "recent.pxi"
include "launches.pxi"
include "tiles.pxi"

cdef extern from "fc.h":
    int fc_flushes()
    void fc_flush(int)
    int fc_same(const void *, const void *, int64_t, int64_t) nogil


cdef bint _sign(list key, list arrays, value) except -1:
    """Append what tells `value` from others; False when only looking closer could."""
    cdef int d
    if value is None or type(value) is str or type(value) is int:
        key.append(value)
    elif type(value) is np.ndarray:
        if not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>value):
            return False
        arrays.append(value)
        key.append(np.ndarray)
        key.append(cnp.PyArray_TYPE(<cnp.ndarray>value))
        key.append(cnp.PyArray_NDIM(<cnp.ndarray>value))
        for d in range(cnp.PyArray_NDIM(<cnp.ndarray>value)):
            key.append(cnp.PyArray_DIMS(<cnp.ndarray>value)[d])
    elif type(value) is tuple:
        key.append(tuple)
        key.append(len(<tuple>value))
        for part in <tuple>value:
            if not _sign(key, arrays, part):
                return False
    elif type(value) is float or type(value) is bool:  # 1.0 and True are equal to 1
        key.append(type(value))
        key.append(value)
    else:
        return False
    return True


def signature(owner, tuple args, dict options):
    """(key, arrays) of a call: equal keys differ in the arrays' data alone, and `out` comes last.

    None for arguments that are no plain arrays, numbers, strings or tuples of such, and when `out`
    is not writeable or overlaps another array.
    """
    cdef list key = [owner, len(args)], arrays = []
    for value in args:
        if not _sign(key, arrays, value):
            return None
    for name, value in options.items():
        if name != "out":
            key.append(name)
            if not _sign(key, arrays, value):
                return None
    out = options.get("out")
    if out is not None:
        if type(out) is not np.ndarray or not _is_apart(out, arrays):  # recent.pxi
            return None
        key.append("out")
        _sign(key, arrays, out)
    return tuple(key), arrays


cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyTypeObject:
        pass
    object _new_array "PyArray_NewFromDescr"(PyTypeObject *, cnp.PyArray_Descr *, int, cnp.npy_intp *,
                                             cnp.npy_intp *, void *, int, void *)
    PyTypeObject PyArray_Type


cdef class View:
    """How an array lies in the memory of another, to be found in others of its shape and dtype.

    It may be of another dtype: complex numbers are pairs of real ones.
    """

    cdef object dtype
    cdef int ndim
    cdef cnp.npy_intp offset
    cdef cnp.npy_intp shape[64]  # NumPy's limit
    cdef cnp.npy_intp strides[64]

    def __init__(self, cnp.ndarray part, cnp.ndarray whole):
        self.ndim, self.dtype = cnp.PyArray_NDIM(part), part.dtype
        self.offset = <char *>cnp.PyArray_DATA(part) - <char *>cnp.PyArray_DATA(whole)
        for d in range(self.ndim):
            self.shape[d] = cnp.PyArray_DIMS(part)[d]
            self.strides[d] = cnp.PyArray_STRIDES(part)[d]

    def of(self, cnp.ndarray whole):
        """The same part of another array."""
        Py_INCREF(self.dtype)  # the new array's own
        part = _new_array(&PyArray_Type, <cnp.PyArray_Descr *>self.dtype, self.ndim, self.shape, self.strides,
                          <char *>cnp.PyArray_DATA(whole) + self.offset,
                          cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE, NULL)
        cnp.set_array_base(part, whole)
        return part


def address(cnp.ndarray a):
    """Where an array's data begin."""
    return <uintptr_t>cnp.PyArray_DATA(a)


def same_bytes(cnp.ndarray a, cnp.ndarray b, int64_t threads=1):
    """Whether two C-ordered arrays of one size hold the same bytes."""
    cdef const void *first = cnp.PyArray_DATA(a)
    cdef const void *second = cnp.PyArray_DATA(b)
    cdef int64_t count = cnp.PyArray_NBYTES(a)
    cdef bint same
    if count < 4096:  # sooner done than the GIL is released
        return memcmp(first, second, <size_t>count) == 0
    with nogil:
        same = fc_same(first, second, count, threads)
    return same


def is_finite(cnp.ndarray a):
    """Whether no element of a floating or complex array is NaN or infinite; any strides."""
    cdef int dtype = cnp.PyArray_TYPE(a)
    cdef const char *first = <const char *>cnp.PyArray_DATA(a)
    cdef cnp.npy_intp reach = cnp.PyArray_ITEMSIZE(a), step
    for d in range(cnp.PyArray_NDIM(a)):
        step = cnp.PyArray_STRIDES(a)[d] * (cnp.PyArray_DIMS(a)[d] - 1)
        first += min(step, 0)
        reach += abs(step)
    # the elements fill the memory that they span, in whatever order
    if reach == cnp.PyArray_NBYTES(a) and cnp.PyArray_ISBEHAVED_RO(a):
        if dtype == cnp.NPY_FLOAT or dtype == cnp.NPY_CFLOAT:
            return _is_finite_f32(<const uint32_t *>first, reach // 4)
        if dtype == cnp.NPY_DOUBLE or dtype == cnp.NPY_CDOUBLE:
            return _is_finite_f64(<const uint64_t *>first, reach // 8)
    return bool(np.isfinite(a).all())


cdef bint _is_finite_f32(const uint32_t *bits, int64_t count) noexcept:
    cdef uint32_t bad = 0
    cdef int64_t i
    for i in range(count):  # an exponent of all ones
        bad |= (bits[i] & 0x7f800000u) == 0x7f800000u
    return not bad


cdef bint _is_finite_f64(const uint64_t *bits, int64_t count) noexcept:
    cdef uint64_t bad = 0
    cdef int64_t i
    for i in range(count):  # one more has a twelfth bit; SSE2 cannot compare 64 bits
        bad |= (bits[i] >> 52 & 0x7ff) + 1
    return not bad >> 11


def flushes():
    """This thread's mode for subnormal numbers, to be given back to `flush`; 0: they keep their value."""
    return fc_flushes()


def flush(int mode):
    """Set this thread's mode: 1 takes subnormal numbers for zeros."""
    fc_flush(mode)
