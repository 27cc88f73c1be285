// One step of the coordinatewise LSTM whose features are given.
//
// Set when it is compiled: TENSOR (1: by tensor cores).

#if TENSOR
#include "lstm_tensor.cuh"
#else
#include "lstm_step.cuh"
#endif

extern "C" __global__ void __launch_bounds__(BOUNDS) lstm_step(
    const Addresses weights, const REAL* __restrict__ features, long long features_stride,
    const REAL* __restrict__ before, long long before_stride,
    REAL* after, long long after_stride, REAL* output, long long n) {
    __shared__ Weights shared;
    shared.load(weights);
    __syncthreads();
    const long long of_block = (long long)blockIdx.x * TILE;
#if TENSOR
    constexpr int NEXT = WARPS * OF_WARP;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int round = 0; round < ROUNDS; ++round) {
        const long long first = of_block + (round * WARPS + threadIdx.x / 32) * OF_WARP + g;
        if (first - g >= n) break;
        const Columns columns(n - first);
        if (round + 1 < ROUNDS && n - first > NEXT) fetch_early(before + first + NEXT, before_stride, 2 * HIDDEN);
        REAL x[V][OF_FEATURES] = {}, sum[V];
#pragma unroll
        for (int s = 0; s < OF_FEATURES; ++s) {
            if (4 * s + t >= F) continue;
            for (int v = 0; v < V; ++v) x[v][s] = columns.read(features + (4 * s + t) * features_stride + first, v);
        }
        both_layers(shared, columns, x, before + first, before_stride, after + first, after_stride, sum);
        if (t < V && columns.has(t)) output[first + 8 * t] = own(sum);
    }
#else
    const int part = PARTS > 1 ? threadIdx.x / LANES : 0;
    const long long first = of_block + threadIdx.x - part * LANES;
    const Columns columns = {n - first};
    REAL x1[COLUMNS][F + S1], sum[COLUMNS];
    columns.read_rows(before + first, before_stride, S1, F, x1);
    columns.read_rows(features + first, features_stride, F, 0, x1);
    both_layers(shared, part, columns, x1, before + first, before_stride, after + first, after_stride, sum);
    for (int v = 0; v < COLUMNS && part == 0; ++v) columns.write(output + first, v, sum[v]);
#endif
}
