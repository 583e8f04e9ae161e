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
    _TOGETHER = 128  # trees

#: Bytes of a vector, as a number that orders instruction sets; 16 of others.
cdef dict _VECTOR_BYTES = {"avx512": 64, "avx2": 32}

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


#: Places of settings among CANDIDATE_FEATURES.
cdef dict _SETTINGS = {name: place for place, name in enumerate(CANDIDATE_FEATURES)}
_SETTINGS["isa"] = _SETTINGS["vector"]
for _name in ("cost", "vector", "rate"):
    del _SETTINGS[_name]


cdef int _candidate_features(double *x, Geometry p, int64_t threads, dict config,
                             double cost) except -1:
    cdef int64_t place
    for place in range(_FEATURES):
        x[place] = 0
    cost = max(cost, 1e-9)
    x[0], x[1], x[10] = log2(cost), threads, log2(max(1.0, p.flops) / cost)
    for name, value in config.items():
        found = _SETTINGS.get(name)
        if found is None:
            continue
        place = found
        if place == 2:
            x[2] = _VECTOR_BYTES.get(value, 16)
        elif place == 9:
            x[9] = _block(value)
        elif 6 <= place <= 8:  # counts of bytes
            x[place] = _log2(value)
        else:
            x[place] = value
    return 0


def candidate_features(problem, dict config, double cost):
    """Of a candidate, in the order of CANDIDATE_FEATURES."""
    cdef double x[_FEATURES]
    _candidate_features(x, problem.geometry, problem.threads, config, cost)
    return [x[i] for i in range(_FEATURES)]


cdef class Forest:
    """Symmetric trees of each solver: features asked at each level, thresholds, and leaves.

    Arrays of shape (solvers, levels, trees), twice, and (solvers, trees, 2**levels); features are
    those of the problem, then CANDIDATE_FEATURES. A leaf's number has one bit a level, whether the
    feature is above the threshold, the first level's highest.
    """

    cdef const int32_t[:, :, ::1] feature
    cdef const double[:, :, ::1] threshold
    cdef const double[:, :, ::1] leaves

    def __init__(self, feature, threshold, leaves):
        self.feature, self.threshold, self.leaves = feature, threshold, leaves

    cdef double _total(self, Py_ssize_t s, const double *x) noexcept:
        """Sum of a solver's trees: some side by side, whose questions do not wait for each other."""
        cdef Py_ssize_t levels = self.feature.shape[1], trees = self.feature.shape[2]
        cdef Py_ssize_t begin, t, level, count
        cdef int32_t leaf[_TOGETHER]
        cdef const int32_t *feature
        cdef const double *threshold
        cdef const double *leaves
        cdef double total = 0
        for begin in range(0, trees, _TOGETHER):
            count = min(trees - begin, <Py_ssize_t>_TOGETHER)
            memset(leaf, 0, sizeof(leaf))
            for level in range(levels):
                feature, threshold = &self.feature[s, level, begin], &self.threshold[s, level, begin]
                for t in range(count):
                    leaf[t] = 2 * leaf[t] + (x[feature[t]] > threshold[t])
            leaves = &self.leaves[s, begin, 0]
            for t in range(count):
                total += leaves[(t << levels) + leaf[t]]
        return total

    def expected(self, problem, found, dict solvers):
        """Seconds of each candidate (method, config, estimate), by the trees of its method.

        `solvers` are the places of these. What there are no trees of is corrected as the others are
        in the middle: else it would win by that alone.
        """
        cdef double x[_OF_PROBLEM + _FEATURES]
        cdef Geometry p = problem.geometry
        cdef int64_t threads = problem.threads
        _problem_features(x, p)
        logs = []
        for method, config, cost in found:
            place = solvers.get(method)
            if place is not None:
                _candidate_features(x + _OF_PROBLEM, p, threads, config, cost)
                place = self._total(place, x)
            logs.append(place)
        if None in logs:
            known = sorted([log for log in logs if log is not None])
            other = known[len(known) // 2] if known else 0.0
            logs = [other if log is None else log for log in logs]
        return [<double>cost * exp(<double>log) for (_, _, cost), log in zip(found, logs)]
