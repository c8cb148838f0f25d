/*
 * words.c - the table of named word cuttings. Read by the tokenizer's loaders at start; owns
 * nothing. Each list of expressions is that of the tokenizer.json published with the model; where
 * one is spelled in another way here, it says so and matches the same text.
 */
#include "model/words.h"

#include <string.h>

const char WORDS_GPT2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static const char LLAMA3[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static const char LINE_END[] = "[\\r\\n]";

/* DeepSeek lists the cased letters that it means one range after the other; these are the cased
 * letters without those it leaves out: Armenian and Georgian small letters, mathematical ones, and
 * what Unicode gained later. */
static const char DEEPSEEK_CASED[] =
    "\\s?[^\\P{L&}\\x{560}-\\x{588}\\x{10c7}-\\x{10ff}\\x{1c80}-\\x{1c88}\\x{1fbe}\\x{2d00}-"
    "\\x{2d2d}\\x{a790}-\\x{a7fa}\\x{ab30}-\\x{ab68}\\x{10570}-\\x{105bc}\\x{16e40}-\\x{16e7f}"
    "\\x{1d400}-\\x{1d7cb}\\x{1df00}-\\x{1df1e}]+";

static const char DEEPSEEK_MARKS[] =
    "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+";

static const char DEEPSEEK_WIDE[] = "[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+";

static const struct words TABLE[] = {
    {.name = "gpt-2", .patterns = {WORDS_GPT2}},
    {.name = "default", .patterns = {WORDS_GPT2}},
    {.name = "smollm", .patterns = {"\\p{N}", WORDS_GPT2}},
    {.name = "llama-bpe", .patterns = {LLAMA3}, .whole = true, .adds_bos = true},
    {.name = "llama3", .patterns = {LLAMA3}, .whole = true, .adds_bos = true},
    {.name = "llama-v3", .patterns = {LLAMA3}, .whole = true, .adds_bos = true},
    {.name = "deepseek-llm",
     .patterns = {LINE_END, DEEPSEEK_CASED, DEEPSEEK_MARKS, "\\s+$", DEEPSEEK_WIDE, "\\p{N}+"}},
    {.name = "deepseek-coder",
     .patterns = {LINE_END, "\\s?\\p{L}+", "\\s?\\p{P}+", DEEPSEEK_WIDE, "\\p{N}"}},
};

const struct words *words_find(const char *name, size_t bytes)
{
    for (size_t i = 0; i < sizeof TABLE / sizeof *TABLE; i++) {
        if (strlen(TABLE[i].name) == bytes && memcmp(TABLE[i].name, name, bytes) == 0) {
            return &TABLE[i];
        }
    }
    return NULL;
}
