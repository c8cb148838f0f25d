/* profile_test.c - a profile written and read is the same; durations between and beyond what was
 * measured; what is broken is named. */
#include "plan/profile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Of a product: 10 us and 1 us a token, on half the units twice as long; attention: also 0.5 us for
 * each token of context. */
static struct profile *make_profile(void)
{
    struct profile *profile = calloc(1, sizeof *profile);
    struct plan *all = calloc(1, sizeof *all);
    assert_true(profile && all);
    *profile = (struct profile){
        .key = {"model", "bf16", "int8", "bf16", "device", "library", "kernels", 1, 4},
        .layers = 3,
        .share = {2, 4},
        .share_count = 2,
        .context = {100, 200},
        .context_count = 2,
        .token = {16, 32, 64},
        .token_count = 3};
    plan_sequential(all, false);
    for (uint32_t i = 0; i < all->nano_count; i++) {
        const uint32_t operation = all->nano[i].operation;
        for (uint32_t at = 0; at < 12; at++) {
            const uint32_t share = at / 6, context = at / 3 % 2, token = at % 3;
            const double attends =
                profile_class(operation) == PROFILE_MEMORY ? 0.5 * profile->context[context] : 0;
            profile->duration_us[operation][share][context][token] =
                (10 + profile->token[token] + attends) * (share == 0 ? 2 : 1);
        }
    }
    for (uint32_t i = 0; i < PROFILE_CLASSES * PROFILE_CLASSES * 2; i++) {
        profile->keep[i / 4][i / 2 % 2][i % 2] = 0.5 + 0.01 * i;
    }
    free(all);
    return profile;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    char error[PROFILE_ERROR_BYTES_MAX] = "";
    struct profile *profile = make_profile();
    struct profile *back = calloc(1, sizeof *back);
    assert_non_null(back);
    struct json *root = profile_json(profile);
    assert_int_equal(profile_read(back, root, error), 0);
    assert_memory_equal(back, profile, sizeof *back);
    json_free(root);
    free(back);
    free(profile);
}

static void expect_us(double us, double wanted_us)
{
    assert_true(fabs(us - wanted_us) < 1e-9);
}

static void durations_are_linear(void **state)
{
    (void)state;
    struct profile *profile = make_profile();
    expect_us(profile_duration(profile, PLAN_KQV, 1, 150, 16), 26);
    expect_us(profile_duration(profile, PLAN_KQV, 0, 150, 24), 68);
    expect_us(profile_duration(profile, PLAN_KQV, 1, 150, 128), 138); /* Beyond. */
    expect_us(profile_duration(profile, PLAN_KQV, 1, 150, 1), 26);    /* Nothing is less. */
    expect_us(profile_duration(profile, PLAN_KQV, 1, 150, 0), 0);
    expect_us(profile_duration(profile, PLAN_DECODE_ATTENTION, 1, 150, 48), 133);
    expect_us(profile_duration(profile, PLAN_DECODE_ATTENTION, 1, 400, 32), 242);
    expect_us(profile_duration(profile, PLAN_DECODE_ATTENTION, 1, 10, 32), 92);
    assert_int_equal(profile_share(profile, 0), 1);
    assert_int_equal(profile_share(profile, 1), 0);
    assert_int_equal(profile_share(profile, 3), 0);
    assert_int_equal(profile_share(profile, 4), 1);
    free(profile);
}

/* Replaces one word of a good profile. */
static void expect_refused(const char *word, const char *other, const char *reason)
{
    char error[PROFILE_ERROR_BYTES_MAX] = "";
    struct profile *profile = make_profile();
    struct json *root = profile_json(profile), *broken = NULL;
    struct json_error json_error;
    char *text = json_dump(root);
    char *at = strstr(text, word);
    assert_non_null(at);
    const size_t room = strlen(text) + strlen(other) + 1;
    char *changed = calloc(1, room);
    assert_non_null(changed);
    (void)snprintf(changed, room, "%.*s%s%s", (int)(at - text), text, other, at + strlen(word));
    assert_int_equal(json_parse(changed, strlen(changed), &broken, &json_error), 0);
    assert_true(profile_read(profile, broken, error) < 0);
    assert_non_null(strstr(error, reason));
    json_free(broken);
    json_free(root);
    free(changed);
    free(text);
    free(profile);
}

static void broken_profiles_are_refused(void **state)
{
    (void)state;
    expect_refused("\"profile\":1", "\"profile\":2", "another version");
    expect_refused("\"units\":4", "\"units\":8", "shares must end");
    expect_refused("\"shares\":[2,4]", "\"shares\":[4,4]", "ascending");
    expect_refused("\"shares\":[2,4]", "\"shares\":[4]", "attention-norm");
    expect_refused("\"tokens\":[16,32,64]", "\"tokens\":[]", "tokens");
    expect_refused("\"up-gate\":", "\"up\":", "up-gate");
    expect_refused("\"up-gate\":[[[", "\"up-gate\":[[[0,", "up-gate");
    expect_refused("\"keep\":", "\"kept\":", "keep");
    expect_refused("\"layers\":3", "\"layers\":0", "layers");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(durations_are_linear),
        cmocka_unit_test(broken_profiles_are_refused),
    };
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
