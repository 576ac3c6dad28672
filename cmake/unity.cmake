# hone_unity(TARGET UNITS): where CMAKE_UNITY_BUILD is ON, a room's files are compiled as so many units, and no other
# library's templates are read and made more often than that. A file's unit depends on its name alone: a new file leaves the
# other units, and what ccache holds of them, as they are. Files that are compiled for many instruction sets stay alone, as
# do those with SKIP_UNITY_BUILD_INCLUSION.
function(hone_unity target units)
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    file(STRINGS ${source} many_targets REGEX "hwy/foreach_target.h" LIMIT_COUNT 1)
    if(NOT many_targets)
      cmake_path(GET source STEM name)
      cmake_path(GET source PARENT_PATH room)
      cmake_path(GET room FILENAME room)
      string(MD5 digits ${name})
      string(SUBSTRING ${digits} 0 1 digit)
      math(EXPR unit "0x${digit} * ${units} / 16")
      set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${room}_${unit})
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD_MODE GROUP)
endfunction()
