// Softmax cross-entropy of every sample, with the first and second derivatives of the mean over all.
//
// Set when it is compiled: REAL. z is (C, N); one thread takes one sample, a column.
//
//     loss = log(sum exp(z)) - z[label],  p = softmax(z),  g = (p - t) / N,  h = p (1 - p) / N

extern "C" __global__ void softmax_cross_entropy(
    const REAL* __restrict__ z, const long long* __restrict__ labels,
    REAL* losses, REAL* p, REAL* t, REAL* g, REAL* h, REAL n_total, int C, int N) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    REAL most = z[n];
    for (int c = 1; c < C; ++c) {
        const REAL v = z[(long long)c * N + n];
        most = v > most || v != v ? v : most;
    }
    REAL total = 0;
    for (int c = 0; c < C; ++c) {
        const REAL e = exp(z[(long long)c * N + n] - most);
        p[(long long)c * N + n] = e;
        total += e;
    }
    const long long label = labels[n];
    for (int c = 0; c < C; ++c) {
        const long long at = (long long)c * N + n;
        const REAL share = p[at] / total, hot = c == label ? REAL(1) : REAL(0);
        p[at] = share;
        t[at] = hot;
        g[at] = (share - hot) / n_total;
        h[at] = share * (1 - share) / n_total;
    }
    const bool is_class = label >= 0 && label < C;  // no number otherwise, to be seen
    losses[n] = is_class ? (log(total) - (z[label * N + n] - most)) / n_total : log(REAL(-1));
}
