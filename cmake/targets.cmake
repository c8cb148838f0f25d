# The five shapes of a target.

# sluice_library(NAME SOURCES ... LIBS ...): the static library of a folder.
function(sluice_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_library(sluice_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(sluice_${name} PUBLIC ${ARG_LIBS})
endfunction()

# sluice_program(NAME [FOLDER folder] SOURCES ... LIBS ...): an executable that ships: in bin/ of
# the build, in folder (default: bin) of an installation.
function(sluice_program name)
  cmake_parse_arguments(ARG "" "FOLDER" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_FOLDER)
    set(ARG_FOLDER ${CMAKE_INSTALL_BINDIR})
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS})
  install(TARGETS ${name} RUNTIME DESTINATION ${ARG_FOLDER})
endfunction()

# sluice_test(NAME SOURCES ... LIBS ...): a cmocka program that ctest runs.
function(sluice_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_compile_options(${name} PRIVATE $<$<C_COMPILER_ID:GNU>:-Wno-stack-usage>)
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} cmocka)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT})
endfunction()

# sluice_fuzz(NAME SOURCES ... LIBS ...): LLVMFuzzerTestOneInput in the first source. The corpus
# folder tests/fuzz/corpus/NAME runs as a normal test in every build; with SLUICE_FUZZ the same
# target is a libFuzzer program.
function(sluice_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  set(target fuzz_${name})
  if(SLUICE_FUZZ)
    add_executable(${target} ${ARG_SOURCES})
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${target} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
  endif()
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  target_compile_options(${target} PRIVATE -Wno-missing-prototypes
                         $<$<C_COMPILER_ID:GNU>:-Wno-stack-usage>)
  target_link_libraries(${target} PRIVATE ${ARG_LIBS})
  if(SLUICE_FUZZ)
    add_test(NAME ${target} COMMAND ${target} -runs=0 ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  else()
    add_test(NAME ${target} COMMAND ${target} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  endif()
  set_tests_properties(${target} PROPERTIES TIMEOUT 120)
endfunction()

# sluice_pytest(NAME FILE LABEL): tests in Python of the programs that this build made. Builds that
# run slower wait longer.
function(sluice_pytest name file label)
  set(environment SLUICE_BIN=${CMAKE_BINARY_DIR}/bin)
  if(SLUICE_SANITIZE OR SLUICE_COVERAGE)
    list(APPEND environment SLUICE_TEST_SCALE=6)
  endif()
  add_test(NAME ${name} COMMAND ${PYTHON3} -B -m pytest -s ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 400 RUN_SERIAL ON
                       ENVIRONMENT "${environment}")
endfunction()
