/* dialogue.h - sluicectl's command that talks with the model: `sluicectl chat`. */
#ifndef TOOLS_DIALOGUE_H
#define TOOLS_DIALOGUE_H

/* argv[0] is the command's name. Exit status of options.h. */
int dialogue_main(int argc, char **argv);

#endif /* TOOLS_DIALOGUE_H */
