/* cancel.h - sluicectl's command that ends a running request. */
#ifndef TOOLS_CANCEL_H
#define TOOLS_CANCEL_H

/* argv[0] is the command's name. Exit status of options.h. */
int cancel_main(int argc, char **argv);

#endif /* TOOLS_CANCEL_H */
