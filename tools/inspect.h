/* inspect.h - sluicectl inspect: whether a model file or directory is valid, and what it holds. */
#ifndef TOOLS_INSPECT_H
#define TOOLS_INSPECT_H

/* Exit status: 0 valid, 1 refused, 2 wrong usage. */
int inspect_main(int argc, char **argv);

#endif /* TOOLS_INSPECT_H */
