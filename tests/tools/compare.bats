# compare: tables of dice side by side, against the definitions written out in Python. (The statistics themselves are
# compared with SciPy's in tests/unit/met_paired.c.)
load ../lib/common

setup() {
    cd "$BATS_TEST_TMPDIR"
}

# Python from standard input, with table(FILE, {case: {part: dice}}, ...) and lines(TEXT): rows of a table as dicts.
py() {
    "$PLAIN_PYTHON" -c 'import itertools, json, math, random, statistics, subprocess, sys
def table(name, scores, trained={}, patient={}, metrics=("dice",)):
    with open(name, "w") as f:
        print("row", "case", "patient", "slice", "trained", "part", *metrics, sep="\t", file=f)
        for case, parts in scores.items():
            for part, v in parts.items():
                v = v if isinstance(v, tuple) else (v,)
                print("case", case, patient.get(case, case), "-", trained.get(case, "no"), part, *v, sep="\t", file=f)
        print("mean", "-", "-", "-", "-", "WT", *["0.5"] * len(metrics), sep="\t", file=f)
def compare(*args, check=True):
    return subprocess.run(["compare", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=check)
def lines(text):
    head, *rest = [l.split("\t") for l in text.splitlines()]
    assert all(len(r) == len(head) for r in rest)
    return [dict(zip(head, r)) for r in rest]
def near(a, b):
    return abs(float(a) - b) < 1e-7 * max(1, abs(b))
exec(sys.stdin.read())' "$@"
}

dies() { # MESSAGE COMMAND: one line, status 1, nothing on standard output
    run -1 --separate-stderr pipe "$2"
    [ "$stderr" = "compare: $1" ] || { echo "says $stderr"; false; }
    [ -z "$output" ] || { echo "wrote $output"; false; }
}

three() { # a, b, c: twelve cases, three regions
    py <<'P'
r = random.Random(4)
cases = [f"{site}-{i:02}" for site in ("MU", "TCGA_x") for i in range(6)]
a = {c: {p: round(r.uniform(.3, .9), 6) for p in ("0", "WT", "TC", "ET")} for c in cases}
b = {c: {p: round(min(1, v + r.gauss(.05, .04)), 6) for p, v in a[c].items()} for c in cases}
c = {c: {p: round(v + r.gauss(0, .1), 6) for p, v in a[c].items()} for c in cases}
for k in ("MU-01", "MU-02", "TCGA_x-03"):
    a[k]["ET"] = b[k]["ET"] = c[k]["ET"] = 1 # neither there nor predicted
table("a", a), table("b", b), table("c", c)
json.dump([a, b, c], open("truth", "w"))
P
}

@test "compare: every number is its definition's" {
    three
    py <<'P'
tables = dict(zip("ABC", json.load(open("truth"))))
rows = lines(compare("A=a", "B=b", "C=c").stdout)
parts = ["WT", "TC", "ET", "mean"]
def of(t, case, part):
    v = tables[t][case]
    return v[part] if part != "mean" else (v["WT"] + v["TC"] + v["ET"]) / 3
cases = sorted(tables["A"])
assert [(r["row"], r["part"], r["a"], r["b"]) for r in rows] == \
    [("score", p, t, "-") for p in parts for t in "ABC"] + [("difference", p, x, y) for p in parts for x, y in ("AB", "AC", "BC")]
ps = []
for r in rows:
    assert r["site"] == "-" and r["metric"] == "dice" and r["n"] == "12"
    v = [of(r["a"], c, r["part"]) for c in cases]
    if r["row"] == "difference":
        w = [of(r["b"], c, r["part"]) for c in cases]
        assert near(r["mean_a"], statistics.mean(v)) and near(r["mean_b"], statistics.mean(w)), r
        v = [y - x for x, y in zip(v, w)]
        rest = sorted((d for d in v if d), key=abs)
        assert int(r["equal"]) == 12 - len(rest) and (r["part"] != "ET" or len(rest) == 9), r
        up = sum(i + 1 for i, d in enumerate(rest) if d > 0)
        least = min(up, len(rest) * (len(rest) + 1) // 2 - up)
        sums = [sum(s) for s in itertools.product(*((0, i + 1) for i in range(len(rest))))] # of every sign
        p = min(1, 2 * sum(s <= least for s in sums) / len(sums))
        assert r["test"] == "exact" and near(r["w"], least) and near(r["p"], p), (r, least, p)
        ps.append(p)
    else:
        assert r["test"] == "-" and r["p"] == "nan"
    assert near(r["mean"], statistics.mean(v)) and near(r["sd"], statistics.stdev(v)), r
    # About 1.96 standard errors on each side; a bootstrap's are a little less of so few.
    half = 1.96 * statistics.stdev(v) * math.sqrt(11 / 12) / math.sqrt(12)
    assert abs(float(r["low"]) - (statistics.mean(v) - half)) < .25 * half and abs(float(r["high"]) - (statistics.mean(v) + half)) < .25 * half, (r, half)
# Holm, over the twelve differences.
for r, p in zip([r for r in rows if r["row"] == "difference"], ps):
    want = max(min(1, q * (len(ps) - sum(x < q for x in ps))) for q in ps if q <= p)
    assert near(r["holm"], want), (r, want)
assert any(float(r["holm"]) < .05 for r in rows) and any(float(r["holm"]) == 1 for r in rows)
P
}

@test "compare: neither the order of rows nor that of folds changes a byte, a seed changes intervals alone" {
    three
    compare A=a B=b >want
    { head -n 1 b; grep '^case' b | tac; } >b.back
    for t in a b; do
        { head -n 1 $t; grep '^case.MU' $t; } >$t.0
        { head -n 1 $t; grep '^case.TCGA' $t; } >$t.1
    done
    compare A=a B=b.back | cmp want
    compare A=a.1 B=b.0 A=a.0 B=b.1 | cmp want
    compare -s 2 A=a B=b >other
    run cmp -s want other
    [ "$status" = 1 ]
    diff <(cut -f 1-11,14- want) <(cut -f 1-11,14- other)
}

@test "compare: sites come from a table or from the names, and are a family of their own" {
    three
    compare A=a B=b >all
    for how in "-G 1" "-g sites"; do
        sed -n 's/^case\t\([A-Z]*\)\([^\t]*\).*/\1\2\t\1/p' a | sort -u >sites
        printf 'another\tnowhere\n' >>sites
        # shellcheck disable=SC2086
        compare $how A=a B=b >out
        diff all <(awk -F '\t' '$2 !~ /^(MU|TCGA)$/' out)
        [ "$(awk -F '\t' 'NR > 1 { print $2 }' out | uniq | tr '\n' ' ')" = "- MU TCGA " ]
        for site in MU TCGA; do # each as if it were alone, but for Holm
            for t in a b; do { head -n 1 $t; grep "^case.$site" $t; } >$t.site; done
            compare A=a.site B=b.site | cut -f 3-16 | tail -n +2 >want
            awk -F '\t' -v s=$site '$2 == s' out | cut -f 3-16 | diff want -
        done
        # Two sites, four parts: the smallest p times 8.
        awk -F '\t' '$1 == "difference" && $2 != "-" { print $16, $17 }' out | sort -g | awk 'NR == 1 { p = 8 * $1; exit !($2 == (p > 1 ? 1 : p)) }'
    done
    [ "$(compare -G 2 A=a B=b | awk -F '\t' '{ print $2 }' | sort -u | grep -c TCGA_x)" = 1 ]
}

@test "compare: against the first table alone, other parts and metrics" {
    py <<'P'
scores = {f"c{i}": {"WT": (.5 + i / 100, 9 - i), "1": (.1, "nan" if i == 3 else i)} for i in range(8)}
better = {c: {"WT": (v["WT"][0] + .01, v["WT"][1]), "1": v["1"]} for c, v in scores.items()}
for n, s in zip("abc", (scores, better, scores)):
    table(n, s, metrics=("dice", "hd95"))
P
    compare -b -r 1,WT -m hd95,dice A=a B=b C=c >out
    [ "$(awk -F '\t' '$1 == "difference" { print $5 $6 }' out | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = " 6 AB; 6 AC;" ]
    [ "$(awk -F '\t' '$1 == "difference" { print $4, $3 }' out | uniq | tr '\n' ';')" = "hd95 1;hd95 WT;hd95 mean;dice 1;dice WT;dice mean;" ]
    # What is not defined in one case is left out, there and in the mean of the parts.
    [ "$(awk -F '\t' '$4 == "hd95" && $1 == "score" && $5 == "A" { print $3, $7 }' out | tr '\n' ';')" = "1 7;WT 8;mean 7;" ]
    # Nothing differs between A and C.
    [ "$(awk -F '\t' '$1 == "difference" && $6 == "C" { print $10, $15, $16, $17, $7 - $14 }' out | sort -u)" = "0 0 1 1 0" ]
    [ "$(compare -r WT A=a B=b | grep -c mean)" = 1 ] # one part has no mean beside it, but in the line of columns
}

@test "compare: who has no partner is named, by JSON in full" {
    three
    grep -v 'MU-0[345]' a >a.less
    grep -v 'TCGA_x-00' b >b.less
    compare A=a.less B=b.less >out 2>err
    printf 'compare: warning: %s\n' '1 in A, not in B: TCGA_x-00' '3 in B, not in A: MU-03, MU-04, MU-05' | diff - err
    [ "$(awk -F '\t' '$1 == "score" && $3 == "WT" || $1 == "difference" && $3 == "WT" { print $7 }' out | tr '\n' ' ')" = "9 11 8 " ]
    compare -J A=a.less B=b.less 2>/dev/null >json
    py <<'P'
j = json.load(open("json"))
assert j["unpaired"] == [{"in": "A", "not_in": "B", "names": ["TCGA_x-00"]}, {"in": "B", "not_in": "A", "names": ["MU-03", "MU-04", "MU-05"]}], j
assert (j["unit"], j["seed"], j["resamples"]) == ("case", 1, 10000)
rows = lines(open("out").read())
assert len(rows) == len(j["lines"])
for t, o in zip(rows, j["lines"]):
    assert list(t) == list(o)
    for k in t:
        assert t[k] == {None: "nan" if k not in ("site", "b") else "-"}.get(o[k], o[k] if isinstance(o[k], str) else "%.8g" % o[k] if o[k] is not None else ""), (k, t, o)
many = {f"a-very-long-name-of-a-case-{i:04}": {"WT": .5} for i in range(500)}
table("many", many)
table("one", {"a-very-long-name-of-a-case-0007": {"WT": .5}})
r = compare("-r", "WT", "A=many", "B=one")
assert r.stderr.count("\n") == 1 and len(r.stderr) < 1024, r.stderr
told = r.stderr.count("a-very")
assert f"499 in A, not in B: a-very" in r.stderr and r.stderr.endswith(f" and {499 - told} more\n"), r.stderr
assert len(json.loads(compare("-J", "-r", "WT", "A=many", "B=one").stdout)["unpaired"][0]["names"]) == 499
P
}

@test "compare: a patient with several cases counts once with -P, a case of several folds always" {
    py <<'P'
table("a", {"x1": {"WT": .2}, "x2": {"WT": .4}, "y": {"WT": .5}, "z": {"WT": .6}}, patient={"x1": "x", "x2": "x"})
table("b", {"x1": {"WT": .4}, "x2": {"WT": .8}, "y": {"WT": .5}, "z": {"WT": .7}}, patient={"x1": "x", "x2": "x"})
table("b2", {"y": {"WT": .9}})
P
    compare -r WT A=a B=b | awk -F '\t' '$1 == "difference" { print $7, $8, $9, $10 }' >got
    echo "4 0.425 0.6 0.175" | diff - got
    compare -P -r WT A=a B=b | awk -F '\t' '$1 == "difference" { print $7, $8, $9, $10 }' >got
    echo "3 0.46666667 0.6 0.13333333" | diff - got
    compare -r WT A=a B=b B=b2 2>err | awk -F '\t' '$1 == "difference" { print $7, $9 }' >got
    echo "4 0.65" | diff - got # y: (0.5 + 0.9) / 2
    echo "compare: warning: B: 1 cases are there several times: the mean counts" | diff - err
}

@test "compare: patients of the model's training are left out" {
    py <<'P'
scores = {c: {"WT": .5} for c in "xyz"}
table("a", scores, trained={"x": "yes"})
table("b", scores)
table("none", scores, trained={c: "yes" for c in "xyz"})
P
    compare -r WT A=a B=b >out 2>err
    printf 'compare: warning: %s\n' 'A: left out: 1 cases of patients that the model was trained on (-L counts them)' '1 in B, not in A: x' | diff - err
    [ "$(awk -F '\t' '$1 == "difference" { print $7 }' out)" = 2 ]
    compare -L -r WT A=a B=b >out
    [ "$(awk -F '\t' '$1 == "difference" { print $7 }' out)" = 3 ]
    dies "A: no part 'WT' of any case that the model was not trained on (-L)" 'compare -r WT A=none B=b'
}

@test "compare: takes what dice writes" {
    phantom -n 3 -d 32x32x12 -s 3 -o c
    pipe 'nii2slices c/* | recode -s brats2017 >l.tns'
    for k in 1 2; do dice -b $k <l.tns >$k.tsv; done
    compare -m dice,hd95,lesion_dice -r WT,ET one=1.tsv two=2.tsv >out
    for k in one:1 two:2; do
        awk -F '\t' -v t=${k%:*} '$1 == "score" && $5 == t && $4 == "dice" && $3 != "mean" { printf "%s %.6f %.6f\n", $3, $10, $11 }' out >got
        awk -F '\t' '$1 == "mean" && $8 ~ /^(WT|ET)$/ { m[$8] = $12 } $1 == "sd" && $8 ~ /^(WT|ET)$/ { printf "%s %.6f %.6f\n", $8, m[$8], $12 }' ${k#*:}.tsv | diff - got
    done
    dice -p slice -b 1 <l.tns >slices.tsv
    dies "slices.tsv: line 2: scores of slices (wanted those of cases: the slices of a patient are no samples of their own)" 'compare A=1.tsv B=slices.tsv'
}

@test "compare: a table that it cannot make sense of is refused in one line" {
    py <<'P'
table("good", {"x": {"WT": .5}, "y": {"WT": .6}})
table("other", {"z": {"WT": .5}})
P
    printf 'text\n' >text
    : >empty
    head -c -5 good >cut
    sed '2s/0.5/half/' good >words
    sed '3s/\tWT//' good >short
    head -n 1 good >none
    sed 's/dice/d/' good >column
    printf 'x\tone\ny\n' >sites
    printf 'x\tone\nx\ttwo\n' >twice
    printf 'x\tone\n' >less
    mkfifo fifo
    dies "text: line 1: no column 'row' (wanted a table that dice wrote)" 'compare -r WT A=good B=text'
    dies "empty: line 1: no column 'row' (wanted a table that dice wrote)" 'compare -r WT A=good B=empty'
    run -1 --separate-stderr compare -r WT A=good B=cut
    [[ $stderr = "compare: cut: line "*"not ended by a line feed (is the file cut?)" ]]
    dies "words: line 2: column 'dice': (wanted a number or nan, got 'half')" 'compare -r WT A=good B=words'
    for v in 0x1 inf ' 1' 1e308 -1e101; do
        sed "2s/0.5/$v/" good >odd
        dies "odd: line 2: column 'dice': (wanted a number or nan, got '$v')" 'compare -r WT A=good B=odd'
    done
    dies "short: line 3: (wanted 7 columns, as the first line has)" 'compare -r WT A=good B=short'
    dies "none: no case in it" 'compare -r WT A=good B=none'
    dies "column: line 1: no column 'dice' (wanted a table that dice wrote)" 'compare -r WT A=good B=column'
    dies "good: line 1: no column 'hd95' (wanted a table that dice wrote)" 'compare -m hd95 -r WT A=good B=good'
    dies "A: no part 'ET' of any case" 'compare -r WT,ET A=good B=good'
    dies "A and B: no case is in both" 'compare -r WT A=good B=other'
    dies "sites: line 2: wanted case and site, with a tab between" 'compare -g sites -r WT A=good B=good'
    dies "twice: line 2: case 'x' has two sites" 'compare -g twice -r WT A=good B=good'
    dies "good: line 3: case 'y' has no site in less" 'compare -g less -r WT A=good B=good'
    dies "missing: No such file or directory" 'compare A=good B=missing'
    run -1 --separate-stderr timeout 60 compare A=good B=fifo
    [ "${#stderr_lines[@]}" = 1 ]
}

@test "compare: scores by other definitions do not compare, where a metric depends on them" {
    for t in a b c d; do
        case $t in
        a) set -- brats2023 surface none ;;
        b) set -- brats2020 surface none ;;
        c) set -- brats2023 pooled none ;;
        d) set -- brats2023 surface brats2023 ;;
        esac
        printf 'row\tcase\tpatient\ttrained\tpart\tconvention\thd95_by\tlesion_rule\tdice\thd95\tfound\n' >$t
        printf 'case\t%s\t-\tno\tWT\t%s\t%s\t%s\t0.5\t3\t1\n' x "$@" y "$@" >>$t
    done
    cut -f 6 --complement b >without
    dies "b: line 2: convention is not that of a, so the scores do not compare (wanted brats2023, got brats2020)" 'compare -r WT A=a B=b'
    dies "b: line 2: convention is not that of a, so the scores do not compare (wanted brats2023, got brats2020)" 'compare -r WT A=a A=b B=a'
    dies "c: line 2: hd95_by is not that of a, so the scores do not compare (wanted surface, got pooled)" 'compare -m dice,hd95 -r WT A=a B=c'
    dies "d: line 2: lesion_rule is not that of a, so the scores do not compare (wanted none, got brats2023)" 'compare -m found -r WT A=a B=d'
    compare -r WT A=a B=c C=d D=without >got
    [ "$(cut -f 6,7 got | sed -n '2p;$p' | tr '\t\n' '  ')" = "- 2 D 2 " ]
}

@test "compare: wrong usage gives 2" {
    for a in "" "A=x" "A=x A=y" "A=x B" "A=x =y" "A=x B=" "-g x -G 1 A=x B=y" "-G 0 A=x B=y" "-m dice,dice A=x B=y" "-m , A=x B=y" "-s x A=x B=y"; do
        # shellcheck disable=SC2086
        run -2 --separate-stderr compare $a
        [ -z "$output" ] || { echo "$a: $output"; false; }
        [ "${#stderr_lines[@]}" = 1 ] || { echo "$a: $stderr"; false; }
    done
}
