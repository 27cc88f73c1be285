// The reverse of a step of the learned optimizer in one kernel, what it saw being constant:
//
//     a_o = factor unit a_u   or   factor unit (1 - tanh(o)^2) a_u,   and from there `lstm_reverse.cuh`
//
// Features are computed again, as in `lstm_update.cu`.
//
// Set when it is compiled beside theirs: FEATURES, the features' classes; TANH (1: of the head); CHUNKS, the most of a
// launch.

#include "lstm_reverse.cuh"
#include "features.cuh"

using Features = Preprocessing<FEATURES>;
static_assert(Features::ROWS == F, "as many rows as weights are for");

// Coordinates that share an LSTM. A launch takes a few chunks, each from some block on.
struct Chunk {
    long long first_block, n_blocks, first_slot, first, n, state, stride;  // its part of the states begins at `state`
    Addresses weights;
};

struct Chunks {
    Chunk of[CHUNKS];
};

// The numbers are those of `lstm_update`; the moments are those after the step, and `a_state` goes from after to before.
extern "C" __global__ void __launch_bounds__(BOUNDS) lstm_update_reverse(
    const Chunks chunks, int n_chunks,
    const REAL* __restrict__ g, const REAL* __restrict__ h,
    const REAL* __restrict__ moments, long long moments_stride,
    const REAL* __restrict__ statistics, const REAL* __restrict__ units,
    const long long* __restrict__ starts, int n_tensors,
    const double* t_there, double t, const double* loss_there, double loss,
    const double* share_there, double share, const double* factor_there, double factor,
    double samples, double length,
    const REAL* __restrict__ before, const REAL* __restrict__ after, const REAL* __restrict__ a_u, REAL* a_state,
    REAL* slots, REAL* scratch, int is_new) {
    __shared__ REAL corrections[AVERAGES + 1];
    int c = 0;
    while (c + 1 < n_chunks && chunks.of[c + 1].first_block <= blockIdx.x) ++c;
    const Chunk chunk = chunks.of[c];
    bias_corrections(corrections, t_there ? *t_there : t);
    __syncthreads();

    Signals s = {};
    s.loss = REAL(loss_there ? *loss_there : loss);
    s.share = REAL(share_there ? *share_there : share);
    s.samples = REAL(samples);
    s.length = REAL(length);
    const REAL common = REAL(factor_there ? *factor_there : factor);

    const auto observe = [&](REAL (&x)[MOST_INPUTS + 1][STRIDE], long long first, int n) {
        for (int column = threadIdx.x; column < TILE; column += THREADS) {
            REAL rows[F] = {};
            if (column < n) {
                const long long at = chunk.first + first + column;
                s.g = g[at];
                s.h = h ? h[at] : REAL(0);
#pragma unroll
                for (int i = 0; i < AVERAGES; ++i) s.averages[i] = moments[i * moments_stride + at] / corrections[i];
                Features::rows(s, {statistics + segment_of(at, starts, n_tensors), n_tensors}, rows);
            }
#pragma unroll
            for (int f = 0; f < F; ++f) x[f][column] = rows[f];
        }
    };
    const auto a_output = [&](long long i, REAL output) {
        const long long at = chunk.first + i;
        const REAL a = common * (units ? units[segment_of(at, starts, n_tensors)] : REAL(1)) * a_u[at];
        const REAL headed = TANH ? tanh(output) : REAL(0);
        return a * (1 - headed * headed);
    };
    const long long number = blockIdx.x - chunk.first_block;
    step_reverse(
        chunk.weights, {before + chunk.state, chunk.stride, after + chunk.state, chunk.stride, a_state + chunk.state, chunk.stride},
        observe, a_output, false, [](int, long long, REAL) {},
        slots + (chunk.first_slot + number) * N_WEIGHTS, scratch, is_new, number, chunk.n_blocks, chunk.n);
}
