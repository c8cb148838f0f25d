# Compiler flags: the OpenSSF hardening guide as far as gcc 12 and clang 14 take it. A
# multiply-add is fused only where the source says so: the same bits from either compiler. C++ is
# for the tests alone, which run the CUDA sources on the CPU.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
add_compile_options(
  -Wall -Wextra -Werror -Wformat=2 -Wconversion -Wimplicit-fallthrough -Wvla -Wshadow -Wundef
  "$<$<COMPILE_LANGUAGE:C>:-Wsign-conversion;-Wstrict-prototypes;-Wmissing-prototypes>"
  $<$<COMPILE_LANGUAGE:CXX>:-Wno-sign-conversion>
  -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
  -fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing
  -ffp-contract=off)
add_compile_definitions(_GNU_SOURCE SLUICE_VERSION="${PROJECT_VERSION}")
add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack,--as-needed)
include_directories(${CMAKE_SOURCE_DIR})
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Walloca -Wtrampolines -ftrivial-auto-var-init=zero)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    add_compile_options(-Wstack-usage=4096)
  endif()
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
if(SLUICE_SANITIZE)
  add_compile_options(-fsanitize=${SLUICE_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SLUICE_SANITIZE})
endif()
if(SLUICE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(SLUICE_COVERAGE)
  add_compile_options(--coverage -fprofile-update=atomic)
  add_link_options(--coverage)
endif()
