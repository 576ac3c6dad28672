# hone_precompile(TARGET [HEADER…]): what most files read, and HEADERs, compiled once for a target. Files still include what
# they use: `./dev lint` reads them without this.
function(hone_precompile target)
  if(HONE_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE
      <algorithm> <array> <charconv> <chrono> <cmath> <cstring> <filesystem> <functional> <map> <memory> <mutex> <numeric>
      <optional> <set> <span> <string> <thread> <unordered_map> <vector> <fmt/format.h> <fmt/ranges.h>
      <nlohmann/json.hpp> ${ARGN})
  endif()
endfunction()
