#include "hone/base.h"

namespace hone {

std::string_view name(ErrorCode code) {
  switch (code) {
    case ErrorCode::bad_input: return "bad_input";
    case ErrorCode::not_found: return "not_found";
    case ErrorCode::corrupt: return "corrupt";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::io: return "io";
    case ErrorCode::busy: return "busy";
    case ErrorCode::cancelled: return "cancelled";
  }
  return "unknown";
}

void CancelToken::check() const {
  if (cancelled())
    throw Error(ErrorCode::cancelled, "cancelled; nothing that was committed is lost, run it again to go on");
}

void Watch::report(std::string_view stage, size_t done, size_t total) const {
  cancel.check();
  if (progress) progress({stage, done, total});
}

}  // namespace hone
