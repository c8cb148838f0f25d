/* binary.h - where this program's own file is, and the project's others near it. */
#ifndef BASE_BINARY_H
#define BASE_BINARY_H

#include "base/limits.h"
#include "base/must.h"

/* This process's own. 0 or -errno. */
int binary_own(char path[LIMIT_PATH_BYTES_MAX]) MUST_CHECK;

/* The executable of that name beside own, else in ../libexec/sluice/. 0 or -ENOENT. */
int binary_find(const char *own, const char *name, char path[LIMIT_PATH_BYTES_MAX]) MUST_CHECK;

#endif /* BASE_BINARY_H */
