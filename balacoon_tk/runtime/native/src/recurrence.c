/* Recurrences: what a step gives depends on what the step before gave.
 *
 * LSTM: Hochreiter and Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers, Schmidhuber and
 * Cummins, "Learning to forget", 2000; GRU: Cho et al., "Learning phrase representations using RNN encoder-decoder",
 * 2014, its reset gate in front of the product as there, or behind it as cuDNN has it; Elman's network; running sums.
 * What a step gets of its input, biases included, another stage has made for all steps: a gate behind the other, as ONNX
 * orders them. Of the step before each reads
 *
 *      sums    [gate][unit, padded]      weights [gate and block of units][unit][BK_WIDTH] times its output
 *
 * The row of a step is its output, and of an LSTM the cell behind it. Steps follow each other, so that one thread makes
 * all of them; the rows of the edge are where a stream finds what it goes on with.
 */
#include "run.h"

#include <string.h>

static int n_units_of(const bk_stage *stage) { return stage->cell == BK_LSTM ? stage->n_out / 2 : stage->n_out; }

static int n_gates_of(const bk_stage *stage)
{
    return stage->cell == BK_LSTM ? 4 : stage->cell == BK_GRU || stage->cell == BK_GRU_RESET_FIRST ? 3 : 1;
}

static int n_blocks_of(const bk_stage *stage) { return (n_units_of(stage) + BK_WIDTH - 1) / BK_WIDTH; }

size_t bk_recurrence_size(const bk_stage *stage)
{
    /* Sums and inputs of all gates, the cell, and an output that was reset. */
    return (size_t)(2 * n_gates_of(stage) + 2) * (size_t)n_blocks_of(stage) * BK_WIDTH;
}

/* Gates as rows of BK_WIDTH numbers, for functions that take tiles. */
typedef struct {
    const bk_kernels *kernels;
    int n_rows; /* of a gate */
    float *sums, *inputs, *cell, *reset;
} gates;

static float *sum_of(const gates *g, int gate) { return g->sums + (ptrdiff_t)gate * g->n_rows * BK_WIDTH; }

static float *input_of(const gates *g, int gate) { return g->inputs + (ptrdiff_t)gate * g->n_rows * BK_WIDTH; }

static void apply(const gates *g, bk_function function, float *out, const float *a, const float *b)
{
    g->kernels->apply(function, BK_TILE, g->n_rows, out, a, b);
}

static void multiply_output(const bk_stage *stage, const gates *g, const float *output, int first_gate, int end_gate)
{
    const int n_units = n_units_of(stage), n_blocks = n_blocks_of(stage) * n_gates_of(stage);
    for (int k = first_gate * g->n_rows; k < end_gate * g->n_rows; k++) {
        const bk_window window = {
            .input = output,
            .n_taps = 1,
            .n_channels = n_units,
            .weights = stage->recurrent_weights + (ptrdiff_t)k * n_units * BK_WIDTH,
            .bias = stage->recurrent_bias == NULL ? NULL : stage->recurrent_bias + k * BK_WIDTH,
            .next_weights = stage->recurrent_weights + (ptrdiff_t)(k + 1 < n_blocks ? k + 1 : 0) * n_units * BK_WIDTH,
        };
        g->kernels->convolve(&window, 1, g->sums + k * BK_WIDTH);
    }
}

/* Gates in the order input, output, forget, cell. */
static void lstm(const gates *g)
{
    for (int gate = 0; gate < 4; gate++) {
        apply(g, BK_ADD, sum_of(g, gate), sum_of(g, gate), input_of(g, gate));
        apply(g, gate < 3 ? BK_SIGMOID : BK_TANH, sum_of(g, gate), sum_of(g, gate), NULL);
    }
    apply(g, BK_MUL, g->cell, g->cell, sum_of(g, 2));
    apply(g, BK_MUL, sum_of(g, 0), sum_of(g, 0), sum_of(g, 3));
    apply(g, BK_ADD, g->cell, g->cell, sum_of(g, 0));
    apply(g, BK_TANH, sum_of(g, 0), g->cell, NULL);
    apply(g, BK_MUL, sum_of(g, 0), sum_of(g, 0), sum_of(g, 1));
}

/* Gates in the order update, reset, hidden. The cell holds the output before. */
static void gru(const bk_stage *stage, const gates *g)
{
    for (int gate = 0; gate < 2; gate++) {
        apply(g, BK_ADD, sum_of(g, gate), sum_of(g, gate), input_of(g, gate));
        apply(g, BK_SIGMOID, sum_of(g, gate), sum_of(g, gate), NULL);
    }
    if (stage->cell == BK_GRU_RESET_FIRST) {
        apply(g, BK_MUL, g->reset, g->cell, sum_of(g, 1));
        multiply_output(stage, g, g->reset, 2, 3);
    } else
        apply(g, BK_MUL, sum_of(g, 2), sum_of(g, 2), sum_of(g, 1));
    apply(g, BK_ADD, sum_of(g, 2), sum_of(g, 2), input_of(g, 2));
    apply(g, BK_TANH, sum_of(g, 2), sum_of(g, 2), NULL);
    /* (1 - update) * hidden + update * before */
    apply(g, BK_MUL, g->cell, g->cell, sum_of(g, 0));
    apply(g, BK_MUL, sum_of(g, 0), sum_of(g, 0), sum_of(g, 2));
    apply(g, BK_SUB, sum_of(g, 2), sum_of(g, 2), sum_of(g, 0));
    apply(g, BK_ADD, sum_of(g, 0), sum_of(g, 2), g->cell);
}

/* The row of a step, of that of the step before. */
static void make_step(const bk_stage *stage, const gates *g, const float *input, const float *before, float *row)
{
    const int n_units = n_units_of(stage);
    const size_t size = (size_t)n_units * sizeof(float);
    if (stage->cell == BK_SUM) {
        for (int c = 0; c < n_units; c++)
            row[c] = before[c] + input[c];
        return;
    }
    const int n_gates = n_gates_of(stage);
    multiply_output(stage, g, before, 0, stage->cell == BK_GRU_RESET_FIRST ? n_gates - 1 : n_gates);
    for (int gate = 0; gate < n_gates; gate++)
        memcpy(input_of(g, gate), input + gate * n_units, size);
    memcpy(g->cell, stage->cell == BK_LSTM ? before + n_units : before, size);
    if (stage->cell == BK_LSTM)
        lstm(g);
    else if (stage->cell == BK_GRU || stage->cell == BK_GRU_RESET_FIRST)
        gru(stage, g);
    else {
        apply(g, BK_ADD, g->sums, g->sums, g->inputs);
        apply(g, stage->cell == BK_ELMAN_TANH ? BK_TANH : BK_RELU, g->sums, g->sums, NULL);
    }
    memcpy(row, g->sums, size);
    if (stage->cell == BK_LSTM)
        memcpy(row + n_units, g->cell, size);
}

void bk_run_recurrence(void *context, int thread)
{
    piece *p = context;
    bk_run *run = p->run;
    const bk_stage *stage = p->stage;
    const bk_kernels *kernels = run->program->kernels;
    if (bk_next_part(&p->taken, 1, thread) < 0)
        return;
    float *scratch = run->scratch + (size_t)thread * run->scratch_size, *work = (float *)aligned(run->work);
    const int n_rows = n_blocks_of(stage), n = n_gates_of(stage) * n_rows * BK_WIDTH;
    const gates g = {kernels, n_rows, work, work + n, work + 2 * n, work + 2 * n + n_rows * BK_WIDTH};
    memset(work, 0, bk_recurrence_size(stage) * sizeof(float)); /* what units are filled up with */
    for (int64_t step = p->first; step < p->first + p->n_groups; step++)
        make_step(stage, &g, (const float *)row_of(run, stage->source, step) + stage->blocks[0].source_channel,
                  (const float *)row_of(run, stage->own, step - 1), (float *)row_of(run, stage->own, step));
    const ptrdiff_t row = run->program->edges[stage->own].row;
    for (int b = 0; b < stage->n_blocks; b++)
        for (int64_t k = 0; k < p->n_groups; k += BK_ROWS) {
            const bk_block *block = &stage->blocks[b];
            const bk_span span = {p->first + k, 0, (int)smaller(BK_ROWS, p->n_groups - k)};
            const float *from = (const float *)row_of(run, stage->own, span.step) + block->channel;
            kernels->load(from, row, block->width, span.n_rows, scratch);
            bk_run_chain(p, block, &span, 1, span.n_rows, scratch);
        }
}
