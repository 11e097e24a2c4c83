#include "run.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST ((int64_t)1 << 40) /* steps of a stream: products with strides and rows stay within 64 bits */

bk_run *bk_new_run(const bk_program *program, int n_threads)
{
    bk_run *run = calloc(1, sizeof(bk_run));
    if (run == NULL)
        return NULL;
    run->program = program;
    run->n_threads = n_threads;
    run->tracks = calloc((size_t)program->n_edges + 1, sizeof(track));
    run->done = calloc((size_t)program->n_stages + 1, sizeof(int64_t));
    run->finished = calloc((size_t)program->n_stages + 1, sizeof(int));
    run->spares = calloc((size_t)program->n_edges + 1, sizeof(spare_memory));
    run->scratch_size = (size_t)BK_ROWS * (size_t)(BK_REGISTERS * BK_WIDTH + program->longest_row)
                        + (size_t)BK_NOWHERE * BK_WIDTH + program->combined_size;
    run->memory = malloc(run->scratch_size * (size_t)n_threads * sizeof(float) + ALIGNMENT + GUARD);
    if (run->tracks == NULL || run->done == NULL || run->finished == NULL || run->spares == NULL
        || run->memory == NULL) {
        bk_free_run(run);
        return NULL;
    }
    run->scratch = (float *)aligned(run->memory);
    /* Rows of a tile that lie outside of the output are computed and not stored. */
    memset(run->scratch, 0, run->scratch_size * (size_t)n_threads * sizeof(float));
    return run;
}

void bk_free_run(bk_run *run)
{
    if (run == NULL)
        return;
    for (int k = 0; run->tracks != NULL && k < run->program->n_edges; k++) {
        const track *t = &run->tracks[k];
        if (t->own != t->memory)
            free(t->own);
        free(t->memory);
    }
    free(run->tracks);
    free(run->done);
    free(run->finished);
    free(run->memory);
    free(run->work);
    for (int k = 0; k < run->n_spares; k++)
        free(run->spares[k].memory);
    free(run->spares);
    free(run);
}

int bk_start(bk_run *run)
{
    const bk_program *program = run->program;
    memset(run->done, 0, (size_t)program->n_stages * sizeof(int64_t));
    memset(run->finished, 0, (size_t)program->n_stages * sizeof(int));
    run->begun = 0;
    for (int k = 0; k < program->n_edges; k++) {
        track *t = &run->tracks[k];
        t->base = t->count = -program->edges[k].before;
        t->ended = 0;
        if (program->needs_all && !program->edges[k].timeless) {
            /* Its rows in front are cleared with its memory, which another edge may have now. */
            t->count = 0;
            if (t->rows != NULL)
                bk_clear_rows(run, k, t->base, program->edges[k].before);
            continue;
        }
        bk_give_back_rows(run, k);
        if (bk_make_room(run, k, program->edges[k].before, 0) < 0)
            return -1;
        bk_clear_rows(run, k, t->base, program->edges[k].before);
        t->count = 0;
    }
    return 0;
}

int bk_n_positions(const bk_program *program) { return 2 * program->n_edges + program->n_stages; }

int64_t bk_state_size(bk_run *run)
{
    int64_t size = 0;
    for (int k = 0; k < run->program->n_edges; k++)
        if (!run->program->edges[k].timeless) {
            bk_forget_rows(run, k);
            size += (run->tracks[k].count - run->tracks[k].base) * (int64_t)row_size(&run->program->edges[k]);
        }
    return size;
}

void bk_save(const bk_run *run, int64_t *positions, char *rows)
{
    for (int k = 0; k < run->program->n_edges; k++) {
        const track *t = &run->tracks[k];
        *positions++ = t->base;
        *positions++ = t->count;
        if (!run->program->edges[k].timeless) {
            const size_t size = (size_t)(t->count - t->base) * row_size(&run->program->edges[k]);
            memcpy(rows, t->rows, size);
            rows += size;
        }
    }
    memcpy(positions, run->done, (size_t)run->program->n_stages * sizeof(int64_t));
}

static int sees_all(const bk_stage *stage) { return stage->kind == BK_ATTEND && stage->left_context < 0; }

static int64_t n_possible(const bk_run *run, const bk_stage *stage, int *all);

/* Whether what a stage has made agrees with the rows of the edges that it reads and writes, before any has ended. */
static int agrees(const bk_run *run, int index)
{
    const bk_stage *stage = &run->program->stages[index];
    const int64_t done = run->done[index];
    int64_t n_known = done * stage->n_phases - stage->crop;
    int all;
    if (n_known < 0)
        n_known = 0;
    if (done > n_possible(run, stage, &all))
        return 0;
    if (stage->source >= 0) {
        const int64_t first = bk_first_of_window(stage, done), base = run->tracks[stage->source].base;
        if (first < base && base > -run->program->edges[stage->source].before)
            return 0;
    }
    if (stage->kind == BK_PREDICTED && done / stage->kernel_steps < run->tracks[stage->kernels].base)
        return 0;
    if (stage->kind == BK_PREDICTED && stage->biases >= 0
        && done / stage->kernel_steps < run->tracks[stage->biases].base)
        return 0;
    if (stage->kind == BK_RECUR && done - 1 < run->tracks[stage->own].base)
        return 0;
    /* An attention has the steps that its next query sees, or all; each step of a spline has its parameters. */
    int64_t needed = done;
    if (stage->kind == BK_ATTEND)
        needed = sees_all(stage) || done < stage->left_context ? 0 : done - stage->left_context;
    for (int k = 0; k < stage->n_others; k++)
        if (needed < run->tracks[stage->others[k]].base)
            return 0;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        const track *t = &run->tracks[call->edge];
        if (call->action == BK_STORE && t->count != n_known)
            return 0;
        if ((call->action == BK_LOAD || call->action == BK_LOOKUP) && !run->program->edges[call->edge].timeless
            && (call->by_group ? done : n_known) < t->base)
            return 0;
    }
    return 1;
}

int bk_load(bk_run *run, const int64_t *positions, const char *rows, int64_t n_bytes)
{
    const bk_program *program = run->program;
    const int64_t *done = positions + 2 * program->n_edges;
    int64_t total = 0;
    for (int k = 0; k < program->n_edges; k++) {
        const int64_t base = positions[2 * k], count = positions[2 * k + 1];
        if (base < -program->edges[k].before || count < base || count < 0 || count > LONGEST
            || count - base > n_bytes)
            return -2;
        if (!program->edges[k].timeless)
            total += (count - base) * (int64_t)row_size(&program->edges[k]);
        /* Of what is padded with its own steps, those that are repeated must be there. */
        const bk_padding padding = program->edges[k].padding;
        if (padding != BK_CONSTANT && base > 0
            && base > count - 1 - (padding == BK_REFLECT ? program->edges[k].after : 0))
            return -2;
        if (padding != BK_CONSTANT && base > -program->edges[k].before && count <= bk_n_needed_to_pad(&program->edges[k]))
            return -2;
    }
    for (int k = 0; k < program->n_stages; k++)
        if (done[k] < 0 || done[k] > LONGEST)
            return -2;
    if (total != n_bytes)
        return -2;
    memcpy(run->done, done, (size_t)program->n_stages * sizeof(int64_t));
    memset(run->finished, 0, (size_t)program->n_stages * sizeof(int));
    run->begun = 0;
    for (int k = 0; k < program->n_edges; k++) {
        track *t = &run->tracks[k];
        const int64_t n_rows = program->edges[k].timeless ? 0 : positions[2 * k + 1] - positions[2 * k];
        t->ended = 0;
        t->base = t->count = positions[2 * k];
        bk_give_back_rows(run, k);
        if (bk_make_room(run, k, n_rows, 0) < 0)
            return -1;
        /* A state of no rows at all has none to point at. */
        if (n_rows > 0) {
            memcpy(t->rows, rows, (size_t)n_rows * row_size(&program->edges[k]));
            rows += (size_t)n_rows * row_size(&program->edges[k]);
        }
        t->count = program->edges[k].timeless ? 0 : positions[2 * k + 1];
        if (program->edges[k].timeless)
            t->base = 0;
    }
    /* A state that was altered must not make a stage read or write outside. */
    for (int k = 0; k < program->n_stages; k++)
        if (!program->stages[k].timeless && !agrees(run, k))
            return -2;
    return 0;
}

float *bk_room(bk_run *run, int edge, int64_t n_steps)
{
    if (run->program->edges[edge].timeless)
        run->tracks[edge].count = run->tracks[edge].base = 0;
    if (bk_make_room(run, edge, n_steps, 1) < 0)
        return NULL;
    return (float *)row_of(run, edge, run->tracks[edge].count);
}

void bk_advance(bk_run *run, int edge, int64_t n_steps) { bk_set_count(run, edge, run->tracks[edge].count + n_steps); }

int64_t bk_n_waiting(const bk_run *run, int edge)
{
    const track *t = &run->tracks[edge];
    return t->count - (t->base < 0 ? 0 : t->base);
}

const float *bk_waiting(const bk_run *run, int edge)
{
    const int64_t base = run->tracks[edge].base;
    return (const float *)row_of(run, edge, base < 0 ? 0 : base);
}

/* What is left of an output that a stage reads as well is kept until that has read it. */
void bk_take(bk_run *run, int edge)
{
    track *t = &run->tracks[edge];
    t->base = t->count;
}

/* ------------------------------------------------------------------------------------------ a stage */

/* Groups that a stage should have made by now, and whether these are all that it ever will. */
static int64_t n_possible(const bk_run *run, const bk_stage *stage, int *all)
{
    int64_t possible = INT64_MAX;
    int ended = 1;
    if (stage->source >= 0) {
        const track *t = &run->tracks[stage->source];
        const int64_t n_steps = t->count + stage->pad_left + (t->ended ? stage->pad_right : 0);
        const int64_t span = (int64_t)(stage->n_taps - 1) * stage->dilation;
        possible = n_steps <= span ? 0 : (n_steps - span - 1) / stage->stride + 1;
        if (stage->kind == BK_PAD) {
            /* The first step is made of others that have to be there. */
            const int64_t needed = stage->padding == BK_REFLECT ? stage->n_left : stage->n_left ? 0 : -1;
            const int64_t behind = t->ended || stage->n_right < 0 ? stage->n_right : 0;
            possible = t->count > needed || t->ended ? t->count + stage->n_left + behind : 0;
        }
        if (stage->transposed && !t->ended) {
            /* The end may come now, and cut steps off the last group: whole groups wait until it can't. */
            const int64_t n_sure = t->count * stage->n_phases + stage->n_extra + stage->crop;
            possible = smaller(possible, n_sure < 0 ? 0 : n_sure / stage->n_phases);
        }
        /* Padding alone gives nothing: a tensor of no steps stays one. */
        if (t->count == 0 || t->count <= bk_n_needed_to_pad(&run->program->edges[stage->source]))
            possible = 0;
        ended = t->ended;
    }
    for (int k = 0; stage->kind == BK_PREDICTED && k < 2; k++) {
        const int edge = k ? stage->biases : stage->kernels;
        if (edge < 0)
            continue;
        possible = smaller(possible, run->tracks[edge].count * stage->kernel_steps);
        ended = ended && run->tracks[edge].ended;
    }
    for (int k = 0; k < stage->n_others; k++) {
        const track *t = &run->tracks[stage->others[k]];
        if (!sees_all(stage) || t->count == 0)
            possible = smaller(possible, t->count - (t->ended ? 0 : stage->right_context));
        ended = ended && t->ended;
    }
    /* Each step depends on all. */
    if (sees_all(stage) && !ended)
        possible = 0;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if ((call->action != BK_LOAD && call->action != BK_LOOKUP) || run->program->edges[call->edge].timeless)
            continue;
        const track *t = &run->tracks[call->edge];
        int64_t n_groups = t->count;
        if (!call->by_group) {
            /* The groups that begin within; the last of all may be cropped, so that it may reach beyond. */
            const int64_t n_rows = t->count + stage->crop;
            n_groups = t->ended ? (n_rows + stage->n_phases - 1) / stage->n_phases : n_rows / stage->n_phases;
            if (t->ended && stage->n_phases > 1)
                n_groups = INT64_MAX;
        }
        possible = smaller(possible, n_groups);
        ended = ended && t->ended;
    }
    *all = ended;
    if (!ended)
        possible -= stage->held_back;
    return possible < 0 ? 0 : possible;
}

/* Whether a stage whose sources have ended is what a whole run would make of them, which fails for windows that
 * nothing fits into and for tensors of different lengths. An utterance of no steps at all is none. */
static int is_long_enough(const bk_run *run, const bk_stage *stage, int64_t n_groups)
{
    int64_t n_steps = n_groups * stage->n_phases - stage->crop;
    /* Nothing may be left by what only takes steps away; it can't take more than there are. */
    const int takes_away = stage->kind == BK_PAD && stage->n_left <= 0 && stage->n_right <= 0;
    if (stage->source >= 0 && n_groups == 0 && !takes_away)
        return 0;
    if (takes_away && run->tracks[stage->source].count + stage->n_left + stage->n_right < 0)
        return 0;
    if (stage->transposed) {
        n_steps = smaller(n_steps, run->tracks[stage->source].count * stage->n_phases + stage->n_extra);
        if (n_steps <= 0)
            return 0;
    }
    if (stage->kind == BK_PREDICTED
        && (run->tracks[stage->kernels].count * stage->kernel_steps != n_steps
            || (stage->biases >= 0 && run->tracks[stage->biases].count * stage->kernel_steps != n_steps)))
        return 0;
    /* A value for each key; a key in the window of each query; parameters for each step. */
    if (stage->kind == BK_ATTEND && run->tracks[stage->others[0]].count != run->tracks[stage->others[1]].count)
        return 0;
    if (stage->n_others > 0 && !sees_all(stage) && run->tracks[stage->others[0]].count != n_steps)
        return 0;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if ((call->action == BK_LOAD || call->action == BK_LOOKUP) && !run->program->edges[call->edge].timeless
            && run->tracks[call->edge].count != (call->by_group ? n_groups : n_steps))
            return 0;
    }
    return 1;
}

/* Steps from one place where bundles of a stage begin to the next. */
static int64_t bundle_period(const bk_stage *stage)
{
    return bk_in_bundles(stage) ? bk_n_outputs(bk_method_of(stage)) * stage->dilation : 1;
}

/* Whether nothing that a stage reads becomes longer before this push, or whole run, is done with. */
static int reads_settled(const bk_run *run, const bk_stage *stage)
{
    int settled = stage->source < 0 || run->tracks[stage->source].settled;
    if (stage->kind == BK_PREDICTED)
        settled = settled && run->tracks[stage->kernels].settled
                  && (stage->biases < 0 || run->tracks[stage->biases].settled);
    for (int k = 0; k < stage->n_others; k++)
        settled = settled && run->tracks[stage->others[k]].settled;
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_LOAD || stage->calls[k].action == BK_LOOKUP)
            settled = settled && run->tracks[stage->calls[k].edge].settled;
    return settled;
}

static void settle(bk_run *run, const bk_stage *stage, int settled)
{
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_STORE)
            run->tracks[stage->calls[k].edge].settled = settled;
}

static bk_task task_of(const bk_stage *stage)
{
    switch (stage->kind) {
    case BK_ATTEND: return bk_run_attention;
    case BK_RECUR: return bk_run_recurrence;
    case BK_SPLINE: return bk_run_spline;
    default: return bk_run_parts;
    }
}

/* Make room for what a stage works in: -1 where memory is short. */
static int make_work(bk_run *run, const bk_stage *stage)
{
    if (stage->kind != BK_ATTEND && stage->kind != BK_RECUR)
        return 0;
    const size_t n_floats = stage->kind == BK_ATTEND ? bk_attention_size(run, stage) : bk_recurrence_size(stage);
    const size_t size = n_floats * sizeof(float) + ALIGNMENT;
    if (size <= run->work_size)
        return 0;
    free(run->work);
    run->work = malloc(size);
    run->work_size = run->work == NULL ? 0 : size;
    return run->work == NULL ? -1 : 0;
}

/* What a stage makes next. */
typedef struct {
    piece piece;
    int64_t n_known; /* steps of its output when that is made */
    int finishes;    /* whether these are its last */
    int settles;     /* whether it makes no more before this push is done with */
} plan;

/* Find out what a stage makes next, and make room for it. */
static int make_plan(bk_run *run, int index, plan *next)
{
    const bk_stage *stage = &run->program->stages[index];
    int all;
    const int64_t possible = n_possible(run, stage, &all);
    const int64_t first = run->done[index], period = bundle_period(stage);
    int64_t n_groups = possible > first ? possible - first : 0;
    const int settled = reads_settled(run, stage);
    /* Not a large piece and a small one behind it. */
    const int is_large = n_groups >= stage->n_most + period;
    if (is_large)
        n_groups = n_groups >= 2 * stage->n_most ? stage->n_most : (n_groups + 1) / 2;
    /* A piece that ends where bundles do makes no outputs of one of which the next piece makes the others; it waits for
     * these as long as something else will run. */
    if (is_large || !settled) {
        const int64_t n_whole = (first + n_groups) / period * period - first;
        n_groups = n_whole > 0 ? n_whole : settled ? n_groups : 0;
    }
    const int settles = settled && first + n_groups >= possible;
    settle(run, stage, settles);
    if (all && stage->kind == BK_PAD && stage->padding == BK_REFLECT && possible > 0) {
        const int64_t longest = stage->n_left > stage->n_right ? stage->n_left : stage->n_right;
        if (run->tracks[stage->source].count <= longest)
            return -3;
    }
    if (all && stage->source >= 0 && possible > 0 && !bk_is_long_enough_to_pad(run, stage->source))
        return -3;
    const int64_t end = first + n_groups;
    const int finishes = all && end >= possible && !run->finished[index];
    if (finishes && run->begun && !is_long_enough(run, stage, possible))
        return -3;
    int64_t n_total = INT64_MAX;
    if (all && stage->transposed)
        n_total = run->tracks[stage->source].count * stage->n_phases + stage->n_extra;
    const int64_t n_known = smaller(end * stage->n_phases - stage->crop, n_total);
    *next = (plan){{run, stage, first, n_groups, n_total, 0, NULL}, n_known < 0 ? 0 : n_known, finishes, settles};
    for (int k = 0; (n_groups > 0 || finishes) && k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if (call->action != BK_STORE)
            continue;
        const track *t = &run->tracks[call->edge];
        const int64_t n_new = next->n_known > t->count ? next->n_known - t->count : 0;
        if ((n_new > 0 || t->rows == NULL) && bk_make_room(run, call->edge, n_new, 1) < 0)
            return -1;
    }
    return 0;
}

/* Say that what was planned is there. */
static void set_done(bk_run *run, int index, const plan *made)
{
    const bk_stage *stage = &run->program->stages[index];
    run->done[index] = made->piece.first + made->piece.n_groups;
    for (int k = 0; k < stage->n_calls; k++) {
        const bk_call *call = &stage->calls[k];
        if (call->action != BK_STORE)
            continue;
        if (made->n_known > run->tracks[call->edge].count)
            bk_set_count(run, call->edge, made->n_known);
        if (made->finishes)
            bk_end_edge(run, call->edge);
    }
    run->finished[index] |= made->finishes;
}

/* What edges that a stage has read no longer need of their memory is lent to others. */
static void lend_read(bk_run *run, const bk_stage *stage)
{
    void (*const lend)(bk_run *, int) = run->program->needs_all ? bk_release_rows : bk_keep_rows;
    lend(run, stage->source);
    for (int k = 0; k < stage->n_others; k++)
        lend(run, stage->others[k]);
    for (int k = 0; k < 2; k++)
        lend(run, k ? stage->biases : stage->kernels);
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_LOAD || stage->calls[k].action == BK_LOOKUP)
            lend(run, stage->calls[k].edge);
}

/* What came of stages that had their turn. */
typedef struct {
    int made;  /* whether one has made something */
    int waits; /* whether one has more to make */
} progress;

/* Run a stage, and with it those that are made block by block with it. */
static int run_stage(bk_run *run, int index, bk_pool *pool, progress *all)
{
    const bk_stage *stages = &run->program->stages[index];
    const int n = 1 + stages->n_siblings;
    plan plans[1 + BK_SIBLINGS] = {0};
    for (int k = 0; k < n; k++) {
        const int code = make_plan(run, index + k, &plans[k]);
        if (code < 0)
            return code;
        all->waits |= !plans[k].settles;
        /* What it stores will be there when the next one reads it. */
        if (k + 1 < n)
            set_done(run, index + k, &plans[k]);
    }
    for (int k = 0, next; k < n; k = next) {
        piece *first = &plans[k].piece;
        for (next = k + 1; next < n; next++) {
            const piece *other = &plans[next].piece;
            if (other->first != first->first || other->n_groups != first->n_groups)
                break;
            plans[next - 1].piece.sibling = other;
        }
        if (first->n_groups == 0)
            continue;
        if (make_work(run, first->stage) < 0)
            return -1;
        bk_share(pool, task_of(first->stage), first);
        all->made = 1;
    }
    set_done(run, index + n - 1, &plans[n - 1]);
    for (int k = 0; k < n; k++)
        if (plans[k].finishes || !run->program->needs_all)
            lend_read(run, &stages[k]);
    return 0;
}

/* Stages without time make their one step anew with every push, in front of all others. */
static int run_timeless(bk_run *run, int index)
{
    const bk_stage *stage = &run->program->stages[index];
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_STORE) {
            track *t = &run->tracks[stage->calls[k].edge];
            t->base = t->count = 0;
            if (bk_make_room(run, stage->calls[k].edge, 1, 0) < 0)
                return -1;
        }
    piece p = {run, stage, 0, 1, INT64_MAX, 0, NULL};
    bk_run_parts(&p, 0);
    for (int k = 0; k < stage->n_calls; k++)
        if (stage->calls[k].action == BK_STORE)
            run->tracks[stage->calls[k].edge].count = 1;
    return 0;
}

int bk_end(bk_run *run, int edge)
{
    if (bk_make_room(run, edge, 0, 1) < 0)
        return -1;
    bk_end_edge(run, edge);
    run->begun |= run->tracks[edge].count > 0;
    return 0;
}

int bk_execute(bk_run *run, bk_pool *pool)
{
    const bk_program *program = run->program;
    int code = 0;
    run->unknown_symbol = 0;
    for (int k = 0; k < program->n_edges; k++)
        run->tracks[k].settled = 1;
    for (int k = 0; k < program->n_stages; k++) {
        settle(run, &program->stages[k], program->stages[k].timeless);
        if (program->stages[k].timeless && run_timeless(run, k) < 0)
            return -1;
    }
    progress all;
    do {
        all = (progress){0, 0};
        for (int segment = 0; segment < program->n_segments; segment++) {
            progress turn;
            /* The first one brings a piece for all the others before it goes on. */
            do {
                turn = (progress){0, 0};
                for (int k = program->first_stages[segment]; k < program->first_stages[segment + 1]; k++) {
                    if (!program->stages[k].timeless && (code = run_stage(run, k, pool, &turn)) < 0)
                        return code;
                    k += program->stages[k].n_siblings;
                }
                all.made |= turn.made;
            } while (segment > 0 && turn.made && turn.waits);
            all.waits |= turn.waits;
        }
    } while (all.made && all.waits);
    return run->unknown_symbol ? -2 : 0;
}
