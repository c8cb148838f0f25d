# CUDA, for the preset of that name alone. The toolkit is not one of Debian's packages: it is looked
# for where NVIDIA installs it, or under CUDA_HOME. The runtime is linked in, the driver (-lcuda)
# never: a program built here starts on a machine without one.
find_program(NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin REQUIRED)
get_filename_component(CUDA_HOME ${NVCC} REALPATH)
get_filename_component(CUDA_HOME ${CUDA_HOME}/../.. ABSOLUTE)
find_path(CUDA_INCLUDE cuda_runtime_api.h PATHS ${CUDA_HOME}/include NO_DEFAULT_PATH REQUIRED)
find_library(CUDART_STATIC libcudart_static.a
             PATHS ${CUDA_HOME}/lib64 ${CUDA_HOME}/lib NO_DEFAULT_PATH REQUIRED)
get_filename_component(CUDA_LIBRARIES ${CUDART_STATIC} DIRECTORY) # Those loaded at run time, too.

add_library(CUDA::runtime INTERFACE IMPORTED)
target_include_directories(CUDA::runtime SYSTEM INTERFACE ${CUDA_INCLUDE})
target_link_libraries(CUDA::runtime INTERFACE ${CUDART_STATIC} Threads::Threads dl rt)

# Machine code for A100 and H100/H200, and PTX for what comes later. The host flags leave nothing in
# an object that would need libstdc++, so that gcc links it.
set(NVCC_TARGETS
  -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a
  -gencode=arch=compute_80,code=compute_80)
set(NVCC_FLAGS
  -std=c++17 -O3 -lineinfo -Werror all-warnings -Xptxas -v
  -Xcompiler -fPIC,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-fno-strict-aliasing,-Wall
  -I${CMAKE_SOURCE_DIR} ${NVCC_TARGETS})

# cuda_objects(VARIABLE FILE.cu ...): compiles, and names the objects in VARIABLE. What ptxas says
# of registers, stack and spills lies beside each object, for tests/lint/ptxas.py.
function(cuda_objects variable)
  set(objects)
  foreach(source ${ARGN})
    get_filename_component(stem ${source} NAME_WE)
    get_filename_component(path ${source} ABSOLUTE)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${stem}.cu.o)
    set(log ${CMAKE_CURRENT_BINARY_DIR}/${stem}.ptxas)
    add_custom_command(
      OUTPUT ${object} BYPRODUCTS ${log}
      COMMAND ${NVCC} ${NVCC_FLAGS} -MD -MF ${object}.d -c ${path} -o ${object} 2> ${log}
              || (cat ${log} >&2 && rm -f ${object} && exit 1)
      DEPENDS ${path} DEPFILE ${object}.d COMMENT "nvcc ${source}")
    list(APPEND objects ${object})
  endforeach()
  set(${variable} ${objects} PARENT_SCOPE)
endfunction()
