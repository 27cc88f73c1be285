// What a rectifier lets through.
//
// Set when it is compiled: REAL.

extern "C" __global__ void where_positive(const REAL* __restrict__ x, const REAL* __restrict__ v, REAL* out, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = (x[i] > 0 ? REAL(1) : REAL(0)) * v[i];  // of what is no number, no number
}
