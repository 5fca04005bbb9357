#!/usr/bin/env bats
# The kernels as AArch64 runs them, cross-compiled. LONG=1: small cases under an emulator; else they compile, and no more.
load lib/common

@test "kernels: aarch64 (neon) compiles without a warning, and with LONG=1 agrees with the oracle" {
    need_command aarch64-linux-gnu-gcc
    need_command qemu-aarch64
    cd "$ROOT"
    o=$BATS_TEST_TMPDIR/build
    neon=(lib/kernels/simd/*.c)
    neon=("${neon[@]/%.c/_neon.o}")
    # -O1: what is proved is the arithmetic, and -O3 takes five times as long to compile.
    cross() { # FLAGS OBJECT...
        MAKEFLAGS='' make -s -j2 CC=aarch64-linux-gnu-gcc O="$o" CONFIG=release WERROR=-Werror KERNEL_CFLAGS="$1" "${@:2}"
    }
    cross -fsyntax-only "${neon[@]/#/$o/}"
    [ -n "${LONG-}" ] || return 0
    objects=(lib/base/rng.o lib/base/tensor.o tests/unit/kernels_conv3x3.o "${neon[@]}" "${neon[@]/%neon.o/plain.o}")
    for f in lib/kernels/*.c; do
        objects+=("${f%.c}.o")
    done
    objects=("${objects[@]/#/$o/}")
    cross '-O1 -g0 -fno-math-errno -fno-trapping-math' "${objects[@]}"
    aarch64-linux-gnu-gcc -static -fopenmp -o "$o/test" "${objects[@]}" -lm
    run qemu-aarch64 "$o/test" short
    printf '%s\n' "$output" | grep -v '^ok' || true
    [ "$status" -eq 0 ]
    [[ $output == *"neon "* ]]
    [[ $output != *"not ok"* ]]
}
