// Patches of an image that stand out, on a GPU: what `engine.regions` does up to its candidates, step by step, with fixed sizes
// throughout, so that nothing is asked of the host in between. The same text runs on a CPU in tests.
//
// A look is one picture at one level with gaps of one length closed. Its runs are numbered row by row; run k of look l is
// node l * capacity + k. Patches are trees of nodes, rooted in their lowest number.

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

// What stands at two places in a row among the pixels of a picture that show anything, were they sorted: one block of 256
// for each picture, quantile, and lower or upper of the two. Only every `step`th pixel is looked at.
extern "C" __global__ void quantiles(
    const float* pictures, const Look* looks, const int* looks_of_pictures, const double* shares /* [2] */,
    float* found,  // [pictures, 2, 2]
    int* shown,    // [pictures]
    int step, float least)
{
    __shared__ int bins[256], choice[2];  // the bin, and the rank in it
    const int thread = threadIdx.x, picture = blockIdx.x / 4, share = blockIdx.x / 2 % 2, is_upper = blockIdx.x % 2;
    const Look look = looks[looks_of_pictures[picture]];
    const float* pixels = pictures + look.offset;
    const int size = ROWS * look.columns;
    unsigned known = 0;  // the leading digits of what is sought
    int rank = 0;
    for (int pass = -1; pass < 4; ++pass) {  // the first one counts
        bins[thread] = 0;
        __syncthreads();
        for (int k = thread * step; k < size; k += 256 * step)
            if (pixels[k] > least) {
                const unsigned bits = bits_of(pixels[k]);
                if (pass < 0) atomicAdd(bins, 1);
                else if (pass == 0 || bits >> (32 - 8 * pass) == known) atomicAdd(bins + (bits >> (24 - 8 * pass) & 255), 1);
            }
        __syncthreads();
        if (thread == 0) {
            if (pass < 0) {
                const int count = bins[0], lower = (int)(shares[share] * (count > 1 ? count - 1 : 0));
                shown[picture] = count;
                choice[1] = is_upper && lower + 1 < count ? lower + 1 : lower;
            } else {
                int bin = 0;
                while (bin < 255 && rank >= bins[bin]) rank -= bins[bin++];
                choice[0] = bin, choice[1] = rank;
            }
        }
        __syncthreads();
        rank = choice[1];
        if (pass >= 0) known = known << 8 | choice[0];
    }
    union { unsigned bits; float value; } both = {known};
    if (thread == 0) found[blockIdx.x] = both.value;
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

// Boxes of patches as numbers that sort by x_min, y_min, x_max, y_max, each once in a hash table of 2^bits places; not
// those that the end of the band cuts to less than least_rows.
extern "C" __global__ void insert_boxes(
    const Look* looks, const int* ends, const int* nodes, unsigned long long* table, int capacity, int least_pixels,
    int least_rows, int bits)
{
    const int run = blockIdx.x * blockDim.x + threadIdx.x, number = blockIdx.y;
    if (run >= ends[number * ROWS + ROWS - 1]) return;
    const int node = number * capacity + run;
    const int* at = nodes + (size_t)node * 6;
    if (at[0] != node || at[1] < least_pixels) return;
    const Look look = looks[number];
    const int along[] = {at[2] * look.scale, at[3] * look.scale}, across[] = {at[4], at[5]};
    const int *x = look.is_turned ? across : along, *y = look.is_turned ? along : across;
    if ((y[0] == 0 || y[1] == ROWS) && y[1] - y[0] < least_rows) return;
    const unsigned long long key = (((unsigned long long)x[0] << 11 | y[0]) << 11 | x[1]) << 11 | y[1];
    unsigned place = (unsigned)(key * 0x9e3779b97f4a7c15ULL >> (64 - bits));
    for (;; place = (place + 1) & ((1u << bits) - 1)) {
        const unsigned long long there = atomicCAS(table + place, NOTHING, key);
        if (there == NOTHING || there == key) return;
    }
}
