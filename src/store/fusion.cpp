#include <algorithm>
#include <map>

#include "hone/store.h"

namespace hone {

std::string_view name(Retrieval retrieval) {
  switch (retrieval) {
    case Retrieval::bm25: return "bm25";
    case Retrieval::vectors: return "vectors";
    case Retrieval::fused: return "fused";
    case Retrieval::sift: return "sift";
  }
  return "";
}

std::vector<Neighbour> fuse(std::span<const std::vector<Neighbour>> lists, size_t count) {
  constexpr double constant = 60;
  std::map<int64_t, double> scores;
  for (const std::vector<Neighbour>& list : lists)
    for (size_t i = 0; i < list.size(); ++i) scores[list[i].chunk_id] += 1 / (constant + static_cast<double>(i + 1));
  std::vector<Neighbour> fused;
  fused.reserve(scores.size());
  for (const auto& [id, score] : scores) fused.push_back({id, score});
  std::ranges::stable_sort(fused, std::ranges::greater(), &Neighbour::score);
  if (fused.size() > count) fused.resize(count);
  return fused;
}

}  // namespace hone
