// Enough of CUDA C++ to run a kernel on the CPU: blocks one after the other, and the threads of a block
// one after the other too, or, where they wait for each other, as coroutines.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <tuple>
#include <utility>

#define __global__
#define __device__
#define __shared__ static  // of the block that runs
#define __launch_bounds__(...)
#define __syncthreads() on_cpu::wait()
#define __syncwarp() on_cpu::wait()

struct Index {
    unsigned x = 0;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

using std::exp, std::exp2, std::fabs, std::log, std::pow, std::sqrt, std::tanh;

namespace on_cpu {

constexpr size_t STACK_BYTES = 1 << 17;

using Place = void*[5];  // what the compiler's own setjmp keeps: cheaper than that of the C library

struct Thread {
    ucontext_t context;  // to begin with; from then on it jumps, which asks nothing of the system
    Place place;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};  // untouched, so that it takes no memory before it is used
    bool begun = false, ended = false;
};

static ucontext_t unused;
static Place scheduler;
static std::deque<Thread> threads;
static void (*body)(void**);
static void** arguments;

__attribute__((noinline)) inline void jump(Place& place) { __builtin_longjmp(place, 1); }

__attribute__((noinline)) inline void wait() {
    if (__builtin_setjmp(threads[threadIdx.x].place) == 0) jump(scheduler);
}

inline void begin() {
    for (;;) {  // block after block
        body(arguments);
        threads[threadIdx.x].ended = true;
        wait();
    }
}

__attribute__((noinline)) inline void go_on(Thread& thread) {
    if (__builtin_setjmp(scheduler) != 0) return;
    if (thread.begun) jump(thread.place);
    thread.begun = true;
    swapcontext(&unused, &thread.context);
}

// Every thread runs to its next barrier before any goes on.
inline void run_block_in_step() {
    while (threads.size() < blockDim.x) {
        Thread& thread = threads.emplace_back();
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.get();
        thread.context.uc_stack.ss_size = STACK_BYTES;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, begin, 0);
    }
    for (unsigned i = 0; i < blockDim.x; ++i) threads[i].ended = false;
    for (bool running = true; running;) {
        running = false;
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) {
            if (threads[threadIdx.x].ended) continue;
            running = true;
            go_on(threads[threadIdx.x]);
        }
    }
}

inline void launch(void (*run)(void**), void** given, unsigned n_blocks, unsigned n_threads, bool in_step) {
    body = run;
    arguments = given;
    gridDim.x = n_blocks;
    blockDim.x = n_threads;
    for (blockIdx.x = 0; blockIdx.x < n_blocks; ++blockIdx.x) {
        if (in_step) {
            run_block_in_step();
        } else {
            for (threadIdx.x = 0; threadIdx.x < n_threads; ++threadIdx.x) run(given);
        }
    }
}

template <auto kernel, class... A, size_t... I>
void call(void (*)(A...), void** given, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(given[I])...);
}

template <auto kernel>
void call(void** given) {
    [&]<class... A>(void (*pointer)(A...)) { call<kernel>(pointer, given, std::index_sequence_for<A...>{}); }(kernel);
}

}  // namespace on_cpu

template <class T>
T __shfl_xor_sync(unsigned, T x, int across) {
    static T of_threads[1024];
    of_threads[threadIdx.x] = x;
    on_cpu::wait();
    x = of_threads[threadIdx.x ^ across];
    on_cpu::wait();
    return x;
}
