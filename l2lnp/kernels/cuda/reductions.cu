// Sums over rows and over tensors, in a fixed order, and the search for numbers that are not finite.
//
// Set when it is compiled: REAL, and the most arrays of a launch, ARRAYS.


constexpr int THREADS = 256;

// The sum of every thread's number, in thread 0; a tree over the threads of a block.
template <class T>
__device__ inline T sum_of_block(T mine, T* of_threads) {
    of_threads[threadIdx.x] = mine;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) of_threads[threadIdx.x] += of_threads[threadIdx.x + half];
        __syncthreads();
    }
    return of_threads[0];
}

// sums (n_parts, rows) of v (rows, n) over parts of the columns, each `of_part` wide but the last; blocks: rows x parts
extern "C" __global__ void __launch_bounds__(THREADS) row_sums(
    const REAL* __restrict__ v, long long v_row, long long v_column, REAL* sums, long long n, long long of_part, int n_parts) {
    __shared__ REAL of_threads[THREADS];
    const int row = blockIdx.x / n_parts, part = blockIdx.x % n_parts, n_rows = gridDim.x / n_parts;
    const long long end = (part + 1) * of_part < n ? (part + 1) * of_part : n;
    REAL sum = 0;
    for (long long i = part * of_part + threadIdx.x; i < end; i += THREADS) sum += v[row * v_row + i * v_column];
    sum = sum_of_block(sum, of_threads);
    if (threadIdx.x == 0) sums[(long long)part * n_rows + row] = sum;
}

// out (n,) = the sum of parts (n_parts, n): that of every eighth part first, then of these; blocks: n / 32
extern "C" __global__ void __launch_bounds__(THREADS) sum_of_parts(
    const REAL* __restrict__ parts, REAL* out, int n_parts, long long n) {
    __shared__ REAL of_warps[THREADS / 32][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long at = blockIdx.x * 32LL + lane;
    REAL sum = 0;
    if (at < n) {
#pragma unroll 8
        for (int p = warp; p < n_parts; p += THREADS / 32) sum += parts[p * n + at];
    }
    of_warps[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || at >= n) return;
    for (int w = 1; w < THREADS / 32; ++w) sum += of_warps[w][lane];
    out[at] = sum;
}

// parts (tensors, n_parts) of the sums of x over each tensor, which reaches from starts[t] to starts[t + 1];
// blocks: tensors n_parts
extern "C" __global__ void __launch_bounds__(THREADS) tensor_sums(
    const REAL* __restrict__ x, const long long* __restrict__ starts, double* parts, int n_parts) {
    __shared__ double of_threads[THREADS];
    const int tensor = blockIdx.x / n_parts, part = blockIdx.x % n_parts;
    double sum = 0;
    for (long long i = starts[tensor] + part * THREADS + threadIdx.x; i < starts[tensor + 1];
         i += (long long)n_parts * THREADS)
        sum += x[i];
    sum = sum_of_block(sum, of_threads);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

extern "C" __global__ void tensor_means(
    const double* __restrict__ parts, const long long* __restrict__ starts, REAL* means, int n_tensors, int n_parts) {
    const int tensor = blockIdx.x * blockDim.x + threadIdx.x;
    if (tensor >= n_tensors) return;
    double sum = 0;
    for (int p = 0; p < n_parts; ++p) sum += parts[tensor * n_parts + p];
    means[tensor] = REAL(sum / double(starts[tensor + 1] - starts[tensor]));
}

// Up to ARRAYS arrays, one after the other: where each lies, and where it ends among all of their numbers.

struct Arrays {
    const REAL* at[ARRAYS];
    long long ends[ARRAYS];

    __device__ REAL operator[](long long i) const {
        const REAL* found = at[0] + i;
#pragma unroll
        for (int a = 1; a < ARRAYS; ++a) {
            if (i >= ends[a - 1]) found = at[a] + (i - ends[a - 1]);
        }
        return *found;
    }
};

// Every thread that finds such a number writes the same 1.
extern "C" __global__ void mark_not_finite(const Arrays arrays, long long n, int* flag) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const REAL x = arrays[i];
    if (!(x - x == 0)) flag[0] = 1;
}
