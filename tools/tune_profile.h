/* tune_profile.h - sluice-tune profile: measures a model's operations on this machine. */
#ifndef TOOLS_TUNE_PROFILE_H
#define TOOLS_TUNE_PROFILE_H

/* Returns the exit status. argv[0] is the word "profile". */
int tune_profile_main(int argc, char **argv);

#endif /* TOOLS_TUNE_PROFILE_H */
