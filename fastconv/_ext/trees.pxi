"""Part of core.pyx: the trees of `fastconv/_model.py`, walked for all candidates of a problem."""

#: Of a problem, in this order; counts by their logarithms.
PROBLEM_FEATURES = (
    "flops", "taps", "channels", "filters", "groups", "batch", "columns", "rows", "kernel",
    "last kernel", "axes", "stride", "last stride", "dilation", "input dilation", "padding",
    "boundary", "itemsize", "parts", "exact", "x itemsize", "y itemsize", "layout", "flip", "rank",
    "prepared", "x", "w", "y", "size",
)

#: Of a candidate, in this order; a setting that its config lacks is 0.
CANDIDATE_FEATURES = (
    "cost", "threads", "vector", "m", "across", "copy", "tile_bytes", "plane_bytes", "row_bytes",
    "block", "rate", "band",
)

cdef enum:
    _OF_PROBLEM = 30
    _FEATURES = 12  # of a candidate

#: Bytes of a vector, as a number that orders instruction sets; 16 of others.
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

cdef dict _blocks = {}

cdef double _log2(double value) noexcept:
    return log2(value) if value > 1 else 0.0


cdef double _log2_product(const int64_t *values, int64_t begin, int64_t end) noexcept:
    return _log2(_product(values, begin, end))


cdef int _problem_features(double *x, Geometry p) except -1:
    cdef int64_t last = p.dims - 1
    x[0] = _log2(p.flops)
    x[1] = _log2(p.taps)
    x[2] = _log2(p.channels)
    x[3] = _log2(p.filters)
    x[4] = _log2(p.groups)
    x[5] = _log2(p.batch)
    x[6] = _log2(p.out[last])
    x[7] = _log2_product(p.out, 0, last)
    x[8] = _log2(p.kernel)
    x[9] = _log2(p.ker[last])
    x[10] = p.dims
    for d in range(p.dims):
        x[10] -= p.ker[d] == 1
    x[11] = _log2_product(p.stride, 0, p.dims)
    x[12] = p.stride[last]
    x[13] = p.dilation[last]
    x[14] = _log2_product(p.input_dilation, 0, p.dims)
    x[15] = _log2(1 + p.before[last])
    x[16] = p.boundary
    x[17] = p.itemsize
    x[18] = p.parts
    x[19] = p.exact
    x[20] = p.x_itemsize
    x[21] = p.y_itemsize
    x[22] = p.layout
    x[23] = p.flip
    x[24] = p.rank
    x[25] = p.prepared
    x[26] = _log2(p.x)
    x[27] = _log2(p.w)
    x[28] = _log2(p.y)
    x[29] = _log2(p.size[last])
    return 0


def problem_features(problem):
    """Of a problem, in the order of PROBLEM_FEATURES."""
    cdef double x[_OF_PROBLEM]
    _problem_features(x, problem.geometry)
    return [x[i] for i in range(_OF_PROBLEM)]


cdef double _block(str name) except -1:
    """Samples of a block like 16x32, by their logarithm."""
    found = _blocks.get(name)
    if found is None:
        found = sum([_log2(int(n)) for n in name.split("x") if n.isdecimal()])
        if len(_blocks) < 4096:
            _blocks[name] = found
    return found


cdef int _candidate_features(double *x, problem, dict config, double cost) except -1:
    cdef Geometry p = problem.geometry
    isa = config.get("isa")
    x[0] = log2(max(cost, 1e-9))
    threads = config.get("threads")
    x[1] = problem.threads if threads is None else threads
    x[2] = 0 if isa is None else _VECTOR_BYTES.get(isa, 16)
    x[3] = config.get("m", 0)
    x[4] = config.get("across", 0)
    x[5] = config.get("copy", 0)
    x[6] = _log2(config.get("tile_bytes", 0))
    x[7] = _log2(config.get("plane_bytes", 0))
    x[8] = _log2(config.get("row_bytes", 0))
    block = config.get("block")
    x[9] = 0 if block is None else _block(block)
    x[10] = log2(max(1.0, p.flops) / max(cost, 1e-9))
    x[11] = config.get("band", 0)
    return 0


def candidate_features(problem, dict config, double cost):
    """Of a candidate, in the order of CANDIDATE_FEATURES."""
    cdef double x[_FEATURES]
    _candidate_features(x, problem, config, cost)
    return [x[i] for i in range(_FEATURES)]


cdef class Forest:
    """Symmetric trees of each solver: features asked at each level, thresholds, and leaves.

    Arrays of shape (solvers, trees, levels) and (solvers, trees, 2**levels); features are those of
    the problem, then CANDIDATE_FEATURES. A leaf's number has one bit a level, whether the feature
    is above the threshold, the first level's highest.
    """

    cdef const int64_t[:, :, ::1] feature
    cdef const double[:, :, ::1] threshold
    cdef const double[:, :, ::1] leaves

    def __init__(self, feature, threshold, leaves):
        self.feature, self.threshold, self.leaves = feature, threshold, leaves

    def log_corrections(self, problem, found, dict solvers):
        """Sum of the trees of each candidate (method, config, estimate); None where there are none.

        `solvers` are the place of each method's trees.
        """
        cdef double x[_OF_PROBLEM + _FEATURES]
        cdef Py_ssize_t trees, levels, s, t, level, leaf
        cdef const int64_t *feature
        cdef const double *threshold
        cdef const double *leaves
        cdef double total
        _problem_features(x, problem.geometry)
        trees, levels = self.feature.shape[1], self.feature.shape[2]
        logs = []
        for method, config, cost in found:
            place = solvers.get(method)
            if place is None:
                logs.append(None)
                continue
            _candidate_features(x + _OF_PROBLEM, problem, config, cost)
            s = place
            total = 0
            if trees:
                feature, threshold = &self.feature[s, 0, 0], &self.threshold[s, 0, 0]
                leaves = &self.leaves[s, 0, 0]
                for t in range(trees):
                    leaf = 0
                    for level in range(levels):
                        leaf = 2 * leaf + (x[feature[level]] > threshold[level])
                    total += leaves[leaf]
                    feature += levels
                    threshold += levels
                    leaves += 1 << levels
            logs.append(total)
        return logs
