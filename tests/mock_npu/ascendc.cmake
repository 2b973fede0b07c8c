# What CANN's file of this name offers: the kernels, which the emulator has compiled already.
function(ascendc_library name kind)
  if(NOT kind STREQUAL "STATIC" OR NOT ARGN OR NOT RUN_MODE STREQUAL "npu" OR NOT ASCEND_CANN_PACKAGE_PATH OR
     NOT SOC_VERSION MATCHES "^Ascend")
    message(FATAL_ERROR "ascendc_library: ${kind} ${ARGN} for ${SOC_VERSION} ${RUN_MODE} ${ASCEND_CANN_PACKAGE_PATH}")
  endif()
  add_library(${name} INTERFACE)
  target_link_libraries(${name} INTERFACE "$ENV{MOCK_KERNELS}")
endfunction()

function(ascendc_include_directories name scope)
  if(NOT TARGET ${name} OR NOT IS_DIRECTORY "${ARGN}")
    message(FATAL_ERROR "ascendc_include_directories: ${name} ${scope} ${ARGN}")
  endif()
endfunction()
