# hone_unity(TARGET): where CMAKE_UNITY_BUILD is ON, a quarter of a room's files is compiled as one, and no other library's
# templates are read and made more often than that. A file's quarter depends on its name alone: a new file leaves the other
# quarters, and what ccache holds of them, as they are. Files that are compiled for many instruction sets stay alone, as do
# those with SKIP_UNITY_BUILD_INCLUSION.
function(hone_unity target)
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    file(STRINGS ${source} many_targets REGEX "hwy/foreach_target.h" LIMIT_COUNT 1)
    if(NOT many_targets)
      cmake_path(GET source STEM name)
      cmake_path(GET source PARENT_PATH room)
      cmake_path(GET room FILENAME room)
      string(MD5 digits ${name})
      string(SUBSTRING ${digits} 0 1 digit)
      math(EXPR quarter "0x${digit} / 4")
      set_source_files_properties(${source} PROPERTIES UNITY_GROUP ${room}_${quarter})
    endif()
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD_MODE GROUP)
endfunction()
