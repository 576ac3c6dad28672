# The program, the library with its public headers, and the package that find_package(hone) reads.
include(CMakePackageConfigHelpers)
set(HONE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/hone)

install(TARGETS hone_cli)
install(TARGETS hone EXPORT honeTargets)
install(DIRECTORY include/hone DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT honeTargets NAMESPACE hone:: DESTINATION ${HONE_PACKAGE_DIR})

configure_package_config_file(cmake/honeConfig.cmake.in ${PROJECT_BINARY_DIR}/honeConfig.cmake
  INSTALL_DESTINATION ${HONE_PACKAGE_DIR} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/honeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/honeConfig.cmake ${PROJECT_BINARY_DIR}/honeConfigVersion.cmake
  cmake/HoneLibraries.cmake DESTINATION ${HONE_PACKAGE_DIR})
