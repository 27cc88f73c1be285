// A step of both layers by tensor cores, in single precision: a warp makes it for 16 M_TILES coordinates at once.
//
//     pre-activations (coordinates, gates) = [x; hidden]^T (coordinates, K) w^T (K, gates)
//
// Tensor cores multiply numbers of 11 bits (TF32). Every factor is a sum of two of them, a = high(a) + low(a):
//
//     a b = low(a) high(b) + high(a) low(b) + high(a) high(b),   but for 2^-20 |a b|
//
// Lane 4 g + t of a warp has the coordinates g + 8 v and the units t + 4 m: all gates of a unit in one thread,
// and its hidden state where the next product reads it. Weights lie in shared memory as lanes read them, times
// what the exponential of their gate asks for.
//
// Set when it is compiled: M_TILES, and ROUNDS, in which a block goes through its coordinates.

#include "lstm_layers.cuh"

constexpr int V = 2 * M_TILES;  // coordinates of a thread
constexpr int OF_WARP = 16 * M_TILES, WARPS = THREADS / 32;
constexpr int TILE = ROUNDS * WARPS * OF_WARP;  // coordinates of a block

// x cut to the 11 bits that a tensor core reads.
__device__ inline float high(float x) {
#ifdef __CUDA_ARCH__
    return __uint_as_float(__float_as_uint(x) & 0xffffe000u);
#else
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    bits &= 0xffffe000u;
    __builtin_memcpy(&x, &bits, 4);
    return x;
#endif
}

// Brings the rows of a state that begin here closer, into the second cache, while something else is done; by a warp.
__device__ inline void fetch_early(const float* rows, long long stride, int n_rows) {
#ifdef __CUDA_ARCH__
    for (int i = threadIdx.x % 32; i < n_rows; i += 32) asm volatile("prefetch.global.L2 [%0];" ::"l"(rows + i * stride));
#endif
}

// c (16, 8) += a (16, 8) b (8, 8), dealt out to lanes: c has the rows g, g + 8 and columns 2 t, 2 t + 1; a the rows g,
// g + 8, and its columns, as the rows of b, are t, t + 4; b has the column g.
__device__ inline void multiply_add(float (&c)[4], const float (&a)[4], float b0, float b1) {
#ifdef __CUDA_ARCH__
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
#else
    __shared__ float of_lanes[THREADS][6];
    const float mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
    for (int i = 0; i < 6; ++i) of_lanes[threadIdx.x][i] = mine[i];
    __syncwarp();
    const int warp = threadIdx.x / 32 * 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < 8; ++k) {
            const float* of_a = of_lanes[warp + 4 * g + k % 4];
            c[i] += of_a[i / 2 + k / 4 * 2] * of_lanes[warp + 4 * (2 * t + i % 2) + k % 4][4 + k / 4];
        }
    }
    __syncwarp();
#endif
}

// The sum of x over the four lanes with the same g.
__device__ inline float sum_of_four(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

// The coordinates of a thread, in rows that begin at its first one. In place of those beyond the end the last one is
// read, so that no load waits for a branch; they are not written.
struct Columns {
    int n_left;  // from the first one on, or more than the thread has
    __device__ Columns(long long n) : n_left(n < 8 * V ? n : 8 * V) {}
    __device__ bool has(int v) const { return 8 * v < n_left; }
    __device__ float read(const float* row, int v) const { return row[8 * v < n_left ? 8 * v : n_left - 1]; }
    __device__ void write(float* row, int v, float x) const {
        if (has(v)) row[8 * v] = x;
    }

    // x[.][first + m] = the m-th of the thread's rows; `rows` is its first
    template <int N_ROWS, int K>
    __device__ void read_rows(const float* rows, long long stride, int first, float (&x)[V][K]) const {
#pragma unroll
        for (int m = 0; m < N_ROWS; ++m) {
#pragma unroll
            for (int v = 0; v < V; ++v) x[v][first + m] = read(rows + 4 * m * stride, v);
        }
    }
};

// The weights of a layer of S units with X inputs from below. Lane t reads of [x; hidden] the rows t, t + 4, ... of
// x, as many slots for all t, and then those of hidden; two slots go into a product.
template <int S, int X>
struct LayerOfLanes {
    static_assert(S % 4 == 0, "units are dealt out to four lanes");
    static constexpr int OF_X = (X + 3) / 4, UNITS = S / 4, SLOTS = (OF_X + UNITS + 1) / 2 * 2;
    static constexpr int K = X + S, STEPS = SLOTS / 2;

    struct alignas(8) Pair {
        float first, second;
    };

    Pair w[UNITS][STEPS][2][32];  // of units t + 4 m, for two slots: gates i, f and gates o, n; by lane
    Gates bias[S];

    // The input in a slot of lane t, or -1.
    __device__ static int input(int t, int slot) {
        const int k = 4 * slot + t;
        if (slot < OF_X) return k < X ? k : -1;
        return slot < OF_X + UNITS ? X + k - 4 * OF_X : -1;
    }

    __device__ void load(const float* w_there, const float* b_there) {
        constexpr float of_gate[4] = {-LOG2_E, -LOG2_E, -LOG2_E, 2 * LOG2_E};
        for (int i = threadIdx.x; i < UNITS * STEPS * 64; i += THREADS) {
            const int lane = i % 32, tile = i / 32 % 2, step = i / 64 % STEPS, m = i / 64 / STEPS;
            const int gate = lane / 4 % 2 + 2 * tile, unit = 4 * m + lane / 8;
            const float* row = w_there + (gate * S + unit) * K;
            const int k0 = input(lane % 4, 2 * step), k1 = input(lane % 4, 2 * step + 1);
            w[m][step][tile][lane] = {k0 < 0 ? 0 : of_gate[gate] * row[k0], k1 < 0 ? 0 : of_gate[gate] * row[k1]};
        }
        for (int j = threadIdx.x; j < S; j += THREADS) {
            bias[j] = {of_gate[0] * b_there[j], of_gate[1] * b_there[S + j], of_gate[2] * b_there[2 * S + j],
                       of_gate[3] * b_there[3 * S + j]};
        }
    }

    // The thread's units: `hidden` and `cell` after the step, from the inputs x and the cells before.
    __device__ void step(const float (&x)[V][SLOTS], float (&hidden)[V][UNITS], float (&cell)[V][UNITS]) const {
        const int lane = threadIdx.x % 32;
        float x_high[V][SLOTS], x_low[V][SLOTS];
#pragma unroll
        for (int v = 0; v < V; ++v) {
#pragma unroll
            for (int s = 0; s < SLOTS; ++s) {
                x_high[v][s] = high(x[v][s]);
                x_low[v][s] = x[v][s] - x_high[v][s];
            }
        }
#pragma unroll
        for (int m = 0; m < UNITS; ++m) {
            const Gates b = bias[4 * m + lane % 4];
            float a[M_TILES][2][4];
#pragma unroll
            for (int i = 0; i < M_TILES; ++i) {
                a[i][0][0] = a[i][0][2] = b.i;
                a[i][0][1] = a[i][0][3] = b.f;
                a[i][1][0] = a[i][1][2] = b.o;
                a[i][1][1] = a[i][1][3] = b.n;
            }
#pragma unroll
            for (int s = 0; s < SLOTS; s += 2) {
#pragma unroll
                for (int tile = 0; tile < 2; ++tile) {
                    const Pair of = w[m][s / 2][tile][lane];
                    const Pair w_high = {high(of.first), high(of.second)};
                    const Pair w_low = {of.first - w_high.first, of.second - w_high.second};
#pragma unroll
                    for (int i = 0; i < M_TILES; ++i) {
                        const int u = 2 * i, v = 2 * i + 1;
                        const float of_low[4] = {x_low[u][s], x_low[v][s], x_low[u][s + 1], x_low[v][s + 1]};
                        const float of_high[4] = {x_high[u][s], x_high[v][s], x_high[u][s + 1], x_high[v][s + 1]};
                        multiply_add(a[i][tile], of_low, w_high.first, w_high.second);
                        multiply_add(a[i][tile], of_high, w_low.first, w_low.second);
                        multiply_add(a[i][tile], of_high, w_high.first, w_high.second);
                    }
                }
            }
#pragma unroll
            for (int v = 0; v < V; ++v) {
                const float *of_if = a[v / 2][0] + v % 2 * 2, *of_on = a[v / 2][1] + v % 2 * 2;
                const float i = inverse(1 + power_of_2(of_if[0])), f = inverse(1 + power_of_2(of_if[1]));
                const float o = inverse(1 + power_of_2(of_on[0])), n = 1 - 2 * inverse(1 + power_of_2(of_on[1]));
                cell[v][m] = f * cell[v][m] + i * n;
                hidden[v][m] = o * tanh_of(cell[v][m]);
            }
        }
    }
};

// All weights of an LSTM.
struct Weights {
    LayerOfLanes<S1, F> first;
    LayerOfLanes<S2, S1> second;
    float w3[S2 + 1];  // the bias last

    __device__ void load(const Addresses& there) {
        first.load(there.w1, there.b1);
        second.load(there.w2, there.b2);
        for (int j = threadIdx.x; j <= S2; j += THREADS) w3[j] = j < S2 ? there.w3[j] : there.b3[0];
    }
};

constexpr int OF_FEATURES = LayerOfLanes<S1, F>::OF_X;

// Both layers; the features are those of the thread's slots, the states begin at its first coordinate.
__device__ inline void both_layers(
    const Weights& weights, Columns columns, const float (&features)[V][OF_FEATURES],
    const float* before, long long before_stride, float* after, long long after_stride, float (&output)[V]) {
    using First = LayerOfLanes<S1, F>;
    using Second = LayerOfLanes<S2, S1>;
    const int t = threadIdx.x % 4;
    before += t * before_stride;
    after += t * after_stride;
    float x1[V][First::SLOTS] = {}, x2[V][Second::SLOTS] = {};
    float hidden1[V][First::UNITS], cell1[V][First::UNITS], hidden2[V][Second::UNITS], cell2[V][Second::UNITS];
    columns.read_rows<First::UNITS>(before, before_stride, First::OF_X, x1);
    columns.read_rows<First::UNITS>(before + HIDDEN * before_stride, before_stride, 0, cell1);
#pragma unroll
    for (int v = 0; v < V; ++v) {
#pragma unroll
        for (int s = 0; s < OF_FEATURES; ++s) x1[v][s] = features[v][s];
    }
    weights.first.step(x1, hidden1, cell1);
#pragma unroll
    for (int m = 0; m < First::UNITS; ++m) {
#pragma unroll
        for (int v = 0; v < V; ++v) {
            x2[v][m] = hidden1[v][m];
            columns.write(after + 4 * m * after_stride, v, hidden1[v][m]);
            columns.write(after + (HIDDEN + 4 * m) * after_stride, v, cell1[v][m]);
        }
    }
    columns.read_rows<Second::UNITS>(before + S1 * before_stride, before_stride, Second::OF_X, x2);
    columns.read_rows<Second::UNITS>(before + (HIDDEN + S1) * before_stride, before_stride, 0, cell2);
    weights.second.step(x2, hidden2, cell2);
    for (int v = 0; v < V; ++v) output[v] = t == 0 ? weights.w3[S2] : 0;
#pragma unroll
    for (int m = 0; m < Second::UNITS; ++m) {
        const float w3 = weights.w3[4 * m + t];
#pragma unroll
        for (int v = 0; v < V; ++v) {
            output[v] += w3 * hidden2[v][m];
            columns.write(after + (S1 + 4 * m) * after_stride, v, hidden2[v][m]);
            columns.write(after + (HIDDEN + S1 + 4 * m) * after_stride, v, cell2[v][m]);
        }
    }
    for (int v = 0; v < V; ++v) output[v] = sum_of_four(output[v]);
}

// Of a lane's coordinates its own is the t-th, if there are as many: each is some lane's own.
__device__ inline float own(const float (&output)[V]) {
    float found = output[0];
#pragma unroll
    for (int v = 1; v < V; ++v) found = int(threadIdx.x % 4) == v ? output[v] : found;
    return found;
}
