"""Part of core.pyx: kernels of a GPU, launched again with other pointers.

ctypes takes 2 us for a launch of eleven arguments, and as long for the blocks of parameters.
"""

ctypedef int (*_launch_type)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                             unsigned, void *, void **, void **) noexcept nogil
ctypedef int (*_get_type)(void **) noexcept nogil
ctypedef int (*_set_type)(void *) noexcept nogil

cdef enum:
    POINTERS = 8  # of a kernel, at the front of its parameters
    BLOCK = 4096  # bytes of parameters, as many as CUDA takes
    ARRAYS = 64  # of a call

cdef struct _Step:
    void *kernel
    unsigned grid[3]
    unsigned threads, shared_bytes
    int pointers
    int array[POINTERS]  # whose address a pointer begins at; -1: it is the same in every call
    int64_t offset[POINTERS]  # in bytes
    size_t size
    const char *block


cdef class Launches:
    """A sequence of launches on one device, whose pointers are into the arrays of a call.

    Of those arrays, `spans` are (array, low, high): what each reaches over, in bytes from its address,
    which no two may share.

    `entries` are the addresses of cuLaunchKernel, cuCtxGetCurrent and cuCtxSetCurrent and the
    device's context. A step is (kernel, grid, threads, shared_bytes, parameters, places): all
    parameters as bytes, and the (array, offset) of each pointer in front of them.
    """

    cdef _launch_type launch
    cdef _get_type get_context
    cdef _set_type set_context
    cdef void *context
    cdef list steps, blocks
    cdef int count, array[ARRAYS]
    cdef int64_t low[ARRAYS]
    cdef int64_t high[ARRAYS]

    def __init__(self, tuple entries, list spans, list steps):
        cdef _Step step
        cdef bytes parameters
        self.launch = <_launch_type><void *><uintptr_t>entries[0]
        self.get_context = <_get_type><void *><uintptr_t>entries[1]
        self.set_context = <_set_type><void *><uintptr_t>entries[2]
        self.context = <void *><uintptr_t>entries[3]
        self.steps, self.blocks, self.count = [], [], len(spans)
        if len(spans) > ARRAYS:
            raise LookupError
        for i, (array, low, high) in enumerate(spans):
            self.array[i], self.low[i], self.high[i] = array, low, high
        for kernel, grid, threads, shared_bytes, parameters, places in steps:
            if len(places) > POINTERS or len(parameters) > BLOCK:
                raise LookupError
            step.kernel, step.threads = <void *><uintptr_t>kernel, threads
            step.shared_bytes, step.pointers = shared_bytes, len(places)
            for i in range(3):
                step.grid[i] = grid[i]
            for i, (array, offset) in enumerate(places):
                step.array[i], step.offset[i] = array, offset
            step.size, step.block = len(parameters), parameters
            self.blocks.append(parameters)  # which keeps its bytes where they are
            self.steps.append((<char *>&step)[:sizeof(_Step)])

    def lie_apart(self, list addresses):
        """Whether no two of the arrays at these addresses share memory."""
        cdef uintptr_t low[ARRAYS]
        cdef uintptr_t high[ARRAYS]
        cdef int i, j
        for i in range(self.count):
            low[i] = <uintptr_t>addresses[self.array[i]]
            high[i] = low[i] + self.high[i]
            low[i] += self.low[i]
            for j in range(i):
                if low[i] < high[j] and low[j] < high[i]:
                    return False
        return True

    def __call__(self, uintptr_t stream, list addresses):
        """Start all of them; what the driver answers, 0 for success."""
        cdef uintptr_t at[ARRAYS]
        cdef Py_ssize_t i, count = len(addresses)
        cdef int status = 0
        cdef bytes step
        if count > ARRAYS:
            raise ValueError(f"expected at most {ARRAYS} arrays, got {count}")
        for i in range(count):
            at[i] = addresses[i]
        for step in self.steps:
            status = self.start(<const _Step *><const char *>step, <void *>stream, at)
            if status:
                break
        return status

    cdef int start(self, const _Step *step, void *stream, const uintptr_t *at) noexcept:
        cdef char block[BLOCK]
        cdef void *extra[5]
        cdef void *current = NULL
        cdef size_t size = step.size
        cdef int i, status = 0
        memcpy(block, step.block, size)
        for i in range(step.pointers):
            if step.array[i] >= 0:
                (<uintptr_t *>block)[i] = at[step.array[i]] + step.offset[i]
        # CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE and _END
        extra[0], extra[1], extra[2] = <void *>1, block, <void *>2
        extra[3], extra[4] = &size, NULL
        with nogil:  # the driver waits where its queue is full
            status = self.get_context(&current)
            if status == 0 and current != self.context:
                status = self.set_context(self.context)
            if status == 0:
                status = self.launch(step.kernel, step.grid[0], step.grid[1], step.grid[2],
                                     step.threads, 1, 1, step.shared_bytes, stream, NULL, extra)
        return status
