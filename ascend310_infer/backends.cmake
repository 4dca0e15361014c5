# The engines behind engine/backend.hpp: sources, include folders and libraries of each option.
#
# PATCHCORE_ONNXRUNTIME   ONNXRUNTIME_INCLUDE_DIR   folder of onnxruntime_cxx_api.h
#                         ONNXRUNTIME_LIBRARY       libonnxruntime.so.1*, for instance the wheel's
# PATCHCORE_MINDSPORE     MINDSPORE_ROOT            folder that holds include/api/model.h and the
#                                                   libraries: MindSpore Lite's runtime/, or the
#                                                   folder mindspore/ of an older MindSpore wheel
set(REPOSITORY ${PROJECT_SOURCE_DIR}/..)

if(PATCHCORE_ONNXRUNTIME)
  find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_cxx_api.h
    HINTS ${REPOSITORY}/out/onnxruntime
    PATH_SUFFIXES usr/include/onnxruntime include/onnxruntime include
      onnxruntime onnxruntime/core/session)
  if(NOT ONNXRUNTIME_LIBRARY)
    file(GLOB found
      ${REPOSITORY}/.venv/lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.1*)
    if(found)
      list(GET found 0 ONNXRUNTIME_LIBRARY)
    else()
      find_library(ONNXRUNTIME_LIBRARY onnxruntime)
    endif()
  endif()
  if(NOT ONNXRUNTIME_INCLUDE_DIR OR NOT ONNXRUNTIME_LIBRARY)
    message(FATAL_ERROR "PATCHCORE_ONNXRUNTIME: expected onnxruntime_cxx_api.h and "
      "libonnxruntime.so.1, found '${ONNXRUNTIME_INCLUDE_DIR}' and '${ONNXRUNTIME_LIBRARY}'; run "
      "install_dependencies.sh, or pass -DONNXRUNTIME_INCLUDE_DIR=DIR -DONNXRUNTIME_LIBRARY=FILE")
  endif()
  # The wheel has the library under its full version only; programs look for libonnxruntime.so.1.
  set(linked ${PROJECT_BINARY_DIR}/onnxruntime/libonnxruntime.so.1)
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/onnxruntime)
  file(CREATE_LINK ${ONNXRUNTIME_LIBRARY} ${linked} SYMBOLIC)
  add_library(onnxruntime SHARED IMPORTED)
  set_target_properties(onnxruntime PROPERTIES IMPORTED_LOCATION ${linked})
  target_include_directories(onnxruntime SYSTEM INTERFACE ${ONNXRUNTIME_INCLUDE_DIR})
  target_sources(patchcore PRIVATE engine/onnxruntime_backend.cpp)
  target_compile_definitions(patchcore PRIVATE PATCHCORE_ONNXRUNTIME)
  target_link_libraries(patchcore PUBLIC onnxruntime)
endif()

if(PATCHCORE_MINDSPORE)
  find_path(MINDSPORE_INCLUDE_DIR include/api/model.h
    HINTS ${MINDSPORE_ROOT} ${MINDSPORE_ROOT}/runtime NO_DEFAULT_PATH)
  find_library(MINDSPORE_LIBRARY NAMES mindspore-lite mindspore
    HINTS ${MINDSPORE_INCLUDE_DIR} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  if(NOT MINDSPORE_INCLUDE_DIR OR NOT MINDSPORE_LIBRARY)
    message(FATAL_ERROR "PATCHCORE_MINDSPORE: expected include/api/model.h and "
      "lib/libmindspore-lite.so (or libmindspore.so) below MINDSPORE_ROOT='${MINDSPORE_ROOT}'; "
      "pass -DMINDSPORE_ROOT=\$MS_LITE_HOME/runtime")
  endif()
  target_sources(patchcore PRIVATE engine/mindspore_backend.cpp)
  target_compile_definitions(patchcore PRIVATE PATCHCORE_MINDSPORE)
  target_include_directories(patchcore SYSTEM PRIVATE ${MINDSPORE_INCLUDE_DIR})
  target_link_libraries(patchcore PUBLIC ${MINDSPORE_LIBRARY})
  # The older SDK's libraries come in a Python wheel and resolve Python's symbols from the process.
  target_link_options(patchcore INTERFACE -Wl,--allow-shlib-undefined)
endif()

# MindSpore's backend is tested without MindSpore, against a double that uses ONNX Runtime.
if(PATCHCORE_TESTS AND PATCHCORE_ONNXRUNTIME AND NOT PATCHCORE_MINDSPORE)
  add_subdirectory(tests/engine/mindspore_double)
endif()
