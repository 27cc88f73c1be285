// Max pooling whose windows lie side by side and cover the image: every pixel is in one window.
//
// Set when it is compiled: REAL; VECTOR, the neighbours in n of a thread (N is a multiple of it). Images are (K, R I, C J, N),
// windows I x J; `vectors` is N / VECTOR, and n counts the vectors of all windows. A thread takes one of them.

struct alignas(VECTOR * sizeof(REAL)) Vector {
    REAL at[VECTOR];
};

struct alignas(VECTOR * sizeof(short)) Taps {
    unsigned short at[VECTOR];
};

// Where the first pixel of a window lies in the image, in vectors.
__device__ inline long long first_pixel(unsigned window, int vectors, int C, int I, int J) {
    const unsigned n = window % vectors, c = window / vectors % C, row = window / vectors / C;  // row of K R
    return (((long long)row * I * C + c) * J) * vectors + n;
}

// y (K, R, C, N) and the tap that won in each window, of equal ones the first
extern "C" __global__ void max_pool_tiles(
    const Vector* __restrict__ x, Vector* y, Taps* won, int vectors, int C, int I, int J, unsigned n) {
    const unsigned window = blockIdx.x * blockDim.x + threadIdx.x;
    if (window >= n) return;
    x += first_pixel(window, vectors, C, I, J);
    Vector best = x[0];
    Taps tap = {};
    for (int i = 0; i < I; ++i) {
        for (int j = 0; j < J; ++j) {
            const Vector v = x[((long long)i * C * J + j) * vectors];
#pragma unroll
            for (int s = 0; s < VECTOR; ++s) {
                if (v.at[s] > best.at[s] || v.at[s] != v.at[s]) {  // what is no number wins, to be seen
                    best.at[s] = v.at[s];
                    tap.at[s] = (unsigned short)(i * J + j);
                }
            }
        }
    }
    y[window] = best;
    won[window] = tap;
}

// v_x: v_y at the pixel that won, 0 at the others
extern "C" __global__ void max_scatter_tiles(
    const Vector* __restrict__ v_y, const Taps* __restrict__ won, Vector* v_x, int vectors, int C, int I, int J, unsigned n) {
    const unsigned window = blockIdx.x * blockDim.x + threadIdx.x;
    if (window >= n) return;
    v_x += first_pixel(window, vectors, C, I, J);
    const Vector v = v_y[window];
    const Taps tap = won[window];
    for (int i = 0; i < I; ++i) {
        for (int j = 0; j < J; ++j) {
            Vector here;
#pragma unroll
            for (int s = 0; s < VECTOR; ++s) here.at[s] = tap.at[s] == i * J + j ? v.at[s] : REAL(0);
            v_x[((long long)i * C * J + j) * vectors] = here;
        }
    }
}
