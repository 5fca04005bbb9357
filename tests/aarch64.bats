#!/usr/bin/env bats
# The kernels as AArch64 runs them: cross-compiled, small cases under an emulator.
load lib/common

@test "kernels: aarch64 (neon) agrees with the oracle" {
    need_command aarch64-linux-gnu-gcc
    need_command qemu-aarch64
    cd "$ROOT"
    o=$BATS_TEST_TMPDIR/build
    objects=("$o/lib/base/rng.o" "$o/lib/base/tensor.o" "$o/tests/unit/kernels_conv3x3.o")
    for f in lib/kernels/*.c; do
        objects+=("$o/${f%.c}.o")
    done
    for f in lib/kernels/simd/*.c; do
        f=${f##*/}
        objects+=("$o/lib/kernels/simd/${f%.c}_plain.o" "$o/lib/kernels/simd/${f%.c}_neon.o")
    done
    # -O1: what is proved is the arithmetic, and -O3 takes five times as long to compile.
    MAKEFLAGS='' make -s -j2 CC=aarch64-linux-gnu-gcc O="$o" CONFIG=release \
        KERNEL_CFLAGS='-O1 -g0 -fno-math-errno -fno-trapping-math' "${objects[@]}"
    aarch64-linux-gnu-gcc -static -fopenmp -o "$o/test" "${objects[@]}" -lm
    run qemu-aarch64 "$o/test" short
    printf '%s\n' "$output" | grep -v '^ok' || true
    [ "$status" -eq 0 ]
    [[ $output == *"neon "* ]]
    [[ $output != *"not ok"* ]]
}
