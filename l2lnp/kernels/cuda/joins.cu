// Tensors as one vector.
//
// Set when it is compiled: REAL; PARTS, the most of a launch.

// A matrix of so many columns whose elements come from `start` on, row by row.
struct Part {
    const REAL* first;
    long long start, columns, row_stride, column_stride;
};

struct Parts {
    Part of[PARTS];
};

// joined (n,) = the parts, one after the other
extern "C" __global__ void join(const Parts parts, int n_parts, REAL* joined, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int p = 0;
    while (p + 1 < n_parts && parts.of[p + 1].start <= i) ++p;
    const Part& part = parts.of[p];
    const long long at = i - part.start;
    joined[i] = part.first[at / part.columns * part.row_stride + at % part.columns * part.column_stride];
}
