// A step of both layers on the columns of a block.

#include "lstm_layers.cuh"

constexpr int LANES = THREADS / PARTS;  // threads whose columns lie side by side
constexpr int TILE = LANES * COLUMNS;  // columns of a block

// The columns of a thread, LANES apart, in rows that begin at its first one. Those beyond the end are read as 0 and
// not written.
struct Columns {
    long long n_left;  // from the first one on
    __device__ bool has(int v) const { return v * LANES < n_left; }
    __device__ REAL read(const REAL* row, int v) const { return has(v) ? row[v * LANES] : REAL(0); }
    __device__ void write(REAL* row, int v, REAL x) const {
        if (has(v)) row[v * LANES] = x;
    }

    // x[.][first ...] = `rows`, `n_rows` of them
    template <int K>
    __device__ void read_rows(const REAL* rows, long long stride, int n_rows, int first, REAL (&x)[COLUMNS][K]) const {
#pragma unroll
        for (int k = 0; k < n_rows; ++k) {
#pragma unroll
            for (int v = 0; v < COLUMNS; ++v) x[v][first + k] = read(rows + k * stride, v);
        }
    }
};

// One layer, of whose units a thread has every PARTS-th from `part` on; w3, if there is one, gets `output`.
template <int S, int K>
__device__ inline void layer_step(
    const Layer<S, K>& layer, int part, const REAL (&x)[COLUMNS][K], Columns columns,
    const REAL* cell, long long before_stride, REAL* hidden_after, REAL* cell_after, long long after_stride,
    const REAL* w3, REAL (&output)[COLUMNS]) {
    REAL next[COLUMNS];
    if (part < S) {
        for (int v = 0; v < COLUMNS; ++v) next[v] = columns.read(cell + part * before_stride, v);
    }
#pragma unroll 1
    for (int j = part; j < S; j += PARTS) {
        REAL c[COLUMNS];
        const REAL* const of_next = cell + (j + PARTS < S ? j + PARTS : j) * before_stride;
        for (int v = 0; v < COLUMNS; ++v) {
            c[v] = next[v];
            next[v] = columns.read(of_next, v);  // on its way while the gates are computed
        }
        Gates a[COLUMNS];
        gates_of(layer.unit(j), x, a);
        for (int v = 0; v < COLUMNS; ++v) {
            c[v] = a[v].f * c[v] + a[v].i * a[v].n;
            const REAL hidden = a[v].o * tanh_of(c[v]);
            columns.write(cell_after + j * after_stride, v, c[v]);
            columns.write(hidden_after + j * after_stride, v, hidden);
            if (w3) output[v] += w3[j] * hidden;
        }
    }
}

// All weights of an LSTM in shared memory.
struct Weights {
    Layer<S1, F + S1> first;
    Layer<S2, HIDDEN> second;
    REAL w3[S2 + 1];  // the bias last

    __device__ void load(const Addresses& there) {
        first.load(there.w1, there.b1);
        second.load(there.w2, there.b2);
        for (int j = threadIdx.x; j <= S2; j += THREADS) w3[j] = j < S2 ? there.w3[j] : there.b3[0];
    }
};

// Both layers, the features and hidden1 in x1; the states begin at the thread's first column. The output is whole in
// part 0 alone.
__device__ inline void both_layers(
    const Weights& weights, int part, Columns columns, const REAL (&x1)[COLUMNS][F + S1],
    const REAL* before, long long before_stride, REAL* after, long long after_stride, REAL (&output)[COLUMNS]) {
    for (int v = 0; v < COLUMNS; ++v) output[v] = part == 0 ? weights.w3[S2] : REAL(0);
    layer_step(
        weights.first, part, x1, columns, before + HIDDEN * before_stride, before_stride,
        after, after + HIDDEN * after_stride, after_stride, nullptr, output);
    if (PARTS > 1) __syncthreads();
    REAL x2[COLUMNS][HIDDEN];
    columns.read_rows(after, after_stride, S1, 0, x2);  // written just now
    columns.read_rows(before + S1 * before_stride, before_stride, S2, S1, x2);
    layer_step(
        weights.second, part, x2, columns, before + (HIDDEN + S1) * before_stride, before_stride,
        after + S1 * after_stride, after + (HIDDEN + S1) * after_stride, after_stride, weights.w3, output);
    if constexpr (PARTS > 1) {
        __shared__ REAL of_parts[PARTS][TILE];
        const int lane = threadIdx.x % LANES;
        for (int v = 0; v < COLUMNS; ++v) of_parts[part][v * LANES + lane] = output[v];
        __syncthreads();
        for (int p = 1; p < PARTS; ++p) {
            for (int v = 0; v < COLUMNS; ++v) output[v] += of_parts[p][v * LANES + lane];
        }
    }
}
