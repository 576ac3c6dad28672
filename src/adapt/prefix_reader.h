// The lower layers of texts that begin alike: what the last text shares with the next is not computed again.
#pragma once

#include "hone/model.h"

namespace hone {

// Reads layers [0, layers) of one text after the other. The model must outlive it. One thread at a time.
class PrefixReader {
 public:
  PrefixReader(const Model& model, int layers);

  // The residual stream [P, D] of a packed batch, as Model::forward would return it, to the last bit.
  Matrix read(std::span<const Sequence> batch, const CancelToken& cancel);

 private:
  void read_text(std::span<const Token> tokens, const CancelToken& cancel);

  const Model& model_;
  int layers_;
  KvCache cache_;
  std::vector<Token> text_;
  std::vector<float> hidden_;  // [text, D]
};

}  // namespace hone
