// hone sae report: a page that shows what features respond to.
#include <fmt/format.h>

#include <cmath>

#include "base/files.h"
#include "cli/options.h"
#include "cli/outputs.h"
#include "cli/progress.h"
#include "cli/sae.h"
#include "cli/sae_source.h"
#include "data/lines.h"
#include "hone/data.h"

namespace hone::cli {
namespace {

struct ReportArguments {
  ActivationSource source;
  std::filesystem::path sae;
  std::filesystem::path output = "features.html";
  std::filesystem::path lines;
  std::filesystem::path images;
  ReportOptions options;
  bool json = false;
};

// Without their ends; empty lines count.
std::vector<std::string> text_lines(const std::string& text) {
  std::vector<std::string> lines;
  for_each_line(text, [&](size_t, std::string_view line) { lines.emplace_back(line); });
  return lines;
}

void require_rows(const std::filesystem::path& path, size_t found, size_t needed) {
  if (found != needed)
    throw Error(ErrorCode::bad_input,
                fmt::format("'{}' shows {} rows; there are {} rows of activations", path.string(), found, needed));
}

void report(ReportArguments& arguments) {
  require_writable_file(arguments.output);
  const Sae sae = Sae::open(arguments.sae);
  ReportOptions& options = arguments.options;
  if (options.title.empty()) options.title = (arguments.sae / "").parent_path().filename().string();
  {
    const Watch watch = terminal_watch(arguments.json);
    arguments.source.open(0, watch);
    ActivationBatches& batches = *arguments.source.batches;
    options.lens = arguments.source.language_model.get();
    if (!arguments.lines.empty()) {
      const auto texts = std::make_shared<std::vector<std::string>>(text_lines(read_file(arguments.lines)));
      require_rows(arguments.lines, texts->size(), batches.rows());
      options.show = [texts](size_t row) { return escape_html((*texts)[row]); };
    }
    if (!arguments.images.empty()) {
      const auto pixels = std::make_shared<Matrix>(read_idx_images(arguments.images));
      require_rows(arguments.images, pixels->rows(), batches.rows());
      const auto side = static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(pixels->cols()))));
      if (side * side != pixels->cols())
        throw Error(ErrorCode::unsupported, fmt::format("'{}': its images are not square", arguments.images.string()));
      options.show = [pixels, side](size_t row) { return image_html(pixels->row(row), side, side); };
    }
    write_file_atomically(arguments.output, feature_report(sae, batches, options, watch));
  }
  if (arguments.json)
    print_json({{"config", as_json(sae.config)}, {"page", arguments.output.string()}});
  else
    fmt::print("the page is {}\n", arguments.output.string());
}

}  // namespace

void add_sae_report(Command parent) {
  const auto arguments = std::make_shared<ReportArguments>();
  const Command command = parent.subcommand("report", "A page that shows what features respond to");
  command.option("SAE", arguments->sae, "Its folder: cfg.json and sae_weights.safetensors").required();
  arguments->source.add_to(command);
  command.option("-o,--output", arguments->output, "The page, one HTML file").shows_default();
  const Option lines = command.option("--lines", arguments->lines, "What rows show: a text file, one line a row");
  command.option("--images", arguments->images, "What rows show: IDX images").excludes(lines);
  command.option("--features", arguments->options.features, "Features shown").shows_default();
  command.option("--examples", arguments->options.examples, "Examples a feature").shows_default();
  command.option("--title", arguments->options.title, "Title of the page");
  command.flag("--json", arguments->json, "Print one JSON object");
  command.callback([arguments] { report(*arguments); });
}

}  // namespace hone::cli
