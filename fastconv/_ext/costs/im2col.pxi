"""Part of core.pyx: what `fastconv/solvers/im2col.py` is estimated to take."""


@cython.cdivision(True)
def im2col_seconds(Geometry p, dict config, machine, int64_t threads, double gflops, double lost):
    """BLAS has `gflops`, of which `lost` rows of a product are lost."""
    cdef int64_t l2 = machine.l2, last = p.dims - 1, tile = config["tile_bytes"]
    cdef double columns = p.outputs * p.batch, side, flops, cells = 0, fill, tiles, weights, pack = 0
    cdef bint in_place = p.kernel == 1 and _all(p.stride, p.dims, 1)
    # BLAS: its rate falls with the smallest side of the product, which one group's filters,
    # or few columns, can make; with taps at half that pace (1x1, 3 to 64 @ 200x200: 0.65 ms)
    side = min(<double>p.filters, columns, 2 * p.taps)
    flops = p.flops / (gflops * 1e9 * side / (side + lost))
    if not in_place or p.layout != 0 or _is_padded(p):
        cells = p.taps * p.groups * columns
    # a tile is written and read once from L2, or from memory when it is larger
    fill = cells * p.itemsize / 12e9 * (2 if tile > l2 else 1)
    fill += cells / max(1, p.out[last]) * 10e-9
    if p.stride[last] > 1:
        fill += cells * 0.6e-9
    tiles = p.groups * max(1.0, cells / p.groups * p.itemsize / tile)
    weights = p.w * p.itemsize
    if weights > l2 // 2:  # from L3 at 30 GB/s, once at least
        flops = max(flops, weights / 30e9)
    if not p.prepared:
        pack = p.w * 0.2e-9
    return (9e-6 + (flops + fill) / threads + p.y * p.itemsize / 40e9 + tiles * 0.4e-6 * threads
            + pack)
