// The reverse of a step of the learned optimizer in one kernel, what it saw being constant:
//
//     a_o = factor unit a_u   or   factor unit (1 - tanh(o)^2) a_u,   and from there `lstm_reverse.cuh`
//
// Features are computed again, as in `lstm_update.cu`.
//
// Set when it is compiled beside theirs: TANH (1: of the head).

#include "lstm_reverse.cuh"
#include "observed.cuh"

struct Chunk {
    long long first_block, n_blocks, first_slot;
    Place place;
};

struct Chunks {
    Chunk of[CHUNKS];
};

// The numbers are those of `lstm_update`; the moments are those after the step, and `a_state` goes from after to before.
extern "C" __global__ void __launch_bounds__(BOUNDS) lstm_update_reverse(
    const Chunks chunks, int n_chunks,
    const REAL* __restrict__ g, const REAL* __restrict__ h,
    const REAL* __restrict__ moments, long long moments_stride,
    const REAL* __restrict__ statistics, const REAL* __restrict__ units,
    const long long* __restrict__ starts, int n_tensors,
    const double* t_there, double t, const double* loss_there, double loss,
    const double* share_there, double share, const double* factor_there, double factor,
    double samples, double length,
    const REAL* __restrict__ before, const REAL* __restrict__ after, const REAL* __restrict__ a_u, REAL* a_state,
    REAL* slots, REAL* scratch, int is_new) {
    __shared__ REAL corrections[AVERAGES + 1];
    const Chunk mine = chunks.of[chunk_of_block(chunks, n_chunks)];
    const Place chunk = mine.place;
    bias_corrections(corrections, t_there ? *t_there : t);
    __syncthreads();

    Signals s = {};
    s.loss = number(loss_there, loss);
    s.share = number(share_there, share);
    s.samples = REAL(samples);
    s.length = REAL(length);
    const Observed seen = {s, g, h, moments, moments_stride, statistics, units, starts, n_tensors, corrections};
    const REAL common = number(factor_there, factor);

    const auto observe = [&](REAL (&x)[MOST_INPUTS + 1][STRIDE], long long first, int n) {
        for (int column = threadIdx.x; column < TILE; column += THREADS) {
            REAL rows[F] = {};
            if (column < n) seen.features(chunk.first + first + column, rows);
#pragma unroll
            for (int f = 0; f < F; ++f) x[f][column] = rows[f];
        }
    };
    const auto a_output = [&](long long i, REAL output) {
        const long long at = chunk.first + i;
        const REAL a = common * seen.unit(seen.tensor(at)) * a_u[at];
        const REAL headed = TANH ? tanh(output) : REAL(0);
        return a * (1 - headed * headed);
    };
    const long long block = blockIdx.x - mine.first_block;
    step_reverse(
        chunk.weights, {before + chunk.state, chunk.stride, after + chunk.state, chunk.stride, a_state + chunk.state, chunk.stride},
        observe, a_output, false, [](int, long long, REAL) {},
        slots + (mine.first_slot + block) * N_WEIGHTS, scratch, is_new, block, mine.n_blocks, chunk.n);
}
