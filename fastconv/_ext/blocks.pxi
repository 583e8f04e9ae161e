"""Part of core.pyx: which blocks of `fastconv/solvers/_blocks.py` cost least."""


def best_blocks(list axes, list rows, int64_t blocks, int64_t parts, bint paired, int64_t c,
                int64_t k, int64_t real, tuple rates, tuple left_over, tuple ns, int64_t longest, int64_t most):
    """[(nanoseconds of a group by one thread, by two that share pairs, place of each axis' length)] of
    the `most` that take least by one, and of those by two.

    `axes` are (lengths, span, stride, outputs, length that holds the whole axis or 0) of each axis
    that is transformed; every combination of lengths is a block, one of whose `parts` has `longest`
    samples at most.
    `rows` are a part's of each length where there is one axis, else None: all sides but the last.
    `left_over` are the samples of the smallest transform that threads share, and what a pair that they
    share takes of its time in two.
    `rates` are (bytes of a block, nominal operations a ns from there on), the smallest first; `ns`
    those of a pair of blocks, a row, a byte of a product and a sample: `_blocks._nanoseconds`. Of
    equal ones the first comes first, the last axis' length moving fastest.
    """
    cdef int64_t lengths[3][512]
    cdef int64_t counts[3][512]
    cdef int64_t sizes[3]
    cdef int64_t at[3]
    cdef double found[2][8]  # what each goes by
    cdef double alone[2][8]
    cdef double shared[2][8]
    cdef int64_t places[2][8][3]
    cdef Py_ssize_t held[2]
    cdef Py_ssize_t dims = len(axes), d, i, j, way
    cdef int64_t span, stride, out, whole, n, kept, pairs, sides, total_blocks
    cdef double pair_ns = ns[0], row_ns = ns[1], byte_ns = ns[2], sample_ns = ns[3], rate, total, by_two, samples, goes_by
    cdef int64_t least_shared = left_over[0]
    cdef double shared_rest = left_over[1], rest
    if not 1 <= dims <= 3 or most > 8:
        raise ValueError(f"expected one to three axes and at most 8 blocks, got {dims}, {most}")
    for d in range(dims):
        numbers, span, stride, out, whole = axes[d]
        sizes[d], at[d] = len(numbers), 0
        if not 1 <= sizes[d] <= 512:
            if sizes[d]:
                raise ValueError(f"expected at most 512 lengths, got {sizes[d]}")
            return []
        for i in range(sizes[d]):
            n = lengths[d][i] = numbers[i]
            kept = out if whole and n >= whole else min((n - span) // stride + 1, out)
            counts[d][i] = (out + kept - 1) // kept
    held[0] = held[1] = 0
    while True:
        n, sides, total_blocks = 1, 1, blocks
        for d in range(dims):
            if d == dims - 1:
                sides = n
            n *= lengths[d][at[d]]
            total_blocks *= counts[d][at[d]]
        n //= parts
        if n <= longest:
            sides = sides // parts if rows is None else rows[at[0]]
            pairs = (total_blocks + 1) // 2 if paired else total_blocks
            rate = 0
            for size, value in rates:
                if n * 2 * real > <int64_t>size:
                    rate = value
            samples = n
            total = pairs * (pair_ns + (c + k) * (5 * samples * log2(samples) / rate
                                                  + sides * row_ns + samples * sample_ns)
                             + c * k * samples * 2 * real * byte_ns)
            rest = shared_rest if dims < 3 and n >= least_shared else 1
            by_two = total * (pairs // 2 + pairs % 2 * rest) / max(pairs, 1)
            for way in range(2):
                goes_by = by_two if way else total
                i = held[way]
                while i > 0 and goes_by < found[way][i - 1]:
                    i -= 1
                if i < most:
                    held[way] = min(held[way] + 1, most)
                    for j in range(held[way] - 1, i, -1):
                        found[way][j] = found[way][j - 1]
                        alone[way][j], shared[way][j] = alone[way][j - 1], shared[way][j - 1]
                        for d in range(dims):
                            places[way][j][d] = places[way][j - 1][d]
                    found[way][i], alone[way][i], shared[way][i] = goes_by, total, by_two
                    for d in range(dims):
                        places[way][i][d] = at[d]
        d = dims - 1
        while d >= 0:
            at[d] += 1
            if at[d] < sizes[d]:
                break
            at[d] = 0
            d -= 1
        if d < 0:
            break
    return list({(alone[way][i], shared[way][i], tuple([places[way][i][d] for d in range(dims)])): None
                 for way in range(2) for i in range(held[way])})
