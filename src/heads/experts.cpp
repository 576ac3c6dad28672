#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "heads/checks.h"
#include "heads/neighbours_kernels.h"
#include "hone/neighbours.h"
#include "model/safetensors.h"

namespace hone {
namespace {

constexpr size_t heads_a_batch = 1024;

Error corrupt(const std::filesystem::path& path, const std::string& why) {
  return {ErrorCode::corrupt, fmt::format("'{}' does not hold experts: {}; make it anew", path.string(), why)};
}

}  // namespace

Experts::Experts(Metric metric, Matrix centroids, Matrix weights, Matrix bias, std::vector<std::string> labels)
    : metric_(metric),
      centroids_(std::move(centroids)),
      weights_(std::move(weights)),
      bias_(std::move(bias)),
      classes_(bias_.cols()),
      labels_(std::move(labels)),
      index_(NeighbourIndex::build(centroids_, {.metric = metric})) {}

Experts Experts::fit(const LinearHead& start, ConstMatrixView x, std::span<const int> y, const NeighbourIndex& index,
                     const ExpertOptions& options, const Watch& watch) {
  if (index.size() != x.rows || index.dimension() != x.cols)
    throw Error(ErrorCode::bad_input,
                fmt::format("experts: the index holds points [{}, {}], x is [{}, {}]; build it from x", index.size(),
                            index.dimension(), x.rows, x.cols));
  const Metric metric = index.options().metric;
  Matrix centroids = kmeans(x, options.experts, metric, options.iterations, options.seed, watch);
  Matrix weights = Matrix::uninitialized(options.experts * start.classes(), x.cols);
  Matrix bias = Matrix::uninitialized(options.experts, start.classes());
  const Watch quiet{.progress = {}, .cancel = watch.cancel};
  for (size_t first = 0; first < options.experts; first += heads_a_batch) {
    watch.report("training experts", first, options.experts);
    const size_t count = std::min(heads_a_batch, options.experts - first);
    const Neighbours near = index.search(centroids.view().row_range(first, count), options.neighbours, quiet);
    const std::vector<LinearHead> heads = local_heads(start, x, y, near.view(), options.training, quiet);
    for (size_t e = 0; e < count; ++e) {
      std::copy_n(heads[e].weights.data(), heads[e].weights.size(), weights.row((first + e) * start.classes()).data());
      std::ranges::copy(heads[e].bias, bias.row(first + e).begin());
      if (!is_finite(heads[e].weights) || !is_finite(bias.view().row_range(first + e, 1)))
        throw Error(
            ErrorCode::bad_input,
            fmt::format("experts: the head of expert {} diverged: after {} steps at learning rate {} its weights "
                        "are not finite; give a smaller learning rate or fewer steps",
                        first + e, options.training.steps, options.training.learning_rate));
    }
  }
  return {metric, std::move(centroids), std::move(weights), std::move(bias), {}};
}

LinearHead Experts::head(size_t expert) const {
  LinearHead head{Matrix::uninitialized(classes_, dimension()), {}};
  std::copy_n(weights_.row(expert * classes_).data(), head.weights.size(), head.weights.data());
  head.bias.assign(bias_.row(expert).begin(), bias_.row(expert).end());
  return head;
}

std::vector<int64_t> Experts::route(ConstMatrixView queries, const Watch& watch) const {
  return index_.search(queries, 1, watch).ids;
}

Matrix Experts::logits(ConstMatrixView queries, const Watch& watch) const {
  const std::vector<int64_t> experts = route(queries, watch);
  Matrix answers = Matrix::uninitialized(queries.rows, classes_);
  parallel_ranges(queries.rows, 16, [&](size_t begin, size_t end) {
    for (size_t q = begin; q < end; ++q) {
      const auto expert = static_cast<size_t>(experts[q]);
      for (size_t c = 0; c < classes_; ++c)
        answers.row(q)[c] = bias_.row(expert)[c] +
                            static_cast<float>(inner_product(queries.row(q).data(),
                                                             weights_.row(expert * classes_ + c).data(), queries.cols));
    }
  });
  return answers;
}

void Experts::save(const std::filesystem::path& path, std::span<const std::string> labels) const {
  if (!labels.empty() && labels.size() != classes_)
    throw Error(ErrorCode::bad_input, fmt::format("experts: {} names for {} classes", labels.size(), classes_));
  const std::vector<NamedMatrix> tensors = {{"centroids", centroids_}, {"weights", weights_}, {"bias", bias_}};
  const nlohmann::json names = std::vector<std::string>(labels.begin(), labels.end());
  std::map<std::string, std::string> metadata = {{"metric", std::string(name(metric_))}};
  try {
    metadata["labels"] = names.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorCode::bad_input, "experts: a class's name is not UTF-8");
  }
  write_safetensors(path, tensors, metadata);
}

Experts Experts::open(const std::filesystem::path& path) {
  const SafeTensors file = SafeTensors::open(path);
  const auto entry = [&](const std::string& key) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) throw corrupt(path, "its metadata has no " + key);
    return found->second;
  };
  const auto tensor = [&](std::string_view key) {
    if (!file.tensors().contains(key)) throw corrupt(path, fmt::format("it has no tensor {}", key));
    return file.matrix(key);
  };
  Metric metric;
  std::vector<std::string> labels;
  try {
    metric = metric_named(entry("metric"));
    labels = nlohmann::json::parse(entry("labels")).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    throw corrupt(path, "its labels are not a list of names");
  } catch (const Error& error) {
    if (error.code != ErrorCode::bad_input) throw;
    throw corrupt(path, error.message);
  }
  Matrix centroids = tensor("centroids"), weights = tensor("weights"), bias = tensor("bias");
  if (centroids.empty() || bias.rows() != centroids.rows() || bias.empty() || weights.cols() != centroids.cols() ||
      weights.rows() != bias.size() || (!labels.empty() && labels.size() != bias.cols()))
    throw corrupt(path, "its tensors' shapes do not fit each other");
  if (!is_finite(weights) || !is_finite(bias)) throw corrupt(path, "a head holds a value that is not finite");
  try {
    return {metric, std::move(centroids), std::move(weights), std::move(bias), std::move(labels)};
  } catch (const Error& error) {
    throw corrupt(path, error.message);
  }
}

}  // namespace hone
