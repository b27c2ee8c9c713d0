// What the sources of `engine.devices.kernels` share; it stands in front of each of them.

#define ROWS 1024
#define NOTHING 0x7fffffffffffffffULL
#define KEY_BITS 0xfffffffffffULL  // 44: four corners of 11

static __device__ unsigned bits_of(float value)
{
    union { float value; unsigned bits; } both = {value};
    return both.bits;
}
