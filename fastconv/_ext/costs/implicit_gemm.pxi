"""Part of core.pyx: what `fastconv/solvers/implicit_gemm.py` is estimated to take."""

cdef struct _ImplicitGemmConstants:
    double gflops
    int64_t vector_bytes, pixels, page
    double loads, call, latency, tile, segment, one, far, skipped, aliased, band, padding, fill
    double piece[3]


cdef struct _PixelTiles:
    # tiles of a group, pixels and runs of pixels of each, the share of them that is copied, and the
    # share of their taps that are not all padding
    double tiles, pixels, runs, copied, live


@cython.cdivision(True)
cdef double _live(Geometry p, double pixels) noexcept:
    """The share of taps and tiles of `pixels` that are not all padding."""
    cdef double share = 1, found, wide, met
    cdef int64_t d, r, at, low, high, step, taps
    for d in range(p.dims):
        if p.before[d] == 0 and p.after[d] == 0:
            continue
        wide = pixels if d == p.dims - 1 else 1
        found, taps, step, r = 0, 0, max(1, p.ker[d] // 32), 0
        while r < p.ker[d]:
            at = r * p.dilation[d] - p.before[d]  # of the first output
            low = _up(-at, p.stride[d]) if at < 0 else 0
            high = min(_up(p.size[d] - at, p.stride[d]), p.out[d]) if at < p.size[d] else 0
            if high > low:
                met = high - low + wide - 1
                found += met / p.out[d] if met < p.out[d] else 1
            taps += 1
            r += step
        share *= found / taps
    return share


@cython.cdivision(True)
cdef _PixelTiles _pixel_tiles(Geometry p, int64_t most, bint across, int64_t copy) noexcept:
    """Of up to `most` pixels, as in plan_tiles of the driver."""
    cdef int64_t last = p.dims - 1, row = p.out[last], of_row = _up(row, most), d, span, ends
    cdef double inside = 1, broken, sets = _up(p.batch, most)
    cdef bint wide
    cdef _PixelTiles t
    if across:
        t.tiles, t.pixels, t.runs, t.copied, t.live = sets * p.outputs, p.batch / sets, 1, 0, 1
        return t
    wide = p.before[last] >= most * p.stride[last]
    # rows of outputs whose windows lie inside x along all axes but the last
    for d in range(last):
        inside *= max(0.0, 1 - (p.before[d] + p.after[d]) / <double>p.stride[d] / p.out[d])
    if copy == 2 or (row * 9 >= of_row * most * 7 and (not copy or wide)):
        # pixels beyond the first and the last of a row meet padding
        span = most * p.stride[last]
        ends = _up(p.before[last], span) + _up(p.after[last], span)
        t.tiles, t.runs = p.batch * (p.outputs / row) * of_row, 1
        broken = 1 - max(0.0, 1 - ends / <double>of_row) * inside
    else:
        t.tiles, t.runs = ceil(p.batch * p.outputs / most), 1 + most / <double>row
        broken = min(1.0, t.runs - inside)
    t.pixels = p.batch * p.outputs / t.tiles
    t.copied = broken if copy == 0 else 1 if copy == 1 else 0
    t.live = _live(p, t.pixels) if p.boundary == 0 else 1
    return t


@cython.cdivision(True)
cdef double _band_rows(Geometry p, double channels, double target) noexcept:
    """Rows that bands of about `target` bytes copy, as a multiple of those there are: windows of
    blocks of outputs overlap."""
    cdef int64_t d = p.dims - 2, out, rows
    if p.dims < 2:
        return 1
    cdef double row = channels * p.padded[p.dims - 1] * p.itemsize
    out = rows = p.out[d]
    while rows > 1 and ((rows - 1) * p.stride[d] + p.span[d]) * row > target:
        rows = _up(rows, 2)
    rows = max(1, rows)
    return <double>_up(out, rows) * ((rows - 1) * p.stride[d] + p.span[d]) / p.padded[d]


@cython.cdivision(True)
cdef class ImplicitGemmCost:
    """Constants of an instruction set, those of the solver's module."""

    cdef _ImplicitGemmConstants of

    def __init__(self, **constants):
        self.of = constants

    def seconds(self, Geometry p, dict config, machine, int64_t threads):
        cdef _ImplicitGemmConstants of = self.of
        cdef bint across = config["across"]
        cdef int64_t copy = config["copy"], most = config["taps"], block = config["block_bytes"]
        cdef int64_t l2 = machine.l2, last = p.dims - 1, size = p.itemsize // p.parts
        cdef int64_t lanes = of.vector_bytes // size, filters = p.parts * p.filters
        cdef int64_t vectors = _up(filters, lanes), many, step, whole, kernel = <int64_t>p.kernel
        cdef double taps = p.parts * p.taps
        cdef double vector = 2 * lanes / (of.gflops * 1e9 * 4 / size)
        cdef double far = 0, work = 0, blocks, pieces, each, searches, rows, cells, weights, share
        cdef double samples, kept, pack = 0, one, plane
        cdef bint apart = across or p.parts > 1
        cdef _PixelTiles t = _pixel_tiles(p, of.pixels, across, copy)
        if not across and p.layout != 1:
            # of a line of x that several taps of the kernel read, one waits
            plane = _product(p.size, 0, p.dims) * p.itemsize
            far = of.far / kernel * min(1.0, plane / of.page) * (1 - t.copied) * (copy != 2)
            if copy != 2 and kernel > 1 and plane % of.page == 0 and p.channels >= 16:
                far = of.aliased * t.pixels * vector
        # less than the latency a tap of a tile does not take, however few its products
        for many in range(2, 0, -1):
            work += (vectors // 2 if many == 2 else vectors % 2) * max(
                (t.pixels + of.loads) * many * vector + far, of.latency)
        work *= t.live * taps
        # copies: every tap of the kernel is looked for in each block of taps, then copied in pieces
        blocks = ceil(taps / most)
        step = p.stride[last] if p.parts == 1 and p.layout != 1 else 0
        pieces = ceil(t.pixels * size / 16) + t.runs - 1
        each = pieces * of.piece[step] if step == 1 or step == 2 else t.pixels * of.one
        searches = p.parts * p.channels if kernel > most else blocks
        work += t.copied * (searches * kernel * t.runs * of.segment + t.live * taps * each)
        work += of.tile + vectors * blocks * of.call
        work *= t.tiles
        if across:
            work += <double>p.batch * p.channels * p.groups * _product(p.padded, 0, p.dims) * 0.5e-9
        if step > 2 and copy == 0 and p.x * size > l2:
            work += (<double>p.batch * p.channels * p.groups * _product(p.out, 0, last)
                     * ceil(p.size[last] * size / 64.0) * of.skipped)
        if copy == 2:
            rows = _band_rows(p, max(1, most // kernel), block)
            cells = p.batch * p.channels * rows
            # planes are filled with what is beyond x before what x has is copied, unless x has that, too
            one = of.one if p.layout == 1 or (kernel == 1 and p.stride[last] > 2) else of.band
            each = of.fill if p.boundary == 0 else of.padding
            work += cells * _product(p.size, 0, p.dims) * (one - each)
            work += cells * _product(p.padded, 0, p.dims) * each
        # stores are transposed by whole vectors of filters, else, as parts and images, one by one
        whole = 0 if apart else filters // lanes * lanes
        one = 2e-9 if apart else 0.8e-9
        work += t.tiles * t.pixels * (whole * 0.2e-9 + (filters - whole) * one)
        weights = vectors * lanes * taps * size
        if weights > l2 // 2:  # from L3 at 90 GB/s, once a block of tiles
            share = kernel if copy == 1 else _product(p.stride, 0, p.dims)
            if across:
                share = _product(p.size, 0, p.dims) / p.outputs
            samples = max(1, min(p.parts * p.channels, most // kernel)) * share
            kept = (vectors * lanes + samples) * size * t.pixels
            work += weights / 90e9 * max(1.0, t.tiles * kept / block)
        if not p.prepared:  # by whole vectors of filters and taps, or one by one
            each = 3e-9
            if not (p.flip or p.parts > 1 or filters < lanes):
                each = 0.25e-9 if size == 4 else 0.8e-9
            pack = 1e-6 + p.w * p.parts * each
        return 2.5e-6 + work * p.groups / threads + pack + _waking(threads)
