/* tokenize.h - sluicectl's commands that work on a model's tokenizer alone, without an agent. */
#ifndef TOOLS_TOKENIZE_H
#define TOOLS_TOKENIZE_H

/* argv[0] is the command's name. Exit status: 0; 1 the input or the tokenizer is refused; 2 wrong
 * usage. */
int tokenize_main(int argc, char **argv);
int detokenize_main(int argc, char **argv);

#endif /* TOOLS_TOKENIZE_H */
