// The coordinatewise two-layer LSTM: one step, and its reverse, each in one kernel.
//
// Set by the compiler's options: REAL, the features F, the units S1 and S2, COLUMNS (coordinates
// of a thread in lstm_step) and SHARED (1: weights in shared memory).
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

extern "C" __global__ void __launch_bounds__(THREADS) lstm_step(
    const REAL* __restrict__ weights1, const REAL* __restrict__ weights2, const REAL* __restrict__ w3,
    const REAL* __restrict__ features, long long features_stride,
    const REAL* __restrict__ before, long long before_stride,
    REAL* after, long long after_stride, REAL* output, long long n) {
    WEIGHTS(w1, weights1, S1 * (F + S1 + 1));
    WEIGHTS(w2, weights2, S2 * (S1 + S2 + 1));
    const long long first = (long long)blockIdx.x * blockDim.x * COLUMNS + threadIdx.x;
    if (first >= n) return;
    long long column[COLUMNS];  // beyond the end: the thread's first, whose results are written again
    for (int v = 0; v < COLUMNS; ++v) {
        const long long at = first + (long long)v * blockDim.x;
        column[v] = at < n ? at : first;
    }

    REAL x1[COLUMNS][F + S1];
    REAL x2[COLUMNS][S1 + S2];
#pragma unroll
    for (int v = 0; v < COLUMNS; ++v) {
#pragma unroll
        for (int k = 0; k < F; ++k) x1[v][k] = features[k * features_stride + column[v]];
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
    REAL sum[COLUMNS];
    for (int v = 0; v < COLUMNS; ++v) sum[v] = w3[S2];
#pragma unroll 1
    for (int j = 0; j < S2; ++j) {
        gates_of(w2 + j * (S1 + S2 + 1), x2, a);
        for (int v = 0; v < COLUMNS; ++v) {
            const REAL c = a[v].f * before[(HIDDEN + S1 + j) * before_stride + column[v]] + a[v].i * a[v].n;
            const REAL hidden = a[v].o * tanh(c);
            after[(HIDDEN + S1 + j) * after_stride + column[v]] = c;
            after[(S1 + j) * after_stride + column[v]] = hidden;
            sum[v] += w3[j] * hidden;
        }
    }
    for (int v = 0; v < COLUMNS; ++v) output[column[v]] = sum[v];
}

// The reverse of one cell: `d` gets the cotangents of the pre-activations, `a_cell` goes from after to before.
__device__ inline void cell_adjoint(Gates g, REAL c, REAL s, REAL a_hidden, REAL& a_cell, Gates& d) {
    a_cell += g.o * (1 - s * s) * a_hidden;
    d.i = a_cell * g.n * g.i * (1 - g.i);
    d.f = a_cell * c * g.f * (1 - g.f);
    d.o = a_hidden * s * g.o * (1 - g.o);
    d.n = a_cell * g.i * (1 - g.n * g.n);
    a_cell *= g.f;
}

// The reverse of one layer in one coordinate, its gates computed again from its inputs (K rows), its
// hidden states before the step, and its cells before and after. `a_hidden` and `a_cell` go from after
// to before; `a_gates` (4 S, n) gets the cotangents of the pre-activations; `a_x` those of the inputs.
// w3 is null where no output depends on the hidden states.
template <int K, int S>
__device__ inline void layer_reverse(
    const Gates* w, const REAL* x, long long x_stride, const REAL* hidden, const REAL* cell, long long stride,
    const REAL* cell_after, long long after_stride, const REAL* w3, REAL a_output,
    REAL* a_hidden, REAL* a_cell, long long a_stride, REAL* a_gates, long long n, REAL (&a_x)[K + S]) {
    REAL inputs[1][K + S];
#pragma unroll
    for (int k = 0; k < K + S; ++k) {
        inputs[0][k] = k < K ? x[k * x_stride] : hidden[(k - K) * stride];
        a_x[k] = 0;
    }
#pragma unroll 1
    for (int j = 0; j < S; ++j, w += K + S + 1) {
        Gates g[1], d;
        gates_of(w, inputs, g);
        REAL a_c = a_cell[j * a_stride];
        const REAL a_h = a_hidden[j * a_stride] + (w3 ? w3[j] * a_output : REAL(0));
        cell_adjoint(g[0], cell[j * stride], tanh(cell_after[j * after_stride]), a_h, a_c, d);
        a_cell[j * a_stride] = a_c;
        a_gates[j * n] = d.i;
        a_gates[(S + j) * n] = d.f;
        a_gates[(2 * S + j) * n] = d.o;
        a_gates[(3 * S + j) * n] = d.n;
        __syncwarp();  // so that the weights are read again, not kept in registers: they would not fit
#pragma unroll
        for (int k = 0; k < K + S; ++k) a_x[k] += w[k].i * d.i + w[k].f * d.f + w[k].o * d.o + w[k].n * d.n;
    }
#pragma unroll
    for (int k = 0; k < S; ++k) a_hidden[k * a_stride] = a_x[K + k];
}

// From the states before and after a step; `a_state` goes from after to before. First the second layer:
extern "C" __global__ void __launch_bounds__(THREADS) lstm_reverse_second(
    const REAL* __restrict__ weights2, const REAL* __restrict__ w3,
    const REAL* __restrict__ before, long long before_stride,
    const REAL* __restrict__ after, long long after_stride,
    const REAL* __restrict__ a_output, REAL* a_state, long long a_stride, REAL* a_gates2, long long n) {
    WEIGHTS(w2, weights2, S2 * (S1 + S2 + 1));
    const long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= n) return;
    before += column;
    after += column;
    a_state += column;
    REAL a_x[S1 + S2];
    layer_reverse<S1, S2>(
        w2, after, after_stride, before + S1 * before_stride, before + (HIDDEN + S1) * before_stride,
        before_stride, after + (HIDDEN + S1) * after_stride, after_stride, w3, a_output[column],
        a_state + S1 * a_stride, a_state + (HIDDEN + S1) * a_stride, a_stride, a_gates2 + column, n, a_x);
#pragma unroll
    for (int k = 0; k < S1; ++k) a_state[k * a_stride] += a_x[k];
}

// ... then the first; `a_features` (F, n) may be null.
extern "C" __global__ void __launch_bounds__(THREADS) lstm_reverse_first(
    const REAL* __restrict__ weights1, const REAL* __restrict__ features, long long features_stride,
    const REAL* __restrict__ before, long long before_stride,
    const REAL* __restrict__ after, long long after_stride,
    REAL* a_state, long long a_stride, REAL* a_gates1,
    REAL* a_features, long long a_features_stride, long long n) {
    WEIGHTS(w1, weights1, S1 * (F + S1 + 1));
    const long long column = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= n) return;
    before += column;
    a_state += column;
    REAL a_x[F + S1];
    layer_reverse<F, S1>(
        w1, features + column, features_stride, before, before + HIDDEN * before_stride, before_stride,
        after + HIDDEN * after_stride + column, after_stride, nullptr, REAL(0),
        a_state, a_state + HIDDEN * a_stride, a_stride, a_gates1 + column, n, a_x);
    if (a_features) {
#pragma unroll
        for (int k = 0; k < F; ++k) a_features[k * a_features_stride + column] = a_x[k];
    }
}
