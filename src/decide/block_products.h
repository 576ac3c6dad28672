// Loops over the entries of kernels, compiled for several instruction sets. Each sum's order depends on its length
// only.
#pragma once

#include <cstddef>

namespace hone::decide {

// From so many products of a kernel and a vector on, over n, its eigenvectors are found sooner.
constexpr size_t products_of_a_spectrum = 12;

// sum[i] += x[i]
void add(const float* x, double* sum, size_t count);
// Σ a[i] b[i]
double dot(const float* a, const double* b, size_t count);
double dot(const double* a, const double* b, size_t count);
// y = K v for a symmetric K [n, n].
void symmetric_product(const double* kernel, const double* v, size_t n, double* y);

}  // namespace hone::decide
