# That the thread sanitizer, of which check-long asks that train, infer and all else with threads be free of
# races, would find one: clang, LLVM's OpenMP and its Archer, which tells the sanitizer what a barrier orders.
load lib/common

@test "races: one is found, and what a barrier orders is none" {
    cat >race.c <<'C'
#include <stdio.h>
int main(int argc, char **argv)
{
    int shared[2] = {0, 0}, sum = 0;
    (void)argv;
#pragma omp parallel num_threads(3)
    {
#pragma omp for reduction(+ : sum)
        for (int i = 0; i < 3000; i++)
            sum += i;
#pragma omp single
        shared[0] = sum;
#pragma omp for
        for (int i = 0; i < 3; i++)
            if (shared[0] != 4498500)
                puts("wrong");
        if (argc > 1)
            shared[1]++;
    }
    return 0;
}
C
    clang -g -O1 -fopenmp -fsanitize=thread -o race race.c
    export TSAN_OPTIONS=exitcode=99:ignore_noninstrumented_modules=1
    run -0 ./race
    [ -z "$output" ]
    run -99 ./race race
    [[ $output == *"data race"*"race.c:18"* ]]
}
