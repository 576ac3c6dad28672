#include "cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <type_traits>

namespace hone::cli {
namespace {

// CLI11's own checks let NaN pass, and read -1 as 2^64 - 1 where a variable is unsigned.

template <class T>
struct Element {
  using type = T;
};
template <class T>
struct Element<std::vector<T>> : Element<T> {};
template <class T>
struct Element<std::optional<T>> : Element<T> {};

std::string refuse_negative(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\n");
  return first != std::string::npos && text[first] == '-' ? fmt::format("{} is below 0", text) : "";
}

std::string refuse_nan(const std::string& text) {
  double value = 0;
  return CLI::detail::lexical_cast(text, value) && std::isnan(value) ? fmt::format("{} is not a number", text) : "";
}

// `shown` is what help says of the value.
CLI::Validator number(const std::function<bool(double)>& fits, const std::string& what, const std::string& shown) {
  const auto complaint = [fits, what](const std::string& text) {
    double value = 0;
    return CLI::detail::lexical_cast(text, value) && std::isfinite(value) && fits(value)
               ? std::string()
               : fmt::format("{} is not {}", text, what);
  };
  return {complaint, shown};
}

}  // namespace

Option Option::required() const { return Option(*option_->required()); }
Option Option::shows_default() const { return Option(*option_->capture_default_str()); }
Option Option::default_text(const std::string& text) const { return Option(*option_->default_str(text)); }

Option Option::one_of(const std::vector<std::string>& words) const {
  return Option(*option_->check(CLI::IsMember(words)));
}
Option Option::positive() const {
  return Option(*option_->check(number([](double value) { return value > 0; }, "a number above 0", "POSITIVE")));
}
Option Option::not_negative() const {
  return Option(*option_->check(number([](double value) { return value >= 0; }, "0 or a number above", "NONNEGATIVE")));
}
Option Option::in_range(double least, double most) const {
  return Option(
      *option_->check(number([=](double value) { return value >= least && value <= most; },
                             fmt::format("from {:g} to {:g}", least, most), fmt::format("{:g}..{:g}", least, most))));
}
Option Option::check(const std::function<std::string(const std::string&)>& complaint) const {
  return Option(*option_->check(complaint));
}
Option Option::transform(const std::function<std::string(std::string)>& change) const {
  return Option(*option_->transform(change));
}
Option Option::as_size() const { return Option(*option_->transform(CLI::AsSizeValue(false))); }

Option Option::needs(Option other) const { return Option(*option_->needs(other.option_)); }
Option Option::excludes(Option other) const { return Option(*option_->excludes(other.option_)); }

Option Option::delimiter(char between) const { return Option(*option_->delimiter(between)); }
Option Option::one_value_each() const { return Option(*option_->allow_extra_args(false)); }

bool Option::given() const { return option_->count() > 0; }

Command Command::subcommand(const std::string& name, const std::string& about) const {
  return Command(*app_->add_subcommand(name, about));
}

void Command::require_subcommand() const { app_->require_subcommand(1); }

template <class T>
Option Command::option(const std::string& name, T& value, const std::string& help) const {
  CLI::Option* const option = app_->add_option(name, value, help);
  if constexpr (std::is_unsigned_v<typename Element<T>::type>) option->check(refuse_negative);
  if constexpr (std::is_floating_point_v<typename Element<T>::type>) option->check(refuse_nan);
  return Option(*option);
}

Option Command::option(const std::string& name, const std::function<void(const std::string&)>& take,
                       const std::string& help) const {
  return Option(*app_->add_option_function<std::string>(name, take, help));
}

Option Command::flag(const std::string& name, bool& value, const std::string& help) const {
  return Option(*app_->add_flag(name, value, help));
}

Option Command::flag(const std::string& name, const std::function<void(bool)>& take, const std::string& help) const {
  return Option(*app_->add_flag_function(
      name, [take](int64_t count) { take(count > 0); }, help));
}

void Command::callback(std::function<void()> run) const { app_->callback(std::move(run)); }

bool Command::given() const { return app_->parsed(); }

Program::Program(const std::string& name, const std::string& about, const std::string& version)
    : app_(std::make_unique<CLI::App>(about, name)) {
  app_->set_version_flag("--version", version);
}

Program::~Program() = default;

Command Program::root() const { return Command(*app_); }

int Program::run(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app_->exit(error) != 0) return 2;
  }
  return 0;
}

void refuse_usage(const std::string& message) { throw CLI::ParseError(message, CLI::ExitCodes::BaseClass); }

template Option Command::option(const std::string&, std::string&, const std::string&) const;
template Option Command::option(const std::string&, std::filesystem::path&, const std::string&) const;
template Option Command::option(const std::string&, int&, const std::string&) const;
template Option Command::option(const std::string&, size_t&, const std::string&) const;
template Option Command::option(const std::string&, float&, const std::string&) const;
template Option Command::option(const std::string&, double&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<int>&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<uint64_t>&, const std::string&) const;
template Option Command::option(const std::string&, std::vector<std::string>&, const std::string&) const;
template Option Command::option(const std::string&, std::vector<std::filesystem::path>&, const std::string&) const;
template Option Command::option(const std::string&, std::vector<float>&, const std::string&) const;
template Option Command::option(const std::string&, std::vector<double>&, const std::string&) const;

}  // namespace hone::cli
