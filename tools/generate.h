/* generate.h - sluicectl's command that sends one request and prints the answer. */
#ifndef TOOLS_GENERATE_H
#define TOOLS_GENERATE_H

/* argv[0] is the command's name. Exit status of options.h. */
int generate_main(int argc, char **argv);

#endif /* TOOLS_GENERATE_H */
