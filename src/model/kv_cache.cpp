#include <fmt/format.h>

#include <algorithm>

#include "hone/model.h"
#include "model/attention.h"

namespace hone {

KvCache::KvCache(const Model& model, int first_layer, int last_layer)
    : first_layer_(first_layer),
      kv_heads_(static_cast<size_t>(model.config().kv_heads)),
      head_dim_(static_cast<size_t>(model.config().head_dim)) {
  if (first_layer < 0 || last_layer > model.config().layers || first_layer > last_layer)
    throw Error(ErrorCode::bad_input, fmt::format("a cache of layers [{}, {}) does not fit a model of {} layers",
                                                  first_layer, last_layer, model.config().layers));
  layers_.resize(static_cast<size_t>(last_layer - first_layer));
}

KvCache KvCache::copy() const {
  KvCache other;
  other.layers_ = layers_;
  other.first_layer_ = first_layer_;
  other.kv_heads_ = kv_heads_;
  other.head_dim_ = head_dim_;
  return other;
}

size_t KvCache::length() const { return layers_.empty() ? 0 : layers_.front().length; }

void KvCache::append(Layer& layer, ConstMatrixView keys, ConstMatrixView values) const {
  for (size_t r = 0; r < keys.rows; ++r) {
    const size_t at = layer.length % kv_page_rows;
    if (at == 0)
      layer.pages.push_back(std::make_shared<Matrix>(Matrix::uninitialized(2 * kv_heads_ * kv_page_rows, head_dim_)));
    else if (layer.pages.back().use_count() > 1)
      layer.pages.back() = std::make_shared<Matrix>(layer.pages.back()->copy());
    Matrix& page = *layer.pages.back();
    for (size_t h = 0; h < kv_heads_; ++h) {
      std::ranges::copy(keys.row(r).subspan(h * head_dim_, head_dim_), page.row(h * kv_page_rows + at).begin());
      std::ranges::copy(values.row(r).subspan(h * head_dim_, head_dim_),
                        page.row((kv_heads_ + h) * kv_page_rows + at).begin());
    }
    ++layer.length;
  }
}

void KvCache::truncate(size_t length) {
  for (Layer& layer : layers_) {
    layer.length = std::min(layer.length, length);
    layer.pages.resize((layer.length + kv_page_rows - 1) / kv_page_rows);
  }
}

}  // namespace hone
