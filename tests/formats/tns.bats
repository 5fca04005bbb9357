# The stream, from outside: vectors before two readers, and the filters of tns(5).
load ../lib/common

dump() {
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" dump
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    need_python numpy
}

# Every vector of a class in both readers: judge CLASS WORDS-OF-OURS WORD-OF-THE-OTHER.
judge() {
    local f n status seen=0
    "$PYTHON" "$ROOT/tests/lib/hex2bin" -d . "$ROOT"/formats/vectors/tns-"$1"-*.hex
    for f in tns-"$1"-*.bin; do
        n=${f%.bin}
        status=0
        tnsview -c <"$f" >out 2>err || status=$?
        [ $status = 1 ] && [ ! -s out ] && [ "$(wc -l <err)" = 1 ] && grep -qE "^tnsview: stdin: .*($2)" err ||
            echo "$n: exit status $status, says $(cat err)" >>findings
        status=0
        cat "$f" | tnsview -c >out 2>piped || status=$?
        cmp err piped || echo "$n: differs from a pipe" >>findings
        ! dump <"$f" >out 2>err && grep -qE "^mkstream: $3" err || echo "$n: the second reader says $(cat err)" >>findings
        seen=$((seen + 1))
    done
    [ $seen -ge 3 ] && [ ! -s findings ] || { cat findings; return 1; }
}

@test "tns: good vectors are read, and written again they hold the same" {
    for f in "$ROOT"/formats/vectors/tns-good-*.hex; do
        n=$(basename "$f" .hex)
        hex "$n" >v
        tnsview -c <v
        # crop -u leaves records alone that were not cropped: a filter that only decodes and encodes.
        crop -Hu <v >again
        # Whether more follows a writer says in its own way, and by then it knows.
        diff <(dump <v | sed 's/^more$/end/') <(dump <again | sed 's/^more$/end/')
        # From there on the bytes stay.
        crop -Hu <again | cmp - again
    done
}

@test "tns: bad vectors are corrupt" {
    judge bad corrupt corrupt
}

@test "tns: cut vectors are cut" {
    judge cut 'cut off|ended before|empty' cut
}

@test "tns: vectors from the future are unsupported" {
    judge unsupported unsupported unsupported
}

@test "tns: foreign vectors are no tensor streams" {
    for n in tns-foreign-text tns-foreign-mode; do
        hex $n >v
        run -1 --separate-stderr tnsview -c <v
        [[ $stderr = "tnsview: stdin: not a tensor stream"* ]]
        run ! dump <v
    done
}

@test "tns: the bytes of good-one are those of the page, counted by hand" {
    hex tns-good-one >v
    [ "$(wc -c <v)" = $((64 + 128 + 64 + 64 + 128 + 64 + 64)) ]
    crop -Hu <v | cmp - v
}

# Pulls an example out of tns(5), and takes back what troff needed.
example() {
    sed -n "/^\.\\\\\" begin $1/,/^\.\\\\\" end $1/p" "$ROOT/man/tns.5" | sed '1d; $d' |
        sed 's/^\\&//; s/\\(aq/'\''/g; s/\\(ga/`/g; s/\\(ha/^/g; s/\\(ti/~/g; s/\\-/-/g; s/\\e/\\/g'
}

filters() { # builds ./scale; scale.py
    example scale.c >scale.c
    example scale.py >scale.py
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror -O1 -o scale scale.c -lxxhash -lz
}

@test "tns(5): the filter in C and the one in Python compile, and change what they should" {
    filters
    for kind in 1 2; do
        "$PYTHON" "$ROOT/tests/lib/mkstream.py" make kind=$kind >in.tns
        ./scale 0.5 <in.tns >c.tns
        "$PYTHON" scale.py 0.5 <in.tns >py.tns
        cmp c.tns py.tns
        tnsview -c <c.tns
        for r in 0 5; do
            for f in in c; do "$PYTHON" "$ROOT/tests/lib/mkstream.py" get $r image <$f.tns >$f.image; done
            "$PYTHON" -c 'import numpy as np; a, b = np.fromfile("in.image", "f4"), np.fromfile("c.image", "f4"); assert a.any() and (a / 2 == b).all()'
        done
        diff <(dump <in.tns | grep -v '^  image') <(dump <c.tns | grep -v '^  image')
    done
}

@test "tns(5): what the two filters write goes through every filter" {
    filters
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make >in.tns
    pipe 'recode -s brats2017 <in.tns | ./scale 2 | znorm | '"$PYTHON"' scale.py 3 | crop -m 8 | tnsview -c'
}

@test "tns(5): the two filters refuse what is corrupt, cut or foreign" {
    filters
    for n in foreign-text cut-no-end cut-more cut-promise cut-payload cut-metadata bad-fixed-check bad-front-check bad-payload-check unsupported-version; do
        hex tns-$n >v
        run -1 --separate-stderr pipe './scale 2 <v >out'
        [[ $stderr = "scale: "* ]]
        run -1 --separate-stderr pipe "$PYTHON"' scale.py 2 <v >out'
        [[ $stderr = "scale: "* ]]
    done
}
