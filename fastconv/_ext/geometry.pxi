"""Part of core.pyx: a problem's numbers as C has them, for estimates (`costs/`) and trees."""

cimport cython
from libc.math cimport ceil, exp, floor, log2

cdef enum:
    _DIMS = 8

#: Of memory orders, `LAYOUTS` of `fastconv/_problem.py`; bytes of an element as it is stored.
_LAYOUTS = {"NC*": 0, "N*C": 1, "strided": 2}
_BYTES = {
    "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "f80": np.dtype(np.longdouble).itemsize,
    "c64": 8, "c128": 16, "c160": np.dtype(np.clongdouble).itemsize, "bool": 1,
    "i8": 1, "i16": 2, "i32": 4, "i64": 8, "u8": 1, "u16": 2, "u32": 4, "u64": 8,
}
_PLACES = {boundary: place for place, boundary in enumerate(BOUNDARIES)}


cdef class Geometry:
    """A `Problem` but for its threads, which problems that share one differ in.

    `channels` and `filters` are a group's; `x`, `w`, `y`, `outputs`, `kernel`, `taps` and `flops`
    are products of sizes, which as doubles do not overflow.
    """

    cdef int64_t dims, batch, channels, filters, groups, itemsize, parts, x_itemsize, y_itemsize
    cdef int64_t size[_DIMS]
    cdef int64_t ker[_DIMS]
    cdef int64_t out[_DIMS]
    cdef int64_t stride[_DIMS]
    cdef int64_t dilation[_DIMS]
    cdef int64_t input_dilation[_DIMS]
    cdef int64_t before[_DIMS]
    cdef int64_t after[_DIMS]
    cdef int64_t span[_DIMS]
    cdef int64_t padded[_DIMS]
    cdef int64_t boundary, layout, rank
    cdef bint exact, floating, stored, flip, prepared, box, dense
    cdef double x, w, y, outputs, kernel, taps, flops

    def __init__(self, problem):
        cdef dict own = problem.__dict__
        cdef tuple size = own["size"], kernel = own["kernel"], padding = own["padding"], pad
        cdef tuple stride = own["stride"], dilation = own["dilation"]
        cdef tuple input_dilation = own["input_dilation"]
        cdef str dtype = own["dtype"]
        cdef int64_t d
        self.dims, self.groups, self.batch = len(size), own["groups"], own["batch"]
        self.channels = <int64_t>own["channels"] // self.groups
        self.filters = <int64_t>own["filters"] // self.groups
        self.kernel = self.outputs = 1
        self.dense = True
        self.x = <double>self.batch * self.channels * self.groups
        for d in range(self.dims):
            pad = padding[d]
            self.size[d], self.ker[d], self.stride[d] = size[d], kernel[d], stride[d]
            self.dilation[d], self.input_dilation[d] = dilation[d], input_dilation[d]
            self.before[d], self.after[d] = pad[0], pad[1]
            self.span[d] = (self.ker[d] - 1) * self.dilation[d] + 1
            self.padded[d] = max(0, (self.size[d] - 1) * self.input_dilation[d] + 1)
            self.padded[d] += self.before[d] + self.after[d]
            self.out[d] = (self.padded[d] - self.span[d]) // self.stride[d] + 1
            self.kernel *= self.ker[d]
            self.outputs *= self.out[d]
            self.x *= self.size[d]
            self.dense = self.dense and self.input_dilation[d] == 1
        self.taps = self.channels * self.kernel
        self.w = self.filters * self.groups * self.taps
        self.y = <double>self.batch * self.filters * self.groups * self.outputs
        self.itemsize, self.parts = _BYTES[dtype], 2 if dtype[0] == "c" else 1
        self.flops = (8 if self.parts == 2 else 2) * self.y * self.taps
        self.exact = dtype == "bool" or dtype[0] in "iu"
        self.floating = dtype == "f32" or dtype == "f64"
        # floats of 16 bits are widened before a driver sees them
        self.stored = own["x_dtype"] != dtype and own["x_dtype"] not in ("f16", "bf16")
        self.x_itemsize, self.y_itemsize = _BYTES[own["x_dtype"]], _BYTES[own["y_dtype"]]
        self.boundary, self.layout = _PLACES[own["boundary"]], _LAYOUTS[own["layout"]]
        self.rank, self.box = own["rank"], own["box"]
        self.flip, self.prepared = own["flip"], own["prepared"]


cdef class derived:
    """Decorator: a property worked out once a problem.

    `functools.cached_property` takes a lock in Python 3.11: 1 us for each that is met first, and
    choosing meets a dozen.
    """

    cdef object function, name

    def __init__(self, function):
        self.function, self.name = function, function.__name__

    def __get__(self, problem, owner):
        if problem is None:
            return self
        value = (<dict>problem.__dict__)[self.name] = self.function(problem)
        return value


cdef class once:
    """Decorator: keep the results of a function of a problem, and of other arguments, with it.

    It must not look at `threads`: what is kept is `problem.on(threads)`'s too. The other arguments
    must be hashable, and given by position.
    """

    cdef object function

    def __init__(self, function):
        self.function = function

    def __call__(self, problem, *others):
        cdef dict own = problem.__dict__
        # of a new problem most is not known yet: an exception would cost as much as what follows
        kept = own.get("_known")
        if kept is None:
            kept = own["_known"] = {}
        key = (self, others) if others else self
        result = (<dict>kept).get(key, kept)
        if result is kept:
            result = (<dict>kept)[key] = self.function(problem, *others)
        return result


@cython.cdivision(True)
cdef inline int64_t _up(int64_t a, int64_t b) noexcept nogil:
    """a / b, rounded up, of a >= 0."""
    return (a + b - 1) // b


@cython.cdivision(True)
cdef int64_t _gcd(int64_t a, int64_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef double _product(const int64_t *values, int64_t begin, int64_t end) noexcept nogil:
    cdef double product = 1
    cdef int64_t d
    for d in range(begin, end):
        product *= values[d]
    return product


cdef bint _all(const int64_t *values, int64_t dims, int64_t value) noexcept nogil:
    cdef int64_t d
    for d in range(dims):
        if values[d] != value:
            return False
    return True


cdef bint _is_padded(Geometry p) noexcept:
    return not (_all(p.before, p.dims, 0) and _all(p.after, p.dims, 0))


cdef double _waking(int64_t threads) noexcept nogil:
    """Seconds that threads take to begin and to be waited for."""
    return 4e-6 if threads > 1 else 0.0
