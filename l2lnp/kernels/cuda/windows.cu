// Windows over images: patches, max pooling and its two maps.
//
// Set when it is compiled: REAL. Images are (K, H, W, N), windows of I x J have the positions
// (R, C); top and left are pixels of padding. A block goes through one row of what it writes, so
// the row's place is worked out once; every number is written by one thread, which adds in
// the order of the taps.

#define GEOMETRY                                                                                  \
    int K, int H, int W, int N, int R, int C, int I, int J, int stride_r, int stride_c, int top, int left

// columns (K, I, J, R, C, N) from x; blocks: K I J R
extern "C" __global__ void patches(const REAL* __restrict__ x, REAL* columns, GEOMETRY) {
    const int r = blockIdx.x % R, tap = blockIdx.x / R;
    const int j = tap % J, i = tap / J % I, k = tap / J / I;
    const int row = r * stride_r + i - top;
    const bool inside = row >= 0 && row < H;
    const REAL* from = x + ((long long)k * H + row) * W * N;
    REAL* to = columns + (long long)blockIdx.x * C * N;
    for (int e = threadIdx.x; e < C * N; e += blockDim.x) {
        const int c = e / N, column = c * stride_c + j - left;
        to[e] = inside && column >= 0 && column < W ? from[(long long)column * N + e % N] : REAL(0);
    }
}

// The position whose tap `tap` meets the pixel, or -1.
__device__ inline int position(int pixel, int tap, int before, int stride, int n) {
    const int first = pixel + before - tap;
    return first >= 0 && first % stride == 0 && first / stride < n ? first / stride : -1;
}

// y (K, R, C, N) and the tap that won in each window, of equal ones the first; blocks: K R
extern "C" __global__ void max_pool(const REAL* __restrict__ x, REAL* y, unsigned short* won, GEOMETRY) {
    const int r = blockIdx.x % R, k = blockIdx.x / R;
    for (int e = threadIdx.x; e < C * N; e += blockDim.x) {
        const int c = e / N;
        REAL best = log(REAL(0));  // minus infinity, a name that NVRTC does not know
        int tap = 0;
        for (int i = 0; i < I; ++i) {
            const int row = r * stride_r + i - top;
            if (row < 0 || row >= H) continue;
            for (int j = 0; j < J; ++j) {
                const int column = c * stride_c + j - left;
                if (column < 0 || column >= W) continue;
                const REAL v = x[(((long long)k * H + row) * W + column) * N + e % N];
                if (v > best || v != v) {  // what is no number wins, to be seen
                    best = v;
                    tap = i * J + j;
                }
            }
        }
        y[(long long)blockIdx.x * C * N + e] = best;
        won[(long long)blockIdx.x * C * N + e] = (unsigned short)tap;
    }
}

// v_x (K, H, W, N): the sum of v_y over the windows that a pixel won; blocks: K H
extern "C" __global__ void max_scatter(
    const REAL* __restrict__ v_y, const unsigned short* __restrict__ won, REAL* v_x, GEOMETRY) {
    const int row = blockIdx.x % H, k = blockIdx.x / H;
    for (int e = threadIdx.x; e < W * N; e += blockDim.x) {
        const int column = e / N;
        REAL sum = 0;
        for (int i = 0; i < I; ++i) {
            const int r = position(row, i, top, stride_r, R);
            if (r < 0) continue;
            for (int j = 0; j < J; ++j) {
                const int c = position(column, j, left, stride_c, C);
                if (c < 0) continue;
                const long long at = (((long long)k * R + r) * C + c) * N + e % N;
                if (won[at] == i * J + j) sum += v_y[at];
            }
        }
        v_x[(long long)blockIdx.x * W * N + e] = sum;
    }
}

// v_y (K, R, C, N): v_x at the pixel that won; blocks: K R
extern "C" __global__ void max_gather(
    const REAL* __restrict__ v_x, const unsigned short* __restrict__ won, REAL* v_y, GEOMETRY) {
    const int r = blockIdx.x % R, k = blockIdx.x / R;
    for (int e = threadIdx.x; e < C * N; e += blockDim.x) {
        const long long at = (long long)blockIdx.x * C * N + e;
        const int row = r * stride_r + won[at] / J - top, column = e / N * stride_c + won[at] % J - left;
        const bool inside = row >= 0 && row < H && column >= 0 && column < W;
        v_y[at] = inside ? v_x[(((long long)k * H + row) * W + column) * N + e % N] : REAL(0);
    }
}
