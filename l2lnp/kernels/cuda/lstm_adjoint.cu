// The reverse of a step of the coordinatewise LSTM whose features are given, and the sums over all blocks.

#include "lstm_reverse.cuh"

// From the states before and after a step; `a_state` goes from after to before; `a_features` (F, n) may be null. Each
// block adds to its own of the `slots`, or begins it where it `is_new`.
extern "C" __global__ void __launch_bounds__(BOUNDS) lstm_reverse(
    const Addresses weights, const REAL* __restrict__ features, long long features_stride,
    const REAL* __restrict__ before, long long before_stride,
    const REAL* __restrict__ after, long long after_stride,
    const REAL* __restrict__ a_output, REAL* a_state, long long a_stride,
    REAL* a_features, long long a_features_stride, REAL* slots, REAL* scratch, int is_new, long long n) {
    const States states = {before, before_stride, after, after_stride, a_state, a_stride};
    const auto observe = [&](REAL (&x)[MOST_INPUTS + 1][STRIDE], long long first, int n_here) {
        for (int i = threadIdx.x; i < F * TILE; i += THREADS) {
            const int f = i / TILE, c = i % TILE;
            x[f][c] = c < n_here ? features[f * features_stride + first + c] : REAL(0);
        }
    };
    step_reverse(
        weights, states, observe, [&](long long i, REAL) { return a_output[i]; }, a_features != nullptr,
        [&](int f, long long i, REAL a) { a_features[f * a_features_stride + i] = a; },
        slots + (long long)N_WEIGHTS * blockIdx.x, scratch, is_new, blockIdx.x, gridDim.x, n);
}

constexpr int SUMS_COLUMNS = 32, SUMS_ROWS = 8;  // of threads

// sums (n_groups, N_WEIGHTS) of the slots of each group, which are those from starts[group] to starts[group + 1]
extern "C" __global__ void lstm_sums(const REAL* __restrict__ slots, const long long* __restrict__ starts, REAL* sums) {
    constexpr int OF_GROUP = (N_WEIGHTS + SUMS_COLUMNS - 1) / SUMS_COLUMNS;  // blocks
    __shared__ REAL of_rows[SUMS_ROWS][SUMS_COLUMNS];
    const int group = blockIdx.x / OF_GROUP, column = threadIdx.x % SUMS_COLUMNS, row = threadIdx.x / SUMS_COLUMNS;
    const long long weight = (long long)(blockIdx.x % OF_GROUP) * SUMS_COLUMNS + column;
    REAL sum = 0;
    if (weight < N_WEIGHTS) {
#pragma unroll 4
        for (long long slot = starts[group] + row; slot < starts[group + 1]; slot += SUMS_ROWS) {
            sum += slots[slot * N_WEIGHTS + weight];
        }
    }
    of_rows[row][column] = sum;
    __syncthreads();
    if (row > 0 || weight >= N_WEIGHTS) return;
    for (int r = 1; r < SUMS_ROWS; ++r) sum += of_rows[r][column];
    sums[(long long)group * N_WEIGHTS + weight] = sum;
}
