// FAISS's indexes out of bytes that anybody may have written.
#pragma once

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>

#include <cstddef>
#include <memory>
#include <span>

#include "hone/neighbours.h"

namespace hone {

faiss::MetricType faiss_metric(Metric metric);

// An index of n points of d values, which a search cannot leave. Throw Error{corrupt}, or Error{bad_input} for points
// that are not finite, without the file's name.
std::unique_ptr<faiss::IndexIVFFlat> read_lists(std::span<const std::byte> bytes, const NeighbourOptions& options,
                                                size_t n, size_t d);
std::unique_ptr<faiss::IndexHNSW> read_graph(std::span<const std::byte> bytes, const NeighbourOptions& options,
                                             size_t n, size_t d);

}  // namespace hone
