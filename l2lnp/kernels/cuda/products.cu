// Matrix products c = a b of any strides, one or a stack of them.
//
// Set when it is compiled: REAL, and ROWS and COLUMNS, the tile of c that a block computes,
// 4 x 4 of it in each thread. The axis that is summed over may be cut into parts of `part`, one
// block each, whose products lie stack after stack. Two runs give the same bytes.

constexpr int DEPTH = 16;  // rows of b, columns of a, that are in shared memory together
constexpr int THREADS = ROWS * COLUMNS / 16;

extern "C" __global__ void __launch_bounds__(THREADS) matrix_product(
    const REAL* __restrict__ a, long long a_stack, long long a_row, long long a_column,
    const REAL* __restrict__ b, long long b_stack, long long b_row, long long b_column,
    REAL* c, long long c_part, long long c_row, int O, int K, int M, int part, int n_parts) {
    __shared__ REAL left[DEPTH][ROWS + 4];
    __shared__ REAL right[DEPTH][COLUMNS + 4];
    const int tiles_m = (M + COLUMNS - 1) / COLUMNS, tiles_o = (O + ROWS - 1) / ROWS;
    const int m0 = blockIdx.x % tiles_m * COLUMNS, o0 = blockIdx.x / tiles_m % tiles_o * ROWS;
    const long long product = blockIdx.x / tiles_m / tiles_o / n_parts;
    const int p = blockIdx.x / tiles_m / tiles_o % n_parts;
    a += product * a_stack;
    b += product * b_stack;
    const long long n_products = gridDim.x / tiles_m / tiles_o / n_parts;
    c += (p * n_products + product) * c_part;
    const int end = (p + 1) * part < K ? (p + 1) * part : K;
    const int o = threadIdx.x / (COLUMNS / 4) * 4, m = threadIdx.x % (COLUMNS / 4) * 4;
    REAL sum[4][4] = {};
    for (int k0 = p * part; k0 < end; k0 += DEPTH) {
        for (int e = threadIdx.x; e < ROWS * DEPTH; e += THREADS) {  // neighbours read what lies side by side
            const int k = a_column == 1 ? e % DEPTH : e / ROWS, i = a_column == 1 ? e / DEPTH : e % ROWS;
            const bool inside = o0 + i < O && k0 + k < end;
            left[k][i] = inside ? a[(o0 + i) * a_row + (k0 + k) * a_column] : REAL(0);
        }
        for (int e = threadIdx.x; e < COLUMNS * DEPTH; e += THREADS) {
            const int k = b_column == 1 ? e / COLUMNS : e % DEPTH, j = b_column == 1 ? e % COLUMNS : e / DEPTH;
            const bool inside = m0 + j < M && k0 + k < end;
            right[k][j] = inside ? b[(k0 + k) * b_row + (m0 + j) * b_column] : REAL(0);
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) sum[i][j] += left[k][o + i] * right[k][m + j];
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) {
            if (o0 + o + i < O && m0 + m + j < M) c[(o0 + o + i) * c_row + m0 + m + j] = sum[i][j];
        }
    }
}
