# hone_precompile(TARGET [HEADER…]): HEADERs, and what most files read, compiled once for a target. Files still include what
# they use: `./dev lint` reads them without this. Eigen has to be before fmt where nothing is optimised: fmt's pragmas
# leave __OPTIMIZE__ defined in what is precompiled, and the compiler's headers for vectors believe it.
function(hone_precompile target)
  if(HONE_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE ${ARGN}
      <algorithm> <array> <charconv> <chrono> <cmath> <cstring> <filesystem> <functional> <map> <memory> <mutex> <numeric>
      <optional> <set> <span> <string> <thread> <unordered_map> <vector> <fmt/format.h> <fmt/ranges.h>
      <nlohmann/json.hpp>)
  endif()
endfunction()
