// The reverse of a step of the coordinatewise LSTM, one kernel a layer.

#include "lstm_layers.cuh"

// The reverse of one cell: `d` gets the cotangents of the pre-activations, `a_cell` goes from after to before.
__device__ inline void cell_adjoint(Gates g, REAL c, REAL s, REAL a_hidden, REAL& a_cell, Gates& d) {
    a_cell += g.o * (1 - s * s) * a_hidden;
    d.i = a_cell * g.n * g.i * (1 - g.i);
    d.f = a_cell * c * g.f * (1 - g.f);
    d.o = a_hidden * s * g.o * (1 - g.o);
    d.n = a_cell * g.i * (1 - g.n * g.n);
    a_cell *= g.f;
}

// The reverse of one layer in one coordinate, its gates computed again from its inputs (K rows), its
// hidden states before the step, and its cells before and after. `a_hidden` and `a_cell` go from after
// to before; `a_gates` (4 S, n) gets the cotangents of the pre-activations; `a_x` those of the inputs.
// w3 is null where no output depends on the hidden states.
template <int K, int S>
__device__ inline void layer_reverse(
    const Layer<S, K + S>& layer, const REAL* x, long long x_stride, const REAL* hidden, const REAL* cell, long long stride,
    const REAL* cell_after, long long after_stride, const REAL* w3, REAL a_output,
    REAL* a_hidden, REAL* a_cell, long long a_stride, REAL* a_gates, long long n, REAL (&a_x)[K + S]) {
    REAL inputs[1][K + S];
#pragma unroll
    for (int k = 0; k < K + S; ++k) {
        inputs[0][k] = k < K ? x[k * x_stride] : hidden[(k - K) * stride];
        a_x[k] = 0;
    }
#pragma unroll 1
    for (int j = 0; j < S; ++j) {
        const auto& w = layer.unit(j);
        Gates g[1], d;
        gates_of(w, inputs, g);
        REAL a_c = a_cell[j * a_stride];
        const REAL a_h = a_hidden[j * a_stride] + (w3 ? w3[j] * a_output : REAL(0));
        cell_adjoint(g[0], cell[j * stride], tanh_of(cell_after[j * after_stride]), a_h, a_c, d);
        a_cell[j * a_stride] = a_c;
        a_gates[j * n] = d.i;
        a_gates[(S + j) * n] = d.f;
        a_gates[(2 * S + j) * n] = d.o;
        a_gates[(3 * S + j) * n] = d.n;
        __syncwarp();  // so that the weights are read again, not kept in registers: they would not fit
#pragma unroll
        for (int k = 0; k < K + S; ++k) {
            const Gates wk = w[k];
            a_x[k] += wk.i * d.i + wk.f * d.f + wk.o * d.o + wk.n * d.n;
        }
    }
#pragma unroll
    for (int k = 0; k < S; ++k) a_hidden[k * a_stride] = a_x[K + k];
}

// From the states before and after a step; `a_state` goes from after to before. First the second layer:
extern "C" __global__ void __launch_bounds__(THREADS) lstm_reverse_second(
    const Addresses weights,
    const REAL* __restrict__ before, long long before_stride,
    const REAL* __restrict__ after, long long after_stride,
    const REAL* __restrict__ a_output, REAL* a_state, long long a_stride, REAL* a_gates2, long long n) {
    __shared__ Layer<S2, HIDDEN> layer;
    layer.load(weights.w2, weights.b2);
    __syncthreads();
    const long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= n) return;
    before += column;
    after += column;
    a_state += column;
    REAL a_x[S1 + S2];
    layer_reverse<S1, S2>(
        layer, after, after_stride, before + S1 * before_stride, before + (HIDDEN + S1) * before_stride,
        before_stride, after + (HIDDEN + S1) * after_stride, after_stride, weights.w3, a_output[column],
        a_state + S1 * a_stride, a_state + (HIDDEN + S1) * a_stride, a_stride, a_gates2 + column, n, a_x);
#pragma unroll
    for (int k = 0; k < S1; ++k) a_state[k * a_stride] += a_x[k];
}

// ... then the first; `a_features` (F, n) may be null.
extern "C" __global__ void __launch_bounds__(THREADS) lstm_reverse_first(
    const Addresses weights, const REAL* __restrict__ features, long long features_stride,
    const REAL* __restrict__ before, long long before_stride,
    const REAL* __restrict__ after, long long after_stride,
    REAL* a_state, long long a_stride, REAL* a_gates1,
    REAL* a_features, long long a_features_stride, long long n) {
    __shared__ Layer<S1, F + S1> layer;
    layer.load(weights.w1, weights.b1);
    __syncthreads();
    const long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= n) return;
    before += column;
    a_state += column;
    REAL a_x[F + S1];
    layer_reverse<F, S1>(
        layer, features + column, features_stride, before, before + HIDDEN * before_stride, before_stride,
        after + HIDDEN * after_stride + column, after_stride, nullptr, REAL(0),
        a_state, a_state + HIDDEN * a_stride, a_stride, a_gates1 + column, n, a_x);
    if (a_features) {
#pragma unroll
        for (int k = 0; k < F; ++k) a_features[k * a_features_stride + column] = a_x[k];
    }
}
