// How a program that computes with hone's matrices should keep its heap.
#pragma once

#include <malloc.h>

namespace hone {

// Matrices of some megabytes come and go in every layer, and the system clears the pages of each anew where freed ones
// were given back. glibc learns to keep up to 64 MiB of them once a matrix of 32 MiB was freed; this is so from the
// start. A process has one heap, so it is for the program to call, before its first matrix.
inline void keep_freed_memory() {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

}  // namespace hone
