#include <fmt/format.h>

#include <algorithm>

#include "hone/model.h"

namespace hone {

KvCache::KvCache(const Model& model, int first_layer, int last_layer)
    : first_layer_(first_layer),
      width_(static_cast<size_t>(model.config().kv_heads) * static_cast<size_t>(model.config().head_dim)) {
  if (first_layer < 0 || last_layer > model.config().layers || first_layer > last_layer)
    throw Error(ErrorCode::bad_input, fmt::format("a cache of layers [{}, {}) does not fit a model of {} layers",
                                                  first_layer, last_layer, model.config().layers));
  layers_.resize(static_cast<size_t>(last_layer - first_layer));
}

KvCache KvCache::copy() const {
  KvCache other;
  other.layers_ = layers_;
  other.first_layer_ = first_layer_;
  other.width_ = width_;
  return other;
}

size_t KvCache::length() const { return layers_.empty() ? 0 : layers_.front().keys.size() / width_; }

void KvCache::truncate(size_t length) {
  for (Layer& layer : layers_) {
    layer.keys.resize(std::min(layer.keys.size(), length * width_));
    layer.values.resize(std::min(layer.values.size(), length * width_));
  }
}

}  // namespace hone
