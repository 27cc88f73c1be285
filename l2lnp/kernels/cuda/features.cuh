// What a learned optimizer reads of one coordinate: the features of `l2lnp.optimizers.features`, by their names.
//
// Set when it is compiled: REAL and AVERAGES, the number of moving averages. The template parameters of
// a feature are the rows of the averages that it reads, in the order of its `averages` in Python.
// It writes ROWS numbers and reads STATISTICS numbers of its tensor.

struct Signals {
    REAL loss, samples, share, length;  // length: log(T / 300) / 2
    REAL g, h;
    REAL averages[AVERAGES + 1];  // bias-corrected; one more, for there may be none
};

// Of one tensor: a column of (statistics, n_tensors).
struct Statistics {
    const REAL* of_tensor;
    int n_tensors;
    __device__ REAL operator[](int i) const { return of_tensor[i * n_tensors]; }
};

constexpr REAL TINY = REAL(1e-20);

__device__ inline REAL clip(REAL x, REAL limit) { return x < -limit ? -limit : x > limit ? limit : x; }

// (log|x| / p, sgn x) where |x| >= e^-p, else (-1, e^p x); p = 10
__device__ inline void log_sign(REAL x, REAL* rows) {
    constexpr REAL p = 10, least = REAL(4.5399929762484854e-05), most = REAL(22026.465794806718);  // e^-p, e^p
    rows[0] = log(fabs(x) < least ? least : fabs(x)) / p;
    rows[1] = clip(most * x, 1);
}

struct LogSignG {
    static constexpr int ROWS = 2, STATISTICS = 0;
    __device__ static void rows(const Signals& s, Statistics, REAL* x) { log_sign(s.g, x); }
};

struct LogSignH {
    static constexpr int ROWS = 2, STATISTICS = 0;
    __device__ static void rows(const Signals& s, Statistics, REAL* x) { log_sign(s.h, x); }
};

// (m / sqrt(v), g / sqrt(v))
template <int M, int V>
struct RNNprop {
    static constexpr int ROWS = 2, STATISTICS = 0;
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        const REAL scale = 1 / sqrt(s.averages[V] + TINY);
        x[0] = s.averages[M] * scale;
        x[1] = s.g * scale;
    }
};

// (g / sqrt(v), m_fast / sqrt(v), m_slow / sqrt(v_slow))
template <int V, int M_FAST, int M_SLOW, int V_SLOW>
struct Momenta {
    static constexpr int ROWS = 3, STATISTICS = 0;
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        const REAL scale = 1 / sqrt(s.averages[V] + TINY);
        x[0] = s.g * scale;
        x[1] = s.averages[M_FAST] * scale;
        x[2] = s.averages[M_SLOW] / sqrt(s.averages[V_SLOW] + TINY);
    }
};

// r / RMS(r), clipped at 5, of r = m / (k + d); statistics: d, 1 / RMS(r)
template <int M, int K>
struct NewtonRatio {
    static constexpr int ROWS = 1, STATISTICS = 2;
    __device__ static void rows(const Signals& s, Statistics of, REAL* x) {
        x[0] = clip(s.averages[M] / (s.averages[K] + of[0]) * of[1], 5);
    }
};

// log(v / (k |f|)) / 5 with the loss f
template <int V, int K>
struct LogNoise {
    static constexpr int ROWS = 1, STATISTICS = 0;
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        x[0] = (log(s.averages[V] + TINY) - log(s.averages[K] * fabs(s.loss) + TINY)) / 5;
    }
};

// (clip(g s, +-6) / 2, clip(m s, +-6) / 2, log(v s^2) / 4) with s^2 = B / k, B the batch size
template <int M_FAST, int V, int K>
struct Significance {
    static constexpr int ROWS = 3, STATISTICS = 0;
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        const REAL noise = s.averages[K] / s.samples + TINY, scale = 1 / sqrt(noise);
        x[0] = clip(s.g * scale, 6) / 2;
        x[1] = clip(s.averages[M_FAST] * scale, 6) / 2;
        x[2] = (log(s.averages[V] + TINY) - log(noise)) / 4;
    }
};

// log(mean m^2 / mean v) / 3 + 1/2, which is the first statistic
template <int M_FAST, int V>
struct SignalShare {
    static constexpr int ROWS = 1, STATISTICS = 3;
    __device__ static void rows(const Signals&, Statistics of, REAL* x) { x[0] = of[0]; }
};

// log(RMS(g) unit / |f|) / 5, within +-3; unclipped it is the first statistic
struct GradientSize {
    static constexpr int ROWS = 1, STATISTICS = 2;
    __device__ static void rows(const Signals&, Statistics of, REAL* x) { x[0] = clip(of[0], 3); }
};

// log(RMS(m / (k + d)) / unit) / 5, within +-3; unclipped it is the first statistic
template <int M, int K>
struct NewtonSize {
    static constexpr int ROWS = 1, STATISTICS = 3;
    __device__ static void rows(const Signals&, Statistics of, REAL* x) { x[0] = clip(of[0], 3); }
};

// (2 t / T - 1, log(T / 300) / 2)
struct Clock {
    static constexpr int ROWS = 2, STATISTICS = 0;
    __device__ static void rows(const Signals& s, Statistics, REAL* x) {
        x[0] = 2 * s.share - 1;
        x[1] = s.length;
    }
};

// The features one above the other.
template <class... Feature>
struct Preprocessing {
    static constexpr int ROWS = (Feature::ROWS + ...);
    __device__ static void rows(const Signals& s, Statistics of, REAL* x) {
        ((Feature::rows(s, of, x), x += Feature::ROWS, of.of_tensor += Feature::STATISTICS * of.n_tensors), ...);
    }
};
