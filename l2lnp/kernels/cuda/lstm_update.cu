// A step of the learned optimizer in one kernel: features, both layers, head, and the new theta.
//
//     x         = features                                    `features.cuh`
//     o, state' = LSTM(state, x)                              `lstm_step.cuh`
//     u         = factor unit o   or   factor unit tanh(o)    unit: 1, or one number for each tensor
//     theta'    = kept theta + u
//
// Set when it is compiled beside theirs: FEATURES, the features' classes; TANH (1: of the head); CHUNKS, the most of a launch.

#include "lstm_step.cuh"
#include "features.cuh"

using Features = Preprocessing<FEATURES>;
static_assert(Features::ROWS == F, "as many rows as weights are for");

// Coordinates that share an LSTM. A launch takes a few chunks, each from some block on.
struct Chunk {
    long long first_block, first, n, state, stride;  // its part of the states begins at `state`
    Addresses weights;
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
    const int part = PARTS > 1 ? threadIdx.x / LANES : 0, lane = threadIdx.x - part * LANES;
    int c = 0;
    while (c + 1 < n_chunks && chunks.of[c + 1].first_block <= blockIdx.x) ++c;
    const Chunk chunk = chunks.of[c];
    const long long of_block = (blockIdx.x - chunk.first_block) * TILE;
    const long long first = chunk.first + of_block + lane, of_state = chunk.state + of_block + lane;

    const Columns columns = {chunk.n - of_block - lane};
    REAL x1[COLUMNS][F + S1], output[COLUMNS], scale[COLUMNS];
    columns.read_rows(before + of_state, chunk.stride, S1, F, x1);
    shared.load(chunk.weights);
    bias_corrections(corrections, t_there ? *t_there : t);
    __syncthreads();
    Signals s = {};
    s.loss = REAL(loss_there ? *loss_there : loss);
    s.share = REAL(share_there ? *share_there : share);
    s.samples = REAL(samples);
    s.length = REAL(length);
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) {
        const int tensor = segment_of(first + v * LANES, starts, n_tensors);
        scale[v] = REAL(factor_there ? *factor_there : factor) * (units ? units[tensor] : REAL(1));
        s.g = columns.read(g + first, v);
        s.h = h ? columns.read(h + first, v) : REAL(0);
#pragma unroll
        for (int i = 0; i < AVERAGES; ++i) {
            s.averages[i] = columns.read(moments + i * moments_stride + first, v) / corrections[i];
        }
        Features::rows(s, {statistics + tensor, n_tensors}, x1[v]);
    }
    both_layers(shared, part, columns, x1, before + of_state, chunk.stride, after + of_state, chunk.stride, output);
    if (part > 0) return;
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) {
        REAL moved = scale[v] * (TANH ? tanh(output[v]) : output[v]);
        if (theta) moved += REAL(kept_there ? *kept_there : kept) * columns.read(theta + first, v);
        columns.write(result + first, v, moved);
    }
}
