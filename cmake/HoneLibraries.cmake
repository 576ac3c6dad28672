# hone::libraries, what libhone.a links to. Read by hone's own build and, installed beside honeConfig.cmake, by every
# project that uses hone.
include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(dnnl)
find_dependency(faiss)
find_dependency(SQLite3)
find_dependency(fmt)
find_dependency(OpenSSL COMPONENTS Crypto)
find_dependency(ZLIB)
find_dependency(PkgConfig)
pkg_check_modules(HONE_PKGCONFIG REQUIRED IMPORTED_TARGET libhwy libpcre2-8 libutf8proc libxxhash)

if(NOT TARGET hone::libraries)
  add_library(hone::libraries INTERFACE IMPORTED)
  target_link_libraries(hone::libraries INTERFACE
    OpenMP::OpenMP_CXX DNNL::dnnl faiss SQLite::SQLite3 fmt::fmt OpenSSL::Crypto ZLIB::ZLIB PkgConfig::HONE_PKGCONFIG)
endif()
