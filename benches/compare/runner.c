/* The processes that benches/compare needs, small and quick.
 *
 * runner PATH        writes to PATH when it starts and when it exits
 * runner PATH wait   the same, and waits for SIGTERM between them
 * runner crowd N     N processes that sleep until its stdin is closed
 *
 * A line has a word and the nanoseconds of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void report(int file, const char *what)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    dprintf(file, "%s %lld\n", what, now.tv_sec * 1000000000LL + now.tv_nsec);
}

static int crowd(int count)
{
    pid_t *children = calloc(count, sizeof *children);
    char end;

    for (int i = 0; i < count; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                pause();
        }
        if (children[i] < 0)
            return 1;
    }
    puts("complete");
    fflush(stdout);
    read(STDIN_FILENO, &end, 1);
    for (int i = 0; i < count; i++)
        kill(children[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    sigset_t stop;
    int file, signal;

    if (argc > 2 && strcmp(argv[1], "crowd") == 0)
        return crowd(atoi(argv[2]));
    /* Leave nothing behind if the supervisor is killed. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    file = open(argv[1], O_WRONLY);
    report(file, "start");
    if (argc > 2) {
        sigwait(&stop, &signal);
        report(file, "signal");
    }
    report(file, "exit");
    _exit(0);
}
