// The coordinatewise two-layer LSTM on one coordinate or a few: what its kernels have in common.
//
// Set when it is compiled: REAL, the features F, the units S1 and S2, the THREADS of a block, SHARED (1: weights in
// shared memory); and, for a step, COLUMNS, the coordinates of a thread, and PARTS, into which the units of a layer
// are dealt out: as many threads work on a coordinate.
//
// A coordinate is a column of every array. A state has the rows hidden1, hidden2, cell1, cell2;
// `stride` is the distance of two rows. Gates in the order i, f, o, n:
//
//     i, f, o = sigmoid(w [x; hidden] + b),  n = tanh(w [x; hidden] + b)
//     c' = f c + i n,   hidden' = o tanh(c'),   output = w3 hidden2' + b3
//
// Every number is written by one thread and sums run in a fixed order: two runs give the same bytes.

struct alignas(4 * sizeof(REAL)) Gates {
    REAL i, f, o, n;
};

constexpr int HIDDEN = S1 + S2;

// Where the weights of an LSTM stand in phi.
struct Addresses {
    const REAL *w1, *b1, *w2, *b2, *w3, *b3;
};

// sigmoid and tanh. In single precision by the hardware's 2^x and 1 / x: within 3e-7 of the true value.
__device__ inline double sigmoid(double a) { return 0.5 * tanh(0.5 * a) + 0.5; }
__device__ inline double tanh_of(double a) { return tanh(a); }

__device__ inline float power_of_2(float x) {
#ifdef __CUDA_ARCH__
    asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));
    return x;
#else
    return exp2(x);
#endif
}

__device__ inline float inverse(float x) {
#ifdef __CUDA_ARCH__
    asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(x));
    return x;
#else
    return 1 / x;
#endif
}

constexpr float LOG2_E = 1.4426950408889634f;
__device__ inline float sigmoid(float a) { return inverse(1 + power_of_2(-LOG2_E * a)); }
__device__ inline float tanh_of(float a) { return 1 - 2 * inverse(1 + power_of_2(2 * LOG2_E * a)); }

// The weights of a layer of S units with K inputs, which stand in phi gate after gate: w (4 S, K) and b (4 S,).
template <int S, int K>
struct Layer {
    const REAL *w, *b;

    // All gates' weights of unit j for input k; the bias counts as that of input K.
    __device__ Gates at(int j, int k) const {
        const REAL* first = k < K ? w + j * K + k : b + j;
        const int next = k < K ? S * K : S;
        return {first[0], first[next], first[2 * next], first[3 * next]};
    }

#if SHARED
    Gates units[S][K + 1];
    __device__ const Gates* unit(int j) const { return units[j]; }
#else
    struct Unit {
        const Layer& layer;
        int j;
        __device__ Gates operator[](int k) const { return layer.at(j, k); }
    };
    __device__ Unit unit(int j) const { return {*this, j}; }
#endif

    // Brings the weights to a layer in shared memory, by all threads of a block, who wait for each other later.
    __device__ void load(const REAL* w_there, const REAL* b_there) {
        w = w_there;
        b = b_there;
#if SHARED
        for (int i = threadIdx.x; i < S * (K + 1); i += THREADS) {
            units[i / (K + 1)][i % (K + 1)] = Layer{w_there, b_there}.at(i / (K + 1), i % (K + 1));
        }
#endif
    }
};

// Gates of one unit for V columns of inputs x; w are the unit's weights.
template <int V, int K, class Unit>
__device__ inline void gates_of(const Unit& w, const REAL (&x)[V][K], Gates (&a)[V]) {
    const Gates bias = w[K];
    for (int v = 0; v < V; ++v) a[v] = bias;
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
    for (int v = 0; v < V; ++v) a[v] = {sigmoid(a[v].i), sigmoid(a[v].f), sigmoid(a[v].o), tanh_of(a[v].n)};
}
