// The front end between the FFT and the image, in two passes over memory. The same text runs on a CPU in tests.
//
// decibels: power of every bin for the peak, the logarithm of those bins that the image reads.
// pixels:   decibels against the peak, clamped, resized in both directions.

#define THREADS 256  // of a block of `decibels`; a power of two

extern "C" __global__ void decibels(
    const float2* spectrum,  // [frames, n_fft]
    const int* bins,         // [kept], which of them the image reads
    float* decibel,          // [frames, kept]
    float* peaks,            // [frames], |X|^2
    int n_fft, int kept, float floor_power)
{
    __shared__ float most[THREADS];
    const int frame = blockIdx.x, thread = threadIdx.x;
    const float2* bin = spectrum + (size_t)frame * n_fft;
    float peak = 0.0f;
    for (int k = thread; k < n_fft; k += THREADS) {
        const float power = bin[k].x * bin[k].x + bin[k].y * bin[k].y;
        peak = power > peak || power != power ? power : peak;
    }
    most[thread] = peak;
    for (int k = thread; k < kept; k += THREADS) {
        const float2 value = bin[bins[k]];
        const float power = value.x * value.x + value.y * value.y;
        decibel[(size_t)frame * kept + k] = logf(power + floor_power) * 4.3429448f;  // 10 / ln(10)
    }
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) {
            const float other = most[thread + half];
            most[thread] = other > most[thread] || other != other ? other : most[thread];
        }
    }
    if (thread == 0) peaks[frame] = most[0];
}

extern "C" __global__ void pixels(
    const float* decibel,       // [frames, 2 * size]: the lower neighbours of all rows, then the upper ones
    const float* top_db,        // [1]
    const float* row_weight,    // [size], of the upper neighbour
    const int* low,             // [size], frame before each column
    const int* high,            // [size], and after it
    const float* frame_weight,  // [size], of the latter
    float* image,               // [size, size]
    int size, float per_db)
{
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (column >= size) return;
    float level[2];
    for (int side = 0; side < 2; ++side) {
        const float* frame = decibel + (size_t)(side ? high[column] : low[column]) * 2 * size;
        const float lower = fminf(fmaxf((frame[row] - top_db[0]) * per_db + 1.0f, 0.0f), 1.0f);
        const float upper = fminf(fmaxf((frame[size + row] - top_db[0]) * per_db + 1.0f, 0.0f), 1.0f);
        level[side] = lower + (upper - lower) * row_weight[row];
    }
    image[(size_t)row * size + column] = level[0] + (level[1] - level[0]) * frame_weight[column];
}
