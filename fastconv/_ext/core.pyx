# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""Arrays to pointers, the GIL released, a driver called. The only Cython of fastconv.

`Call` is one driver bound to one geometry; everything it is given has been validated before.
"""

import os
import threading

import numpy as np

cimport numpy as cnp
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

cnp.import_array()

cdef extern from "fc.h" nogil:
    enum: FC_DIMS
    enum: FC_CONFIGS
    enum: FC_ALIGN
    ctypedef enum fc_dtype:
        FC_F32
        FC_F64
    ctypedef enum fc_boundary:
        pass
    ctypedef struct fc_problem:
        int64_t dims, n, c, k, g
        int64_t *size "in"
        int64_t *ker
        int64_t *out
        int64_t *stride
        int64_t *dilation
        int64_t *input_dilation
        int64_t *pad
        int64_t x_n, x_c
        int64_t *x_s
        int64_t w_k, w_c
        int64_t *w_s
        int64_t y_n, y_k
        int64_t *y_s
        fc_dtype dtype, x_dtype, y_dtype
        fc_boundary boundary
        double *cval
        int64_t cval_i
    ctypedef struct fc_config:
        int64_t *v
    ctypedef enum fc_activation:
        pass
    ctypedef struct fc_epilogue:
        const void *bias
        const void *residual
        fc_activation activation
        double low, high
        uint8_t *left
        const float *scale
        int64_t zero
    ctypedef struct fc_spectra:
        void (*run)(int64_t, int64_t, const void *, int64_t, const void *, int64_t,
                    void *) noexcept nogil
    ctypedef struct fc_pairs:
        void (*quantize)(fc_dtype, const void *, int64_t, float, int64_t, void *) noexcept nogil
    ctypedef struct fc_kernels:
        const char *isa
        const fc_pairs *pairs_i32
        const fc_spectra *spectra_f32
        const fc_spectra *spectra_f64
    ctypedef struct fc_driver:
        const char *name
        int64_t (*workspace_bytes)(const fc_problem *, const fc_config *, const fc_kernels *,
                                   int64_t) noexcept nogil
        int64_t (*packed_bytes)(const fc_problem *, const fc_config *,
                                const fc_kernels *) noexcept nogil
        void (*pack)(const fc_problem *, const fc_config *, const fc_kernels *, const void *,
                     void *, int64_t) noexcept nogil
        void (*run)(const fc_problem *, const fc_config *, const fc_kernels *, const void *,
                    const void *, const fc_epilogue *, void *, void *, int64_t) noexcept nogil
    const fc_driver *fc_find_driver(const char *)
    int64_t fc_dtype_bytes(fc_dtype)
    void fc_finish_run(const fc_problem *, const fc_kernels *, const fc_epilogue *, void *, int64_t,
                       int64_t, int64_t) noexcept nogil
    ctypedef struct fc_isa:
        const fc_kernels *kernels
        int (*usable)() noexcept nogil
    const fc_isa *fc_isas
    const int64_t fc_isa_count

# in the order of fc_dtype; signed integers are summed as unsigned ones, bit for bit the same, but
# become others by their sign
DTYPES = ("f32", "f64", "c64", "c128", "u8", "u16", "u32", "u64", "f80", "c160")
STORED = (*DTYPES, "i8", "i16", "i32", "i64", "bf16", "f16")
BOUNDARIES = ("zeros", "constant", "reflect", "mirror", "nearest", "wrap")  # of fc_boundary
ACTIVATIONS = ("identity", "clamp", "silu", "gelu")  # of fc_activation

#: Workspaces up to this size stay with their thread: mapping pages costs about 0.25 us a 4 KB page.
_KEPT_BYTES = 64 << 20
_local = threading.local()


def isas():
    """Instruction sets compiled in that run on this machine, best first."""
    return tuple(fc_isas[i].kernels.isa.decode() for i in range(fc_isa_count) if fc_isas[i].usable())


def compiled_isas():
    """Instruction sets compiled in, best first, whether they run here or not."""
    return tuple(fc_isas[i].kernels.isa.decode() for i in range(fc_isa_count))


def _chosen_isa():
    usable = isas()
    cap = os.environ.get("FASTCONV_ISA", "")
    if cap and cap not in usable:
        raise ImportError(f"expected FASTCONV_ISA out of {', '.join(usable)}, got {cap!r}")
    return cap or usable[0]


_isa = _chosen_isa()
_offered = isas()[isas().index(_isa):]


def isa():
    """The instruction set in use: the best that runs here, or FASTCONV_ISA."""
    return _isa


def offered_isas():
    """Those that plans may use, best first: the one in use and what is below it."""
    return _offered


cdef const fc_kernels *_kernels(str name) except NULL:
    for i in range(fc_isa_count):
        if fc_isas[i].kernels.isa.decode() == name and fc_isas[i].usable():
            return fc_isas[i].kernels
    raise ValueError(f"expected an instruction set out of {', '.join(isas())}, got {name!r}")


cdef void *_aligned(cnp.ndarray a) noexcept:
    """First cache line of a byte array that was made FC_ALIGN bytes too long."""
    cdef uintptr_t address = <uintptr_t>cnp.PyArray_DATA(a)
    return <void *>((address + FC_ALIGN - 1) // FC_ALIGN * FC_ALIGN)


cdef cnp.ndarray _scratch(int64_t size):
    """Bytes for one call; small ones are kept for the thread's next call."""
    cdef object kept = getattr(_local, "scratch", None)
    # a call inside a call of the same thread (none today) would find the scratch taken
    if kept is None or (<cnp.ndarray>kept).nbytes < size + FC_ALIGN:
        kept = np.empty(size + FC_ALIGN, np.uint8)
        if size <= _KEPT_BYTES:
            _local.scratch = kept
    return kept


cdef cnp.ndarray _for_weights(int64_t size):
    """Bytes for packed weights: those of the thread's last ones when nobody holds these any more.

    Fresh pages cost more than packing does: 256 filters of 256 channels, for winograd, 2.5 of 4 ms.
    """
    cdef object kept = getattr(_local, "weights", None)
    # held by _local and by `kept`, and by a plan or its like if that is still there
    if kept is None or Py_REFCNT(kept) > 2 or (<cnp.ndarray>kept).nbytes < size + FC_ALIGN:
        kept = np.empty(size + FC_ALIGN, np.uint8)
        if size <= _KEPT_BYTES:
            _local.weights = kept
    return kept


include "blas.pxi"
include "pages.pxi"
include "halves.pxi"
include "finish.pxi"
include "calls.pxi"
include "rank.pxi"
include "spectra.pxi"
include "scores.pxi"
include "fft.pxi"
include "geometry.pxi"
include "costs.pxi"
include "blocks.pxi"
include "trees.pxi"
include "quads.pxi"


cdef class Call:
    """A driver, an instruction set and a geometry: immutable, and callable from many threads."""

    cdef fc_problem problem
    cdef fc_config config
    cdef const fc_driver *driver
    cdef const fc_kernels *kernels
    cdef int64_t threads, itemsize, x_itemsize, y_itemsize, workspace
    cdef readonly int64_t packed_bytes

    def __init__(self, str driver, str isa, problem, values=(), threads=None, x_dtype=None,
                 y_dtype=None):
        """`problem` is a `fastconv._problem.Problem`; `values` are the driver's settings.

        `x_dtype` and `y_dtype` are what `run` gets x and y in, for a driver that reads or writes
        others than it computes in.
        """
        self.driver = fc_find_driver(driver.encode())
        if self.driver == NULL:
            raise ValueError(f"no driver is called {driver!r}")
        self.kernels = _kernels(isa)
        cdef fc_problem *p = &self.problem
        cdef int64_t d
        cdef Geometry g = problem.geometry
        memset(p, 0, sizeof(fc_problem))
        p.dims, p.n, p.g, p.c, p.k = g.dims, g.batch, g.groups, g.channels, g.filters
        for d in range(p.dims):
            p.size[d], p.ker[d], p.out[d], p.stride[d] = g.size[d], g.ker[d], g.out[d], g.stride[d]
            p.dilation[d], p.input_dilation[d] = g.dilation[d], g.input_dilation[d]
            p.pad[d] = g.before[d]
        dtype = problem.accumulator
        p.dtype = <fc_dtype><int>DTYPES.index(dtype.replace("i", "u"))
        p.x_dtype = p.y_dtype = p.dtype
        if x_dtype is not None and x_dtype != dtype:
            p.x_dtype = <fc_dtype><int>STORED.index(x_dtype.replace("bool", "u8"))
        if y_dtype is not None and y_dtype != dtype:
            p.y_dtype = <fc_dtype><int>STORED.index(y_dtype)
        self.itemsize = fc_dtype_bytes(p.dtype)
        self.x_itemsize, self.y_itemsize = fc_dtype_bytes(p.x_dtype), fc_dtype_bytes(p.y_dtype)
        p.boundary = <fc_boundary><int>g.boundary
        if problem.boundary == "constant":
            value = complex(problem.cval)
            p.cval[0] = value.real
            p.cval[1] = value.imag
            if problem.is_exact:
                p.cval_i = <int64_t><uint64_t>(int(problem.cval) & 0xFFFFFFFFFFFFFFFF)
        memset(&self.config, 0, sizeof(fc_config))
        if len(values) > FC_CONFIGS:
            raise ValueError(f"a driver has at most {FC_CONFIGS} settings, got {len(values)}")
        for i, value in enumerate(values):
            self.config.v[i] = value
        self.threads = threads or problem.threads
        self.packed_bytes = self.driver.packed_bytes(p, &self.config, self.kernels)
        self.workspace = self.driver.workspace_bytes(p, &self.config, self.kernels, self.threads)

    @property
    def workspace_bytes(self):
        """Bytes that one call takes, packed weights not counted."""
        return self.workspace

    def pack(self, cnp.ndarray w):
        """Weights of shape (K, C / groups, *kernel), any strides, in the driver's form."""
        cdef cnp.ndarray packed = _for_weights(self.packed_bytes)
        cdef fc_problem p = self.problem
        _set_weight_strides(&p, w)
        cdef const void *source = cnp.PyArray_DATA(w)
        cdef void *target = _aligned(packed)
        with nogil:
            self.driver.pack(&p, &self.config, self.kernels, source, target, self.threads)
        return packed

    def run(self, cnp.ndarray x, cnp.ndarray packed, epilogue, cnp.ndarray y, cnp.ndarray left=None):
        """Write y; x and y are of the problem's shapes and any strides.

        `epilogue` is None or (bias, residual, activation), each of which may be None; residual has
        y's strides. `left` are bytes of 0 that become 1 where the driver leaves work to its caller.
        `packed` that is not of bytes is w, for a driver that reads it as it lies.
        """
        cdef fc_problem p = self.problem
        cdef int64_t d  # else a Python object, 0.1 us each
        p.x_n = cnp.PyArray_STRIDES(x)[0] // self.x_itemsize
        p.x_c = cnp.PyArray_STRIDES(x)[1] // self.x_itemsize
        p.y_n = cnp.PyArray_STRIDES(y)[0] // self.y_itemsize
        p.y_k = cnp.PyArray_STRIDES(y)[1] // self.y_itemsize
        for d in range(p.dims):
            p.x_s[d] = cnp.PyArray_STRIDES(x)[2 + d] // self.x_itemsize
            p.y_s[d] = cnp.PyArray_STRIDES(y)[2 + d] // self.y_itemsize
        cdef cnp.ndarray scratch = _scratch(self.workspace)
        cdef const void *xp = cnp.PyArray_DATA(x)
        cdef const void *wp = _weights(&p, packed)
        cdef fc_epilogue finish
        if epilogue is None:
            memset(&finish, 0, sizeof(fc_epilogue))
        else:
            _set_epilogue(&finish, epilogue[0], epilogue[1], epilogue[2])
        if left is not None:
            finish.left = <uint8_t *>cnp.PyArray_DATA(left)
        cdef void *yp = cnp.PyArray_DATA(y)
        cdef void *ws = _aligned(scratch)
        with nogil:
            self.driver.run(&p, &self.config, self.kernels, xp, wp, &finish, yp, ws, self.threads)
