// The reverse of a step of the coordinatewise LSTM by a block of threads, tile after tile of its coordinates.
//
// For each layer, the second first, the gates are computed again, and from them the cotangents d of the
// pre-activations. The rest is products of matrices that lie in shared memory:
//
//     a_[x; hidden] = w^T d              a_[w, b] += d [x; hidden; 1]^T
//
// What the weights get is added up in a slot of the block's own, step after step of an unroll; `lstm_sums` adds the
// slots, in their order.
//
// Set when it is compiled, beside what `lstm_layers.cuh` asks for: TILE, a multiple of 4; STAGED (1: inputs and
// cotangents of a tile in shared memory; 0: they are too many, and lie in `scratch`).

#include "lstm_layers.cuh"

constexpr int LANES = TILE / 4;   // a thread works on four coordinates, so far apart
constexpr int STRIDE = TILE + 4;  // of rows, so that four numbers of neighbouring rows are in different banks
constexpr int MOST_UNITS = S1 > S2 ? S1 : S2, MOST_INPUTS = S1 + (F > S2 ? F : S2);

// The weights of all layers, as numbers of a slot: w1 (4 S1, F + S1 + 1) with the bias last, w2, w3.
constexpr int OF_FIRST = 4 * S1 * (F + S1 + 1), OF_SECOND = 4 * S2 * (HIDDEN + 1), N_WEIGHTS = OF_FIRST + OF_SECOND + S2 + 1;

struct alignas(4 * sizeof(REAL)) Four {
    REAL at[4];
};

// What a block knows of its tile. Columns beyond the end are 0 but for the row of ones.
struct alignas(4 * sizeof(REAL)) Staged {
    REAL x[MOST_INPUTS + 1][STRIDE];  // inputs, hidden states, 1
    REAL d[4 * MOST_UNITS][STRIDE];
    REAL a_output[STRIDE];

    __device__ static Four four(const REAL* row, int c) { return *reinterpret_cast<const Four*>(row + c); }

    // rows [first, first + n_rows) of `to` = those that begin at `rows`
    template <int N>
    __device__ void stage(REAL (&to)[N][STRIDE], int first, int n_rows, const REAL* rows, long long stride, int n) {
        for (int i = threadIdx.x; i < n_rows * TILE; i += THREADS) {
            const int row = i / TILE, c = i % TILE;
            to[first + row][c] = c < n ? rows[row * stride + c] : REAL(0);
        }
    }
    template <int N>
    __device__ void stage_ones(REAL (&to)[N][STRIDE], int row) {
        for (int c = threadIdx.x; c < TILE; c += THREADS) to[row][c] = 1;
    }
};

// States before and after a step, and the cotangent of a state that goes from after to before, from a coordinate on.
struct States {
    const REAL* before;
    long long before_stride;
    const REAL* after;
    long long after_stride;
    REAL* a;
    long long a_stride;

    __device__ States from(long long i) const {
        return {before + i, before_stride, after + i, after_stride, a + i, a_stride};
    }
};

// The reverse of one cell: `d` gets the cotangents of the pre-activations, `a_cell` goes from after to before.
__device__ inline void cell_adjoint(Gates g, REAL c, REAL s, REAL a_hidden, REAL& a_cell, Gates& d) {
    a_cell += g.o * (1 - s * s) * a_hidden;
    d.i = a_cell * g.n * g.i * (1 - g.i);
    d.f = a_cell * c * g.f * (1 - g.f);
    d.o = a_hidden * s * g.o * (1 - g.o);
    d.n = a_cell * g.i * (1 - g.n * g.n);
    a_cell *= g.f;
}

// d of a layer whose hidden states are the rows from `first` on; w3 is null where no output depends on them. A thread
// computes the gates of two units at once.
template <int S, int K>
__device__ inline void gates_reverse(
    const Layer<S, K>& layer, Staged& tile, int first, const States& states, const REAL* w3, int n) {
    constexpr int PAIRS = (S + 1) / 2;
    const int cell = HIDDEN + first;
    for (int item = threadIdx.x; item < PAIRS * LANES; item += THREADS) {
        const int lane = item % LANES, j0 = item / LANES, j1 = j0 + PAIRS < S ? j0 + PAIRS : j0;
        const auto &w0 = layer.unit(j0), &w1 = layer.unit(j1);
        REAL x[4][1];
        Gates g[2][4];
        for (int v = 0; v < 4; ++v) {
            g[0][v] = w0[K];
            g[1][v] = w1[K];
        }
#pragma unroll 4
        for (int k = 0; k < K; ++k) {
            for (int v = 0; v < 4; ++v) x[v][0] = tile.x[k][lane + v * LANES];
            const Gates of[2] = {w0[k], w1[k]};
#pragma unroll
            for (int u = 0; u < 2; ++u) {
#pragma unroll
                for (int v = 0; v < 4; ++v) {
                    g[u][v].i += of[u].i * x[v][0];
                    g[u][v].f += of[u].f * x[v][0];
                    g[u][v].o += of[u].o * x[v][0];
                    g[u][v].n += of[u].n * x[v][0];
                }
            }
        }
#pragma unroll
        for (int u = 0; u < 2; ++u) {
            const int j = u ? j1 : j0;
            if (u && j == j0) break;
#pragma unroll
            for (int v = 0; v < 4; ++v) {
                const int c = lane + v * LANES;
                Gates d = {};
                if (c < n) {
                    const Gates a = {sigmoid(g[u][v].i), sigmoid(g[u][v].f), sigmoid(g[u][v].o), tanh_of(g[u][v].n)};
                    const REAL s = tanh_of(states.after[(cell + j) * states.after_stride + c]);
                    const REAL of_output = w3 ? w3[j] * tile.a_output[c] : REAL(0);
                    REAL& a_cell = states.a[(cell + j) * states.a_stride + c];
                    cell_adjoint(
                        a, states.before[(cell + j) * states.before_stride + c], s,
                        states.a[(first + j) * states.a_stride + c] + of_output, a_cell, d);
                }
                tile.d[j][c] = d.i;
                tile.d[S + j][c] = d.f;
                tile.d[2 * S + j][c] = d.o;
                tile.d[3 * S + j][c] = d.n;
            }
        }
    }
}

// w^T d, for the inputs from `first` on: `take(k, c, a)` gets them. A thread computes those of four inputs at once.
template <int S, int K, class Take>
__device__ inline void inputs_reverse(const Layer<S, K>& layer, const Staged& tile, int first, int n, Take take) {
    const int groups = (K - first + 3) / 4;
    for (int item = threadIdx.x; item < groups * LANES; item += THREADS) {
        const int lane = item % LANES, k0 = first + item / LANES;
        int k[4];
        for (int i = 0; i < 4; ++i) k[i] = k0 + i * groups < K ? k0 + i * groups : k0;
        REAL a[4][4] = {};
#pragma unroll 1
        for (int j = 0; j < S; ++j) {
            REAL d[4][4];
#pragma unroll
            for (int v = 0; v < 4; ++v) {
                for (int gate = 0; gate < 4; ++gate) d[gate][v] = tile.d[gate * S + j][lane + v * LANES];
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const Gates w = layer.unit(j)[k[i]];
#pragma unroll
                for (int v = 0; v < 4; ++v) a[i][v] += w.i * d[0][v] + w.f * d[1][v] + w.o * d[2][v] + w.n * d[3][v];
            }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i && k[i] == k0) break;
#pragma unroll
            for (int v = 0; v < 4; ++v) {
                if (lane + v * LANES < n) take(k[i], lane + v * LANES, a[i][v]);
            }
        }
    }
}

__device__ inline void add_to(REAL& total, REAL x, bool is_new) { total = is_new ? x : total + x; }

// w (4 S, K + 1) += d [x; 1]^T. A thread computes the gates' weights of a unit for four inputs at once.
template <int S, int K>
__device__ inline void weights_reverse(const Staged& tile, REAL* w, bool is_new) {
    constexpr int GROUPS = (K + 4) / 4;
    for (int item = threadIdx.x; item < S * GROUPS; item += THREADS) {
        const int j = item / GROUPS, k0 = item % GROUPS;
        int k[4];
        for (int i = 0; i < 4; ++i) k[i] = k0 + i * GROUPS <= K ? k0 + i * GROUPS : k0;
        REAL sum[4][4] = {};
#pragma unroll 1
        for (int c = 0; c < TILE; c += 4) {
            Four x[4];
            for (int i = 0; i < 4; ++i) x[i] = Staged::four(tile.x[k[i]], c);
#pragma unroll
            for (int gate = 0; gate < 4; ++gate) {
                const Four d = Staged::four(tile.d[gate * S + j], c);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
#pragma unroll
                    for (int v = 0; v < 4; ++v) sum[gate][i] += d.at[v] * x[i].at[v];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i && k[i] == k0) break;
#pragma unroll
            for (int gate = 0; gate < 4; ++gate) add_to(w[(gate * S + j) * (K + 1) + k[i]], sum[gate][i], is_new);
        }
    }
}

// w3 (S2 + 1,) += a_output [hidden2'; 1]^T, the hidden states being staged where d comes later
__device__ inline void head_reverse(const Staged& tile, REAL* w, bool is_new) {
    for (int j = threadIdx.x; j <= S2; j += THREADS) {
        Four sum = {};
        for (int c = 0; c < TILE; c += 4) {
            const Four hidden = Staged::four(tile.d[j], c), a = Staged::four(tile.a_output, c);
            for (int v = 0; v < 4; ++v) sum.at[v] += hidden.at[v] * a.at[v];
        }
        add_to(w[j], sum.at[0] + sum.at[1] + sum.at[2] + sum.at[3], is_new);
    }
}

// All of it, for the block `number` of `n_blocks` that share n coordinates. `observe(x, first, n)` stages the features
// of a tile, `a_output(i, output)` is the cotangent of the output at the coordinate i, and `take(f, i, a)` gets that of
// its f-th feature, where `is_asked`.
template <class Observe, class AOutput, class Take>
__device__ inline void step_reverse(
    const Addresses& weights, const States& of_all, Observe observe, AOutput a_output, bool is_asked, Take take,
    REAL* slot, REAL* scratch, bool is_new, long long number, long long n_blocks, long long n_coordinates) {
#if STAGED
    __shared__ Staged tile;
#else
    Staged& tile = reinterpret_cast<Staged*>(scratch)[blockIdx.x];
#endif
    __shared__ union {
        Layer<S1, F + S1> first;
        Layer<S2, HIDDEN> second;
    } layer;
    for (long long first = number * TILE; first < n_coordinates; first += n_blocks * TILE) {
        const States states = of_all.from(first);
        const int n = n_coordinates - first < TILE ? int(n_coordinates - first) : TILE;

        layer.second.load(weights.w2, weights.b2);
        tile.stage(tile.x, 0, S1, states.after, states.after_stride, n);
        tile.stage(tile.x, S1, S2, states.before + S1 * states.before_stride, states.before_stride, n);
        tile.stage_ones(tile.x, HIDDEN);
        tile.stage(tile.d, 0, S2, states.after + S1 * states.after_stride, states.after_stride, n);
        tile.stage_ones(tile.d, S2);
        __syncthreads();
        for (int c = threadIdx.x; c < TILE; c += THREADS) {
            REAL output = weights.b3[0];
            for (int j = 0; j < S2; ++j) output += weights.w3[j] * tile.d[j][c];
            tile.a_output[c] = c < n ? a_output(first + c, output) : REAL(0);
        }
        __syncthreads();
        head_reverse(tile, slot + OF_FIRST + OF_SECOND, is_new);
        __syncthreads();

        gates_reverse(layer.second, tile, S1, states, weights.w3, n);
        __syncthreads();
        weights_reverse<S2, HIDDEN>(tile, slot + OF_FIRST, is_new);
        inputs_reverse(layer.second, tile, 0, n, [&](int k, int c, REAL a) {
            REAL& of_hidden = states.a[k * states.a_stride + c];
            of_hidden = k < S1 ? of_hidden + a : a;
        });
        __syncthreads();

        layer.first.load(weights.w1, weights.b1);
        observe(tile.x, first, n);
        tile.stage(tile.x, F, S1, states.before, states.before_stride, n);
        tile.stage_ones(tile.x, F + S1);
        __syncthreads();
        gates_reverse(layer.first, tile, 0, states, nullptr, n);
        __syncthreads();
        weights_reverse<S1, F + S1>(tile, slot, is_new);
        inputs_reverse(layer.first, tile, is_asked ? 0 : F, n, [&](int k, int c, REAL a) {
            if (k < F) {
                take(k, first + c, a);
            } else {
                states.a[(k - F) * states.a_stride + c] = a;
            }
        });
        __syncthreads();
        is_new = false;
    }
}
