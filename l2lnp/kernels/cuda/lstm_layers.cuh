// The coordinatewise two-layer LSTM on one coordinate or a few: what its kernels have in common.
//
// Set when it is compiled: REAL, the features F, the units S1 and S2, COLUMNS (coordinates
// of a thread in a step) and SHARED (1: weights in shared memory).
//
// A coordinate is a column of every array. A state has the rows hidden1, hidden2, cell1, cell2;
// `stride` is the distance of two rows. Weights stand as (units, inputs + 1, gate), the bias last;
// gates in the order i, f, o, n:
//
//     i, f, o = sigmoid(w [x; hidden; 1]),  n = tanh(w [x; hidden; 1])
//     c' = f c + i n,   hidden' = o tanh(c'),   output = w3 [hidden2'; 1]
//
// Every number is written by one thread and sums run in a fixed order: two runs give the same bytes.

struct alignas(4 * sizeof(REAL)) Gates {
    REAL i, f, o, n;
};

constexpr int HIDDEN = S1 + S2;
constexpr int THREADS = 128;  // of a block

__device__ inline REAL sigmoid(REAL a) { return REAL(0.5) * tanh(REAL(0.5) * a) + REAL(0.5); }

// Gates of one unit for V columns of inputs x; w are the unit's weights.
template <int V, int K>
__device__ inline void gates_of(const Gates* w, const REAL (&x)[V][K], Gates (&a)[V]) {
    for (int v = 0; v < V; ++v) a[v] = w[K];
#pragma unroll
    for (int k = 0; k < K; ++k) {
        const Gates wk = w[k];
#pragma unroll
        for (int v = 0; v < V; ++v) {
            a[v].i += wk.i * x[v][k];
            a[v].f += wk.f * x[v][k];
            a[v].o += wk.o * x[v][k];
            a[v].n += wk.n * x[v][k];
        }
    }
    for (int v = 0; v < V; ++v) a[v] = {sigmoid(a[v].i), sigmoid(a[v].f), sigmoid(a[v].o), tanh(a[v].n)};
}

// Copies `n` weights to shared memory, by all threads of a block.
__device__ inline void load(Gates* shared, const Gates* w, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) shared[i] = w[i];
}

#if SHARED
#define WEIGHTS(name, from, n)   \
    __shared__ Gates name[n];    \
    load(name, reinterpret_cast<const Gates*>(from), n); \
    __syncthreads()
#else
#define WEIGHTS(name, from, n) const Gates* name = reinterpret_cast<const Gates*>(from)
#endif

// The columns of a thread among n, THREADS apart; false where it has none. Those beyond the end become
// its first, whose results are then written again.
__device__ inline bool columns_of_thread(long long n, long long (&column)[COLUMNS]) {
    const long long first = (long long)blockIdx.x * blockDim.x * COLUMNS + threadIdx.x;
    for (int v = 0; v < COLUMNS; ++v) {
        const long long at = first + (long long)v * blockDim.x;
        column[v] = at < n ? at : first;
    }
    return first < n;
}

// Both layers on the columns of a thread; the features are the first F rows of x1. A state is read once and
// written once.
__device__ inline void both_layers(
    const Gates* w1, const Gates* w2, const REAL* w3, const long long (&column)[COLUMNS],
    REAL (&x1)[COLUMNS][F + S1], const REAL* __restrict__ before, long long before_stride,
    REAL* after, long long after_stride, REAL (&output)[COLUMNS]) {
    REAL x2[COLUMNS][S1 + S2];
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) {
#pragma unroll
        for (int k = 0; k < S1; ++k) x1[v][F + k] = before[k * before_stride + column[v]];
#pragma unroll
        for (int k = 0; k < S2; ++k) x2[v][S1 + k] = before[(S1 + k) * before_stride + column[v]];
    }
    Gates a[COLUMNS];
#pragma unroll 1
    for (int j = 0; j < S1; ++j) {
        gates_of(w1 + j * (F + S1 + 1), x1, a);
        for (int v = 0; v < COLUMNS; ++v) {
            const REAL c = a[v].f * before[(HIDDEN + j) * before_stride + column[v]] + a[v].i * a[v].n;
            after[(HIDDEN + j) * after_stride + column[v]] = c;
            after[j * after_stride + column[v]] = a[v].o * tanh(c);
        }
    }
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) {
#pragma unroll
        for (int k = 0; k < S1; ++k) x2[v][k] = after[k * after_stride + column[v]];  // written just now
    }
    for (int v = 0; v < COLUMNS; ++v) output[v] = w3[S2];
#pragma unroll 1
    for (int j = 0; j < S2; ++j) {
        gates_of(w2 + j * (S1 + S2 + 1), x2, a);
        for (int v = 0; v < COLUMNS; ++v) {
            const REAL c = a[v].f * before[(HIDDEN + S1 + j) * before_stride + column[v]] + a[v].i * a[v].n;
            const REAL hidden = a[v].o * tanh(c);
            after[(HIDDEN + S1 + j) * after_stride + column[v]] = c;
            after[(S1 + j) * after_stride + column[v]] = hidden;
            output[v] += w3[j] * hidden;
        }
    }
}
