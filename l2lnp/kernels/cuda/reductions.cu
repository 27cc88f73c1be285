// Sums over rows and over tensors, in a fixed order, and the search for numbers that are not finite.
//
// Set when it is compiled: REAL.

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

// sums (rows,) of v (rows, n); blocks: rows
extern "C" __global__ void __launch_bounds__(THREADS) row_sums(
    const REAL* __restrict__ v, long long v_row, long long v_column, REAL* sums, long long n) {
    __shared__ REAL of_threads[THREADS];
    REAL sum = 0;
    for (long long i = threadIdx.x; i < n; i += THREADS) sum += v[blockIdx.x * v_row + i * v_column];
    sum = sum_of_block(sum, of_threads);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
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

// Every thread that finds such a number writes the same 1.
extern "C" __global__ void mark_not_finite(const REAL* __restrict__ x, long long n, int* flag) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && !(x[i] - x[i] == 0)) flag[0] = 1;
}
