// Options and subcommands of the program. CLI11 is behind this: every file that reads its headers takes seconds to
// compile, and only command_line.cpp does.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace hone::cli {

// A handle; all copies are the same option. What it is told applies in the order of the calls.
class Option {
 public:
  explicit Option(CLI::Option& option) : option_(&option) {}

  Option required() const;
  // Help shows the value that the variable has at this call.
  Option shows_default() const;
  Option default_text(const std::string& text) const;

  Option one_of(const std::vector<std::string>& words) const;
  Option positive() const;
  Option not_negative() const;
  Option in_range(double least, double most) const;
  // `complaint` gives what is wrong with a text, or nothing.
  Option check(const std::function<std::string(const std::string& text)>& complaint) const;
  Option transform(const std::function<std::string(std::string text)>& change) const;
  // A number of bytes, also as KiB, MiB, GiB.
  Option as_size() const;

  Option needs(Option other) const;
  Option excludes(Option other) const;

  // Of options with several values:
  Option delimiter(char between) const;
  Option one_value_each() const;  // given again for each value; what follows is a positional argument

  // Known once the arguments are parsed.
  bool given() const;

 private:
  CLI::Option* option_;
};

// A handle of the program or of a subcommand; all copies are the same.
class Command {
 public:
  explicit Command(CLI::App& app) : app_(&app) {}

  Command subcommand(const std::string& name, const std::string& about) const;
  // Exactly one.
  void require_subcommand() const;

  // Variables and what functions refer to must outlive Program::run(). T is one of the types at the end of
  // command_line.cpp; NaN is refused, and a number below 0 where T is unsigned.
  template <class T>
  Option option(const std::string& name, T& value, const std::string& help = "") const;
  Option option(const std::string& name, const std::function<void(const std::string& text)>& take,
                const std::string& help) const;
  Option flag(const std::string& name, bool& value, const std::string& help) const;
  // "--name,!--no-name": `take` is called if one of them is given.
  Option flag(const std::string& name, const std::function<void(bool on)>& take, const std::string& help) const;

  // Called once all arguments are parsed, if this subcommand is among them.
  void callback(std::function<void()> run) const;

  // Known once the arguments are parsed.
  bool given() const;

 private:
  CLI::App* app_;
};

class Program {
 public:
  Program(const std::string& name, const std::string& about, const std::string& version);
  ~Program();

  Command root() const;
  // Does what the arguments ask for. Exit code: 0, or 2 for bad usage, after saying on stderr what is wrong.
  int run(int argc, char** argv);

 private:
  std::unique_ptr<CLI::App> app_;
};

// For callbacks: what options ask for together is bad usage.
[[noreturn]] void refuse_usage(const std::string& message);

}  // namespace hone::cli
