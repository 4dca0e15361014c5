# `cmake --install BUILD --prefix FOLDER`: a folder that works wherever it is moved to.
#
#   bin/patchcore_infer   include/patchcore.h   examples/
#   lib/                  libpatchcore, and ONNX Runtime's library if it is the engine
#   README.md LICENSE     licenses/ of what lib/ holds
#
# libjpeg, libpng, libcrypto and the C++ library are the system's.
# The same files in both places: CMake would end the build's path with a colon, which means the
# current folder.
set_target_properties(patchcore_infer patchcore_shared PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
set_target_properties(patchcore_infer PROPERTIES INSTALL_RPATH "$ORIGIN/../lib;$ORIGIN/onnxruntime")
set_target_properties(patchcore_shared PROPERTIES INSTALL_RPATH "$ORIGIN;$ORIGIN/onnxruntime")
install(TARGETS patchcore_infer DESTINATION bin)
install(TARGETS patchcore_shared DESTINATION lib)
install(FILES capi/patchcore.h DESTINATION include)
install(FILES capi/example.c capi/example.py DESTINATION examples)
install(FILES README.md ${REPOSITORY}/LICENSE DESTINATION .)
if(PATCHCORE_ONNXRUNTIME)
  get_filename_component(library ${ONNXRUNTIME_LIBRARY} REALPATH)
  install(FILES ${library} DESTINATION lib RENAME libonnxruntime.so.1)
  # Of the wheel, or of Microsoft's archive.
  get_filename_component(folder ${library} DIRECTORY)
  foreach(name LICENSE ThirdPartyNotices.txt)
    install(FILES ${folder}/../${name} DESTINATION licenses/onnxruntime OPTIONAL)
  endforeach()
endif()
