# hone_dependencies: everything hone's own files may include. hone_flags: what every one of them is compiled with.
include(${CMAKE_CURRENT_LIST_DIR}/HoneLibraries.cmake)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Eigen3 REQUIRED)

add_library(hone_dependencies INTERFACE)
target_link_libraries(hone_dependencies INTERFACE hone::libraries nlohmann_json::nlohmann_json CLI11::CLI11 Eigen3::Eigen)
# Eigen neither starts threads nor changes its sums with their number.
target_compile_definitions(hone_dependencies INTERFACE EIGEN_DONT_PARALLELIZE)

add_library(hone_flags INTERFACE)
target_compile_options(hone_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion)
if(HONE_WERROR)
  target_compile_options(hone_flags INTERFACE -Werror)
endif()
if(HONE_SANITIZE)
  if(HONE_SANITIZE MATCHES undefined)
    # A target's property HONE_UNCHECKED names checks that it is compiled without. The last flag counts.
    set(names $<TARGET_PROPERTY:HONE_UNCHECKED>)
    set(unchecked "$<$<BOOL:${names}>:-fno-sanitize=${names}>")
  endif()
  target_compile_options(hone_flags INTERFACE -fsanitize=${HONE_SANITIZE} ${unchecked} -fno-omit-frame-pointer)
  target_link_options(hone_flags INTERFACE -fsanitize=${HONE_SANITIZE})
  # The release build checks every format against its arguments; checking again is a third of compiling a report.
  target_compile_definitions(hone_flags INTERFACE FMT_CONSTEVAL=)
  # Of five instruction sets the oldest, AVX2 and AVX-512: each is compiled by itself.
  target_compile_definitions(hone_flags INTERFACE "HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4)")
endif()
set(HoneDependencies_FOUND TRUE)
