// Enough of CUDA C++ to run a kernel on the CPU: blocks one after the other, and the threads of a block
// one after the other too, or, where they wait for each other, as coroutines.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static  // of the block that runs
#define __launch_bounds__(...)
#define __syncthreads() on_cpu::wait()
#define __syncwarp()

struct Index {
    unsigned x = 0;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

using std::exp, std::log, std::tanh;

namespace on_cpu {

constexpr size_t STACK_BYTES = 1 << 17;

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool ended = false;
};

static ucontext_t scheduler;
static std::vector<Thread> threads;
static void (*body)(void**);
static void** arguments;

inline void wait() { swapcontext(&threads[threadIdx.x].context, &scheduler); }

inline void begin() {
    body(arguments);
    threads[threadIdx.x].ended = true;
    swapcontext(&threads[threadIdx.x].context, &scheduler);
}

// Every thread runs to its next barrier before any goes on.
inline void run_block_in_step() {
    threads.resize(blockDim.x);
    for (auto& thread : threads) {
        thread.stack.resize(STACK_BYTES);
        thread.ended = false;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = STACK_BYTES;
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, begin, 0);
    }
    for (bool running = true; running;) {
        running = false;
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) {
            if (threads[threadIdx.x].ended) continue;
            running = true;
            swapcontext(&scheduler, &threads[threadIdx.x].context);
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
