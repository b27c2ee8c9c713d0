// The best of the candidates that `patches.cu` has put into a table, in order, without those much like a better one.

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
