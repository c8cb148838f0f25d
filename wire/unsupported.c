/*
 * unsupported.c - see unsupported.h. Called by field.c for a key that GENERATE does not have; pure.
 * The names are those of the OpenAI API, vLLM, SGLang, llama.cpp and Hugging Face. A key belongs
 * here when ignoring it would give another answer than its sender asked for, whatever its value is:
 * to accept the values that change nothing would say that the key is known.
 */
#include "wire/unsupported.h"

#include <string.h>

struct row {
    const char *key;
    const char *message;
};

#define ROW(key)                                                                                   \
    {                                                                                              \
        key, key " is not supported"                                                               \
    }

static const struct row rows[] = {
    ROW("best_of"),
    ROW("use_beam_search"),
    ROW("beam_width"),
    ROW("length_penalty"),
    ROW("early_stopping"),
    ROW("typical_p"),
    ROW("tfs_z"),
    ROW("top_a"),
    ROW("top_n_sigma"),
    ROW("mirostat"),
    ROW("mirostat_mode"),
    ROW("mirostat_tau"),
    ROW("mirostat_eta"),
    ROW("dry_multiplier"),
    ROW("xtc_probability"),
    ROW("xtc_threshold"),
    ROW("dynatemp_range"),
    ROW("no_repeat_ngram_size"),
    ROW("bad_words"),
    ROW("bad_words_ids"),
    ROW("stop_regex"),
    ROW("logits_processors"),
    ROW("logit_processors"),
    ROW("custom_logit_processor"),
    ROW("guided_json"),
    ROW("guided_regex"),
    ROW("guided_choice"),
    ROW("guided_grammar"),
    ROW("guided_decoding"),
    ROW("guided_decoding_backend"),
    ROW("guided_whitespace_pattern"),
    ROW("structured_outputs"),
    ROW("structural_tag"),
    ROW("response_format"),
    ROW("json_schema"),
    ROW("regex"),
    ROW("ebnf"),
    ROW("grammar"),
    ROW("tools"),
    ROW("tool_choice"),
    ROW("parallel_tool_calls"),
    ROW("functions"),
    ROW("function_call"),
    ROW("lora"),
    ROW("lora_request"),
    ROW("lora_path"),
    ROW("lora_name"),
    ROW("adapter"),
    ROW("adapter_id"),
    ROW("images"),
    ROW("image_data"),
    ROW("audio"),
    ROW("audio_data"),
    ROW("video_data"),
    ROW("modalities"),
    ROW("multi_modal_data"),
    ROW("mm_processor_kwargs"),
    ROW("prompt_embeds"),
    ROW("input_embeds"),
    ROW("echo"),
    ROW("suffix"),
    ROW("prediction"),
    ROW("truncate_prompt_tokens"),
    ROW("truncation_side"),
    ROW("logprob_token_ids"),
    ROW("token_ids_logprob"),
    ROW("logprob_start_len"),
    ROW("return_hidden_states"),
    ROW("chat_template"),
    ROW("chat_template_kwargs"),
    ROW("add_generation_prompt"),
    ROW("continue_final_message"),
    ROW("documents"),
    ROW("reasoning_effort"),
    ROW("thinking_token_budget"),
    ROW("spaces_between_special_tokens"),
    ROW("detokenize"),
    ROW("no_stop_trim"),
    ROW("watermark"),
};

const char *unsupported_message(const char *key, size_t count)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strlen(rows[i].key) == count && memcmp(rows[i].key, key, count) == 0) {
            return rows[i].message;
        }
    }
    return NULL;
}
