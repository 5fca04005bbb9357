/* A kernel before kr_init is a mistake that is named, and not the slowest level. */
#include "lib/kernels/kernels.h"
#include "tests/lib/tap.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    char said[512] = "";
    int end[2], status = 0;
    fflush(stdout);
    if (pipe(end))
        return 1;
    pid_t child = fork();
    if (!child) {
        dup2(end[1], 2);
        signal(SIGABRT, SIG_DFL);
        kr_conv3x3_forward_workspace(&(struct kr_conv3x3){.n = 1, .h = 4, .w = 4, .cout = 1});
        _exit(0);
    }
    close(end[1]);
    for (ssize_t n = 0, k; (k = read(end[0], said + n, sizeof said - 1 - (size_t)n)) > 0; n += k)
        ;
    waitpid(child, &status, 0);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && strstr(said, "kr_init"),
       "a kernel before kr_init aborts and says why");
    ok(!kr_init() && *kr_level(), "after it there is a level");
    return done_testing();
}
