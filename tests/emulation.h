// What CUDA C++ has and C++ has not, for running a kernel's text on a CPU: one thread for each of a block's, blocks in
// turn. It shows arithmetic, bounds and races between threads of a block; of speed and of warps it knows nothing.
#include <barrier>
#include <cmath>
#include <cstddef>
#include <thread>
#include <vector>

#define __global__
#define __shared__ static
#define __syncthreads() together->arrive_and_wait()

struct float2 { float x, y; };
struct Place { int x, y; };
static thread_local Place threadIdx, blockIdx;
static Place blockDim;
static std::barrier<>* together;

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
