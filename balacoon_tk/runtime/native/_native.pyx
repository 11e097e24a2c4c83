"""Bind the executor: a program laid out for C once, and runs of it without the GIL."""

cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, int64_t, uint8_t

from weakref import WeakValueDictionary

import numpy as np

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime.machine import n_processors
from balacoon_tk.runtime.native._kernels import FUNCTIONS as _FUNCTIONS

from balacoon_tk.runtime.native.declarations cimport *


_KINDS = {
    "convolve": BK_CONVOLVE, "paired": BK_PAIRED, "fours": BK_FOURS, "shared_fours": BK_SHARED_FOURS,
    "narrow": BK_NARROW,
    "depthwise": BK_DEPTHWISE, "predicted": BK_PREDICTED, "pointwise": BK_POINTWISE,
    "normalise": BK_NORMALISE, "pad": BK_PAD, "attend": BK_ATTEND, "recur": BK_RECUR,
    "spline": BK_SPLINE,
}
_CELLS = {
    "sum": BK_SUM, "elman_tanh": BK_ELMAN_TANH, "elman_relu": BK_ELMAN_RELU, "gru": BK_GRU,
    "gru_reset_first": BK_GRU_RESET_FIRST, "lstm": BK_LSTM,
}
_PADDINGS = {"constant": BK_CONSTANT, "reflect": BK_REFLECT, "edge": BK_EDGE}
_ROW = 16  # floats: rows of more are a multiple, so that each begins where a vector may


def _reach(stage):
    # Both ends may be made of steps that must not be gone by then; what is only cropped needs none.
    if stage.pad_left <= 0 and stage.pad_right <= 0:
        return stage.pad_left
    return stage.pad_left + max(0, stage.pad_right) + 1


@cython.auto_pickle(False)
@cython.final
cdef class _Pools:
    """Pools of so many threads each, as many as there are processors for; a run takes the first that is free.

    So a voice's encoder and then its decoder have the same threads, which are still awake.
    """

    cdef object __weakref__
    cdef bk_pool **pools
    cdef int n_threads, n_pools, n_most

    def __cinit__(self, int n_threads):
        self.n_threads = n_threads
        self.n_most = max(1, n_processors() // n_threads)
        self.pools = <bk_pool **> PyMem_Calloc(self.n_most, sizeof(bk_pool *))
        if self.pools == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int k
        for k in range(self.n_pools):
            bk_free_pool(self.pools[k])
        PyMem_Free(self.pools)

    cdef bk_pool *take(self):
        """Take a pool for oneself, which `bk_leave_pool` ends; NULL if all are busy."""
        cdef int k
        cdef bk_pool *pool
        with cython.critical_section(self):
            for k in range(self.n_pools):
                if bk_take_pool(self.pools[k]):
                    return self.pools[k]
            if self.n_pools == self.n_most:
                return NULL
            pool = bk_new_pool(self.n_threads)
            if pool == NULL:
                return NULL
            self.pools[self.n_pools] = pool
            self.n_pools += 1
            return pool if bk_take_pool(pool) else NULL


cdef object _POOLS = WeakValueDictionary()  # by the number of threads


cdef _Pools _pools_of(int n_threads):
    found = _POOLS.get(n_threads)
    return _POOLS.setdefault(n_threads, _Pools(n_threads)) if found is None else found


# Clearing it as a part of a garbage cycle would take the lists away that say what is to be freed.
@cython.no_gc_clear
@cython.auto_pickle(False)
@cython.final
cdef class Executor:
    """A program, laid out for C; any number of threads may run it at once, each for a stream of its own.

    ``packed`` are the stages of ``program`` as `balacoon_tk.runtime.native.packing.pack` lays them out.
    """

    cdef bk_program c
    cdef _Pools pools  # None with one thread
    cdef list kept  # arrays that C points into
    cdef list runs  # that nobody uses now: each with the positions of the state that it holds, or None
    cdef list memory_  # what was allocated, as integers
    cdef int n_threads
    cdef readonly str kernels
    cdef readonly tuple inputs
    cdef readonly tuple outputs
    cdef int n_positions  # of a state

    def __cinit__(self):
        self.kept = []
        self.runs = []
        self.memory_ = []

    def __init__(self, program, packed, int n_threads, kernels=None):
        cdef bytes name
        cdef const char *wanted = NULL
        if kernels is not None:
            name = kernels.encode()
            wanted = name
        self.c.kernels = bk_find_kernels(wanted)
        if self.c.kernels == NULL:
            raise ModelError("this processor has no instructions that the native engine's kernels need")
        bk_choose_pairs(self.c.kernels)
        self.kernels = self.c.kernels.name.decode()
        self.n_threads = n_threads
        self.inputs = tuple((port.name, port.edge) for port in program.inputs)
        self.outputs = tuple((port.name, port.edge, port.shape) for port in program.outputs)
        self._lay_edges(program)
        self._lay_stages(program, packed)
        self.n_positions = bk_n_positions(&self.c)
        if n_threads > 1:
            self.pools = _pools_of(n_threads)

    def __dealloc__(self):
        cdef size_t address
        for address, _ in self.runs:
            bk_free_run(<bk_run *> address)
        for address in self.memory_:
            PyMem_Free(<void *> address)

    cdef void *_new(self, size_t n, size_t size) except NULL:
        cdef void *memory = PyMem_Calloc(n + 1, size)
        if memory == NULL:
            raise MemoryError
        self.memory_.append(<size_t> memory)
        return memory

    cdef size_t _address(self, array):
        self.kept.append(array)
        return array.ctypes.data

    cdef _lay_edges(self, program):
        cdef bk_edge *edges = <bk_edge *> self._new(len(program.edges), sizeof(bk_edge))
        cdef int k
        for k, edge in enumerate(program.edges):
            edges[k].n_channels = edge.n_channels
            edges[k].timeless = edge.timeless
            edges[k].scale = edge.scale
            edges[k].zero_point = edge.zero_point
            edges[k].largest = edge.largest
            edges[k].item_size = 1 if edge.scale else 4
            edges[k].row = edge.n_channels
            if edge.scale or edge.n_channels > _ROW:
                edges[k].row = -(-edge.n_channels // _ROW) * _ROW
        readers = [[] for _ in program.edges]
        for k, stage in enumerate(program.stages):
            if stage.source is not None:
                readers[stage.source].append((k, BK_WINDOW))
                reach = _reach(stage) if stage.kind == "pad" else stage.pad_left
                edges[stage.source].before = max(edges[stage.source].before, reach)
                if stage.kind != "pad":
                    edges[stage.source].after = max(edges[stage.source].after, stage.pad_right)
                    if stage.padding != "constant":
                        edges[stage.source].padding = _PADDINGS[stage.padding]
            for edge in (stage.kernels, stage.biases):
                if edge is not None:
                    readers[edge].append((k, BK_BY_KERNEL))
            if stage.own is not None:
                readers[stage.own].append((k, BK_STEP_BEFORE))
                edges[stage.own].before = max(edges[stage.own].before, 1)
            for edge, _ in stage.others:
                readers[edge].append((k, BK_BY_QUERY if stage.kind == "attend" else BK_BY_ROW))
            for call in stage.chain:
                if call.function in ("load", "lookup"):
                    readers[call.edge].append((k, BK_BY_GROUP if call.by_group else BK_BY_ROW))
        for port in program.outputs:
            if readers[port.edge]:
                rule = "it must have an edge of its own"
                raise ModelError(f"the output {port.name!r} is read by a stage: {rule}")
            readers[port.edge].append((0, BK_OUTPUT))
        cdef bk_reader *all_readers = <bk_reader *> self._new(sum(map(len, readers)), sizeof(bk_reader))
        cdef int n = 0
        for k in range(len(program.edges)):
            edges[k].first_reader = n
            edges[k].n_readers = len(readers[k])
            for stage_index, reading in readers[k]:
                all_readers[n].stage = stage_index
                all_readers[n].reading = reading
                n += 1
        self.c.n_edges = len(program.edges)
        self.c.edges = edges
        self.c.readers = all_readers

    cdef _lay_stages(self, program, packed):
        cdef bk_stage *stages = <bk_stage *> self._new(len(packed), sizeof(bk_stage))
        cdef int *first = <int *> self._new(len(packed) + 1, sizeof(int))
        cdef int k, n_segments = 0, longest = 0
        cdef const bk_edge *edges = self.c.edges
        cdef size_t combined = 0, size
        for k, (stage, item) in enumerate(zip(program.stages, packed, strict=True)):
            if not item.blocks:
                raise ModelError(f"the stage {stage.name!r} has no channels")
            stages[k].kind = _KINDS[item.kind]
            stages[k].source = -1 if stage.source is None else stage.source
            stages[k].n_in = item.n_in
            stages[k].n_out = stage.n_channels
            stages[k].n_taps = stage.n_taps
            stages[k].dilation = stage.dilation
            stages[k].stride = stage.stride
            stages[k].pad_left = stage.pad_left
            stages[k].pad_right = stage.pad_right
            stages[k].n_phases = stage.n_phases
            if item.kind == "pad":
                stages[k].padding = _PADDINGS[stage.padding]
                stages[k].n_left = stage.pad_left
                stages[k].n_right = stage.pad_right
                stages[k].pad_left = _reach(stage)
                stages[k].pad_right = 0
            stages[k].crop = stage.crop
            stages[k].n_extra = stage.n_extra
            stages[k].held_back = stage.held_back
            stages[k].joined = item.joined
            stages[k].transposed = stage.transposed
            stages[k].centre = stage.centre
            stages[k].epsilon = stage.epsilon
            stages[k].n_most = item.n_most
            stages[k].n_together = item.n_together
            stages[k].flat = item.flat
            stages[k].n_siblings = item.n_siblings
            stages[k].kernels = -1 if stage.kernels is None else stage.kernels
            stages[k].kernel_channel = stage.kernel_channel
            stages[k].biases = -1 if stage.biases is None else stage.biases
            stages[k].bias_channel = stage.bias_channel
            stages[k].kernel_steps = stage.kernel_steps
            stages[k].n_others = len(stage.others)
            for place, (edge, channel) in enumerate(stage.others):
                stages[k].others[place] = edge
                stages[k].other_channels[place] = channel
            stages[k].n_heads = stage.n_groups
            stages[k].left_context = -1 if stage.left_context is None else stage.left_context
            stages[k].right_context = stage.right_context
            if item.padding_biases is not None:
                stages[k].padding_biases = <const float *> self._address(item.padding_biases)
            if item.distance_biases is not None:
                stages[k].distance_biases = <const float *> self._address(item.distance_biases)
                stages[k].bias_period = item.distance_biases.shape[1]
            stages[k].n_bins = stage.n_in
            stages[k].value = stage.value
            stages[k].own = -1 if stage.own is None else stage.own
            if stage.cell is not None:
                stages[k].cell = _CELLS[stage.cell]
            if item.recurrent_weights is not None:
                stages[k].recurrent_weights = <const float *> self._address(item.recurrent_weights)
            if item.recurrent_bias is not None:
                stages[k].recurrent_bias = <const float *> self._address(item.recurrent_bias)
            if item.near_keys is not None:
                stages[k].n_distances = item.near_values.shape[1]
                stages[k].near_keys = <const float *> self._address(item.near_keys)
                stages[k].near_values = <const float *> self._address(item.near_values)
            reads = [call.edge for call in stage.chain if call.function in ("load", "lookup")]
            if stage.source is not None:
                reads.append(stage.source)
            stages[k].timeless = all(program.edges[edge].timeless for edge in reads)
            self._lay_blocks(&stages[k], item)
            self._lay_calls(&stages[k], stage, item)
            if bk_in_bundles(&stages[k]):
                if item.scales is None and self.c.kernels.pairs.convolve == NULL:
                    raise ModelError(f"the kernels {self.kernels} can't convolve {stage.name!r} in pairs")
                size = bk_combined_size(bk_method_of(&stages[k]), stage.n_taps, item.n_in)
                size *= item.n_together * edges[stage.source].item_size
                combined = max(combined, -(-size // sizeof(float)))
            if item.kind == "normalise":
                longest = max(longest, stage.n_channels)
            while n_segments <= item.segment:
                first[n_segments] = k
                n_segments += 1
        first[n_segments] = len(packed)
        self.c.n_stages = len(packed)
        self.c.n_segments = n_segments
        self.c.needs_all = program.needs_all
        self.c.stages = stages
        self.c.first_stages = first
        self.c.combined_size = combined
        self.c.longest_row = (longest + BK_WIDTH - 1) // BK_WIDTH * BK_WIDTH

    cdef _lay_blocks(self, bk_stage *stage, item):
        cdef bk_block *blocks = <bk_block *> self._new(len(item.blocks), sizeof(bk_block))
        cdef size_t weights = 0, bias = 0, scales = 0, offsets = 0
        cdef size_t size = 0, n_offsets = 0
        cdef int k, row
        if item.weights is not None:
            weights = self._address(item.weights)
            size = item.weights[0].nbytes
        if item.bias is not None:
            bias = self._address(item.bias)
        if item.scales is not None:
            scales = self._address(item.scales)
        if item.offsets is not None:
            offsets = self._address(item.offsets)
            n_offsets = item.offsets[0].size
        for k, block in enumerate(item.blocks):
            blocks[k].phase = block.phase
            blocks[k].source_channel = block.source_channel
            blocks[k].channel = block.channel
            blocks[k].channel_block = block.channel_block
            blocks[k].width = block.width
            if weights:
                blocks[k].weights = <const void *> (weights + k * size)
            row = BK_WIDTH * blocks[k].channel_block
            if bias:
                blocks[k].bias = (<const float *> bias) + row
            if scales:
                blocks[k].scale = (<const float *> scales) + row
            if offsets:
                blocks[k].offset = (<const int32_t *> offsets) + n_offsets * k
        stage.n_blocks = len(item.blocks)
        stage.n_channel_blocks = 1 + max(block.channel_block for block in item.blocks)
        stage.blocks = blocks

    cdef _lay_calls(self, bk_stage *c_stage, stage, item):
        cdef bk_call *calls = <bk_call *> self._new(len(stage.chain), sizeof(bk_call))
        cdef int k
        vectors = {name: self._address(array) for name, array in item.vectors.items()}
        tables = {name: self._address(array) for name, array in item.tables.items()}
        orders = {name: self._address(array) for name, array in item.orders.items()}
        for k, call in enumerate(stage.chain):
            calls[k].out = call.out
            calls[k].a = call.a
            calls[k].channel = call.channel
            calls[k].by_group = call.by_group
            calls[k].broadcast = call.broadcast
            if call.array in vectors:
                calls[k].operand = BK_ROW
                calls[k].vector = <const float *> <size_t> vectors[call.array]
            elif call.scalar is not None:
                calls[k].operand = BK_SCALAR
                calls[k].scalar = call.scalar
            else:
                calls[k].operand = BK_TILE
                calls[k].b = 0 if call.b is None else call.b
            if call.edge is not None:
                calls[k].edge = call.edge
            if call.order is not None:
                calls[k].order = <const int32_t *> <size_t> orders[call.order]
            if call.function == "load":
                calls[k].action = BK_LOAD
            elif call.function == "lookup":
                calls[k].action = BK_LOOKUP
                calls[k].vector = <const float *> <size_t> tables[call.array]
                calls[k].n_symbols = len(item.tables[call.array])
            elif call.function == "store":
                calls[k].action = BK_STORE
            elif call.function == "fill":
                calls[k].action = BK_FILL
            elif call.function == "position":
                calls[k].action = BK_POSITION
            else:
                calls[k].action = BK_APPLY
                calls[k].function = _FUNCTIONS[call.function]
        c_stage.n_calls = len(stage.chain)
        c_stage.calls = calls
        c_stage.ending.first = c_stage.n_calls
        ending = item.ending
        if ending is not None:
            c_stage.ending.first = ending.first
            c_stage.ending.tile = ending.register
            c_stage.ending.n_added = len(ending.added)
            for k, index in enumerate(ending.added):
                c_stage.ending.added[k] = index
            c_stage.ending.scaling = -1 if ending.scaling is None else ending.scaling
            c_stage.ending.activation = -1 if ending.activation is None else ending.activation
            for k, stored in enumerate((ending.stored, ending.stored_activated)):
                c_stage.ending.out[k] = -1 if stored is None else stored

    def step(self, state, feeds, bint last):
        """Run the next steps of a stream; return its outputs, time on their last axis, and its next state.

        ``state`` is None at the start, else what the step before has returned; ``feeds`` are arrays of
        (n_channels, n_steps) by name. Behind a last step there is no state: it is ().
        """
        held = None
        taken = self._borrow(None if state is None else state[0])
        cdef bk_run *run = <bk_run *> <size_t> taken[0]
        cdef bk_pool *pool = NULL
        cdef int failed
        try:
            # Threads that are asleep wake while the inputs are brought.
            if self.pools is not None:
                pool = self.pools.take()
            # A stream that goes on where this run has left it needs no copy of what is there.
            if state is None or taken[1] is not state[0]:
                self._restore(run, state)
            for name, edge in self.inputs:
                self._feed(run, edge, feeds[name], last)
            with nogil:
                failed = bk_execute(run, pool)
                if pool != NULL:
                    bk_leave_pool(pool)
                    pool = NULL
            if failed == -1:
                raise MemoryError
            if failed == -2:
                raise ModelError("a code or a position is below 0 or beyond its table")
            if failed < 0:
                raise ModelError("the utterance is too short for the windows of this decoder")
            outputs = {name: self._fetch(run, edge, shape) for name, edge, shape in self.outputs}
            if last:
                return outputs, ()
            positions, rows = self._state(run)
            held = positions
            return outputs, (positions, rows)
        finally:
            if pool != NULL:
                bk_leave_pool(pool)
            self._give_back(taken[0], held)

    def check(self, state):
        """Refuse arrays that can't be a state with a `ParameterError`."""
        address, _ = self._borrow(None)
        try:
            self._restore(<bk_run *> <size_t> address, state)
        finally:
            self._give_back(address, None)

    cdef tuple _borrow(self, positions):
        cdef bk_run *run
        taken = None
        # Without the GIL the list may change between two looks at it.
        with cython.critical_section(self):
            # One that holds the state of these positions, if there is such a one.
            for k, (_, held) in enumerate(self.runs):
                if held is not None and held is positions:
                    taken = self.runs.pop(k)
                    break
            else:
                if self.runs:
                    taken = self.runs.pop()
        if taken is None:
            run = bk_new_run(&self.c, self.n_threads)
            if run == NULL:
                raise MemoryError
            taken = (<size_t> run, None)
        return taken

    cdef _give_back(self, address, held):
        with cython.critical_section(self):
            self.runs.append((address, held))

    cdef _restore(self, bk_run *run, state):
        cdef const int64_t[::1] positions
        cdef const uint8_t[::1] rows
        cdef int code
        cdef const char *first = NULL
        if state is None:
            code = bk_start(run)
        else:
            positions, rows = state
            if positions.shape[0] != self.n_positions:
                n_given, n_wanted = positions.shape[0], self.n_positions
                raise ParameterError(f"a state has {n_given} positions: must be {n_wanted}")
            if rows.shape[0]:
                first = <const char *> &rows[0]
            code = bk_load(run, &positions[0], first, rows.shape[0])
        if code == -1:
            raise MemoryError
        if code < 0:
            raise ParameterError("the positions of a state don't fit its rows")

    cdef _feed(self, bk_run *run, int edge, array, bint last):
        cdef Py_ssize_t n_steps = 1 if self.c.edges[edge].timeless else array.shape[array.ndim - 1]
        cdef float *room = bk_room(run, edge, n_steps)
        if room == NULL:
            raise MemoryError
        cdef int n_channels = self.c.edges[edge].n_channels, row = self.c.edges[edge].row
        cdef float[:, ::1] rows
        if n_steps:
            rows = <float[:n_steps, :row]> room
            np.asarray(rows)[:, :n_channels] = array.reshape(n_channels, n_steps).T
        bk_advance(run, edge, n_steps)
        if last and not self.c.edges[edge].timeless and bk_end(run, edge) < 0:
            raise MemoryError

    cdef _fetch(self, bk_run *run, int edge, tuple shape):
        cdef int64_t n_steps = bk_n_waiting(run, edge), step
        cdef int n_channels = self.c.edges[edge].n_channels, row = self.c.edges[edge].row, channel
        cdef const float *rows
        cdef float *to
        cdef Py_buffer view
        out = np.empty(shape + (n_steps,), np.float32)
        if n_steps:
            rows = bk_waiting(run, edge)
            PyObject_GetBuffer(out, &view, PyBUF_C_CONTIGUOUS)
            to = <float *> view.buf
            for channel in range(n_channels):
                for step in range(n_steps):
                    to[channel * n_steps + step] = rows[step * row + channel]
            PyBuffer_Release(&view)
        bk_take(run, edge)
        return out

    cdef _state(self, bk_run *run):
        cdef int64_t size = bk_state_size(run)
        positions = np.empty(self.n_positions, np.int64)
        rows = np.empty(size, np.uint8)
        cdef int64_t[::1] p = positions
        cdef uint8_t[::1] r = rows
        cdef uint8_t nothing
        bk_save(run, &p[0], <char *> (&r[0] if size else &nothing))
        return positions, rows
