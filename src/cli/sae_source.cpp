#include "cli/sae_source.h"

#include <algorithm>
#include <iterator>

#include "base/files.h"
#include "cli/options.h"
#include "cli/progress.h"

namespace hone::cli {

void ActivationSource::add_to(Command command) {
  const Option file = command.option("DATA", data, "Activations [rows, width], a .npy file");
  const Option gguf = command.option("--model", model, "Instead: a GGUF file whose residual stream is read");
  const Option after = command.option("--layer", layer, "With --model: after so many layers").needs(gguf);
  gguf.needs(after);
  command.option("--store", store, "With --model: the texts of a store made by `hone index`").needs(gguf);
  const Option files = command.option("--text", texts, "With --model: text files").needs(gguf);
  command.option("--window", window, "With --text: tokens that are read at once; a store has its chunks")
      .needs(files)
      .shows_default();
  command.option("--threads", threads, "Threads (default: all cores)").in_range(1, most_threads);
  file.excludes(gguf);
}

void ActivationSource::open(uint64_t seed, const Watch& watch) {
  if (threads > 0) set_threads(threads);
  if (model.empty()) {
    if (data.empty()) refuse_usage("DATA, a .npy file of activations, or --model and --layer are required");
    batches = open_activations(data, seed);
    return;
  }
  if (store.empty() && texts.empty()) refuse_usage("--model requires --store or --text");
  language_model = read_model([&] { return Model::open(model); });
  watch.cancel.check();
  if (!store.empty()) {
    const Store opened = Store::open(store, {language_model->name(), language_model->base_hash()});
    const std::vector<int64_t> ids = opened.chunk_ids();
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i % 256 == 0) watch.report("texts", i, ids.size());
      windows.push_back(opened.chunk(ids[i]).tokens);
    }
  }
  std::vector<std::string> contents;
  for (const std::filesystem::path& path : texts) contents.push_back(read_file(path));
  std::ranges::move(token_windows(*language_model, contents, window), std::back_inserter(windows));
  batches = stream_activations(language_model, layer, windows, seed);
}

}  // namespace hone::cli
