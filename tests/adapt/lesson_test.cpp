// What of a lesson's neighbours is read as text.
#include "adapt/lesson.h"

#include <gtest/gtest.h>

#include "tests/golden.h"

namespace hone::test::lesson_test {
namespace {

// Chunks of 10, 20 and 30 tokens, nearest first, each of one token of its own.
Lesson lesson_that_reads(const std::vector<size_t>& in_context) {
  Lesson lesson;
  for (size_t i = 0; i < 3; ++i) {
    Chunk chunk;
    chunk.tokens.assign(10 * (i + 1), static_cast<Token>(i + 1));
    lesson.neighbours.push_back(chunk);
  }
  lesson.in_context = in_context;
  for (const size_t i : in_context)
    lesson.context.insert(lesson.context.end(), lesson.neighbours[i].tokens.begin(), lesson.neighbours[i].tokens.end());
  return lesson;
}

TEST(Lesson, TheFarthestIsLeftOutFirstWhereverItIsRead) {
  const auto model = Model::open(tiny_model("llama"));
  const CorpusStatistics statistics;
  const SessionOptions options;
  const Teacher teacher{*model, nullptr, statistics, options};
  const auto room = static_cast<size_t>(model->config().context);
  for (const std::vector<size_t>& order : std::vector<std::vector<size_t>>{{2, 1, 0}, {0, 2, 1}, {1, 0, 2}}) {
    for (const size_t kept : {3, 2, 1, 0}) {
      std::vector<size_t> expected = order;
      std::erase_if(expected, [&](size_t i) { return i >= kept; });
      const size_t tokens = lesson_that_reads(expected).context.size();
      Lesson lesson = lesson_that_reads(order);
      EXPECT_EQ(teacher.fit_context(room - 1 - tokens, lesson), kept == 3);
      EXPECT_EQ(lesson.in_context, expected);
      EXPECT_EQ(lesson.context, lesson_that_reads(expected).context);
    }
  }
}

TEST(Lesson, ExpertsSayWhatTheyAreMadeOf) {
  Lesson lesson = lesson_that_reads({0});
  lesson.neighbours_teach = lesson.prompt_teaches = true;
  std::vector<Family> families;
  for (const Expert& expert :
       experts_of(lesson, {.neighbour_steps = {1, 2, 3}, .prompt_steps = {4, 5}, .context_steps = {6}}))
    families.push_back(expert.family);
  EXPECT_EQ(families,
            (std::vector{Family::base, Family::prompt_step, Family::prompt_step, Family::neighbour_step,
                         Family::neighbour_step, Family::neighbour_step, Family::context_step, Family::context}));
}

}  // namespace
}  // namespace hone::test::lesson_test
