// What long commands show on the terminal while they work, how Ctrl-C stops them, and what they took.
#pragma once

#include <chrono>
#include <string>

#include "hone/base.h"

namespace hone::cli {

// From now on the first Ctrl-C cancels this token, the same every time; a second one kills.
const CancelToken& cancel_on_interrupt();

// Draws one line on stderr (stage, done of total, rate, time left), if that is a terminal and `quiet` is not set; the
// line is wiped when the last copy of the watch is gone. Cancels on interrupt.
Watch terminal_watch(bool quiet = false);

double seconds_since(std::chrono::steady_clock::time_point start);

// The most memory that this process has held so far, in MiB.
double peak_rss_mb();

// "1:07:03", "4:09", "12 s".
std::string duration_text(double seconds);

}  // namespace hone::cli
