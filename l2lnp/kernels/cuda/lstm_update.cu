// A step of the learned optimizer in one kernel: features, both layers, head, and the new theta.
//
//     x         = features                                    `features.cuh`
//     o, state' = LSTM(state, x)                              `lstm_layers.cuh`
//     u         = scale o   or   scale tanh(o)                scale: one number for each tensor
//     theta'    = kept theta + u
//
// Set when it is compiled beside theirs: FEATURES, the features' classes; DECAYS of the averages; TANH
// (1: of the head).

#include "lstm_layers.cuh"
#include "features.cuh"

using Features = Preprocessing<FEATURES>;
static_assert(Features::ROWS == F, "as many rows as weights are for");

// The tensor of a coordinate; tensors reach from starts[t] to starts[t + 1].
__device__ inline int tensor_of(long long coordinate, const long long* starts, int n_tensors) {
    int low = 0, high = n_tensors - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (starts[middle] <= coordinate) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

// t, loss, share of the run and `kept` are numbers of the host, or lie on the device where `_there` is not null.
// The moments are those after the step. `result` gets theta after the step, or u where theta is null.
extern "C" __global__ void __launch_bounds__(THREADS) lstm_update(
    const REAL* __restrict__ weights1, const REAL* __restrict__ weights2, const REAL* __restrict__ w3,
    const REAL* __restrict__ g, const REAL* __restrict__ h,
    const REAL* __restrict__ moments, long long moments_stride,
    const REAL* __restrict__ statistics, const REAL* __restrict__ scales,
    const long long* __restrict__ starts, int n_tensors, long long first,
    const double* t_there, double t, const double* loss_there, double loss,
    const double* share_there, double share, const double* kept_there, double kept,
    double samples, double length,
    const REAL* __restrict__ before, long long before_stride, REAL* after, long long after_stride,
    const REAL* __restrict__ theta, REAL* result, long long n) {
    __shared__ REAL corrections[AVERAGES + 1];  // 1 - decay^t
    if (int(threadIdx.x) < AVERAGES) {
        const double decays[AVERAGES + 1] = {DECAYS};
        corrections[threadIdx.x] = REAL(1 - pow(decays[threadIdx.x], t_there ? *t_there : t));
    }
    __syncthreads();
    WEIGHTS(w1, weights1, S1 * (F + S1 + 1));
    WEIGHTS(w2, weights2, S2 * (S1 + S2 + 1));
    long long column[COLUMNS];
    if (!columns_of_thread(n, column)) return;

    Signals s;
    s.loss = REAL(loss_there ? *loss_there : loss);
    s.share = REAL(share_there ? *share_there : share);
    s.samples = REAL(samples);
    s.length = REAL(length);
    REAL x1[COLUMNS][F + S1], output[COLUMNS], scale[COLUMNS];
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) {
        const int tensor = tensor_of(first + column[v], starts, n_tensors);
        scale[v] = scales[tensor];
        s.g = g[column[v]];
        s.h = h ? h[column[v]] : REAL(0);
#pragma unroll
        for (int i = 0; i < AVERAGES; ++i) {
            s.averages[i] = moments[i * moments_stride + column[v]] / corrections[i];
        }
        Features::rows(s, {statistics + tensor, n_tensors}, x1[v]);
    }
    both_layers(w1, w2, w3, column, x1, before, before_stride, after, after_stride, output);
    for (int v = 0; v < COLUMNS; ++v) {
        const REAL u = scale[v] * (TANH ? tanh(output[v]) : output[v]);
        result[column[v]] = theta ? REAL(kept_there ? *kept_there : kept) * theta[column[v]] + u : u;
    }
}
