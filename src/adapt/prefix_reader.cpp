#include "adapt/prefix_reader.h"

#include <algorithm>

namespace hone {

PrefixReader::PrefixReader(const Model& model, int layers) : model_(model), layers_(layers), cache_(model, 0, layers) {}

Matrix PrefixReader::read(std::span<const Sequence> batch, const CancelToken& cancel) {
  const BatchRows rows(batch);
  const auto width = static_cast<size_t>(model_.config().width);
  Matrix result = Matrix::uninitialized(rows.start.back(), width);
  for (size_t b = 0; b < batch.size(); ++b) {
    if (rows.start[b] == rows.start[b + 1]) continue;
    read_text(batch[b].tokens, cancel);
    std::copy(hidden_.begin() + static_cast<ptrdiff_t>(batch[b].shared * width), hidden_.end(),
              result.row(rows.start[b]).begin());
  }
  return result;
}

void PrefixReader::read_text(std::span<const Token> tokens, const CancelToken& cancel) {
  const auto width = static_cast<size_t>(model_.config().width);
  const auto known = static_cast<size_t>(std::ranges::mismatch(tokens, text_).in1 - tokens.begin());
  // Should the pass below fail, nothing beyond `known` is taken for read.
  text_.resize(known);
  hidden_.resize(known * width);
  cache_.truncate(known);
  if (known == tokens.size()) return;
  const Sequence rest{.tokens = tokens.subspan(known), .cache = layers_ > 0 ? &cache_ : nullptr};
  const Matrix x = model_.forward({&rest, 1}, 0, layers_, model_.embed({&rest, 1}), nullptr, cancel);
  hidden_.insert(hidden_.end(), x.data(), x.data() + x.size());
  text_.assign(tokens.begin(), tokens.end());
}

}  // namespace hone
