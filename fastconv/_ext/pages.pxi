"""Part of core.pyx: arrays for results, in the memory that earlier ones have left."""

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from libc.string cimport strcpy

cdef extern from "drivers/pages.h" nogil:
    void *fc_pages_take(void *, size_t)
    void *fc_pages_take_zeros(void *, size_t, size_t)
    void *fc_pages_resize(void *, void *, size_t)
    void fc_pages_give(void *, void *, size_t)
    size_t fc_pages_kept()
    void fc_pages_drop()

cdef extern from "numpy/arrayobject.h":
    PyObject *PyDataMem_DefaultHandler

cdef enum:
    # bytes from which malloc maps pages anew, at first (mallopt(3), M_MMAP_THRESHOLD)
    _MAPPED = 128 << 10

cdef cnp.PyDataMem_Handler _handler
strcpy(_handler.name, "fastconv")
_handler.version = 1
_handler.allocator.malloc = fc_pages_take
_handler.allocator.calloc = fc_pages_take_zeros
_handler.allocator.realloc = fc_pages_resize
_handler.allocator.free = fc_pages_give
cdef object _pages = PyCapsule_New(&_handler, "mem_handler", NULL)


def empty(tuple shape, cnp.dtype dtype):
    """A new C-ordered array of any content: large ones are where others were that are gone.

    Who has set an allocator for NumPy (NEP 49) gets arrays from that.
    """
    cdef int64_t size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < _MAPPED or cnp.PyDataMem_GetHandler() is not <object>PyDataMem_DefaultHandler:
        return np.empty(shape, dtype)
    cnp.PyDataMem_SetHandler(_pages)
    try:
        return np.empty(shape, dtype)
    finally:
        cnp.PyDataMem_SetHandler(<object>PyDataMem_DefaultHandler)


def kept_bytes():
    """Of memory that arrays of `empty` have left, and others have not taken yet."""
    return fc_pages_kept()


def drop_kept():
    """Give that memory back to the system."""
    fc_pages_drop()
