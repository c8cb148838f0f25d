/* status.h - sluicectl's command that shows what an agent is and does. */
#ifndef TOOLS_STATUS_H
#define TOOLS_STATUS_H

/* argv[0] is the command's name. Exit status of options.h. */
int status_main(int argc, char **argv);

#endif /* TOOLS_STATUS_H */
