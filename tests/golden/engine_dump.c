/*
 * engine_dump.c - engine_dump [--bf16] MODEL ID...: feeds the ids one by one and prints the logits
 * after each as JSON, {"logits":[[...],...]}. Not shipped: an independent forward pass compares.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/workers/probe.h"

static void print_row(const float *logits, uint32_t vocab, const char *before)
{
    (void)printf("%s[", before);
    for (uint32_t i = 0; i < vocab; i++) {
        (void)printf("%s%.9g", i > 0 ? "," : "", (double)logits[i]);
    }
    (void)printf("]");
}

int main(int argc, char **argv)
{
    const int first = argc > 1 && strcmp(argv[1], "--bf16") == 0 ? 2 : 1;
    if (argc < first + 2) {
        (void)fprintf(stderr, "usage: engine_dump [--bf16] MODEL ID...\n");
        return 2;
    }
    struct probe probe =
        probe_open(argv[first], (struct engine_options){.dtype = first == 2 ? KERN_BF16 : KERN_F32,
                                                        .isa = kern_isa_detect(),
                                                        .threads = 2});
    (void)printf("{\"logits\":[");
    for (int i = first + 1; i < argc; i++) {
        char *end = NULL;
        errno = 0;
        const unsigned long id = strtoul(argv[i], &end, 10);
        if (errno || *end != '\0' || id >= probe.vocab || probe.fed >= probe.options.context_max) {
            (void)fprintf(stderr, "engine_dump: %s: not a token id of this model\n", argv[i]);
            return 2;
        }
        const uint32_t token = (uint32_t)id;
        print_row(probe_feed(&probe, &token, 1), probe.vocab, i > first + 1 ? "," : "");
    }
    (void)printf("]}\n");
    probe_close(&probe);
    return 0;
}
