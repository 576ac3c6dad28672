// Highway 1.0 has no name for VNNI's instruction: x86's own intrinsics, in functions that are marked HONE_VNNI and
// called only where has_vnni(). Silences warnings for all that follows, so who includes it is compiled alone
// (CMakeLists.txt).
#pragma once

#if defined(__x86_64__)
#ifndef __clang__  // GCC 12 warns of its own header, at the place of use
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#define HONE_VNNI [[gnu::target("avx512f,avx512bw,avx512vl,avx512vnni")]]
#endif
