/* tune_search.h - sluice-tune search: a pipeline for a planning problem. */
#ifndef TOOLS_TUNE_SEARCH_H
#define TOOLS_TUNE_SEARCH_H

/* The command; argv[0] is its name. An exit status. */
int tune_search_main(int argc, char **argv);

#endif /* TOOLS_TUNE_SEARCH_H */
