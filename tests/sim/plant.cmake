# plant.cmake - the source OUT is SOURCE with the bug that PATCH plants. A patch that fits no longer
# must not break the build of those who changed the source: OUT is then SOURCE itself, and the test
# of the canaries fails because nobody finds a bug in it.
execute_process(COMMAND ${PATCH_PROGRAM} --quiet --fuzz=0 --output=${OUT} ${SOURCE} ${PATCH}
                RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
file(REMOVE ${OUT}.rej)
if(failed)
  message("${PATCH} does not apply to ${SOURCE}")
  configure_file(${SOURCE} ${OUT} COPYONLY)
endif()
