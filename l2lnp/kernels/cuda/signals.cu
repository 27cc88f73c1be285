// What a step sees: moving averages of g, g^2 and |h|, and what is made of their means over whole tensors.
//
//     after = decay before + (1 - decay) observed         observed: g, g^2 or |h|
//
// Set when it is compiled, beside what `features.cuh` asks for: FEATURES, for each average what is OBSERVED, and
// UNITS (1: the sizes of the weights are among the means, as that of theta^2).
//
// Tensors are cut into pieces, a block each, which reach from pieces[p] to pieces[p + 1]; the pieces of tensor t
// from first_piece[t] to first_piece[t + 1]. A mean is the sum of its pieces' sums, (means, n_pieces), in float64
// and in an order that never changes.

#include "features.cuh"

using Features = Preprocessing<FEATURES>;
constexpr int THREADS = 256;
constexpr int MEANS = Features::MEANS + UNITS, LATER_MEANS = Features::LATER_MEANS;

enum Observed { G, G_SQUARED, H_SIZE };

// The sum over a block's threads of each of N numbers, for all of them: a tree.
template <int N>
__device__ inline void sum_over_block(double* numbers) {
    if constexpr (N > 0) {
        __shared__ double of_threads[N][THREADS];
        for (int i = 0; i < N; ++i) of_threads[i][threadIdx.x] = numbers[i];
        __syncthreads();
        for (int half = THREADS / 2; half > 0; half /= 2) {
            if (threadIdx.x < half) {
                for (int i = 0; i < N; ++i) of_threads[i][threadIdx.x] += of_threads[i][threadIdx.x + half];
            }
            __syncthreads();
        }
        for (int i = 0; i < N; ++i) numbers[i] = of_threads[i][0];
        __syncthreads();  // before they are written again
    }
}

// The means over one tensor of what `sums` has N of, for all threads of a block.
template <int N>
__device__ inline void means_of(
    int tensor, const double* sums, const long long* pieces, int n_pieces, const long long* first_piece,
    double* means) {
    const long long first = first_piece[tensor], end = first_piece[tensor + 1];
    for (int i = 0; i < N; ++i) {
        means[i] = 0;
        for (long long p = first + threadIdx.x; p < end; p += THREADS) means[i] += sums[i * n_pieces + p];
    }
    sum_over_block<N>(means);
    for (int i = 0; i < N; ++i) means[i] /= double(pieces[end] - pieces[first]);
}

__device__ inline REAL observe(Observed what, REAL g, REAL h) {
    return what == G ? g : what == G_SQUARED ? g * g : fabs(h);
}

// Blocks: pieces. `sums` are those of the features' terms, and of theta^2 below them.
extern "C" __global__ void __launch_bounds__(THREADS) moving_averages(
    const REAL* __restrict__ g, const REAL* __restrict__ h, const REAL* __restrict__ theta,
    const REAL* __restrict__ before, long long before_stride, REAL* after, long long after_stride,
    const double* t_there, double t, const long long* __restrict__ pieces, double* sums, int n_pieces) {
    constexpr double decays[AVERAGES + 1] = {DECAYS};
    constexpr Observed observed[AVERAGES + 1] = {OBSERVED};
    __shared__ REAL corrections[AVERAGES + 1];
    if constexpr (MEANS > 0) {
        bias_corrections(corrections, t_there ? *t_there : t);
        __syncthreads();
    }
    double mine[MEANS + 1] = {}, terms[MEANS + 1];
    Signals s = {};
    for (long long i = pieces[blockIdx.x] + threadIdx.x; i < pieces[blockIdx.x + 1]; i += THREADS) {
        s.g = g[i];
        s.h = h ? h[i] : REAL(0);
#pragma unroll
        for (int a = 0; a < AVERAGES; ++a) {
            const REAL m = REAL(decays[a]) * before[a * before_stride + i]
                + REAL(1 - decays[a]) * observe(observed[a], s.g, s.h);
            after[a * after_stride + i] = m;
            if constexpr (MEANS > 0) s.averages[a] = m / corrections[a];
        }
        Features::terms(s, terms);
        if constexpr (UNITS) terms[MEANS - 1] = square(theta[i]);
        for (int k = 0; k < MEANS; ++k) mine[k] += terms[k];
    }
    sum_over_block<MEANS>(mine);
    if (threadIdx.x == 0) {
        for (int k = 0; k < MEANS; ++k) sums[k * n_pieces + blockIdx.x] = mine[k];
    }
}

// Blocks: pieces. The sums of terms that ask for the means of others.
extern "C" __global__ void __launch_bounds__(THREADS) later_sums(
    const REAL* __restrict__ g, const REAL* __restrict__ moments, long long moments_stride,
    const double* t_there, double t, const long long* __restrict__ pieces, int n_pieces,
    const long long* __restrict__ first_piece, int n_tensors, const double* __restrict__ sums, double* later) {
    __shared__ REAL corrections[AVERAGES + 1];
    bias_corrections(corrections, t_there ? *t_there : t);
    double means[MEANS + 1], mine[LATER_MEANS + 1] = {}, terms[LATER_MEANS + 1];
    means_of<MEANS>(segment_of(blockIdx.x, first_piece, n_tensors), sums, pieces, n_pieces, first_piece, means);
    __syncthreads();
    Signals s = {};
    for (long long i = pieces[blockIdx.x] + threadIdx.x; i < pieces[blockIdx.x + 1]; i += THREADS) {
        s.g = g[i];
#pragma unroll
        for (int a = 0; a < AVERAGES; ++a) s.averages[a] = moments[a * moments_stride + i] / corrections[a];
        Features::later_terms(s, means, terms);
        for (int k = 0; k < LATER_MEANS; ++k) mine[k] += terms[k];
    }
    sum_over_block<LATER_MEANS>(mine);
    if (threadIdx.x == 0) {
        for (int k = 0; k < LATER_MEANS; ++k) later[k * n_pieces + blockIdx.x] = mine[k];
    }
}

// Blocks: tensors. Statistics (n_statistics, n_tensors), and the units (n_tensors,) of the tensors: the root mean
// square of theta of the tensors `weights` (n_tensors,), between `least_unit` and `largest` (n_tensors,). `shapes`
// (3, n_tensors) is for the feature `Shape`.
extern "C" __global__ void __launch_bounds__(THREADS) tensor_statistics(
    const double* loss_there, double loss, const long long* __restrict__ pieces, int n_pieces,
    const long long* __restrict__ first_piece, const double* __restrict__ sums, const double* __restrict__ later,
    const long long* __restrict__ weights, double least_unit, const REAL* __restrict__ largest,
    const REAL* __restrict__ shapes, REAL* statistics, REAL* units) {
    const int tensor = blockIdx.x, n_tensors = gridDim.x;
    double means[MEANS + 1], later_means[LATER_MEANS + 1];
    REAL of[Features::STATISTICS + 1];
    Signals s = {};
    s.loss = REAL(loss_there ? *loss_there : loss);
    for (int i = 0; i < 3; ++i) s.shape[i] = shapes[i * n_tensors + tensor];
    if constexpr (UNITS) {
        means_of<1>(int(weights[tensor]), sums + (MEANS - 1) * n_pieces, pieces, n_pieces, first_piece, means);
        const REAL rms = root(means[0]);
        s.unit = rms < REAL(least_unit) ? REAL(least_unit) : rms > largest[tensor] ? largest[tensor] : rms;
    }
    means_of<MEANS>(tensor, sums, pieces, n_pieces, first_piece, means);
    means_of<LATER_MEANS>(tensor, later, pieces, n_pieces, first_piece, later_means);
    if (threadIdx.x != 0) return;
    Features::statistics(s, means, later_means, of);
    for (int i = 0; i < Features::STATISTICS; ++i) statistics[i * n_tensors + tensor] = of[i];
    if constexpr (UNITS) units[tensor] = s.unit;
}
