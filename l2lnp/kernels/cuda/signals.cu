// Moving averages of what a step saw, all in one pass:
//
//     after = decay before + (1 - decay) observed         observed: g, g^2 or |h|
//
// Set when it is compiled: REAL, AVERAGES, and for each of them DECAYS and OBSERVED.

enum Observed { G, G_SQUARED, H_SIZE };

extern "C" __global__ void moving_averages(
    const REAL* __restrict__ g, const REAL* __restrict__ h,
    const REAL* __restrict__ before, long long before_stride, REAL* after, long long after_stride, long long n) {
    constexpr double decays[AVERAGES] = {DECAYS};
    constexpr Observed observed[AVERAGES] = {OBSERVED};
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
#pragma unroll
    for (int a = 0; a < AVERAGES; ++a) {
        const REAL x = observed[a] == G ? g[i] : observed[a] == G_SQUARED ? g[i] * g[i] : fabs(h[i]);
        after[a * after_stride + i] = REAL(decays[a]) * before[a * before_stride + i] + REAL(1 - decays[a]) * x;
    }
}
