// V X^T: long sums over positions and samples, in parts.
//
// Set when it is compiled beside those of patches.cuh: INDEX, the integers that count an image's numbers.

#include "patches.cuh"

// The sums over all lanes: halves of 2 N numbers go to the lane across, until each lane has two of them, from the
// returned one on.
template <int N>
__device__ inline int sum_over_lanes(REAL* of, int lane) {
    constexpr int across = N / 2;
    const bool is_upper = lane & across;
#pragma unroll
    for (int e = 0; e < N; ++e) {
        const REAL kept = is_upper ? of[e + N] : of[e], given = is_upper ? of[e] : of[e + N];
        of[e] = kept + __shfl_xor_sync(0xffffffff, given, across);
    }
    int first = is_upper ? N : 0;
    if constexpr (N > 2) first += sum_over_lanes<N / 2>(of, lane);
    return first;
}

constexpr int SIDE = 8;  // a warp has 8 x 8 numbers of the product, of which every lane sums its own samples
constexpr int WARPS = 4, BLOCKS = sizeof(REAL) == 4 ? 3 : 1;  // of a block; that a multiprocessor has room for

// parts (n_parts, O, K I J) of the sum of v[o, m] X[kij, m] over m; the m of a part are those of `n_units` runs of 32
// VECTOR samples at a position. Blocks: tiles of the product, WARPS at a time, x parts.
extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS) patches_outer(
    const REAL* __restrict__ v, const REAL* __restrict__ x, REAL* parts, int O, int K, const Geometry of, int n_units) {
    const int lane = threadIdx.x % 32, taps = of.I * of.J, depth = K * taps;
    const int tiles_k = (depth + SIDE - 1) / SIDE, tiles = tiles_k * ((O + SIDE - 1) / SIDE);
    const int blocks_of_part = (tiles + WARPS - 1) / WARPS;
    const int tile = blockIdx.x % blocks_of_part * WARPS + threadIdx.x / 32;
    const long long part = blockIdx.x / blocks_of_part;
    if (tile >= tiles) return;
    const int o0 = tile / tiles_k * SIDE, k0 = tile % tiles_k * SIDE;
    const int runs = (of.N + 32 * VECTOR - 1) / (32 * VECTOR);  // of a position
    const long long n_all = (long long)of.R * of.C * runs;
    const INDEX of_output = (INDEX)of.R * of.C * of.N;
    const long long end = (part + 1) * n_units < n_all ? (part + 1) * n_units : n_all;
    INDEX offset[SIDE];  // of a row of patches, from where the window begins
    int tap[SIDE];
#pragma unroll
    for (int e = 0; e < SIDE; ++e) {
        const int k = k0 + e < depth ? k0 + e : 0, i = k % taps / of.J, j = k % of.J;
        offset[e] = ((INDEX)(k / taps) * of.H * of.W + i * of.W + j) * of.N;
        tap[e] = i << 16 | j;
    }
    REAL sum[SIDE * SIDE] = {};
    for (long long unit = part * n_units; unit < end; ++unit) {
        const int position = int(unit / runs), n = (int(unit % runs) * 32 + lane) * VECTOR;
        const int r = position / of.C, c = position % of.C;
        const int top = r * of.stride_r - of.top, left = c * of.stride_c - of.left;
        const bool has = n < of.N;
        const REAL* const of_v = v + (INDEX)o0 * of_output + (INDEX)position * of.N + n;
        const REAL* const of_x = x + ((INDEX)top * of.W + left) * of.N + n;
        Vector a[SIDE] = {}, b[SIDE] = {};
#pragma unroll
        for (int e = 0; e < SIDE; ++e) {
            const int row = top + (tap[e] >> 16), column = left + (tap[e] & 0xffff);
            if (has && o0 + e < O) a[e] = *reinterpret_cast<const Vector*>(of_v + e * of_output);
            if (has && row >= 0 && row < of.H && column >= 0 && column < of.W) {
                b[e] = *reinterpret_cast<const Vector*>(of_x + offset[e]);
            }
        }
#pragma unroll
        for (int s = 0; s < VECTOR; ++s) {
#pragma unroll
            for (int e = 0; e < SIDE; ++e) {
                const REAL squared = seen(b[e].at[s]);
#pragma unroll
                for (int o = 0; o < SIDE; ++o) sum[o * SIDE + e] += a[o].at[s] * squared;
            }
        }
    }
    const int first = sum_over_lanes<SIDE * SIDE / 2>(sum, lane);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
        const int o = o0 + (first + e) / SIDE, k = k0 + (first + e) % SIDE;
        if (o < O && k < depth) parts[(part * O + o) * depth + k] = sum[e];
    }
}
