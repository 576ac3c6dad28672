// Prompts of labelled examples with queries whose labels are known: SST-2 sentences (Socher et al. 2013) and CLINC150
// intents (Larson et al. 2019).
#pragma once

#include <filesystem>
#include <map>

#include "hone/fewshot.h"
#include "lab/sst2_tasks.h"

namespace hone::lab {

// Examples and queries of one draw. Numbers say which texts of their file they are.
struct FewShotDraw {
  std::vector<std::string> labels;
  std::vector<LabelledText> examples, queries;
  std::vector<size_t> example_numbers, query_numbers;
};

// Draw `number` of the stream (seed, "few-shot-sst2"): queries are the sentences that the draws before did not ask, in
// a random order; examples are drawn without replacement from the sentences that are not this draw's queries, whatever
// their labels. Throws Error{bad_input} if there are not so many sentences.
FewShotDraw draw_sst2(const std::vector<LabelledSentence>& sentences, uint64_t seed, size_t number, size_t examples,
                      size_t queries);

// Texts by intent, in the order of the file.
struct Clinc150 {
  std::map<std::string, std::vector<std::string>> train, test;
};

// clinc150/data_full.json under $HONE_DATA. Throws Error{not_found} that says how to give it.
std::filesystem::path clinc150_file();
// An object that holds the lists "train" and "test" of pairs [text, intent]. Underscores of intents become spaces.
// Throws Error{not_found}, Error{corrupt} naming file and place.
Clinc150 read_clinc150(const std::filesystem::path& file);

// Draw `number` of the stream (seed, "few-shot-clinc150"): `intents` of all, `examples` training texts of each in a
// random order, `queries` of their test texts. Throws Error{bad_input} if there are not so many.
FewShotDraw draw_clinc150(const Clinc150& data, uint64_t seed, size_t number, size_t intents, size_t examples,
                          size_t queries);

}  // namespace hone::lab
