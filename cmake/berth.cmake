# Compile rules and the few functions that every CMakeLists.txt of the tree is written in.
include_guard()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(BERTH_CCACHE ccache)
if(BERTH_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${BERTH_CCACHE})
endif()

set(BERTH_SANITIZE "" CACHE STRING "address,undefined | thread | empty")
option(BERTH_FUZZ "build the libFuzzer targets (clang only)" OFF)
option(BERTH_FAILPOINTS "compile failpoints in (test builds)" OFF)

add_library(berth_flags INTERFACE)
target_compile_options(berth_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
  -fno-omit-frame-pointer -fstack-protector-strong -ffunction-sections -fdata-sections)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # g++ 12 sees uninitialised members in every std::expected that it inlines far enough, and overlaps in
  # "literal" + std::string (GCC bugs 105562, 105329); clang's analysis covers both.
  target_compile_options(berth_flags INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
endif()
target_include_directories(berth_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(berth_flags INTERFACE BERTH_VERSION="${PROJECT_VERSION}" _GNU_SOURCE
  $<$<BOOL:${BERTH_FAILPOINTS}>:BERTH_FAILPOINTS>)
# Debian's fmt, as code in the library rather than in every object file.
target_link_options(berth_flags INTERFACE -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now)
if(BERTH_SANITIZE)
  add_compile_options(-fsanitize=${BERTH_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BERTH_SANITIZE})
endif()
if(BERTH_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
endif()

# berth_library(NAME SOURCES a.cc ... [DEPS public...] [PRIVATE private...]): the library berth_NAME.
function(berth_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;PRIVATE" ${ARGN})
  add_library(berth_${name} STATIC ${A_SOURCES})
  target_link_libraries(berth_${name} PUBLIC berth_flags ${A_DEPS} PRIVATE ${A_PRIVATE})
endfunction()

# berth_small_code(TARGET): for code that a short-lived process runs through once. What that costs is the pages and cache
# lines that it lies on (a page fault is a microsecond), so smaller is faster.
function(berth_small_code target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-Os>)
endfunction()

# berth_failpoints(NAME a.cc ...): the sources of berth_NAME that hold failpoints, compiled once more with them for
# berth_failpoint_program(). In the order of linking they come before the library, whose members of the same content are
# then left out.
function(berth_failpoints name)
  if(BERTH_FUZZ OR BERTH_SANITIZE)
    return()
  endif()
  add_library(berth_${name}_failpoints OBJECT EXCLUDE_FROM_ALL ${ARGN})
  target_link_libraries(berth_${name}_failpoints PRIVATE $<TARGET_PROPERTY:berth_${name},LINK_LIBRARIES>)
  target_compile_options(berth_${name}_failpoints PRIVATE $<TARGET_PROPERTY:berth_${name},COMPILE_OPTIONS>)
  target_compile_definitions(berth_${name}_failpoints PRIVATE BERTH_FAILPOINTS)
endfunction()

# berth_failpoint_program(NAME library...): the program NAME with the failpoints of these libraries, <build>/bin/failpoints/NAME.
# For tests: it is built when one depends on NAME-failpoints and never installed.
function(berth_failpoint_program name)
  if(BERTH_FUZZ OR BERTH_SANITIZE)
    return()
  endif()
  add_executable(${name}-failpoints EXCLUDE_FROM_ALL $<TARGET_OBJECTS:${name}>)
  foreach(library IN LISTS ARGN)
    target_sources(${name}-failpoints PRIVATE $<TARGET_OBJECTS:berth_${library}_failpoints>)
  endforeach()
  target_link_libraries(${name}-failpoints PRIVATE $<TARGET_PROPERTY:${name},LINK_LIBRARIES>)
  target_link_options(${name}-failpoints PRIVATE $<TARGET_PROPERTY:${name},LINK_OPTIONS>)
  set_target_properties(${name}-failpoints PROPERTIES LINKER_LANGUAGE CXX OUTPUT_NAME ${name}
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin/failpoints)
endfunction()

# berth_test(NAME SOURCES a_test.cc ... DEPS ... [LABELS unit] [SERIAL] [TIMEOUT s]): one GoogleTest program, one ctest entry.
function(berth_test name)
  cmake_parse_arguments(A "SERIAL" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(BERTH_FUZZ)
    return()
  endif()
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE berth_flags ${A_DEPS} gmock gtest gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT A_LABELS)
    set(A_LABELS unit)
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT}
    ENVIRONMENT "BERTH_SOURCE_DIR=${CMAKE_SOURCE_DIR};BERTH_BIN_DIR=${CMAKE_BINARY_DIR}/bin")
  if(A_SERIAL)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()

# berth_fuzz(NAME foo_fuzz.cc DEPS ... [CORPUS dir]): a libFuzzer program in the fuzz build; in every other build the same
# entry point replays the corpus as a unit test, so that a found input stays a test for ever.
function(berth_fuzz name source)
  cmake_parse_arguments(A "" "CORPUS" "DEPS" ${ARGN})
  if(NOT A_CORPUS)
    set(A_CORPUS ${CMAKE_SOURCE_DIR}/tests/data/corpus/${name})
  endif()
  if(BERTH_FUZZ)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE berth_flags ${A_DEPS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  else()
    add_executable(${name}_replay ${source} ${CMAKE_SOURCE_DIR}/tests/helpers/replay_main.cc)
    target_link_libraries(${name}_replay PRIVATE berth_flags ${A_DEPS})
    set_target_properties(${name}_replay PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name}_replay COMMAND ${name}_replay ${A_CORPUS})
    set_tests_properties(${name}_replay PROPERTIES LABELS unit TIMEOUT 60)
  endif()
endfunction()

# berth_program(NAME SOURCES ... DEPS ... [STATIC]): a program, left in <build>/bin.
function(berth_program name)
  cmake_parse_arguments(A "STATIC" "" "SOURCES;DEPS" ${ARGN})
  if(BERTH_FUZZ)
    return()
  endif()
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE berth_flags ${A_DEPS})
  if(A_STATIC AND NOT BERTH_SANITIZE)
    target_link_options(${name} PRIVATE -static -no-pie -Wl,-z,norelro)
  endif()
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()
