// What a learned optimizer reads of one coordinate: the features of `l2lnp.optimizers.features`, by their names.
//
// Set when it is compiled: REAL, AVERAGES, the number of moving averages, and their DECAYS. The template
// parameters of a feature are the rows of the averages that it reads, in the order of its `averages` in Python.

struct Signals {
    REAL loss, samples, share, length;  // length: log(T / 300) / 2
    REAL g, h, unit;  // unit: the size of the weights of the coordinate's tensor
    REAL shape[3];  // what `Shape` says of it
    REAL averages[AVERAGES + 1];  // bias-corrected; one more, for there may be none
};

// Of one tensor: a column of (statistics, n_tensors).
struct Statistics {
    const REAL* of_tensor;
    int n_tensors;
    __device__ REAL operator[](int i) const { return of_tensor[i * n_tensors]; }
};

// How many numbers a feature has: rows of a coordinate, statistics of a tensor; means over the tensor that these are
// made of, and means that ask for the former. `terms` and `later_terms` give what is averaged.
template <int ROWS_, int STATISTICS_ = 0, int MEANS_ = 0, int LATER_MEANS_ = 0>
struct Feature {
    static constexpr int ROWS = ROWS_, STATISTICS = STATISTICS_, MEANS = MEANS_, LATER_MEANS = LATER_MEANS_;
    __device__ static void terms(const Signals&, double*) {}
    __device__ static void later_terms(const Signals&, const double* means, double*) {}
    __device__ static void statistics(const Signals&, const double* means, const double* later, REAL*) {}
};

constexpr REAL TINY = REAL(1e-20);

__device__ inline REAL clip(REAL x, REAL limit) { return x < -limit ? -limit : x > limit ? limit : x; }
__device__ inline double square(REAL x) { return double(x) * x; }
__device__ inline REAL root(double x) { return REAL(sqrt(x)); }

// Where `x` lies among segments that reach from starts[i] to starts[i + 1].
__device__ inline int segment_of(long long x, const long long* starts, int n_segments) {
    int low = 0, high = n_segments - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (starts[middle] <= x) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

// 1 - decay^t for each average, by as many threads of a block, to be waited for
__device__ inline void bias_corrections(REAL* corrections, double t) {
    constexpr double decays[AVERAGES + 1] = {DECAYS};
    for (int i = threadIdx.x; i < AVERAGES; i += blockDim.x) corrections[i] = REAL(1 - exp(t * log(decays[i])));
}

// (log|x| / p, sgn x) where |x| >= e^-p, else (-1, e^p x); p = 10
__device__ inline void log_sign(REAL x, REAL* rows) {
    constexpr REAL p = 10, least = REAL(4.5399929762484854e-05), most = REAL(22026.465794806718);  // e^-p, e^p
    rows[0] = log(fabs(x) < least ? least : fabs(x)) / p;
    rows[1] = clip(most * x, 1);
}

struct LogSignG : Feature<2> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) { log_sign(s.g, x); }
};

struct LogSignH : Feature<2> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) { log_sign(s.h, x); }
};

// (m / sqrt(v), g / sqrt(v))
template <int M, int V>
struct RNNprop : Feature<2> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        const REAL scale = 1 / sqrt(s.averages[V] + TINY);
        x[0] = s.averages[M] * scale;
        x[1] = s.g * scale;
    }
};

// (g / sqrt(v), m_fast / sqrt(v), m_slow / sqrt(v_slow))
template <int V, int M_FAST, int M_SLOW, int V_SLOW>
struct Momenta : Feature<3> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        const REAL scale = 1 / sqrt(s.averages[V] + TINY);
        x[0] = s.g * scale;
        x[1] = s.averages[M_FAST] * scale;
        x[2] = s.averages[M_SLOW] / sqrt(s.averages[V_SLOW] + TINY);
    }
};

// The damped Newton step r = m / (k + d), d = 0.1 mean(k); its means: that of k, and later that of r^2
template <int M, int K>
struct Newton {
    __device__ static REAL damping(const double* means) { return REAL(0.1) * REAL(means[0]) + TINY; }
    __device__ static void terms(const Signals& s, double* x) { x[0] = s.averages[K]; }
    __device__ static void later_terms(const Signals& s, const double* means, double* x) {
        x[0] = square(s.averages[M] / (s.averages[K] + damping(means)));
    }
};

// r / RMS(r), clipped at 5; statistics: d, 1 / RMS(r) or 0
template <int M, int K>
struct NewtonRatio : Feature<1, 2, 1, 1>, Newton<M, K> {
    using Newton<M, K>::terms, Newton<M, K>::later_terms;
    __device__ static void statistics(const Signals&, const double* means, const double* later, REAL* of) {
        const REAL rms = root(later[0]);
        of[0] = Newton<M, K>::damping(means);
        of[1] = REAL(rms > TINY) / (rms < TINY ? TINY : rms);
    }
    __device__ static void rows(const Signals& s, Statistics of, REAL* x) {
        x[0] = clip(s.averages[M] / (s.averages[K] + of[0]) * of[1], 5);
    }
};

// log(v / (k |f|)) / 5 with the loss f
template <int V, int K>
struct LogNoise : Feature<1> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        x[0] = (log(s.averages[V] + TINY) - log(s.averages[K] * fabs(s.loss) + TINY)) / 5;
    }
};

// (clip(g s, +-6) / 2, clip(m s, +-6) / 2, log(v s^2) / 4) with s^2 = B / k, B the batch size
template <int M_FAST, int V, int K>
struct Significance : Feature<3> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        const REAL noise = s.averages[K] / s.samples + TINY, scale = 1 / sqrt(noise);
        x[0] = clip(s.g * scale, 6) / 2;
        x[1] = clip(s.averages[M_FAST] * scale, 6) / 2;
        x[2] = (log(s.averages[V] + TINY) - log(noise)) / 4;
    }
};

// log(mean m^2 / mean v) / 3 + 1/2; statistics: it, mean m^2 and mean v
template <int M_FAST, int V>
struct SignalShare : Feature<1, 3, 2> {
    __device__ static void terms(const Signals& s, double* x) {
        x[0] = square(s.averages[M_FAST]);
        x[1] = s.averages[V];
    }
    __device__ static void statistics(const Signals&, const double* means, const double*, REAL* of) {
        constexpr REAL least = REAL(1e-30);
        of[1] = root(means[0]) * root(means[0]) + least;
        of[2] = REAL(means[1]) + least;
        of[0] = (log(of[1]) - log(of[2])) / 3 + REAL(0.5);
    }
    __device__ static void rows(const Signals&, Statistics of, REAL* x) { x[0] = of[0]; }
};

// log(RMS(g) unit / |f|) / 5, within +-3; statistics: it unclipped, RMS(g)
struct GradientSize : Feature<1, 2, 1> {
    __device__ static void terms(const Signals& s, double* x) { x[0] = square(s.g); }
    __device__ static void statistics(const Signals& s, const double* means, const double*, REAL* of) {
        of[1] = root(means[0]) + TINY;
        of[0] = (log(of[1] * s.unit + TINY) - log(fabs(s.loss) + TINY)) / 5;
    }
    __device__ static void rows(const Signals&, Statistics of, REAL* x) { x[0] = clip(of[0], 3); }
};

// log(RMS(r) / unit) / 5, within +-3; statistics: it unclipped, d, RMS(r)
template <int M, int K>
struct NewtonSize : Feature<1, 3, 1, 1>, Newton<M, K> {
    using Newton<M, K>::terms, Newton<M, K>::later_terms;
    __device__ static void statistics(const Signals& s, const double* means, const double* later, REAL* of) {
        of[1] = Newton<M, K>::damping(means);
        of[2] = root(later[0]) + TINY;
        of[0] = log(of[2] / s.unit + TINY) / 5;
    }
    __device__ static void rows(const Signals&, Statistics of, REAL* x) { x[0] = clip(of[0], 3); }
};

// (2 t / T - 1, log(T / 300) / 2)
struct Clock : Feature<2> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        x[0] = 2 * s.share - 1;
        x[1] = s.length;
    }
};

// log(|f| + 0.05) / 2
struct Loss : Feature<1> {
    __device__ static void rows(const Signals& s, Statistics, REAL* x) { x[0] = log(fabs(s.loss) + REAL(0.05)) / 2; }
};

// (log(n / 64) / 3, log(L / 3), 2 l / (L - 1) - 1), which the host has computed; statistics: they
struct Shape : Feature<3, 3> {
    __device__ static void statistics(const Signals& s, const double*, const double*, REAL* of) {
        for (int i = 0; i < 3; ++i) of[i] = s.shape[i];
    }
    __device__ static void rows(const Signals&, Statistics of, REAL* x) {
        for (int i = 0; i < 3; ++i) x[i] = of[i];
    }
};

// The features one above the other.
template <class... Features>
struct Preprocessing {
    static constexpr int ROWS = (0 + ... + Features::ROWS), STATISTICS = (0 + ... + Features::STATISTICS);
    static constexpr int MEANS = (0 + ... + Features::MEANS), LATER_MEANS = (0 + ... + Features::LATER_MEANS);
    __device__ static void rows(const Signals& s, Statistics of, REAL* x) {
        ((Features::rows(s, of, x), x += Features::ROWS, of.of_tensor += Features::STATISTICS * of.n_tensors), ...);
    }
    __device__ static void terms(const Signals& s, double* x) {
        ((Features::terms(s, x), x += Features::MEANS), ...);
    }
    __device__ static void later_terms(const Signals& s, const double* means, double* x) {
        ((Features::later_terms(s, means, x), means += Features::MEANS, x += Features::LATER_MEANS), ...);
    }
    __device__ static void statistics(const Signals& s, const double* means, const double* later, REAL* of) {
        ((Features::statistics(s, means, later, of), means += Features::MEANS, later += Features::LATER_MEANS,
          of += Features::STATISTICS), ...);
    }
};
