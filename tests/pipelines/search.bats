# make search: successive halving over a table of recipes, on synthetic patients that take seconds.
load ../lib/common

setup_file() {
    export OMP_WAIT_POLICY=passive
    cd "$BATS_FILE_TMPDIR"
    [ "${CONFIG:-release}" = release ] || return 0
    phantom -n 5 -s 2 -d 32x32x8 -o cases
    printf 'arch: unet\nbase: 2\nrate: 0.01\nschedule: polynomial\n' >small.yaml
    cat >list <<'EOF'
# name  | stream | settings                            | sampling | augmentation
noisy   | tumour | small rate=0.02 clip=1              | -b 0.5   | augment -s $(SEED) noise gamma
every   | all    | small                               | -        | augment -s $(SEED) noise
wild    | tumour | small optimiser=sgd rate=100 decay=1 batch=1       | -        | -
regions | tumour | small regions=wt=1,2,3;tc=1,3;et=3  | -        | -
EOF
}

setup() {
    need_release "the tools run there in their own tests"
    need_command gnuplot
    cd "$BATS_TEST_TMPDIR"
    given=$BATS_FILE_TMPDIR
}

glio() { # NAME=VALUE...
    make -s -C "$ROOT" -f pipelines/Makefile search DATA="$given/cases" SETTINGS="$given/list" OUT="$PWD/out" EPOCHS=4 ETA=2 CROP='-s 32x32' JOBS=1 "$@"
}

# All that a search has reached: scores, models and whole states.
reached() { # FOLDER
    (cd "$1/search/runs" && cksum */rung[0-9] */model.safetensors */*.last)
}

# A folder as workers see it, with scores that are made up.
begin() { # ETA LEAST EPOCHS SYNC
    mkdir runs
    printf 'gliopipe\t0\t\nETA\t%s\t\nLEAST\t%s\t\nEPOCHS\t%s\t\nSYNC\t%s\t\nSEED\t1\t\nMEM\t\t\n' "$@" >made-with
    : >recipes
}
lay() { # NAME SCORE...
    grep -q "^$1 " recipes || echo "$1 | tumour | x | - | -" >>recipes
    mkdir -p "runs/$1"
    k=0
    for score in "${@:2}"; do
        echo "$score" >"runs/$1/rung$k"
        k=$((k + 1))
    done
}
next() {
    "$ROOT/pipelines/search" next . | tr '\t' ' '
}

@test "search: the best third of a rung goes on, the highest rung first, and one worker does what another is not at" {
    begin 3 1 9 ''
    for c in a b c d e f g h i; do lay $c; done
    [ "$(next)" = "a 0" ]
    lay a 0.1
    lay b 0.3
    [ "$(next)" = "c 0" ] # two are too few to call a third
    lay c 0.2
    [ "$(next)" = "b 1" ] # one of three
    flock runs/b/.lock "$ROOT/pipelines/search" next . >other 3>&-
    [ "$(cat other)" = $'d\t0' ]
    lay b 0.3 0.4
    for c in d e f; do lay $c 0.25; done
    [ "$(next)" = "d 1" ] # the second of six; of equals the first
    for c in g h i; do lay $c 0.2; done
    [ "$(next)" = "d 1" ]
    lay d 0.25 0.5
    lay e 0.25 0.3
    [ "$(next)" = "d 2" ] # three on the second rung
    lay d 0.25 0.5 0.1
    [ -z "$(next)" ]
    # What ends on top is told, and the score counts on its own rung alone.
    [ "$("$ROOT/pipelines/search" table . | sed -n 2,4p | cut -f 1,3,4)" = $'d\t9\t0.1\nb\t3\t0.4\ne\t3\t0.3' ]
}

@test "search: at once, nobody goes on before all of a rung are there, and the last of few goes to the end" {
    begin 3 1 9 1
    for c in a b c d; do lay $c; done
    lay a 0.1
    lay b 0.3
    lay c 0.2
    [ "$(next)" = "d 0" ]
    flock runs/d/.lock "$ROOT/pipelines/search" next . >other 3>&-
    [ "$(cat other)" = $'d\twait' ]
    lay d nan
    [ "$(next)" = "b 1" ]
    lay b 0.3 0.2
    [ "$(next)" = "b 2" ]
    lay b 0.3 nan
    [ -z "$(next)" ]
    rm -r runs made-with
    # Rungs count down from the last; none is shorter than LEAST.
    begin 2 3 20 ''
    lay a 0.1 0.2
    lay b 0.3
    [ "$(next)" = "b 1" ]
    lay b 0.3 0.4
    [ "$(next)" = "b 2" ]
    lay b 0.3 0.4 0.5
    [ -z "$(next)" ]
    [ "$("$ROOT/pipelines/search" table . | cut -f 1-4 | sed -n 2,3p)" = $'b\t2\t20\t0.5\na\t1\t10\t0.2' ]
}

@test "search: any number of workers, killed on the way, reach the same when a rung is over before any goes on" {
    glio SYNC=1 >log 2>&1 || { cat log; false; }
    reached out >whole
    # Four, two, one; each as many passes as its rung; the best of each rung, by their logs.
    ls out/search/runs/*/rung2 | wc -l >n
    [ "$(cat n)" = 1 ]
    score() { # NAME PASSES
        awk -F '\t' -v n=$2 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $1 == n - 1 { print $at["score"] }' out/search/runs/$1/model.safetensors.tsv
    }
    for c in noisy every regions; do
        echo "$(score $c 1) $c"
        [ "$(cat out/search/runs/$c/rung0)" = "$(score $c 1)" ]
    done | sort -s -k 1,1gr | head -n 2 | sed 's/.* //' | sort >best
    ls -d out/search/runs/*/rung1 | cut -d / -f 4 | diff best -
    # What does not come to a number is known as that, and ends there.
    [ "$(cat out/search/runs/wild/rung0)" = nan ]
    # The winner is what train makes of its settings in one run.
    w=$(ls -d out/search/runs/*/rung2 | cut -d / -f 4)
    [ "$(awk 'NR > 1' out/search/runs/$w/model.safetensors.tsv | wc -l)" = 4 ]
    grep -q "the winner: $w " log
    grep -q "<b>$w</b>" out/search/search.html
    ! grep -qE '(src|href)="(https?:|//)|<script' out/search/search.html || false
    stream=$(awk -F ' *[|] *' -v w=$w '$1 == w { print $2 }' "$given/list")
    pipe "epochs -b 0 -n 4 -s 1 $(cat out/search/runs/$w/sampling) out/search/train-$stream.tns | $(sed 's/$/ |/; /^ |/d' out/search/runs/$w/augmentation) \
        train -j 1 -s 1 -c out/search/runs/$w/train.yaml -e out/search/val.tns -o alone" 2>err || { cat err; false; }
    cmp alone out/search/runs/$w/model.safetensors

    # Three workers, killed when something is half done, then one.
    setsid make -s -j3 -C "$ROOT" -f pipelines/Makefile search DATA="$given/cases" SETTINGS="$given/list" OUT="$PWD/cut" EPOCHS=4 ETA=2 CROP='-s 32x32' \
        JOBS=1 SYNC=1 >killed 2>&1 3>&- &
    group=$!
    until ls cut/search/runs/*/rung0 >/dev/null 2>&1 || ! kill -0 $group 2>/dev/null; do pause; done
    kill -9 -- -$group
    wait $group || true
    [ ! -e cut/search/search.html ]
    glio SYNC=1 OUT="$PWD/cut" >log 2>&1 || { cat log; false; }
    reached cut | diff whole -
    # What is done is not done again.
    glio SYNC=1 >again 2>&1
    [ "$(grep -c 'passes: ' again)" = 0 ]
    reached out | diff whole -
}

@test "search: runs in one folder share the work, each job is done once" {
    glio >a 2>&1 3>&- &
    glio >b 2>&1 3>&- || { cat b; false; }
    wait $! || { cat a; false; }
    cat a b | grep 'passes: ' | sed 's/, [0-9]* of.*//' | sort >done
    sort -u done | diff done -
    ls out/search/runs/*/rung* | wc -l >n
    [ "$(wc -l <done)" = "$(cat n)" ]
    [ -z "$(find out -name '*.part')" ]
    ls out/search/runs/*/rung2 >/dev/null
    # Another question wants another folder.
    run -2 glio EPOCHS=5
    [[ $output == *"EPOCHS was '4' and is '5'"* ]]
    sed 's/0.02/0.03/' "$given/list" >other
    cp "$given/small.yaml" .
    run -2 glio SETTINGS="$PWD/other"
    [[ $output == *"SETTINGS was '$given/list' and is '$PWD/other'"* ]]
}

@test "search: a table that nobody could train is refused in a line, before anything is read" {
    cp "$given/small.yaml" .
    refused() { # WORDS TABLE-LINE...
        printf '%s\n' "${@:2}" >t
        said=$(wrong t)
        [[ $(head -n 1 <<<"$said") == *"$1"* ]] || { echo "$said"; return 1; }
    }
    wrong() { # TABLE: in a shell of its own, as the guard asks
        SEED=1 sh -c '. "$0" && bad=$(unsound "$1" 5) && { [ -n "$bad" ] || bad=$(refusal "$1"); } && echo "$bad"' "$ROOT/pipelines/recipe.sh" "$1"
    }
    refused "holds no recipes" '# nothing'
    refused "a: (wanted 5 cells, separated by |, got 4)" 'a | tumour | small | -'
    refused "a: stream: (wanted tumour or all, got 'some')" 'a | some | small | - | -'
    refused "a: stands twice" 'a | all | small | - | -' 'a | all | small base=3 | - | -'
    refused "no ./big.yaml" 'a | all | big | - | -'
    refused "no name of a recipe" '../a | all | small | - | -'
    refused "a: augmentation: (wanted augment ... or -, got 'rm -r x')" 'a | all | small | - | rm -r x'
    refused "(wanted letters" 'a | all | small | $(id) | -'
    refused "a: train.yaml:5: unknown setting 'rat' (is 'rate' meant?)" 'a | all | small rat=1 | - | -'
    refused "a: epochs: -b: (wanted a number from 0 to 1, got '7')" 'a | all | small | -b 7 | -'
    refused "a: augment: unknown operation" 'a | all | small | - | augment -s $(SEED) nois'
    for line in 'a | tumour | small | -' 'a | all | small rat=1 | - | -'; do
        echo "$line" >t
        run -2 glio SETTINGS="$PWD/t"
        [ "$(grep -v '^make' <<<"$output" | wc -l)" = 1 ]
        [[ $output == "search: SETTINGS: $PWD/t: a: "* ]]
    done
    for k in ETA=1 LEAST=0 LEAST=5 SYNC=yes; do
        run -2 glio $k
        [[ $output == *"search: ${k%=*}: (wanted"* ]]
    done
    run -2 glio SETTINGS=none
    [[ $output == *"SETTINGS: 'none' is no file"* ]]
    run -2 glio FOLDS=6
    [[ $output == *"too few patients for 6 folds (5)"* ]]
    [ ! -e out ]
    # What is offered is sound.
    said=$(wrong "$ROOT/pipelines/candidates")
    [ -z "$said" ]
}

@test "search: a fold in which nobody has a tumour judges nobody" {
    cp -r "$given/cases" data
    py <<'EOF'
import glob, gzip
f = glob.glob("data/*_003/*_seg.nii.gz")[0]
b = gzip.decompress(open(f, "rb").read())
open(f, "wb").write(gzip.compress(b[:352] + bytes(len(b) - 352)))
EOF
    ls data | folds -k 5 -s 1 -l - >mine
    run -2 glio DATA="$PWD/data" SPLIT="$PWD/mine" FOLD="$(awk '/_003/ { print $1 }' mine)"
    [[ $output == *"search: no case of fold "?" has a tumour"* ]]
    [ -z "$(find out -name 'model*')" ]
}
