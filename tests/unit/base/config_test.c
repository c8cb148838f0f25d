/*
 * config_test.c - defaults, the file, overrides, and the one line that a mistake gets: file, line,
 * key and what to do.
 */
#include "base/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

struct loader {
    struct config config;
    char error[CONFIG_ERROR_BYTES_MAX];
    char path[64];
};

/* Loads text as a file. The path in messages is replaced by "F" to keep the tests readable. */
static int load_bytes(struct loader *loader, const char *text, size_t bytes)
{
    const int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), (ssize_t)bytes);
    (void)snprintf(loader->path, sizeof loader->path, "/proc/self/fd/%d", fd);
    loader->error[0] = '\0';
    const int status = config_load(&loader->config, loader->path, NULL, 0, loader->error);
    assert_int_equal(close(fd), 0);
    const size_t path_bytes = strlen(loader->path);
    if (strncmp(loader->error, loader->path, path_bytes) == 0) {
        loader->error[0] = 'F';
        memmove(loader->error + 1, loader->error + path_bytes,
                strlen(loader->error + path_bytes) + 1);
    }
    return status;
}

static int load(struct loader *loader, const char *text)
{
    return load_bytes(loader, text, strlen(text));
}

static void refuses(const char *text, const char *error)
{
    struct loader loader;
    assert_int_equal(load(&loader, text), -EINVAL);
    assert_string_equal(loader.error, error);
}

static int set(struct loader *loader, const char *first, const char *second)
{
    const char *const overrides[] = {"model.path=m", first, second};
    return config_load(&loader->config, NULL, overrides, second ? 3 : 2, loader->error);
}

static void set_refuses(const char *override, const char *error)
{
    struct loader loader;
    assert_int_equal(set(&loader, override, NULL), -EINVAL);
    assert_string_equal(loader.error, error);
}

static void defaults_hold(void **state)
{
    (void)state;
    struct loader loader;
    assert_int_equal(load(&loader, "model: {path: m}\n"), 0);
    const struct config *config = &loader.config;
    assert_string_equal(config->model.path, "m");
    assert_string_equal(config->model.name, "");
    assert_int_equal(config->model.dtype, CONFIG_DTYPE_AUTO);
    assert_int_equal(config->model.weights, CONFIG_WEIGHTS_AUTO);
    assert_string_equal(config->chat.template, "chatml");
    assert_int_equal(config->zmq.bind_count, 1);
    assert_string_equal(config->zmq.bind[0], "ipc:///tmp/sluice-agent/api.sock");
    assert_int_equal(config->zmq.message_bytes_max, 4 << 20);
    assert_int_equal(config->workers.count, 1);
    assert_int_equal(config->workers.device, CONFIG_DEVICE_AUTO);
    assert_int_equal(config->workers.step_timeout_ms, 5000); /* Half of the unit's WatchdogSec. */
    assert_int_equal(config->batch.tokens_max, 512);
    assert_int_equal(config->batch.slots_max, 64);
    assert_int_equal(config->kv.page_tokens, 16);
    assert_true(config->kv.device_pages * config->kv.page_tokens >= 64 * 1024);
    assert_int_equal(config->kv.dtype, CONFIG_KV_DTYPE_AUTO);
    assert_int_equal(config->plan.mode, CONFIG_PLAN_AUTO);
    assert_string_equal(config->plan.dir, "");
    assert_int_equal(config->queue.requests_max, 1024);
    assert_int_equal(config->stream.stall_timeout_ms, 30000);
}

static void file_values_arrive(void **state)
{
    (void)state;
    struct loader loader;
    assert_int_equal(load(&loader, "# comment\n"
                                   "model:\n"
                                   "  path: \"/models/a b\"\n"
                                   "  dtype: f32\n"
                                   "  weights: int8\n"
                                   "zmq:\n"
                                   "  bind: [\"ipc://run/s.sock\", 'tcp://127.0.0.1:5555']\n"
                                   "workers: {count: 4, tp: 2}\n"
                                   "kv:\n"
                                   "  page_tokens: 64\n"
                                   "  dtype: fp8_e4m3\n"
                                   "plan: {mode: overlap, dir: plans}\n"),
                     0);
    assert_string_equal(loader.config.model.path, "/models/a b");
    assert_int_equal(loader.config.model.dtype, CONFIG_DTYPE_F32);
    assert_int_equal(loader.config.model.weights, CONFIG_WEIGHTS_INT8);
    assert_int_equal(loader.config.zmq.bind_count, 2);
    assert_string_equal(loader.config.zmq.bind[0], "ipc://run/s.sock");
    assert_string_equal(loader.config.zmq.bind[1], "tcp://127.0.0.1:5555");
    assert_int_equal(loader.config.workers.count, 4);
    assert_int_equal(loader.config.workers.tp, 2);
    assert_int_equal(loader.config.kv.page_tokens, 64);
    assert_int_equal(loader.config.kv.dtype, CONFIG_KV_DTYPE_E4M3);
    assert_int_equal(loader.config.plan.mode, CONFIG_PLAN_OVERLAP);
    assert_string_equal(loader.config.plan.dir, "plans");
}

static void one_value_is_a_list_of_one(void **state)
{
    (void)state;
    struct loader loader;
    assert_int_equal(load(&loader, "model: {path: m}\nzmq: {bind: 'tcp://[::1]:1'}\n"), 0);
    assert_int_equal(loader.config.zmq.bind_count, 1);
    assert_string_equal(loader.config.zmq.bind[0], "tcp://[::1]:1");
    assert_int_equal(set(&loader, "zmq.bind=ipc://a/b", "zmq.bind=ipc://c"), 0);
    assert_int_equal(loader.config.zmq.bind_count, 1);
    assert_string_equal(loader.config.zmq.bind[0], "ipc://c");
}

static void an_override_may_be_a_list(void **state)
{
    (void)state;
    struct loader loader;
    assert_int_equal(set(&loader, "zmq.bind=[ipc://a, 'tcp://127.0.0.1:5']", "workers.count=2"), 0);
    assert_int_equal(loader.config.zmq.bind_count, 2);
    assert_string_equal(loader.config.zmq.bind[0], "ipc://a");
    assert_string_equal(loader.config.zmq.bind[1], "tcp://127.0.0.1:5");
    assert_int_equal(loader.config.workers.count, 2);
    set_refuses("zmq.bind=[]", "--set zmq.bind=[]: must not be empty");
    set_refuses("zmq.bind=[ipc://a, [ipc://b]]",
                "--set zmq.bind=[ipc://a, [ipc://b]]: must be a list of single values");
    set_refuses("zmq.bind=[ipc://a]\n--- 5",
                "--set zmq.bind=[ipc://a]?--- 5: holds a control character");
    assert_int_equal(set(&loader, "zmq.bind=[ipc://a", NULL), -EINVAL);
    assert_int_equal(set(&loader, "zmq.bind=[a]: b", NULL), -EINVAL);
    assert_int_equal(set(&loader, "model.name=[a, b]", NULL), 0); /* Not a list: text. */
    assert_string_equal(loader.config.model.name, "[a, b]");
}

static void overrides_win_in_order(void **state)
{
    (void)state;
    struct loader loader;
    assert_int_equal(set(&loader, "kv.page_tokens=32", "kv.page_tokens=64"), 0);
    assert_int_equal(loader.config.kv.page_tokens, 64);
    assert_int_equal(set(&loader, "model.name=5", "admin.bind="), 0); /* Untyped, so text. */
    assert_string_equal(loader.config.model.name, "5");
    set_refuses("nonsense", "--set nonsense: want key=value");
    set_refuses("kv.pages=3", "--set kv.pages=3: there is no such key");
    set_refuses("kv.page_tokens=48", "--set kv.page_tokens=48: must be 16, 32 or 64");
    set_refuses("workers.tp=2", "--set workers.tp=2: must divide workers.count");
    set_refuses("model.name=a\nb", "--set model.name=a?b: holds a control character");
}

static void mistakes_name_file_line_and_key(void **state)
{
    (void)state;
    refuses("model:\n  path: m\nkv:\n  page_tokens: 17\n",
            "F:4: kv.page_tokens: must be 16, 32 or 64");
    refuses("model:\n  path: m\n  colour: red\n", "F:3: model.colour: there is no such key");
    refuses("models:\n  path: m\n", "F:1: models: there is no such section");
    refuses("kv.page_tokens: 16\n", "F:1: kv.page_tokens: there is no such section");
    refuses("model:\n  path: m\n  dtype: f64\n", "F:3: model.dtype: must be auto, bf16 or f32");
    refuses("model:\n  path: m\n  weights: int4\n",
            "F:3: model.weights: must be auto, int8 or fp8");
    refuses("model: {path: m}\nworkers:\n  count: 0\n",
            "F:3: workers.count: must be a whole number from 1 to 16");
    refuses("model: {path: m}\nworkers:\n  count: 99999999999999999999\n",
            "F:3: workers.count: must be a whole number from 1 to 16");
    refuses("model: {path: m}\nworkers:\n  count: -1\n",
            "F:3: workers.count: must be a whole number from 1 to 16");
    refuses("model: {path: m}\nworkers:\n  count: '2'\n",
            "F:3: workers.count: must be a number, not text");
    refuses("model: {path: m}\nworkers:\n  count: [2]\n",
            "F:3: workers.count: must be a single value");
    refuses("model: {path: m}\nworkers:\n  count:\n    x: 1\n",
            "F:4: workers.count: must be a single value");
    refuses("model:\n  path: 7\n", "F:2: model.path: must be text; quote it if it is meant");
    refuses("model:\n  path: true\n", "F:2: model.path: must be text; quote it if it is meant");
    refuses("model:\n  path:\n", "F:2: model.path: must be text; quote it if it is meant");
    refuses("model:\n  path: ''\n", "F:2: model.path: must not be empty");
    refuses("model:\n  path: \"a\\0b\"\n", "F:2: model.path: holds a control character");
    refuses("model:\n  path: m\n  path: n\n", "F:3: model.path: stands here a second time");
    refuses("model: {path: m}\nkv: {}\nkv: {}\n", "F:3: kv: stands here a second time");
    refuses("model: {path: m}\nworkers:\n  count: 4\n  tp: 3\n",
            "F:4: workers.tp: must divide workers.count");
    refuses("model: {path: m}\nbatch:\n  tokens_max: 8\n  slots_max: 9\n",
            "F:4: batch.slots_max: must be at most batch.tokens_max: every request takes a token "
            "of a step");
    refuses("", "model.path: is required: set it in the file or with --set model.path=PATH");
}

static void other_yaml_is_refused(void **state)
{
    (void)state;
    refuses("- a\n", "F:1: want sections, such as \"model:\"");
    refuses("5\n", "F:1: want sections, such as \"model:\"");
    refuses("model: 5\n", "F:1: model: must hold keys");
    refuses("model:\n", "F:1: model: must hold keys");
    refuses("? [a]\n: b\n", "F:1: want the name of a section");
    refuses("model:\n  ? [a]\n  : b\n", "F:2: model: want the name of a key");
    refuses("model: &x {path: m}\n", "F:1: anchors and tags are not supported");
    refuses("model: {path: !!str m}\n", "F:1: anchors and tags are not supported");
    refuses("model: {path: *x}\n", "F:1: aliases are not supported");
    refuses("model: {path: m}\n---\nmodel: {path: m}\n", "F:3: want one YAML document");
    struct loader loader;
    assert_int_equal(load(&loader, "model: {path: m\n"), -EINVAL);
    assert_non_null(strstr(loader.error, "not YAML"));
    assert_int_equal(load(&loader, "model: {path: \"\xff\"}\n"), -EINVAL);
    assert_non_null(strstr(loader.error, "not YAML"));
    char deep[4096];
    memset(deep, '[', sizeof deep);
    assert_int_equal(load_bytes(&loader, deep, sizeof deep), -EINVAL);
}

static void endpoints_stay_local(void **state)
{
    (void)state;
    struct loader loader;
    const char *const good[] = {"ipc://s", "ipc:///run/a.sock", "tcp://127.0.0.1:1",
                                "tcp://127.9.8.7:65535", "tcp://[::1]:80"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char override[128];
        (void)snprintf(override, sizeof override, "zmq.bind=%s", good[i]);
        assert_int_equal(set(&loader, override, NULL), 0);
    }
    const char *const bad[] = {
        "",
        "ipc://",
        "ipc://run/",
        "ipc://@abstract",
        "ipc://*",
        "inproc://x",
        "udp://127.0.0.1:5",
        "tcp://*:5555",
        "tcp://0.0.0.0:5555",
        "tcp://10.0.0.1:5555",
        "tcp://[::]:5555",
        "tcp://::1:5555",
        "tcp://[127.0.0.1]:5555",
        "tcp://eth0:5555",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:99999999999999999999",
        "tcp://127.0.0.1:*",
        "tcp://127.0.0.1:80x",
        "tcp://127.0.0.1.evil.example.com.of.more.than.the.bytes.of.an.address:80",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char override[128];
        (void)snprintf(override, sizeof override, "zmq.bind=%s", bad[i]);
        assert_int_equal(set(&loader, override, NULL), -EINVAL);
    }
    assert_int_equal(set(&loader, "zmq.bind=tcp://0.0.0.0:5555", NULL), -EINVAL);
    assert_non_null(strstr(loader.error, "CURVE"));
    set_refuses("admin.bind=tcp://127.0.0.1:5", "--set admin.bind=tcp://127.0.0.1:5: must be "
                                                "ipc://PATH");
}

static void socket_paths_fit_with_the_admin_one(void **state)
{
    (void)state;
    struct loader loader;
    char override[160] = "zmq.bind=ipc://";
    const size_t start = strlen(override);
    memset(override + start, 'p', 101); /* With ".admin" 107 bytes: what a sockaddr_un takes. */
    override[start + 101] = '\0';
    assert_int_equal(set(&loader, override, NULL), 0);
    override[start + 101] = 'p';
    override[start + 102] = '\0';
    assert_int_equal(set(&loader, override, NULL), -EINVAL);
}

static void lists_are_bounded(void **state)
{
    (void)state;
    struct loader loader;
    char text[1024] = "model: {path: m}\nzmq:\n  bind:\n";
    for (int i = 0; i < LIMIT_BINDS_MAX; i++) {
        strncat(text, "  - ipc://s\n", sizeof text - strlen(text) - 1);
    }
    assert_int_equal(load(&loader, text), 0);
    assert_int_equal(loader.config.zmq.bind_count, LIMIT_BINDS_MAX);
    strncat(text, "  - ipc://s\n", sizeof text - strlen(text) - 1);
    assert_int_equal(load(&loader, text), -EINVAL);
    refuses("model: {path: m}\nzmq: {bind: []}\n", "F:2: zmq.bind: must not be empty");
    refuses("model: {path: m}\nzmq: {bind: [[ipc://s]]}\n",
            "F:2: zmq.bind: must be a list of single values");
}

static void unreadable_files_are_named(void **state)
{
    (void)state;
    struct loader loader;
    assert_int_equal(config_load(&loader.config, "/no/such.yaml", NULL, 0, loader.error), -ENOENT);
    assert_string_equal(loader.error, "/no/such.yaml: No such file or directory");
    assert_int_equal(config_load(&loader.config, "/tmp", NULL, 0, loader.error), -EINVAL);
    assert_string_equal(loader.error, "/tmp: not a regular file");
    char *large = calloc(1, 65537);
    assert_non_null(large);
    assert_int_equal(load_bytes(&loader, large, 65537), -EFBIG);
    assert_string_equal(loader.error, "F: larger than 64 KiB");
    free(large);
}

static void shipped_files_are_valid(void **state)
{
    (void)state;
    static const char *const files[] = {"configs/cpu.yaml", "configs/service.yaml"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct loader loader;
        if (config_load(&loader.config, files[i], NULL, 0, loader.error)) {
            fail_msg("%s", loader.error);
        }
        assert_true(loader.config.kv.device_pages * loader.config.kv.page_tokens >= 64 * 1024);
    }
}

static void prints_every_key(void **state)
{
    (void)state;
    char text[16384] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    config_print_keys(out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "| `model.path` | text | required |"));
    assert_non_null(strstr(text, "| `kv.page_tokens` | one of 16 32 64 | 16 |"));
    assert_non_null(strstr(text, "| `stream.stall_timeout_ms` | 1 to 86400000 | 30000 |"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold),
        cmocka_unit_test(file_values_arrive),
        cmocka_unit_test(one_value_is_a_list_of_one),
        cmocka_unit_test(an_override_may_be_a_list),
        cmocka_unit_test(overrides_win_in_order),
        cmocka_unit_test(mistakes_name_file_line_and_key),
        cmocka_unit_test(other_yaml_is_refused),
        cmocka_unit_test(endpoints_stay_local),
        cmocka_unit_test(socket_paths_fit_with_the_admin_one),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(unreadable_files_are_named),
        cmocka_unit_test(shipped_files_are_valid),
        cmocka_unit_test(prints_every_key),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
