# make best and make tidy: a plan by the time, folds, rules, scores, a card and a folder that make predict takes; on synthetic
# patients that take seconds.
load ../lib/common

setup_file() {
    export OMP_WAIT_POLICY=passive
    cd "$BATS_FILE_TMPDIR"
    [ "${CONFIG:-release}" = release ] || return 0
    phantom -n 5 -s 2 -d 32x32x12 -o cases
    printf 'arch: unet\nbase: 2\nrate: 0.01\nkeep: last\nema: 0\nregions: wt=1,2,3;tc=1,3;et=3\n' >small.yaml
    cat >list <<'EOF'
# name | stream | settings     | sampling | augmentation            | folds | passes | views | tidy
wide   | tumour | small base=4 batch=2 rate=0.02 | -b 0.5 -B 2 -T 1,3 | augment -s $(SEED) flip | 3 | 2-24 | x | -
narrow | all    | small        | -        | -                       | 1     | 1-2    | -     | -E 50 -i
EOF
}

setup() {
    need_release "the tools run there in their own tests"
    need_command gnuplot
    cd "$BATS_TEST_TMPDIR"
    given=$BATS_FILE_TMPDIR
    OUT=$given/out
}

glio() { # TARGET NAME=VALUE...
    make -s -C "$ROOT" -f pipelines/Makefile DATA="$given/cases" SETTINGS="$given/list" OUT="$OUT" CROP='-s 32x32' JOBS=1 HOURS=0.025 "$@"
}
plan() { # NAME
    awk -F '\t' -v name="$1" '$1 == name { print $2 }' "$OUT/best/plan.tsv"
}
case_stream() { # FOLD
    nii2slices "$given"/cases/*/ | pick -m "$OUT/best/patients.folds" -f "$1" val | recode -s brats2017 | znorm | crop -F -s 32x32
}

@test "best: with time enough, folds are trained as the recipe says, scored on whom they have not seen, by rules of others" {
    glio best >log 2>&1 || { cat log; false; }
    cd "$OUT/best"
    [ "$(plan recipe) $(plan folds) $(plan passes)" = "wide 3 24" ] # the most that the recipe gains from
    for f in 0 1 2; do
        pick -m patients.folds -f $f train <all-tumour.tns >"$BATS_TEST_TMPDIR/train.tns"
        printf 'arch: unet\nkeep: last\nema: 0\nregions: wt=1,2,3;tc=1,3;et=3\nbase: 4\nbatch: 2\nrate: 0.02\n' | diff - fold$f/train.yaml
        pipe "epochs -n 24 -s 1 -b 0.5 -B 2 -T 1,3 '$BATS_TEST_TMPDIR/train.tns' | augment -s 1 flip | train -j 1 -s 1 -c fold$f/train.yaml -o '$BATS_TEST_TMPDIR/alone$f'" 2>/dev/null
        cmp "$BATS_TEST_TMPDIR/alone$f" fold$f/model.safetensors
        cmp fold$f/model.safetensors model/fold$f.safetensors
        case_stream $f | infer -t x -m fold$f/model.safetensors >"$BATS_TEST_TMPDIR/pred$f"
    done
    cd "$BATS_TEST_TMPDIR"
    B=$OUT/best
    cat pred0 pred1 pred2 | dice -l none | cmp - "$B/plain.tsv"
    cat pred1 pred2 | tidy -c | cmp - "$B/fold0/tidy.tsv"
    cat pred0 pred2 | tidy -c | cmp - "$B/fold1/tidy.tsv"
    cat pred0 pred1 pred2 | tidy -c | cmp - "$B/model/tidy.tsv"
    for f in 0 1 2; do tidy -f "$B/fold$f/tidy.tsv" <pred$f; done | dice -l none | cmp - "$B/tidied.tsv"
    [ "$(awk -F '\t' '$1 == "case" && $5 == "yes"' "$B/plain.tsv" | wc -l)" = 0 ]
    printf 'recipe\t1\nmodel\tfold0.safetensors\nmodel\tfold1.safetensors\nmodel\tfold2.safetensors\nviews\tx\nrules\ttidy.tsv\n' | diff - "$B/model/recipe"
    # What could be made again has gone.
    [ -z "$(find "$B" -name '*.part' -o -name 'pred.tns' -o -name train.tns)" ]
}

@test "best: the folder is a model as it is: its networks averaged, mirrored, its rules after them" {
    [ -e "$OUT/best/model/recipe" ] || skip "make best did not run"
    mkdir new && cp -r "$given"/cases/*_004 new
    glio predict DATA="$PWD/new" MODEL="$OUT/best/model" OUT="$PWD/p" >/dev/null 2>&1
    M=$OUT/best/model
    nii2slices new/* | recode -s brats2017 | znorm | crop -s 32x32 | infer -t x -m "$M/fold0.safetensors" -m "$M/fold1.safetensors" -m "$M/fold2.safetensors" |
        tidy -f "$M/tidy.tsv" | crop -u | slices2nii -n pred -s brats2017 -o by-hand
    cmp by-hand/*.gz p/predict/segmentations/*.gz
    # Rules that leave nothing.
    cp -r "$M" strict
    awk -F '\t' -v OFS='\t' '$1 == "chosen" { $3 = "-w 9999999" } { print }' "$M/tidy.tsv" >strict/tidy.tsv
    glio predict DATA="$PWD/new" MODEL="$PWD/strict" OUT="$PWD/s" >/dev/null 2>&1
    run ! cmp by-hand/*.gz s/predict/segmentations/*.gz
    nii2slices new/* | recode -s brats2017 | znorm | crop -s 32x32 | infer -t none -m "$M/fold0.safetensors" | tidy -w 9999999 | crop -u | slices2nii -n pred -s brats2017 -o nothing
    cmp nothing/*.gz s/predict/segmentations/*.gz
}

@test "best: the card says what the files say, and the page stands alone" {
    [ -e "$OUT/best/model/card.md" ] || skip "make best did not run"
    card=$OUT/best/model/card.md
    for p in 1 2 3 4 5; do grep -qxF -- "- \`BraTS20_Training_00$p\`" "$card"; done
    grep -q '^5 cases from .* slices of 5 patients to learn from (those with tumour)' "$card"
    grep -qF 'Sites, as far as names tell: `BraTS20_Training` (5).' "$card"
    grep -qF 'crop -p case -s 32x32' "$card"
    grep -q '^- All 5 cases learned from had a tumour: ' "$card"
    # The mean of WT, and how many have enhancing tumour, by other ways.
    m=$(awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } $1 == "mean" && $at["part"] == "WT" { printf "%.3f", $at["dice"] }' "$OUT/best/tidied.tsv")
    grep -q "^| and rules | WT | 5 | $m (" "$card"
    n=$(nii2slices "$given"/cases/*/ | recode -s brats2017 | stats | awk -F '\t' '$2 == 3 && $4 > 0' | wc -l)
    grep -q "^| ET | $n of 5 |" "$card"
    ! grep -qE '(src|href)="(https?:|//)|<script' "$OUT/best/best.html" || false
    grep -q '<svg' "$OUT/best/best.html"
    grep -q '<td>and rules</td><td>WT</td><td>5</td>' "$OUT/best/best.html"
}

@test "best: killed and run again, a plan that was made is kept, and leads to the same bytes" {
    [ -e "$OUT/best/model/recipe" ] || skip "make best did not run"
    cp -r "$OUT" cut
    whole=$OUT OUT=$PWD/cut
    cd cut/best
    rm -r model best.html *tidy.tsv plain.tsv tidied.tsv fold?/model* fold?/trained fold?/tidy.tsv
    cd ../..
    setsid make -s -C "$ROOT" -f pipelines/Makefile best DATA="$given/cases" SETTINGS="$given/list" OUT="$OUT" CROP='-s 32x32' JOBS=1 HOURS=0.025 >killed 2>&1 3>&- &
    group=$!
    until [ -e cut/best/fold1/model.safetensors.last ] || ! kill -0 $group 2>/dev/null; do pause; done
    kill -9 -- -$group
    wait $group || true
    [ ! -e cut/best/best.html ]
    glio best JOBS=2 >log 2>&1 || { cat log; false; }
    [ "$(grep -c 'the plan:' log)" = 0 ]
    cmp cut/best/plan.tsv "$whole/best/plan.tsv"
    diff -r cut/best/model "$whole/best/model"
    cmp cut/best/tidied.tsv "$whole/best/tidied.tsv"
    # Nothing is left to do, and another time would be another plan.
    glio best >again 2>&1
    [ "$(grep -c '^train' again)" = 0 ]
    run -2 glio best HOURS=2
    [[ $output == *"HOURS was '0.025' and is '2'"* ]]
}

@test "best: where time or memory is short the next recipe has its turn, and what takes too long in any is a line" {
    # Of folds there are more than patients, or a network does not fit, so all patients make one model, which nobody is left to score.
    OUT=$PWD/out
    cp "$given/small.yaml" .
    {
        echo 'wide   | tumour | small         | - | - | 6 | 1-1 | x | -'
        echo 'large  | tumour | small base=64 | - | - | 1 | 1-1 | x | -'
        tail -n 1 "$given/list"
    } >list
    glio best SETTINGS="$PWD/list" MEM=30M >log 2>&1 || { cat log; false; }
    [ "$(plan recipe) $(plan folds) $(plan passes)" = "narrow 1 2" ]
    grep -q $'^passed_over\twide: 5 patients' out/best/plan.tsv
    grep -q $'^passed_over\tlarge: .*at least [0-9]* MiB' out/best/plan.tsv
    printf 'recipe\t1\nmodel\twhole.safetensors\ntidy\t-E 50 -i\n' | diff - out/best/model/recipe
    grep -q '^None. All patients were learned from' out/best/model/card.md
    [ ! -e out/best/patients.folds ]
    pipe "epochs -n 2 -s 1 out/best/all-all.tns | train -j 1 -s 1 -c out/best/whole/train.yaml -M 30M -o alone" 2>/dev/null
    cmp alone out/best/model/whole.safetensors
    # What it takes is told before anything is trained.
    OUT=$PWD/none
    run -2 glio best HOURS=0.000001
    [[ $output == *"best: narrow: 0 passes in 0.000001 hours (wanted 1; those take "*" hours)"* ]]
    [ -z "$(find none -name 'model*')" ]
    OUT=$PWD/bad
    for k in HOURS=0 HOURS=-1 HOURS=1.2.3 HOURS=long FOLDS=0 FOLDS=x SPLIT="$given/list"; do
        run -2 glio best "$k"
        [[ $output == *"best: ${k%%=*}: (wanted"* ]] || { echo "$k: $output"; false; }
    done
    cp -r "$given/cases" blank && mv blank/*_003 'blank/Patient 3'
    run -2 glio best DATA="$PWD/blank"
    [[ $output == *"the case 'Patient 3' has a blank in its name"* ]]
    [ ! -e bad ]
    # What is offered is sound.
    said=$(SEED=1 sh -c '. "$0" && unsound "$1" 9 && refusal "$1"' "$ROOT/pipelines/recipe.sh" "$ROOT/pipelines/recipes")
    [ -z "$said" ]
}

@test "tidy: rules for a study's networks are chosen by whom they have not seen, and scored on others" {
    OUT=$PWD/study
    glio tidy FOLDS=3 BASE=2 EPOCHS=1 >log 2>&1 || { cat log; false; }
    grep -q '^combined: ' log
    for f in 0 1 2; do
        nii2slices "$given"/cases/*/ | pick -m study/patients.folds -f $f val | recode -s brats2017 | znorm | crop -F -s 32x32 |
            infer -t none -m study/fold$f/combined/model.safetensors >pred$f
    done
    cat pred0 pred1 | tidy -c | cmp - study/fold2/combined/tidy.tsv
    cat pred0 pred1 pred2 | tidy -c | cmp - study/tidy/combined/tidy.tsv
    for f in 0 1 2; do tidy -f study/fold$f/combined/tidy.tsv <pred$f; done | dice -l none | cmp - study/tidy/combined/tidied.tsv
    cat pred0 pred1 pred2 | dice -l none | cmp - study/tidy/combined/plain.tsv
    [ -z "$(find study -name pred.tns)" ]
    OUT=$PWD/none
    run -2 glio tidy
    [[ $output == *"FOLDS: (wanted two folds or more"* ]]
    run -2 glio tidy FOLDS=3 ATTEMPT=attempt1
    [[ $output == *"ATTEMPT: 'attempt1' is none"* ]]
    [ ! -e none ]
}
