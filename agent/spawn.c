/*
 * spawn.c - fork and exec. Called by the supervisor's only thread; owns nothing. Between fork and
 * exec nothing but async-signal-safe calls run, on memory made ready before. Invariant: a child has
 * descriptors 0 to 2 and the two of control.h, no blocked or ignored signal, and a parent.
 */
#include "agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/control.h"

enum { SPAWN_FD_FREE = CONTROL_CONFIG_FD + 1, SPAWN_EXIT = 127 };

static void spawn_reset_signals(void)
{
    sigset_t none;
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        (void)sigaction(number, &standard, NULL); /* Fails for a few that cannot be changed. */
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Moves the descriptors to their numbers. They may stand in each other's way, so first up. */
static int spawn_place(const struct spawn *spawn)
{
    const int control = spawn->control < 0 ? -1 : fcntl(spawn->control, F_DUPFD, SPAWN_FD_FREE);
    const int config = spawn->config < 0 ? -1 : fcntl(spawn->config, F_DUPFD, SPAWN_FD_FREE);
    const int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
        (spawn->control >= 0 && dup2(control, CONTROL_FD) < 0) ||
        (spawn->config >= 0 && dup2(config, CONTROL_CONFIG_FD) < 0)) {
        return -errno;
    }
    const unsigned first = spawn->control < 0 ? CONTROL_FD : SPAWN_FD_FREE;
    return close_range(first, ~0u, CLOSE_RANGE_CLOEXEC) == 0 ? 0 : -errno;
}

/* The child from fork to exec. failed is ready but for the cause. */
static _Noreturn void spawn_become(const struct spawn *spawn, char *const argv[], pid_t parent,
                                   struct control_message *failed)
{
    spawn_reset_signals();
    (void)setpgid(0, 0);
    /* The signal is for a parent that dies later, the check for one that died already. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
        _exit(SPAWN_EXIT);
    }
    int control = spawn->control;
    int error = spawn_place(spawn);
    if (!error) {
        control = control < 0 ? -1 : CONTROL_FD;
        (void)execv(spawn->path, argv);
        error = -errno;
    }
    const char *cause = strerrordesc_np(-error);
    const size_t used = strlen(failed->text);
    if (cause && used + strlen(cause) < sizeof failed->text) {
        memcpy(failed->text + used, cause, strlen(cause) + 1);
    }
    if (control >= 0) {
        (void)send(control, failed, sizeof *failed, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    _exit(SPAWN_EXIT);
}

pid_t spawn_program(const struct spawn *spawn)
{
    char *const argv[] = {(char *)(uintptr_t)spawn->path, (char *)(uintptr_t)spawn->argument, NULL};
    struct control_message failed = {.kind = CONTROL_FAILED};
    (void)snprintf(failed.text, sizeof failed.text, "cannot run %.*s: ", CONTROL_TEXT_BYTES / 2,
                   spawn->path);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid == 0) {
        spawn_become(spawn, argv, parent, &failed);
    }
    return pid < 0 ? -errno : pid;
}

int spawn_and_wait(const struct spawn *spawn, int timeout_ms)
{
    const pid_t pid = spawn_program(spawn);
    if (pid < 0) {
        return (int)pid;
    }
    struct pollfd end = {.fd = pidfd_open(pid, 0), .events = POLLIN};
    if (end.fd < 0 || poll(&end, 1, timeout_ms) != 1) {
        (void)kill(pid, SIGKILL);
    }
    int status = 0;
    pid_t reaped;
    do {
        reaped = waitpid(pid, &status, 0); /* Ended or killed: this does not wait for long. */
    } while (reaped < 0 && errno == EINTR);
    if (end.fd >= 0) {
        (void)close(end.fd);
    }
    return reaped == pid ? status : -ECHILD;
}
