"""What the engine's C declares, in the order of its headers."""

from libc.stdint cimport int32_t, int64_t, uint8_t


cdef extern from "kernels.h" nogil:
    enum:
        BK_WIDTH
        BK_ROWS
        BK_BUNDLE
        BK_BUNDLES
        BK_QUAD
        BK_ADDED
    ctypedef enum bk_function:
        BK_COPY
        BK_ADD
        BK_SUB
        BK_MUL
        BK_DIV
        BK_MAX
        BK_MIN
        BK_POW
        BK_NEG
        BK_ABS
        BK_RELU
        BK_LEAKY_RELU
        BK_ELU
        BK_TANH
        BK_SIGMOID
        BK_EXP
        BK_LOG
        BK_SQRT
        BK_RECIPROCAL
        BK_SIN
        BK_COS
        BK_ERF
        BK_SOFTPLUS
        BK_CEIL
    ctypedef enum bk_operand:
        BK_TILE
        BK_ROW
        BK_SCALAR
    ctypedef struct bk_window:
        const void* input
        ptrdiff_t row_step
        ptrdiff_t tap_step
        int n_taps
        int n_channels
        const void* weights
        const float* bias
        const float* scale
        const int32_t* offset
        int half
        const void* next_weights
    ctypedef struct bk_bundle:
        pass
    ctypedef struct bk_bundled:
        const void* combined
        int n_taps
        int n_channels
        const void* weights
        const float* bias
        const float* scale
        const int32_t* offset
        int n_bundles
        const int (*rows)[BK_BUNDLE]
        const void* next_weights
    ctypedef struct bk_bundling:
        void (*combine)(const bk_bundle*, int, ptrdiff_t, int, int, void*) noexcept nogil
        void (*convolve)(const bk_bundled*, float*) noexcept nogil
    ctypedef struct bk_out "bk_output":
        void* rows
        ptrdiff_t step
        float scale
        int zero_point
        int largest
    ctypedef struct bk_ending:
        int n_added
        const float* added[BK_ADDED]
        ptrdiff_t added_step[BK_ADDED]
        bk_function scaling
        float factor
        int activated
        float slope
        bk_out out[2]
        int half
    ctypedef struct bk_kernels:
        const char* name
        int dot_product
        void (*convolve)(const bk_window*, int, float*) noexcept nogil
        bk_bundling pairs
        bk_bundling fours
        bk_bundling shared_fours
        bk_bundling pairs_int8
        void (*convolve_int8)(const bk_window*, int, float*) noexcept nogil
        void (*convolve_narrow)(const bk_window*, int, int, float*, ptrdiff_t) noexcept nogil
        void (*convolve_depthwise)(const bk_window*, int, int, float*) noexcept nogil
        void (*convolve_predicted)(const bk_window*, ptrdiff_t, int, float*) noexcept nogil
        void (*apply)(bk_function, bk_operand, int, float*, const float*, const float*) noexcept nogil
        void (*load)(const float*, ptrdiff_t, int, int, float*) noexcept nogil
        void (*store)(const float*, int, int, float*, ptrdiff_t) noexcept nogil
        void (*load_int8)(const uint8_t*, ptrdiff_t, int, int, float*, float, int) noexcept nogil
        void (*store_int8)(const float*, int, int, uint8_t*, ptrdiff_t, float, int, int) noexcept nogil
        void (*finish)(const bk_ending*, ptrdiff_t, int, const float*) noexcept nogil
        void (*normalise)(const float*, ptrdiff_t, int, int, float*, ptrdiff_t, float, int) noexcept nogil
        void (*softmax)(float*, ptrdiff_t, int, int) noexcept nogil
        void (*softmax_of_columns)(float*, int64_t) noexcept nogil
        double (*peak)(int) noexcept nogil
    const bk_kernels* bk_find_kernels(const char* name)
    const char* bk_kernel_name(int index)
    int bk_pairs_in_halves
    void bk_choose_pairs(const bk_kernels* kernels)

cdef extern from "bundles.h" nogil:
    enum:
        BK_NOWHERE
    ctypedef enum bk_method:
        BK_IN_PAIRS
        BK_IN_FOURS
        BK_IN_SHARED_FOURS
    int bk_n_outputs(bk_method method)
    ctypedef struct bk_span:
        int64_t step
        int n_rows
    ctypedef struct bk_bundle_tile:
        int n_rows
        int n_spans
        int64_t steps[BK_BUNDLES]
        int rows[BK_BUNDLES][BK_BUNDLE]
        bk_span spans[BK_BUNDLES * BK_BUNDLE]
    ctypedef struct bk_bundle_range:
        int64_t n_bundles
    bk_bundle_range bk_find_bundles(int64_t first, int64_t end, int64_t dilation, int n_outputs)
    void bk_lay_bundles(const bk_bundle_range* range, int64_t index, int n, bk_bundle_tile* tile)
    bk_bundle bk_bundle_input(
        const bk_bundle_tile* tile, int b, bk_method method, const void* row, int n_taps
    )
    int bk_reads_older(bk_method method, int n_taps)
    int bk_n_products(bk_method method, int n_taps)
    size_t bk_combined_size(bk_method method, int n_taps, int n_channels)

cdef extern from "pool.h" nogil:
    ctypedef struct bk_pool:
        pass
    bk_pool* bk_new_pool(int n_threads)
    void bk_free_pool(bk_pool* pool)
    int bk_take_pool(bk_pool* pool)
    void bk_leave_pool(bk_pool* pool)

cdef extern from "executor.h" nogil:
    ctypedef enum bk_padding:
        BK_CONSTANT
        BK_REFLECT
        BK_EDGE
    ctypedef struct bk_edge:
        int n_channels
        int row
        int item_size
        int timeless
        float scale
        int zero_point
        int largest
        int before
        int after
        bk_padding padding
        int n_readers
        int first_reader
    ctypedef enum bk_reading:
        BK_WINDOW
        BK_BY_GROUP
        BK_BY_ROW
        BK_BY_KERNEL
        BK_BY_QUERY
        BK_STEP_BEFORE
        BK_OUTPUT
    ctypedef struct bk_reader:
        int stage
        bk_reading reading
    ctypedef enum bk_action:
        BK_LOAD
        BK_LOOKUP
        BK_STORE
        BK_FILL
        BK_POSITION
        BK_APPLY
    ctypedef struct bk_call:
        bk_action action
        bk_function function
        bk_operand operand
        int out
        int a
        int b
        int edge
        int channel
        int by_group
        int broadcast
        float scalar
        const float* vector
        const int32_t* order
        int n_symbols
    ctypedef enum bk_kind:
        BK_CONVOLVE
        BK_PAIRED
        BK_FOURS
        BK_SHARED_FOURS
        BK_NARROW
        BK_DEPTHWISE
        BK_PREDICTED
        BK_POINTWISE
        BK_NORMALISE
        BK_PAD
        BK_ATTEND
        BK_RECUR
        BK_SPLINE
    ctypedef enum bk_cell:
        BK_SUM
        BK_ELMAN_TANH
        BK_ELMAN_RELU
        BK_GRU
        BK_GRU_RESET_FIRST
        BK_LSTM
    ctypedef struct bk_last_calls:
        int first
        int tile
        int n_added
        int added[2]
        int scaling
        int activation
        int out[2]
    ctypedef struct bk_block:
        int phase
        int source_channel
        int channel
        int channel_block
        int width
        const void* weights
        const float* bias
        const float* scale
        const int32_t* offset
    ctypedef struct bk_stage:
        bk_kind kind
        int source
        int n_in
        int n_out
        int n_taps
        int dilation
        int stride
        int pad_left
        int pad_right
        int n_phases
        int crop
        int n_extra
        int timeless
        int joined
        int transposed
        int n_left
        int n_right
        bk_padding padding
        float value
        int centre
        float epsilon
        int kernels
        int kernel_channel
        int biases
        int bias_channel
        int kernel_steps
        int n_others
        int others[2]
        int other_channels[2]
        int n_heads
        int left_context
        int right_context
        const float* distance_biases
        int bias_period
        int n_distances
        const float* near_keys
        const float* near_values
        int n_bins
        bk_cell cell
        int own
        const float* recurrent_weights
        const float* recurrent_bias
        int n_blocks
        int n_channel_blocks
        const bk_block* blocks
        int n_calls
        const bk_call* calls
        bk_last_calls ending
        int n_most
        int n_together
        int flat
        int n_siblings
        int held_back
        const float* padding_biases
    int bk_in_bundles(const bk_stage* stage)
    bk_method bk_method_of(const bk_stage* stage)
    ctypedef struct bk_program:
        const bk_kernels* kernels
        int n_edges
        int n_stages
        int n_segments
        const bk_edge* edges
        const bk_stage* stages
        const bk_reader* readers
        int needs_all
        const int* first_stages
        int longest_row
        size_t combined_size
    ctypedef struct bk_run:
        pass
    bk_run* bk_new_run(const bk_program* program, int n_threads)
    void bk_free_run(bk_run* run)
    int bk_start(bk_run* run)
    int bk_n_positions(const bk_program* program)
    int64_t bk_state_size(bk_run* run)
    void bk_save(const bk_run* run, int64_t* positions, char* rows)
    int bk_load(bk_run* run, const int64_t* positions, const char* rows, int64_t n_bytes)
    float* bk_room(bk_run* run, int edge, int64_t n_steps)
    void bk_advance(bk_run* run, int edge, int64_t n_steps)
    int bk_end(bk_run* run, int edge)
    int bk_execute(bk_run* run, bk_pool* pool)
    int64_t bk_n_waiting(const bk_run* run, int edge)
    const float* bk_waiting(const bk_run* run, int edge)
    void bk_take(bk_run* run, int edge)
