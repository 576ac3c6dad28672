#include "adapt/lesson.h"

#include <fmt/format.h>

#include <algorithm>

namespace hone {

void Teacher::find_neighbours(std::string_view text, size_t wanted, const std::function<bool(const Chunk&)>& admits,
                              Lesson& lesson) const {
  if (!store || wanted == 0) return;
  const size_t candidates = admits ? wanted + 190 : wanted;
  for (const Neighbour& neighbour : store->neighbours(text, candidates)) {
    if (lesson.neighbours.size() == wanted) break;
    Chunk chunk = store->chunk(neighbour.chunk_id);
    if (admits && !admits(chunk)) continue;
    lesson.neighbours.push_back(std::move(chunk));
    lesson.scores.push_back(neighbour.score);
  }
  lesson.in_context = std::min(options.context_neighbours, lesson.neighbours.size());
  for (size_t i = lesson.in_context; i-- > 0;) {
    const std::vector<Token>& tokens = lesson.neighbours[i].tokens;
    lesson.context.insert(lesson.context.end(), tokens.begin(), tokens.end());
  }
}

void Teacher::learn_from_neighbours(Lesson& lesson, const Watch& watch) const {
  const std::span<const Chunk> teachers(lesson.neighbours.data(),
                                        std::min(options.neighbours, lesson.neighbours.size()));
  if (teachers.empty() || (options.neighbour_steps.empty() && options.context_steps.empty())) return;
  lesson.neighbour_direction = neighbour_direction(model, *store, statistics, teachers, options.gradient_budget,
                                                   model.precision(), watch, &lesson.gradients_computed);
}

void Teacher::learn_from_prompt(std::span<const Token> tokens, Lesson& lesson, const CancelToken& cancel) const {
  if (tokens.size() < 2 || options.prompt_steps.empty()) return;
  lesson.prompt_direction = prompt_direction(model, statistics, tokens, model.precision(), cancel);
}

std::vector<Expert> experts_of(const Lesson& lesson, const SessionOptions& options) {
  const bool has_context = !lesson.context.empty();
  const Adapter* neighbours = lesson.neighbour_direction ? &*lesson.neighbour_direction : nullptr;
  const Adapter* prompt = lesson.prompt_direction ? &*lesson.prompt_direction : nullptr;
  const size_t direct = (neighbours ? options.neighbour_steps.size() : 0) + (prompt ? options.prompt_steps.size() : 0);
  const size_t both = has_context && neighbours ? options.context_steps.size() : 0;

  double base = has_context ? 0.4 : 0.5, context = has_context ? 0.2 : 0,
         rest = direct > 0 ? (has_context ? 0.2 : 0.5) : 0;
  double reading = both > 0 ? 0.2 : 0;
  const double total = base + context + rest + reading;
  base /= total, context /= total, rest /= total, reading /= total;

  std::vector<Expert> experts = {{"base", plain_context, nullptr, 0, base}};
  const auto add = [&](const std::string& name, size_t from, const Adapter* direction, float step, double prior) {
    experts.push_back({name, from, direction, step, prior});
  };
  if (prompt)
    for (const float step : options.prompt_steps)
      add(fmt::format("prompt {:g}", step), plain_context, prompt, step, rest / static_cast<double>(direct));
  // Side by side, so that rows of one direction are multiplied together.
  if (neighbours)
    for (const float step : options.neighbour_steps)
      add(fmt::format("neighbours {:g}", step), plain_context, neighbours, step, rest / static_cast<double>(direct));
  if (both > 0)
    for (const float step : options.context_steps)
      add(fmt::format("context + neighbours {:g}", step), retrieved_context, neighbours, step,
          reading / static_cast<double>(both));
  if (has_context) add("context", retrieved_context, nullptr, 0, context);
  return experts;
}

ExpertPanel panel_of(const Model& model, int first_adapted_layer, const Lesson& lesson, std::vector<Expert> experts,
                     std::span<const Token> before, const CancelToken& cancel) {
  ExpertPanel panel(model, first_adapted_layer, cancel);
  panel.add_context(before);
  if (std::ranges::find(experts, retrieved_context, &Expert::context) != experts.end()) {
    std::vector<Token> retrieved = lesson.context;
    retrieved.insert(retrieved.end(), before.begin(), before.end());
    panel.add_context(retrieved);
  }
  for (Expert& expert : experts) panel.add_expert(std::move(expert));
  return panel;
}

std::vector<double> priors(const std::vector<Expert>& experts) {
  std::vector<double> prior;
  for (const Expert& expert : experts) prior.push_back(expert.prior);
  return prior;
}

}  // namespace hone
