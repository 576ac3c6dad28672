#include "base/parallel.h"

#include <omp.h>

namespace hone {

void set_threads(int count) { omp_set_num_threads(std::max(count, 1)); }
int threads() { return omp_get_max_threads(); }

}  // namespace hone
