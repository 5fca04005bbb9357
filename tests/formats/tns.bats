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
    local lib=$ROOT/build/release
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror -O1 -I"$ROOT" -o scale scale.c -L"$lib" -lgliopipe -Wl,-rpath,"$lib"
    export PYTHONPATH=$ROOT/formats
}

@test "tns(5): the filter in C and the one in Python compile, and change what they should" {
    filters
    for kind in 1 2; do
        "$PYTHON" "$ROOT/tests/lib/mkstream.py" make kind=$kind >in.tns
        ./scale 0.5 <in.tns >c.tns
        "$PYTHON" scale.py 0.5 <in.tns >py.tns
        diff <(dump <c.tns) <(dump <py.tns)
        tnsview -c <c.tns
        for r in 0 5; do
            for f in in c; do "$PYTHON" "$ROOT/tests/lib/mkstream.py" get $r image <$f.tns >$f.image; done
            "$PYTHON" -c 'import numpy as np; a, b = np.fromfile("in.image", "f4"), np.fromfile("c.image", "f4"); assert a.any() and (a / 2 == b).all()'
        done
        diff <(dump <in.tns | grep -v '^  image') <(dump <c.tns | grep -v '^  image\|^  history=scale 0.5$')
    done
    # The digest of a pass tells of the step, too.
    epochs -n 1 -s 1 in.tns >epoch.tns
    digest() { tnsview -n 0 | sed -n 's/^  digest=//p'; }
    [ "$(./scale 0.5 <epoch.tns | digest)" = "$("$PYTHON" scale.py 0.5 <epoch.tns | digest)" ]
    [ "$(./scale 0.5 <epoch.tns | digest)" != "$(digest <epoch.tns)" ]
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
        [[ $stderr = "scale: "?* ]]
        run -1 --separate-stderr pipe "$PYTHON"' scale.py 2 <v >out'
        [[ $stderr = "scale: "* ]]
    done
}

@test "gliopipe.py: reads every good vector and what is packed, and what it writes holds the same; types hold" {
    export PYTHONPATH=$ROOT/formats
    echo 'import sys, gliopipe
reader = gliopipe.Reader(sys.stdin.buffer)
with gliopipe.Writer(sys.stdout.buffer, reader, *sys.argv[1:]) as out:
    for r in reader: out.write(r)' >again.py
    for f in "$ROOT"/formats/vectors/tns-good-*.hex; do
        hex "$(basename "$f" .hex)" >v
        "$PYTHON" again.py <v >again
        tnsview -c <again
        diff <(dump <v | sed 's/^more$/end/') <(dump <again | sed 's/^more$/end/')
    done
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make kind=1 >in.tns
    "$PYTHON" again.py <in.tns | cmp - in.tns
    for o in "" -r; do
        pack $o <in.tns >packed.tns
        diff <("$PYTHON" again.py <packed.tns | dump) <(dump <packed.tns)
    done
    # The header of the program's own, another step's line in the history and digest, and values that no stream has.
    "$PYTHON" - >made.tns <<'P'
import sys, numpy as np, gliopipe
with gliopipe.Writer(sys.stdout.buffer, {"generator": "mine", "digest": "0123456789abcdef"}) as out:
    out.write(gliopipe.Record({"case": "größe"}, {"image": np.arange(6, dtype=">f4").reshape(2, 3)[:, ::-1], "b": np.array([0x3f80], gliopipe.BF16)}))
    for keys, bad in (({}, {"image": np.zeros(3, "c8")}), ({}, {"Image": np.zeros(3)}), ({}, {"image": np.zeros((0, 3))}),
                      ({}, {"image": np.zeros((1 << 24) + 1, "u1")}), ({}, {f"t{i}": np.zeros(3) for i in range(65)}),
                      ({"mark": "epoch"}, {}), ({"mark": "epoch", "epoch": "0", "index": "1", "epochs": "1"}, {"image": np.zeros(3)}),
                      ({"a": "b\nc=d"}, {})):
        try:
            out.write(gliopipe.Record(keys, bad))
        except gliopipe.Error:
            continue
        sys.exit("took " + repr(bad))
P
    tnsview -c <made.tns
    [ "$(tnsview -t <made.tns | grep -c '  b: bf16 1 min 1 ')" = 1 ]
    "$PYTHON" -c '
import sys, gliopipe
r, = gliopipe.Reader(sys.stdin.buffer)
assert r.tensors["image"].tolist() == [[2, 1, 0], [5, 4, 3]] and gliopipe.float32(r.tensors["b"]).tolist() == [1.0] and r.meta == {"case": "größe"}' <made.tns
    # A digest goes on as a filter in C makes it.
    [ "$("$PYTHON" again.py 'crop -u' <made.tns | tnsview | sed -n 's/^  digest=//p')" = "$(crop -u <made.tns | tnsview | sed -n 's/^  digest=//p')" ]
}

@test "gliopipe.py: what is bad, cut, foreign or from the future is an error of that word" {
    export PYTHONPATH=$ROOT/formats
    "$PYTHON" "$ROOT/tests/lib/hex2bin" -d . "$ROOT"/formats/vectors/tns-*.hex
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make | tee in.tns | pack >packed.tns
    "$PYTHON" - <<'P'
import glob, io, os, random, gliopipe
words, n = {"bad": "corrupt", "cut": "cut", "unsupported": "unsupported", "foreign": "foreign"}, 0
for f in sorted(glob.glob("tns-*.bin")):
    kind = f.split("-")[1]
    if kind not in words: continue
    n += 1
    try:
        list(gliopipe.Reader(open(f, "rb")))
    except gliopipe.Error as e:
        assert str(e).split(":")[0] == words[kind], (f, str(e))
    else:
        raise SystemExit(f + " was read")
assert n > 20, n
# Damaged bytes end in that, too, or in a stream.
r, refused = random.Random(1), 0
rounds, wholes = 20000 if os.environ.get("LONG") else 1000, [open(f, "rb").read() for f in ("in.tns", "packed.tns")]
for i in range(rounds):
    b = bytearray(wholes[i % 2])
    for _ in range(1 + i % 3):
        at = r.randrange(len(b) if i % 4 < 2 else 400)
        if i % 5:
            b[at] = r.randrange(256)
        else:
            del b[at:at + r.randrange(1, 100)]
    try:
        for x in gliopipe.Reader(io.BytesIO(b)): pass
    except gliopipe.Error:
        refused += 1
assert refused > rounds // 2, refused
# A writer that is left by an exception has written no end.
sink = io.BytesIO()
try:
    with gliopipe.Writer(sink, {}) as out:
        out.write(gliopipe.Record({"case": "a"}))
        1 / 0
except ZeroDivisionError:
    pass
try:
    list(gliopipe.Reader(io.BytesIO(sink.getvalue())))
    raise SystemExit("a stream without an end was read")
except gliopipe.Error as e:
    assert str(e).startswith("cut")
P
}
