# common.bash - what every bats file starts with: `load ../lib/common`.
#
# The tools under test come first on PATH (TOOLS, else bin/ of the tree). Binary data goes to files
# below $BATS_TEST_TMPDIR, where each test starts, and is compared with cmp, never through $output.
bats_require_minimum_version 1.5.0

ROOT=$(cd "$BATS_TEST_DIRNAME" && while [ ! -e Makefile ] || [ ! -d formats ]; do cd ..; done && pwd)
export ROOT LC_ALL=C
export PATH="${TOOLS:-$ROOT/bin}:$PATH"

# The Python that Debian's numpy belongs to; another may come first on PATH.
PYTHON=python3
[ ! -x /usr/bin/python3 ] || PYTHON=/usr/bin/python3
PLAIN_PYTHON=$PYTHON
# Under tests/run a server holds one that has loaded numpy (warm.py). It does not share the namespaces of who calls.
[ -z "${WARM-}" ] || PYTHON=$ROOT/build/release/warm

# For printf: settings under which a run of train is as plain as can be: labels as targets, the weights that the steps
# leave, those of the best epoch.
PLAIN='regions: none\nema: 0\nkeep: best\n'

setup() {
    cd "$BATS_TEST_TMPDIR"
}

# What is meant to fail ends where it stands: from here on nobody searches it for leaks, which takes as long as the tool
# itself. Those of readers that refuse are found in the units and by fuzz/again.
fails() {
    export ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0
}

# bats' own, for which that is so where a failure is wanted.
eval "bats_$(declare -f run)"
run() {
    case ${1-} in
    -[1-9]* | !) ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0 bats_run "$@" ;;
    *) bats_run "$@" ;;
    esac
}

# A command with pipes, in a shell in which any part that fails fails the whole: pipe 'a | b >c'.
# Under `run`: run -1 pipe '...'.
pipe() {
    bash -o pipefail -c "$1" pipe "${@:2}"
}

# For a shell that waits for a file, between two looks: one that spins takes a core from those whom it waits for.
pause() { # [SECONDS]
    [ -p "$BATS_TEST_TMPDIR/.pause" ] || mkfifo "$BATS_TEST_TMPDIR/.pause"
    read -rt "${1-0.01}" <>"$BATS_TEST_TMPDIR/.pause" || true
}

# Annotated hex text to bytes: hex NAME >FILE (formats/vectors/NAME.hex).
hex() {
    "$PYTHON" "$ROOT/tests/lib/hex2bin" "$ROOT/formats/vectors/$1.hex"
}

# The test is skipped, with its reason, where something it needs is not there. Under CI that fails (tests/run): what a
# test needs is among the packages of the check.
need_command() {
    command -v "$1" >/dev/null || skip "no $1"
}
need_python() { # MODULE
    "$PYTHON" -c "import $1" 2>/dev/null || skip "$PYTHON has no module $1"
}
need_data() {
    [ -n "${DATA-}" ] || skip "DATA names no folder of real cases"
}
need_release() { # for what a sanitizer changes (memory, time, the loader); this counts as no skip
    [ "${CONFIG:-release}" = release ] || skip "not with the $CONFIG build: $1"
}

# The peak resident memory of a command in KiB, on standard output; its own output goes to /dev/null.
# (GNU time starts it from a process of 1 MiB; one started from Python would count Python's size.)
peak_kib() {
    command time -q -o "$BATS_TEST_TMPDIR/peak" -f %M "$@" >/dev/null || return
    cat "$BATS_TEST_TMPDIR/peak"
}

# Python from standard input, with niftis.py's names and numpy as np; in the test's folder.
py() {
    PYTHONPATH="$ROOT/tests/lib" "$PYTHON" -c 'import os, subprocess, sys, numpy as np
from niftis import *
exec(sys.stdin.read())' "$@"
}

# The synthetic slices that networks learn from (blobs.py): as they come from scans, and normalised.
raw_blobs() {
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -l nii2slices "$@"
}
blobs() {
    raw_blobs -l "znorm -p case" -k norm=case "$@"
}
