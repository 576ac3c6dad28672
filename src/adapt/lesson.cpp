#include "adapt/lesson.h"

#include <fmt/format.h>

#include <algorithm>

#include "adapt/retrieval.h"

namespace hone {

void Teacher::find_neighbours(std::span<const Token> text, size_t wanted,
                              const std::function<bool(const Chunk&)>& admits, std::span<const int64_t> read_before,
                              Lesson& lesson, const CancelToken& cancel) const {
  if (!store || wanted == 0) return;
  // What is fused or chosen one beside the other depends on how many are asked for: then as many with and without.
  const bool ranked_alone = options.retrieval == Retrieval::bm25 || options.retrieval == Retrieval::vectors;
  const size_t candidates = admits || !ranked_alone ? wanted + 190 : wanted;
  for (const Neighbour& neighbour :
       hone::find_neighbours(model, *store, options.retrieval, text, candidates, cancel, options.encoder.get())) {
    if (lesson.neighbours.size() == wanted) break;
    std::optional<Chunk> chunk = find_chunk(*store, neighbour.chunk_id);
    if (!chunk || (admits && !admits(*chunk))) continue;
    lesson.neighbours.push_back(std::move(*chunk));
    lesson.scores.push_back(neighbour.score);
  }
  const size_t count = std::min(options.context_neighbours, lesson.neighbours.size());
  const bool nearest_was_read =
      count > 0 && std::ranges::find(read_before, lesson.neighbours.front().id) != read_before.end();
  for (const int64_t id : nearest_was_read ? read_before : std::span<const int64_t>()) {
    const auto still = std::ranges::find(lesson.neighbours, id, &Chunk::id);
    if (still == lesson.neighbours.end() || lesson.in_context.size() == count) break;
    lesson.in_context.push_back(static_cast<size_t>(still - lesson.neighbours.begin()));
  }
  const size_t kept = lesson.in_context.size();
  for (size_t i = 0; lesson.in_context.size() < count; ++i)
    if (std::ranges::find(lesson.in_context, i) == lesson.in_context.end())
      lesson.in_context.insert(lesson.in_context.begin() + static_cast<std::ptrdiff_t>(kept), i);
  for (const size_t i : lesson.in_context) {
    const std::vector<Token>& tokens = lesson.neighbours[i].tokens;
    lesson.context.insert(lesson.context.end(), tokens.begin(), tokens.end());
  }
}

bool Teacher::fit_context(size_t tokens, Lesson& lesson) const {
  const auto room = static_cast<size_t>(model.config().context);
  const size_t wanted = lesson.in_context.size();
  while (!lesson.in_context.empty() && lesson.context.size() + tokens + 1 > room) {
    const auto farthest = std::ranges::max_element(lesson.in_context);
    std::ptrdiff_t before = 0;
    for (auto i = lesson.in_context.begin(); i != farthest; ++i) before += std::ssize(lesson.neighbours[*i].tokens);
    const auto begin = lesson.context.begin() + before;
    lesson.context.erase(begin, begin + std::ssize(lesson.neighbours[*farthest].tokens));
    lesson.in_context.erase(farthest);
  }
  return lesson.in_context.size() == wanted;
}

void Teacher::plan(size_t prompt_tokens, Lesson& lesson) const {
  lesson.neighbours_teach = !lesson.neighbours.empty() && options.neighbours > 0 &&
                            !(options.neighbour_steps.empty() && options.context_steps.empty());
  lesson.prompt_teaches = prompt_tokens >= 2 && !options.prompt_steps.empty();
}

void Teacher::learn_from_neighbours(Lesson& lesson, const Watch& watch) const {
  if (!lesson.neighbours_teach) return;
  const std::span<const Chunk> teachers(lesson.neighbours.data(),
                                        std::min(options.neighbours, lesson.neighbours.size()));
  lesson.neighbour_direction = neighbour_direction(model, *store, statistics, teachers, options.gradient_budget,
                                                   model.precision(), watch, &lesson.gradients_computed);
}

void Teacher::learn_from_prompt(std::span<const Token> tokens, const Reading& base, Lesson& lesson,
                                const CancelToken& cancel) const {
  if (!lesson.prompt_teaches) return;
  lesson.prompt_direction = prompt_direction(model, statistics, tokens, model.precision(), cancel, base.hidden());
}

std::vector<Expert> experts_of(const Lesson& lesson, const SessionOptions& options) {
  const bool has_context = !lesson.context.empty();
  const Adapter* neighbours = lesson.neighbours_teach ? &lesson.neighbour_direction : nullptr;
  const Adapter* prompt = lesson.prompt_teaches ? &lesson.prompt_direction : nullptr;
  const size_t direct = (neighbours ? options.neighbour_steps.size() : 0) + (prompt ? options.prompt_steps.size() : 0);
  const size_t both = has_context && neighbours ? options.context_steps.size() : 0;

  double base = has_context ? 0.4 : 0.5, context = has_context ? 0.2 : 0,
         rest = direct > 0 ? (has_context ? 0.2 : 0.5) : 0;
  double reading = both > 0 ? 0.2 : 0;
  const double total = base + context + rest + reading;
  base /= total, context /= total, rest /= total, reading /= total;

  std::vector<Expert> experts = {{"base", plain_context, nullptr, 0, base, Family::base}};
  const auto add = [&](Family family, const std::string& name, size_t from, const Adapter* direction, float step,
                       double prior) {
    experts.push_back({name, from, direction, step, prior, family});
  };
  if (prompt)
    for (const float step : options.prompt_steps)
      add(Family::prompt_step, fmt::format("prompt {:g}", step), plain_context, prompt, step,
          rest / static_cast<double>(direct));
  // Side by side, so that rows of one direction are multiplied together.
  if (neighbours)
    for (const float step : options.neighbour_steps)
      add(Family::neighbour_step, fmt::format("neighbours {:g}", step), plain_context, neighbours, step,
          rest / static_cast<double>(direct));
  if (both > 0)
    for (const float step : options.context_steps)
      add(Family::context_step, fmt::format("context + neighbours {:g}", step), retrieved_context, neighbours, step,
          reading / static_cast<double>(both));
  if (has_context) add(Family::context, "context", retrieved_context, nullptr, 0, context);
  return experts;
}

ExpertPanel panel_of(const Model& model, int first_adapted_layer, const Lesson& lesson, std::vector<Expert> experts,
                     std::span<const Token> before, std::vector<Reading> readings, const CancelToken& cancel) {
  ExpertPanel panel(model, first_adapted_layer, cancel);
  while (readings.size() < 2) readings.emplace_back(model, first_adapted_layer);
  panel.add_context(before, std::move(readings[plain_context]));
  if (std::ranges::find(experts, retrieved_context, &Expert::context) != experts.end()) {
    std::vector<Token> retrieved = lesson.context;
    retrieved.insert(retrieved.end(), before.begin(), before.end());
    panel.add_context(retrieved, std::move(readings[retrieved_context]));
  }
  for (Expert& expert : experts) panel.add_expert(std::move(expert));
  return panel;
}

std::vector<double> priors(const std::vector<Expert>& experts) {
  std::vector<double> prior;
  prior.reserve(experts.size());
  for (const Expert& expert : experts) prior.push_back(expert.prior);
  return prior;
}

}  // namespace hone
