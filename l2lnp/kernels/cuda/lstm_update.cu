// A step of the learned optimizer in one kernel: features, both layers, head, and the new theta.
//
//     x         = features                                    `observed.cuh`
//     o, state' = LSTM(state, x)                              `lstm_step.cuh`, `lstm_tensor.cuh`
//     u         = factor unit o   or   factor unit tanh(o)    unit: 1, or one number for each tensor
//     theta'    = kept theta + u
//
// Set when it is compiled beside theirs: TANH (1: of the head); TENSOR (1: by tensor cores).

#if TENSOR
#include "lstm_tensor.cuh"
#else
#include "lstm_step.cuh"
#endif
#include "observed.cuh"

struct Chunk {
    long long first_block;
    Place place;
};

struct Chunks {
    Chunk of[CHUNKS];
};

// t, loss, share of the run, factor and `kept` are numbers of the host, or lie on the device where `_there` is not
// null. The moments are those after the step. `result` gets theta after the step, or u where theta is null.
extern "C" __global__ void __launch_bounds__(BOUNDS) lstm_update(
    const Chunks chunks, int n_chunks,
    const REAL* __restrict__ g, const REAL* __restrict__ h,
    const REAL* __restrict__ moments, long long moments_stride,
    const REAL* __restrict__ statistics, const REAL* __restrict__ units,
    const long long* __restrict__ starts, int n_tensors,
    const double* t_there, double t, const double* loss_there, double loss,
    const double* share_there, double share, const double* factor_there, double factor,
    const double* kept_there, double kept, double samples, double length,
    const REAL* __restrict__ before, REAL* after, const REAL* __restrict__ theta, REAL* result) {
    __shared__ REAL corrections[AVERAGES + 1];
    __shared__ Weights shared;
    const Chunk mine = chunks.of[chunk_of_block(chunks, n_chunks)];
    const Place chunk = mine.place;
    const long long of_block = (blockIdx.x - mine.first_block) * TILE;
    shared.load(chunk.weights);
    bias_corrections(corrections, t_there ? *t_there : t);
    __syncthreads();

    Signals s = {};
    s.loss = number(loss_there, loss);
    s.share = number(share_there, share);
    s.samples = REAL(samples);
    s.length = REAL(length);
    const Observed seen = {s, g, h, moments, moments_stride, statistics, units, starts, n_tensors, corrections};
    const REAL common = number(factor_there, factor), of_theta = number(kept_there, kept);

    // The features x of the coordinate `at`, and the scale of its u.
    const auto observe = [&](long long at, REAL* x) { return common * seen.unit(seen.features(at, x)); };
    const auto move = [&](long long at, REAL scale, REAL output) {
        const REAL u = scale * (TANH ? tanh(output) : output);
        result[at] = theta ? u + of_theta * theta[at] : u;
    };

#if TENSOR
    __shared__ REAL rows[F][WARPS][OF_WARP + 8];  // features of the warps' coordinates, in different banks for all t
    constexpr int NEXT = WARPS * OF_WARP;
    const int warp = threadIdx.x / 32, g_ = threadIdx.x % 32 / 4, t_ = threadIdx.x % 4;
    for (int round = 0; round < ROUNDS; ++round) {
        const long long of_thread = of_block + (round * WARPS + warp) * OF_WARP + g_;
        const long long first = chunk.first + of_thread, of_state = chunk.state + of_thread;
        const long long n_left = chunk.n - of_thread;
        if (n_left + g_ <= 0) break;
        const Columns columns(n_left);
        if (round + 1 < ROUNDS && n_left > NEXT) {
            fetch_early(before + of_state + NEXT, chunk.stride, 2 * HIDDEN);
            fetch_early(moments + first + NEXT, moments_stride, AVERAGES);
        }
        const bool has_own = t_ < V && columns.has(t_);
        REAL x[F] = {}, dealt[V][OF_FEATURES] = {}, output[V];
        const REAL scale = has_own ? observe(first + 8 * t_, x) : REAL(0);
        if (t_ < V) {
            for (int f = 0; f < F; ++f) rows[f][warp][g_ + 8 * t_] = x[f];
        }
        __syncwarp();
#pragma unroll
        for (int i = 0; i < OF_FEATURES; ++i) {
            for (int v = 0; v < V && 4 * i + t_ < F; ++v) dealt[v][i] = rows[4 * i + t_][warp][g_ + 8 * v];
        }
        __syncwarp();
        both_layers(shared, columns, dealt, before + of_state, chunk.stride, after + of_state, chunk.stride, output);
        const REAL of_own = own(output);
        if (has_own) move(first + 8 * t_, scale, of_own);
    }
#else
    const int part = PARTS > 1 ? threadIdx.x / LANES : 0, lane = threadIdx.x - part * LANES;
    const long long first = chunk.first + of_block + lane, of_state = chunk.state + of_block + lane;
    const Columns columns = {chunk.n - of_block - lane};
    REAL x1[COLUMNS][F + S1] = {}, output[COLUMNS], scale[COLUMNS];
    columns.read_rows(before + of_state, chunk.stride, S1, F, x1);
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) scale[v] = columns.has(v) ? observe(first + v * LANES, x1[v]) : REAL(0);
    both_layers(shared, part, columns, x1, before + of_state, chunk.stride, after + of_state, chunk.stride, output);
    if (part > 0) return;
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) {
        if (columns.has(v)) move(first + v * LANES, scale[v], output[v]);
    }
#endif
}
