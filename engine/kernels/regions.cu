// Regions of an image on a GPU: what `engine.regions` does, step by step, with fixed sizes throughout, so that nothing is
// asked of the host in between. The same text runs on a CPU in tests.
//
// A look is one picture at one level with gaps of one length closed. Its runs are numbered row by row; run k of look l is
// node l * capacity + k. Patches are trees of nodes, rooted in their lowest number.

#define ROWS 1024
#define NOTHING 0x7fffffffffffffffLL
#ifndef ATOMIC_LOAD
#define ATOMIC_LOAD(at) (*(const volatile int*)(at))
#endif

struct Look { int offset, columns, gap, threshold, plain, scale, is_turned, unused; };  // as in `regions.LOOKS`

// Calls each(first, last) for the runs of a row: pixels above the level, over gaps.
template <class Each>
static __device__ void runs_of(const float* row, int columns, float level, int gap, Each each)
{
    int first = -1, last = -1;
    for (int column = 0; column < columns; ++column) {
        if (!(row[column] > level)) continue;
        if (first >= 0 && column - last > gap) {
            each(first, last);
            first = column;
        }
        if (first < 0) first = column;
        last = column + 1;
    }
    if (first >= 0) each(first, last);
}

extern "C" __global__ void count_runs(
    const float* pictures, const float* levels, const Look* looks, int* counts /* [looks, ROWS] */)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x, number = blockIdx.y;
    if (row >= ROWS) return;
    const Look look = looks[number];
    int count = 0;
    runs_of(pictures + look.offset + (size_t)row * look.columns, look.columns, levels[look.threshold], look.gap,
            [&](int, int) { ++count; });
    counts[number * ROWS + row] = count;
}

extern "C" __global__ void write_runs(
    const float* pictures, const float* levels, const Look* looks,
    const int* ends,    // [looks, ROWS], runs of a look up to and with a row; all 0 where a look is left out
    int* nodes,         // [looks * capacity, 6]: parent, pixels, and the box: first and last column, first and last row
    int capacity)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x, number = blockIdx.y;
    if (row >= ROWS || ends[number * ROWS + ROWS - 1] == 0) return;
    const Look look = looks[number];
    int node = number * capacity + (row ? ends[number * ROWS + row - 1] : 0);
    runs_of(pictures + look.offset + (size_t)row * look.columns, look.columns, levels[look.threshold], look.gap,
            [&](int first, int last) {
                int* at = nodes + (size_t)node * 6;
                at[0] = node++, at[1] = last - first, at[2] = first, at[3] = last, at[4] = row, at[5] = row + 1;
            });
}

static __device__ int root_of(const int* nodes, int node)
{
    for (int parent = ATOMIC_LOAD(nodes + (size_t)node * 6); parent != node;
         parent = ATOMIC_LOAD(nodes + (size_t)node * 6))
        node = parent;
    return node;
}

// Pairs of runs in neighbouring rows that share a column, one patch from then on.
extern "C" __global__ void join_runs(const int* ends, int* nodes, int capacity)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x + 1, number = blockIdx.y;
    if (row >= ROWS) return;
    const int* end = ends + number * ROWS + row;
    int above = number * capacity + (row > 1 ? end[-2] : 0), below = number * capacity + end[-1];
    const int above_end = below, below_end = number * capacity + end[0];
    while (above < above_end && below < below_end) {
        const int *a = nodes + (size_t)above * 6, *b = nodes + (size_t)below * 6;
        if (a[2] < b[3] && b[2] < a[3]) {
            int one = root_of(nodes, above), other = root_of(nodes, below);
            while (one != other) {
                const int high = one > other ? one : other, low = one > other ? other : one;
                const int before = atomicMin(nodes + (size_t)high * 6, low);
                if (before == high) break;
                one = root_of(nodes, before), other = root_of(nodes, low);
            }
        }
        if (a[3] < b[3]) ++above; else ++below;
    }
}

// Every run's columns, rows and pixels are added to its patch's.
extern "C" __global__ void gather_boxes(const int* ends, int* nodes, int capacity)
{
    const int run = blockIdx.x * blockDim.x + threadIdx.x, number = blockIdx.y;
    if (run >= ends[number * ROWS + ROWS - 1]) return;
    const int node = number * capacity + run, root = root_of(nodes, node);
    if (root == node) return;
    const int* from = nodes + (size_t)node * 6;
    int* to = nodes + (size_t)root * 6;
    atomicAdd(to + 1, from[1]);
    atomicMin(to + 2, from[2]);
    atomicMax(to + 3, from[3]);
    atomicMin(to + 4, from[4]);
    atomicMax(to + 5, from[5]);
}

// Boxes of patches as numbers that sort by x_min, y_min, x_max, y_max; NOTHING for all other nodes.
extern "C" __global__ void box_keys(
    const Look* looks, const int* ends, const int* nodes, long long* keys, int capacity, int least_pixels)
{
    const int run = blockIdx.x * blockDim.x + threadIdx.x, number = blockIdx.y;
    if (run >= capacity) return;
    const int node = number * capacity + run;
    long long key = NOTHING;
    const int* at = nodes + (size_t)node * 6;
    if (run < ends[number * ROWS + ROWS - 1] && at[0] == node && at[1] >= least_pixels) {
        const Look look = looks[number];
        const long long a = (long long)at[2] * look.scale, b = (long long)at[3] * look.scale, c = at[4], d = at[5];
        key = look.is_turned ? ((c << 11 | a) << 11 | d) << 11 | b : ((a << 11 | c) << 11 | b) << 11 | d;
    }
    keys[node] = key;
}

static __device__ void corners(long long key, int* box)
{
    for (int place = 3; place >= 0; --place, key >>= 11) box[place] = (int)(key & 2047);
}

static __device__ int sum_in(const int* sums, int x_min, int y_min, int x_max, int y_max)
{
    const int wide = ROWS + 1;
    return sums[y_max * wide + x_max] - sums[y_min * wide + x_max] - sums[y_max * wide + x_min] + sums[y_min * wide + x_min];
}

// How much brighter each box is than the ring around it, negated, for sorting; 1 for repeats and for NOTHING.
extern "C" __global__ void standing_out(
    const long long* keys,  // [count], sorted
    const int* sums,        // [ROWS + 1, ROWS + 1], of tenths of a decibel above and left of every corner
    double* rank, int count, int ring_px, int ring_share, int large_px)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= count) return;
    rank[number] = 1.0;
    if (keys[number] == NOTHING || (number && keys[number] == keys[number - 1])) return;
    int box[4], ring[4];
    corners(keys[number], box);
    for (int axis = 0; axis < 2; ++axis) {
        const int side = (box[axis + 2] - box[axis]) / ring_share, margin = side > ring_px ? side : ring_px;
        ring[axis] = box[axis] > margin ? box[axis] - margin : 0;
        ring[axis + 2] = box[axis + 2] + margin < ROWS ? box[axis + 2] + margin : ROWS;
    }
    const int area = (box[2] - box[0]) * (box[3] - box[1]);
    const int around = (ring[2] - ring[0]) * (ring[3] - ring[1]) - area;
    const int inside = sum_in(sums, box[0], box[1], box[2], box[3]);
    const int outside = sum_in(sums, ring[0], ring[1], ring[2], ring[3]) - inside;
    const double contrast = (double)inside / area - (double)outside / (around > 1 ? around : 1);
    rank[number] = contrast > 0.0 ? -contrast * sqrt((double)(area < large_px ? area : large_px)) : 0.0;
}

// Which candidates overlap which later ones too much: one bit each, in words of 32.
extern "C" __global__ void alike(
    const long long* keys, unsigned* bits /* [count, words] */, int count, int words, double most_iou)
{
    const int word = blockIdx.x * blockDim.x + threadIdx.x, number = blockIdx.y;
    if (word >= words) return;
    unsigned found = 0;
    if (keys[number] != NOTHING) {
        int one[4], other[4];
        corners(keys[number], one);
        const int area = (one[2] - one[0]) * (one[3] - one[1]);
        for (int bit = 0; bit < 32; ++bit) {
            const int later = word * 32 + bit;
            if (later <= number || later >= count || keys[later] == NOTHING) continue;
            corners(keys[later], other);
            const int width = (one[2] < other[2] ? one[2] : other[2]) - (one[0] > other[0] ? one[0] : other[0]);
            const int height = (one[3] < other[3] ? one[3] : other[3]) - (one[1] > other[1] ? one[1] : other[1]);
            if (width <= 0 || height <= 0) continue;
            const int both = width * height, whole = area + (other[2] - other[0]) * (other[3] - other[1]) - both;
            if (both > most_iou * whole) found |= 1u << bit;
        }
    }
    bits[(size_t)number * words + word] = found;
}

// Candidates in order, less those much like an earlier one. One block; a thread looks after some words of what is dropped.
extern "C" __global__ void keep(
    const long long* keys, const unsigned* bits, float* boxes /* [most, 4], zeros */, int count, int words, int most)
{
    __shared__ unsigned dropped[128];
    const int thread = threadIdx.x;
    for (int word = thread; word < words; word += blockDim.x) dropped[word] = 0;
    __syncthreads();
    int kept = 0;
    for (int number = 0; number < count && kept < most; ++number) {
        if (keys[number] == NOTHING) break;
        const bool is_dropped = dropped[number / 32] >> (number % 32) & 1;
        __syncthreads();  // all have read before one writes
        if (is_dropped) continue;
        for (int word = thread; word < words; word += blockDim.x) dropped[word] |= bits[(size_t)number * words + word];
        if (thread == 0) {
            int box[4];
            corners(keys[number], box);
            for (int place = 0; place < 4; ++place) boxes[kept * 4 + place] = (float)box[place];
        }
        ++kept;
        __syncthreads();
    }
}
