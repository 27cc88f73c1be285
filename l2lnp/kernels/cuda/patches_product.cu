// W X, and its adjoint W^T V added up to pixels.
//
// Set when it is compiled beside those of patches.cuh: ADJOINT (1: the latter), and `Tile` in Python: ROWS of a thread,
// GROUPS of them in a block, COLUMNS, each a vector, of a thread.

#include "patches.cuh"

constexpr int THREADS = 128;  // that lie along the columns; GROUPS times as many are in a block
constexpr int DEPTH = 32;  // rows of patches whose weights are in shared memory together

// A row of patches: where its channel begins, and its tap.
struct Row {
    long long channel;
    int i, j;
};

// The columns of a thread that lie side by side: VECTOR samples at one position. For the adjoint positions are pixels,
// and a tap meets the position at which the window has it there.
struct Place {
    const REAL* image;
    int row, column, stride_r, stride_c, rows, columns, n_samples;

    __device__ Vector read(Row of) const {
        Vector x = {};
        int r, c;
        bool inside;
#if ADJOINT
        r = row - of.i;
        c = column - of.j;
        inside = r >= 0 && c >= 0;
        if (stride_r > 1) {
            inside = inside && r % stride_r == 0;
            r /= stride_r;
        }
        if (stride_c > 1) {
            inside = inside && c % stride_c == 0;
            c /= stride_c;
        }
        inside = inside && r < rows && c < columns;
#else
        r = row + of.i;
        c = column + of.j;
        inside = r >= 0 && r < rows && c >= 0 && c < columns;
#endif
        if (inside) {
            x = *reinterpret_cast<const Vector*>(image + of.channel + (r * columns + c) * (long long)n_samples);
#pragma unroll
            for (int s = 0; s < VECTOR; ++s) x.at[s] = seen(x.at[s]);
        }
        return x;
    }
};

// out (n_out, positions N) = w X + bias; X has n_channels x I J rows. Weights lie w_out apart for neighbouring rows of
// out, and w_channel apart for neighbouring channels; bias may be null. Blocks: tiles of columns x tiles of rows.
extern "C" __global__ void __launch_bounds__(THREADS * GROUPS) patches_product(
    const REAL* __restrict__ w, long long w_out, long long w_channel, const REAL* __restrict__ bias,
    const REAL* __restrict__ x, REAL* out, int n_out, int n_channels, const Geometry of, int tiles_of_rows) {
    __shared__ Vector weights[DEPTH][ROWS * GROUPS / VECTOR];
    __shared__ Row rows[DEPTH];
    const int lane = threadIdx.x % THREADS, group = threadIdx.x / THREADS;
    const int first = blockIdx.x % tiles_of_rows * ROWS * GROUPS, depth = n_channels * of.I * of.J;
#if ADJOINT
    const int h = of.H, width = of.W, rows_of_x = of.R, columns_of_x = of.C;
#else
    const int h = of.R, width = of.C, rows_of_x = of.H, columns_of_x = of.W;
#endif
    const long long n_columns = (long long)h * width * of.N;
    long long column[COLUMNS];
    Place place[COLUMNS];
    REAL sum[COLUMNS][ROWS][VECTOR] = {};
#pragma unroll
    for (int g = 0; g < COLUMNS; ++g) {
        column[g] = ((blockIdx.x / tiles_of_rows * (long long)COLUMNS + g) * THREADS + lane) * VECTOR;
        const int position = int(column[g] < n_columns ? column[g] / of.N : 0);
        const int r = position / width, c = position % width;
        const REAL* const samples = x + (column[g] < n_columns ? column[g] % of.N : 0);
#if ADJOINT
        place[g] = {samples, r + of.top, c + of.left, of.stride_r, of.stride_c, rows_of_x, columns_of_x, of.N};
#else
        place[g] = {samples, r * of.stride_r - of.top, c * of.stride_c - of.left, 1, 1, rows_of_x, columns_of_x, of.N};
#endif
    }
    for (int d0 = 0; d0 < depth; d0 += DEPTH) {
        const int n = depth - d0 < DEPTH ? depth - d0 : DEPTH;
        __syncthreads();
        for (int e = threadIdx.x; e < DEPTH * ROWS * GROUPS; e += THREADS * GROUPS) {
            const int d = e % DEPTH, o = e / DEPTH, channel = (d0 + d) / (of.I * of.J), tap = (d0 + d) % (of.I * of.J);
            const bool there = d < n && first + o < n_out;
            weights[d][o / VECTOR].at[o % VECTOR] = there ? w[(first + o) * w_out + channel * w_channel + tap] : REAL(0);
            if (o == 0) {
                rows[d] = {channel * (long long)rows_of_x * columns_of_x * of.N, tap / of.J, tap % of.J};
            }
        }
        __syncthreads();
#pragma unroll 4
        for (int d = 0; d < n; ++d) {
            const Row row = rows[d];
#pragma unroll
            for (int g = 0; g < COLUMNS; ++g) {
                const Vector v = place[g].read(row);
#pragma unroll
                for (int o = 0; o < ROWS / VECTOR; ++o) {
                    const Vector of_row = weights[d][group * ROWS / VECTOR + o];
#pragma unroll
                    for (int k = 0; k < VECTOR; ++k) {
#pragma unroll
                        for (int s = 0; s < VECTOR; ++s) sum[g][o * VECTOR + k][s] += of_row.at[k] * v.at[s];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int o = 0; o < ROWS; ++o) {
        const int row = first + group * ROWS + o;
        if (row >= n_out) break;
        const REAL b = bias ? bias[row] : REAL(0);
#pragma unroll
        for (int g = 0; g < COLUMNS; ++g) {
            if (column[g] >= n_columns) continue;
            Vector found;
#pragma unroll
            for (int s = 0; s < VECTOR; ++s) found.at[s] = sum[g][o][s] + b;
            *reinterpret_cast<Vector*>(out + row * n_columns + column[g]) = found;
        }
    }
}
