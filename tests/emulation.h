// What CUDA C++ has and C++ has not, for running a kernel's text on a CPU with several threads. It shows arithmetic, bounds
// and races; of speed and of warps it knows nothing.
#include <barrier>
#include <cmath>
#include <cstddef>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define ATOMIC_LOAD(at) __atomic_load_n(at, __ATOMIC_RELAXED)
#define __shared__ static
#define __syncthreads() together->arrive_and_wait()

struct float2 { float x, y; };
struct Place { int x, y; };
static thread_local Place threadIdx, blockIdx;
static Place blockDim;
static std::barrier<>* together;

inline int atomicAdd(int* at, int value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }

inline unsigned long long atomicCAS(unsigned long long* at, unsigned long long before, unsigned long long after)
{
    __atomic_compare_exchange_n(at, &before, after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return before;
}

template <class Better>
int replaced(int* at, int value, Better better)
{
    int before = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (better(value, before) &&
           !__atomic_compare_exchange_n(at, &before, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return before;
}
inline int atomicMin(int* at, int value) { return replaced(at, value, [](int a, int b) { return a < b; }); }
inline int atomicMax(int* at, int value) { return replaced(at, value, [](int a, int b) { return a > b; }); }

// Of kernels whose threads do not wait for each other: four at once, all blocks mixed.
template <class Kernel>
void launch_apart(Place grid, int threads, Kernel kernel)
{
    blockDim = {threads, 1};
    std::vector<std::thread> running;
    for (int worker = 0; worker < 4; ++worker)
        running.emplace_back([=] {
            for (int y = 0; y < grid.y; ++y)
                for (int x = 0; x < grid.x; ++x)
                    for (int thread = worker; thread < threads; thread += 4) {
                        blockIdx = {x, y};
                        threadIdx = {thread, 0};
                        kernel();
                    }
        });
    for (auto& thread : running) thread.join();
}

// Of those whose threads do: one for each of a block's, blocks in turn.
template <class Kernel>
void launch(Place grid, int threads, Kernel kernel)
{
    std::barrier<> barrier(threads);
    together = &barrier;
    blockDim = {threads, 1};
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; ++thread)
        running.emplace_back([=] {
            threadIdx = {thread, 0};
            for (int y = 0; y < grid.y; ++y)
                for (int x = 0; x < grid.x; ++x) {
                    blockIdx = {x, y};
                    kernel();
                    together->arrive_and_wait();
                }
        });
    for (auto& thread : running) thread.join();
}
