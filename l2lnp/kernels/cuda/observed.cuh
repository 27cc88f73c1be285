// What a launch of the learned optimizer observes: chunks of coordinates, each with an LSTM, and the features of each
// coordinate.
//
// Set when it is compiled beside what `features.cuh` asks for: FEATURES, the features' classes; CHUNKS, the most of a
// launch.

#include "features.cuh"

using Features = Preprocessing<FEATURES>;
static_assert(Features::ROWS == F, "as many rows as weights are for");

// Where a chunk lies; its part of the states begins at `state`.
struct Place {
    long long first, n, state, stride;
    Addresses weights;
};

// The chunk of this block: of those from whose first block on it lies, the last.
template <class Chunks>
__device__ inline int chunk_of_block(const Chunks& chunks, int n_chunks) {
    int c = 0;
    while (c + 1 < n_chunks && chunks.of[c + 1].first_block <= blockIdx.x) ++c;
    return c;
}

// A number that lies on the device, or, where `there` is null, one of the host.
__device__ inline REAL number(const double* there, double here) { return REAL(there ? *there : here); }

struct Observed {
    Signals signals;  // with all that coordinates have in common
    const REAL *g, *h, *moments;  // h may be null; the moments are those after the step
    long long moments_stride;
    const REAL *statistics, *units;  // units may be null
    const long long* starts;
    int n_tensors;
    const REAL* corrections;

    __device__ int tensor(long long at) const { return segment_of(at, starts, n_tensors); }
    __device__ REAL unit(int tensor) const { return units ? units[tensor] : REAL(1); }

    // The features of the coordinate `at`; returns its tensor.
    __device__ int features(long long at, REAL* x) const {
        Signals s = signals;
        s.g = g[at];
        s.h = h ? h[at] : REAL(0);
#pragma unroll
        for (int i = 0; i < AVERAGES; ++i) s.averages[i] = moments[i * moments_stride + at] / corrections[i];
        const int of = tensor(at);
        Features::rows(s, {statistics + of, n_tensors}, x);
        return of;
    }
};
