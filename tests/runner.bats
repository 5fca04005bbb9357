# tests/run, on test files that fail in every way that one can.
load lib/common

setup() {
    need_release "it runs no tool"
    cd "$BATS_TEST_TMPDIR"
    mkdir -p tests/unit build/release/unit build/asan/unit
    cp "$ROOT/tests/run" tests
}

# unit NAME COMMAND: a test program that does this; the sanitizers' build of it is content.
unit() {
    : >"tests/unit/$1.c"
    printf '#!/bin/bash\n%s\n' "$2" >"build/release/unit/$1"
    printf '#!/bin/bash\necho ok 1; echo 1..1\n' >"build/asan/unit/$1"
    chmod +x build/*/unit/"$1"
}

# Everything of this word: status and summary as they should be.
wanted() { # WORD STATUS SUMMARY
    tests/run "$1" >out 2>&1 && status=0 || status=$?
    [ $status = "$2" ] && [ "$(tail -n 1 out)" = "$3" ] || { cat out; return 1; }
}

@test "runner: a file that says nothing, stops short, dies, hangs, lies or is not there has failed" {
    unit good 'echo ok 1; echo ok 2; echo 1..2'
    wanted good 0 "3 passed, 0 failed"
    unit silent ':'
    unit none 'echo 1..0'
    unit short 'echo ok 1; echo 1..2'
    unit unplanned 'echo ok 1'
    unit died 'echo ok 1; echo 1..1; kill -SEGV $$'
    unit status 'echo ok 1; echo 1..1; exit 1'
    unit asan 'echo ok 1; echo 1..1; exit 99'
    unit todo 'echo not ok 1 - later "# TODO"; echo 1..1'
    unit gone ':' && rm build/release/unit/gone
    for t in silent:1 none:1 short:2 unplanned:2 died:2 status:2 asan:2 todo:1 gone:1; do
        wanted "unit/${t%:*}" 1 "${t#*:} passed, 1 failed"
    done
    mkfifo never
    unit hung 'cat never'
    TEST_LIMIT=1 wanted unit/hung 1 "1 passed, 1 failed"
    grep -q 'over 1 s' out
    rm tests/unit/*
    run -1 tests/run nothing
    [[ $output == *"no test file matches: nothing"* ]]
}

@test "runner: a skip is named, and under CI it has failed unless it is on the list" {
    unit skips 'echo ok 1; echo "ok 2 # SKIP no chromium"; echo 1..2'
    CI='' wanted skips 0 "2 passed, 0 failed, 1 skipped"
    grep -q '1 no chromium' out
    CI=true wanted skips 1 "2 passed, 1 failed, 1 skipped"
    grep -q 'skipped under CI: no chromium' out
    unit listed 'echo ok 1; echo "ok 2 # skip DATA names no folder of real cases"; echo 1..2'
    CI=true wanted listed 0 "2 passed, 0 failed, 1 skipped"
    # What runs with the other build is no skip.
    unit other 'echo ok 1; echo "ok 2 # skip not with the asan build: memory"; echo 1..2'
    CI=true wanted other 0 "2 passed, 0 failed"
}
