// Regions of an image on a GPU: what `engine.regions` does, step by step, with fixed sizes throughout, so that nothing is
// asked of the host in between. The same text runs on a CPU in tests.
//
// A look is one picture at one level with gaps of one length closed. Its runs are numbered row by row; run k of look l is
// node l * capacity + k. Patches are trees of nodes, rooted in their lowest number.

#define ROWS 1024
#define NOTHING 0x7fffffffffffffffULL
#define KEY_BITS 0xfffffffffffULL  // 44: four corners of 11
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

static __device__ unsigned bits_of(float value)
{
    union { float value; unsigned bits; } both = {value};
    return both.bits;
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

// Boxes of patches as numbers that sort by x_min, y_min, x_max, y_max, each once in a hash table of 2^bits places.
extern "C" __global__ void insert_boxes(
    const Look* looks, const int* ends, const int* nodes, unsigned long long* table, int capacity, int least_pixels, int bits)
{
    const int run = blockIdx.x * blockDim.x + threadIdx.x, number = blockIdx.y;
    if (run >= ends[number * ROWS + ROWS - 1]) return;
    const int node = number * capacity + run;
    const int* at = nodes + (size_t)node * 6;
    if (at[0] != node || at[1] < least_pixels) return;
    const Look look = looks[number];
    const unsigned long long a = at[2] * look.scale, b = at[3] * look.scale, c = at[4], d = at[5];
    const unsigned long long key =
        look.is_turned ? ((c << 11 | a) << 11 | d) << 11 | b : ((a << 11 | c) << 11 | b) << 11 | d;
    unsigned place = (unsigned)(key * 0x9e3779b97f4a7c15ULL >> (64 - bits));
    for (;; place = (place + 1) & ((1u << bits) - 1)) {
        const unsigned long long there = atomicCAS(table + place, NOTHING, key);
        if (there == NOTHING || there == key) return;
    }
}

static __device__ void corners(unsigned long long key, int* box)
{
    for (int place = 3; place >= 0; --place, key >>= 11) box[place] = (int)(key & 2047);
}

static __device__ int sum_in(const int* sums, int x_min, int y_min, int x_max, int y_max)
{
    const int wide = ROWS + 1;
    return sums[y_max * wide + x_max] - sums[y_min * wide + x_max] - sums[y_max * wide + x_min] + sums[y_min * wide + x_min];
}

// How much brighter each box is than the ring around it, as a code: the more, the smaller.
extern "C" __global__ void standing_out(
    const unsigned long long* table,
    const int* sums,  // [ROWS + 1, ROWS + 1], of tenths of a decibel above and left of every corner
    unsigned* codes, int slots, int ring_px, int ring_share, int large_px)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= slots) return;
    codes[number] = 0xffffffffu;
    if (table[number] == NOTHING) return;
    int box[4], ring[4];
    corners(table[number], box);
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
    if (contrast > 0.0)
        codes[number] = ~bits_of((float)(contrast * sqrt((double)(area < large_px ? area : large_px))));
}

// The best candidates are found digit by digit, as in a radix sort that follows one bin only: first three digits of the code,
// then four of the key. What is known of the last one that is wanted: its code, its key, and how many of those that
// begin like it come before it.
struct Last { unsigned long long key, code, before; };

static __device__ unsigned long long digits_up_to(int pass, unsigned long long code, unsigned long long key)
{
    return pass < 3 ? code >> 11 * (2 - pass) : key >> 11 * (6 - pass);
}

extern "C" __global__ void histogram(
    const unsigned long long* table, const unsigned* codes, const Last* last, int* bins /* [passes, 2048] */, int slots, int pass)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= slots) return;
    const unsigned long long code = codes[number], key = table[number] & KEY_BITS;
    if (pass >= 3 && code != last->code) return;
    const unsigned long long digits = digits_up_to(pass, code, key);
    if (digits >> 11 != digits_up_to(pass, last->code, last->key) >> 11) return;
    atomicAdd(bins + pass * 2048 + (int)(digits & 2047), 1);
}

// One block of 256.
extern "C" __global__ void choose(const int* bins, Last* last, int pass)
{
    __shared__ unsigned long long sums[256];
    const int thread = threadIdx.x;
    const int* own = bins + pass * 2048 + thread * 8;
    unsigned long long sum = 0, begin = 0;
    for (int k = 0; k < 8; ++k) sum += own[k];
    sums[thread] = sum;
    __syncthreads();
    for (int k = 0; k < thread; ++k) begin += sums[k];
    const unsigned long long wanted = last->before;
    __syncthreads();  // all have read before one writes
    if (wanted < begin || wanted >= begin + sum) return;
    int bin = 0;
    while (wanted >= begin + own[bin]) begin += own[bin++];
    const unsigned long long digit = thread * 8 + bin;
    if (pass < 3) last->code |= digit << 11 * (2 - pass);
    else last->key |= digit << 11 * (6 - pass);
    last->before = wanted - begin;
}

static __device__ bool is_before(unsigned long long code, unsigned long long key, unsigned long long other_code,
                                 unsigned long long other_key)
{
    return code < other_code || (code == other_code && key < other_key);
}

// All candidates up to the last one that is wanted, in any order.
extern "C" __global__ void gather_best(
    const unsigned long long* table, const unsigned* codes, const Last* last, unsigned long long* best_keys,
    unsigned* best_codes, int* count /* [1], zero */, int slots)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= slots || table[number] == NOTHING) return;
    if (is_before(last->code, last->key, codes[number], table[number])) return;
    const int place = atomicAdd(count, 1);
    best_keys[place] = table[number];
    best_codes[place] = codes[number];
}

// The best first: each counts those before it.
extern "C" __global__ void order_best(
    const unsigned long long* best_keys, const unsigned* best_codes, const int* count,
    unsigned long long* keys /* [most], NOTHING */)
{
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if (number >= *count) return;
    int place = 0;
    for (int other = 0; other < *count; ++other)
        place += is_before(best_codes[other], best_keys[other], best_codes[number], best_keys[number]);
    keys[place] = best_keys[number];
}

// Which candidates overlap which later ones too much: one bit each, in words of 32.
extern "C" __global__ void alike(
    const unsigned long long* keys, unsigned* bits /* [count, words] */, int count, int words, double most_iou)
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
    const unsigned long long* keys, const unsigned* bits, float* boxes /* [most, 4], zeros */, int count, int words, int most)
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
