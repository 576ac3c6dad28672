// Whether this processor has AVX-512 VNNI: products of bytes, summed in 32 bits.
#pragma once

namespace hone {

inline bool has_vnni() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

}  // namespace hone
