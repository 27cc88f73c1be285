// Patches of an image, which are never written out: the matrix X (K I J, R C N), with a row for each channel and tap
// (k, i, j) and a column for each position of the window and sample (r, c, n):
//
//     X[k i j, r c n] = x[k, r stride + i - top, c stride + j - left, n],   0 outside the image x (K, H, W, N)
//
// Set when it is compiled: REAL; VECTOR, the neighbours in n that are read together (N is a multiple of it); SQUARED
// (1: the image's numbers are squared as they are read).
//
// Every number is written by one thread, and sums run in a fixed order: two runs give the same bytes.

struct Geometry {
    int H, W, N, R, C, I, J, stride_r, stride_c, top, left;
};

struct alignas(VECTOR * sizeof(REAL)) Vector {
    REAL at[VECTOR];
};

__device__ inline REAL seen(REAL x) { return SQUARED ? x * x : x; }
