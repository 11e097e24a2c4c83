/* Runs a program of stages over steps of time, for one stream at a time.
 *
 * A program is read-only and shared. A run holds the rows that stages still have to read: for each edge those
 * from the first that any reader needs to the last that is known. What a stream carries from push to push is
 * exactly these rows and how far each stage has come, so it is what a state is made of.
 *
 *      edge    0 0 | a a a a a a a a a a a a a     rows [base, count), zeros before the first step
 *                            |<- window ->|         the next group of a stage that reads it
 *
 * A stage makes as many groups (a step, or n_phases of them) as its readers' rows allow, so that streaming is
 * nothing but a program that runs whenever rows come in: no step is computed twice, and none waits for a cut.
 */
#ifndef BALACOON_TK_EXECUTOR_H
#define BALACOON_TK_EXECUTOR_H

#include "bundles.h"
#include "kernels.h"
#include "pool.h"

#define BK_REGISTERS 8
#define BK_OTHERS 2
#define BK_SIBLINGS 3 /* most stages that are made together with one */

/* What stands in front of the first step and behind the last. */
typedef enum { BK_CONSTANT, BK_REFLECT, BK_EDGE } bk_padding;

typedef struct {
    int n_channels;
    int row;       /* elements from a step to the next */
    int item_size; /* 4, or 1 where it is held in bytes */
    int timeless;
    float scale;
    int zero_point, largest;
    int before, after;  /* steps that a reader's padding asks for */
    bk_padding padding; /* what these are: zeros, or steps of the edge itself */
    int n_readers, first_reader;
} bk_edge;

typedef enum { BK_WINDOW, BK_BY_GROUP, BK_BY_ROW, BK_BY_KERNEL, BK_BY_QUERY, BK_STEP_BEFORE, BK_OUTPUT } bk_reading;

typedef struct {
    int stage;
    bk_reading reading;
} bk_reader;

typedef enum { BK_LOAD, BK_LOOKUP, BK_STORE, BK_FILL, BK_POSITION, BK_APPLY } bk_action;

typedef struct {
    bk_action action;
    bk_function function;
    bk_operand operand;
    int out, a, b;
    int edge, channel, by_group, broadcast;
    float scalar;
    const float *vector;  /* [channel block][BK_WIDTH]; of a lookup [symbol][channels] */
    int n_symbols;        /* of a lookup's table */
    const int32_t *order; /* [phase][channel block][BK_WIDTH]: the edge's channel, -1 to leave what is there */
} bk_call;

/* The last calls of a chain, where one kernel does what they do; -1 for a call that there isn't. */
typedef struct {
    int first; /* call; n_calls where there is none */
    int tile;  /* register that they begin with */
    int n_added;
    int added[BK_ADDED]; /* calls that load */
    int scaling, activation;
    int out[2]; /* calls that store, in front of and behind the activation */
} bk_last_calls;

typedef enum {
    BK_CONVOLVE,
    BK_PAIRED,
    BK_FOURS,
    BK_SHARED_FOURS,
    BK_NARROW,
    BK_DEPTHWISE,
    BK_PREDICTED,
    BK_POINTWISE,
    BK_NORMALISE,
    BK_PAD,
    BK_ATTEND,
    BK_RECUR,
    BK_SPLINE
} bk_kind;

/* What a recurrence makes of a step's input and of the step before. */
typedef enum { BK_SUM, BK_ELMAN_TANH, BK_ELMAN_RELU, BK_GRU, BK_GRU_RESET_FIRST, BK_LSTM } bk_cell;

/* Up to BK_WIDTH output channels of one phase; of joined phases, up to so many of all their channels. */
typedef struct {
    int phase;
    int source_channel;
    int channel;       /* of the output; of joined phases counted through them */
    int channel_block; /* counts those of a phase */
    int width;
    const void *weights;
    const float *bias, *scale;
    const int32_t *offset;
} bk_block;

typedef struct {
    bk_kind kind;
    int source; /* edge, or -1 */
    int n_in;   /* channels of the source that a block reads */
    int n_out;  /* of the output, of one phase */
    int n_taps, dilation, stride, pad_left, pad_right, n_phases, crop, n_extra;
    int timeless;
    int joined;     /* whether a block takes the channels of several phases, as they follow each other in time */
    int transposed; /* so that its source's length says its own, with n_extra */
    int n_left, n_right; /* steps that are padded, or cropped; the window is all that they may be made of */
    bk_padding padding;
    float value;
    int centre;
    float epsilon;
    int kernels, kernel_channel; /* edge whose steps are kernels of a predicted convolution, and where they begin */
    int biases, bias_channel;    /* the same of its biases; -1 for an edge that there isn't */
    int kernel_steps;            /* of the output, that one kernel makes */
    int n_others, others[BK_OTHERS], other_channels[BK_OTHERS]; /* keys and values, or parameters of a spline */
    int n_heads; /* of an attention: a block's source are the queries of its head */
    int left_context, right_context; /* steps that a query sees; -1 for all that there are */
    const float *distance_biases;    /* [head][bias_period][left_context + 1 + right_context], or NULL */
    int bias_period;
    int n_distances;
    const float *near_keys;   /* [head][distance][channel], of n_distances */
    const float *near_values; /* [head][distance][BK_WIDTH for each of its blocks] */
    int n_bins;
    bk_cell cell;
    int own; /* edge of a recurrence that its chain stores as it is, where it finds the step before; else -1 */
    const float *recurrent_weights; /* [gate][block of units][unit][BK_WIDTH], or NULL */
    const float *recurrent_bias;    /* [gate][unit, padded], or NULL */
    int n_blocks, n_channel_blocks;
    const bk_block *blocks;
    int n_calls;
    const bk_call *calls;
    bk_last_calls ending;
    int n_most; /* groups that are made in one go, so that what lies between stages stays in a cache */
    int n_together; /* of steps in bundles: tiles whose inputs are combined before a block's weights are read */
    int flat; /* whether a tile is steps of one channel, BK_WIDTH of them in a row: of all phases, one behind the other */
    int n_siblings; /* stages right behind that read the same window and have as many blocks: made with it, block by block */
    int held_back; /* groups that it could make and leaves to the next push, since no output needs them yet */
    const float *padding_biases; /* [tap][channel block][BK_WIDTH], added where a tap reads padding; or NULL */
} bk_stage;

static inline int bk_in_bundles(const bk_stage *stage)
{
    return stage->kind == BK_PAIRED || stage->kind == BK_FOURS || stage->kind == BK_SHARED_FOURS;
}

static inline bk_method bk_method_of(const bk_stage *stage)
{
    return stage->kind == BK_SHARED_FOURS ? BK_IN_SHARED_FOURS : stage->kind == BK_FOURS ? BK_IN_FOURS : BK_IN_PAIRS;
}

typedef struct {
    const bk_kernels *kernels;
    int n_edges, n_stages, n_segments;
    const bk_edge *edges;
    const bk_stage *stages;
    const bk_reader *readers;
    const int *first_stages; /* of each segment, stages that follow each other piece by piece; and their number */
    int longest_row; /* floats that a norm's row takes, of a multiple of BK_WIDTH */
    size_t combined_size; /* floats that the combined inputs of a stage's tiles take at most */
    int needs_all; /* whether it is only run whole: edges that all have read lend their memory to others */
} bk_program;

typedef struct bk_run bk_run;

/* NULL where memory is short. The program must outlive the run. */
bk_run *bk_new_run(const bk_program *program, int n_threads);
void bk_free_run(bk_run *run);

/* Begin a stream. */
int bk_start(bk_run *run);
/* Positions are base and count of each edge, then the groups that each stage has made. */
int bk_n_positions(const bk_program *program);
/* Give up what no reader needs any more, and return how many bytes the state takes. */
int64_t bk_state_size(bk_run *run);
void bk_save(const bk_run *run, int64_t *positions, char *rows);
/* -1 if memory is short, -2 if the positions can't be those of a state of so many bytes. */
int bk_load(bk_run *run, const int64_t *positions, const char *rows, int64_t n_bytes);

/* Where the next `n_steps` steps of an input go; NULL where memory is short. Call bk_advance when they are there. */
float *bk_room(bk_run *run, int edge, int64_t n_steps);
void bk_advance(bk_run *run, int edge, int64_t n_steps);
/* Say that an input has no more steps. -1 where memory is short. */
int bk_end(bk_run *run, int edge);
/* Run all that can be run. -1 where memory is short, -2 for a symbol that a table hasn't, -3 for an utterance that
 * is too short: for a window, to be padded by its own steps, or for tensors that meet to be equally long. */
int bk_execute(bk_run *run, bk_pool *pool);
/* Steps of an output that haven't been taken, the first of them, and the number of elements between two. */
int64_t bk_n_waiting(const bk_run *run, int edge);
const float *bk_waiting(const bk_run *run, int edge);
void bk_take(bk_run *run, int edge);

#endif
