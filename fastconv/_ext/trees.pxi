"""Part of core.pyx: the trees of `fastconv/_model.py`, walked for all candidates of a problem."""

from libc.math cimport log2

include "blocks.pxi"

#: Of a candidate, in this order; a setting that its config lacks is 0.
CANDIDATE_FEATURES = (
    "cost", "threads", "vector", "m", "across", "copy", "tile_bytes", "plane_bytes", "row_bytes",
    "block", "rate", "band",
)

cdef enum:
    _FEATURES = 12  # of a candidate
    _MOST_FEATURES = 64  # of it and of its problem

#: Bytes of a vector, as a number that orders instruction sets; 16 of others.
_VECTOR_BYTES = {"avx512": 64, "avx2": 32}

cdef dict _blocks = {}


cdef double _log2(double value) noexcept:
    return log2(value) if value > 1 else 0.0


cdef double _block(str name) except -1:
    """Samples of a block like 16x32, by their logarithm."""
    found = _blocks.get(name)
    if found is None:
        found = sum([_log2(int(n)) for n in name.split("x") if n.isdecimal()])
        if len(_blocks) < 4096:
            _blocks[name] = found
    return found


cdef int _candidate_features(double *x, problem, dict config, double cost) except -1:
    cdef double flops = problem.flops
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
    x[10] = log2(max(1.0, flops) / max(cost, 1e-9))
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

    def log_corrections(self, problem, list of_problem, found, dict solvers):
        """Sum of the trees of each candidate (method, config, estimate); None where there are none.

        `of_problem` are the problem's features, `solvers` the place of each method's trees.
        """
        cdef double x[_MOST_FEATURES]
        cdef Py_ssize_t count = len(of_problem), trees, levels, s, t, level, leaf, i
        cdef const int64_t *feature
        cdef const double *threshold
        cdef const double *leaves
        cdef double total
        if count + _FEATURES > _MOST_FEATURES:
            raise ValueError(
                f"expected at most {_MOST_FEATURES - _FEATURES} features of a problem, got {count}"
            )
        for i in range(count):
            x[i] = of_problem[i]
        trees, levels = self.feature.shape[1], self.feature.shape[2]
        logs = []
        for method, config, cost in found:
            place = solvers.get(method)
            if place is None:
                logs.append(None)
                continue
            _candidate_features(x + count, problem, config, cost)
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
