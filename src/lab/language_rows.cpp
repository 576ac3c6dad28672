#include "lab/language_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <numbers>
#include <numeric>

#include "adapt/gradients.h"
#include "adapt/near_duplicates.h"
#include "adapt/panel.h"

namespace hone::lab {
namespace {

constexpr size_t spare_neighbours = 190;  // looked at in place of near-duplicates

struct Neighbourhood {
  std::vector<std::vector<Token>> all, distinct;  // most similar first
  size_t near_duplicates = 0;                     // among `all`
};

Neighbourhood neighbourhood(const Store& store, const std::string& text, std::span<const Token> tokens, size_t wanted,
                            double duplicate_share) {
  Neighbourhood found;
  const TextGrams grams(tokens);
  for (const Neighbour& neighbour : store.neighbours(text, wanted + spare_neighbours)) {
    if (found.distinct.size() == wanted) break;
    Chunk chunk = store.chunk(neighbour.chunk_id);
    const bool duplicate = grams.share_in(chunk.tokens) > duplicate_share;
    if (found.all.size() < wanted) {
      found.all.push_back(chunk.tokens);
      found.near_duplicates += duplicate ? 1 : 0;
    }
    if (!duplicate) found.distinct.push_back(std::move(chunk.tokens));
  }
  return found;
}

double bits(std::span<const float> losses) {
  return std::accumulate(losses.begin(), losses.end(), 0.0) / std::numbers::ln2;
}

struct MixtureBits {
  double bits = 0, bound = 0;
};

// Half of the prior for the base, the other half shared by what was learned.
MixtureBits mixture_bits(const Matrix& losses, double floor) {
  std::vector<double> prior(losses.rows(), 0.5 / std::max(1.0, static_cast<double>(losses.rows()) - 1));
  prior[0] = losses.rows() > 1 ? 0.5 : 1;
  decide::Mixture mixture(prior, decide::Sharing::fixed_share, floor);
  MixtureBits result{0, mixture.bound_bits(losses.cols())};
  std::vector<double> log_probs(losses.rows());
  for (size_t t = 0; t < losses.cols(); ++t) {
    for (size_t c = 0; c < losses.rows(); ++c) log_probs[c] = at_most_certain(-losses.row(c)[t]);
    result.bits -= mixture.update(log_probs) / std::numbers::ln2;
  }
  return result;
}

}  // namespace

Matrix losses_along_neighbours(const Model& model, std::span<const Token> text,
                               std::span<const std::vector<Token>> neighbours, std::span<const size_t> scored_at,
                               const PublishedOptions& options, const Watch& watch) {
  if (text.size() < 2) throw Error(ErrorCode::bad_input, "a text of one token has none to predict");
  Matrix losses = Matrix::uninitialized(scored_at.size(), text.size() - 1);
  size_t done = 0;
  const auto score = [&](size_t read, const Adapter* adapter) {
    const bool last = read == neighbours.size();
    if (done == scored_at.size() || (scored_at[done] > read && !last)) return;
    const Sequence sequence{text, adapter};
    const std::span<const Sequence> batch(&sequence, 1);
    const Matrix hidden = model.forward(batch, 0, model.config().layers, model.embed(batch), nullptr, watch.cancel);
    const std::vector<float> found = model.losses(hidden.view().row_range(0, text.size() - 1), text.subspan(1));
    for (; done < scored_at.size() && (scored_at[done] <= read || last); ++done)
      std::ranges::copy(found, losses.row(done).begin());
  };
  score(0, nullptr);
  published_protocol(model, neighbours, options, watch,
                     [&](size_t read, const Adapter& adapter) { score(read, &adapter); });
  return losses;
}

std::vector<std::string> language_columns() {
  return {"corpus",          "document", "offset", "duplicates", "neighbours", "found",
          "near_duplicates", "tokens",   "bytes",  "bits",       "bound_bits"};
}

std::vector<Row> language_rows(const Model& model, const Store& store, const std::string& corpus,
                               const TextWindow& window, const LanguageOptions& options, const Watch& watch) {
  const std::vector<Token> tokens = model.tokenizer().encode(window.text), text = with_bos(model, tokens);
  const Neighbourhood found =
      neighbourhood(store, window.text, tokens, options.neighbours.back(), options.duplicate_share);
  size_t bytes = 0;
  for (const Token token : std::span(text).subspan(1)) bytes += model.tokenizer().piece(token).size();
  std::vector<Row> rows;
  const auto add = [&](const char* duplicates, size_t count, const Matrix& losses) {
    const auto row = [&](const std::string& neighbours, double total, const std::string& bound) {
      Row cells;
      for (const std::string& cell : {corpus, window.document})
        cells.emplace_back(std::in_place_type<std::string>, cell);
      cells.emplace_back(static_cast<int64_t>(window.offset));
      for (const std::string& cell : {std::string(duplicates), neighbours})
        cells.emplace_back(std::in_place_type<std::string>, cell);
      for (const size_t cell : {count, found.near_duplicates, losses.cols(), bytes})
        cells.emplace_back(static_cast<int64_t>(cell));
      cells.emplace_back(total);
      cells.emplace_back(std::in_place_type<std::string>, bound);
      rows.push_back(std::move(cells));
    };
    for (size_t c = 0; c < losses.rows(); ++c) row(fmt::format("{}", options.neighbours[c]), bits(losses.row(c)), "");
    const MixtureBits mixture = mixture_bits(losses, options.floor);
    row("mixture", mixture.bits, fmt::format("{}", mixture.bound));
  };
  const auto losses = [&](std::span<const std::vector<Token>> neighbours) {
    return losses_along_neighbours(model, text, neighbours, options.neighbours, options.published, watch);
  };
  const Matrix distinct = losses(found.distinct);
  add("removed", found.distinct.size(), distinct);
  if (found.near_duplicates == 0)
    add("kept", found.all.size(), distinct);
  else
    add("kept", found.all.size(), losses(found.all));
  return rows;
}

}  // namespace hone::lab
