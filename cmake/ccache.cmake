# Compiles through ccache where it is installed and nobody chose another launcher; another checkout of the same files
# compiles to the same objects.
find_program(HONE_CCACHE ccache)
if(HONE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
    CCACHE_SLOPPINESS=pch_defines,time_macros ${HONE_CCACHE})
  add_compile_options(-fpch-preprocess)  # without which ccache does not see what a precompiled header holds
endif()
