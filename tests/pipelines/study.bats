# The study's pipelines, on synthetic patients so small that all of it takes seconds.
load ../lib/common

bats_require_minimum_version 1.5.0

setup_file() {
    export OMP_WAIT_POLICY=passive
    phantom -n 5 -s 2 -d 48x48x16 -o "$BATS_FILE_TMPDIR/cases"
}

# A pipeline from the top of the tree.
glio() {
    make -s -C "$ROOT" -f pipelines/Makefile "$@" DATA="${CASES:-$BATS_FILE_TMPDIR/cases}" OUT="$OUT" BASE=2 EPOCHS=2 \
        CROP='-s 48x48' JOBS=1
}

setup() {
    need_command gnuplot
    need_release "the tools run there in their own tests"
    cd "$BATS_TEST_TMPDIR"
    OUT=$BATS_FILE_TMPDIR/study
}

@test "study: all attempts and controls end in a table, a page and the same table when killed on the way" {
    glio study >first.txt 2>first.err
    grep -q 'study.html' first.txt
    # 14 rows: twelve attempts and two controls, one fold and the mean of each. Those of volumes are scored on volumes alone.
    [ "$(awk 'NR > 1' "$OUT/study.tsv" | wc -l)" = 28 ]
    [ "$(awk -F '\t' 'NR > 1 && $3 == "mean" && $5 == "nan"' "$OUT/study.tsv" | cut -f 1 | tr '\n' ' ')" = "2.5d 3d " ]
    awk -F '\t' 'NR > 1 && $1 !~ /^(2.5d|3d)$/ && ($5 !~ /^[01]\.[0-9]+$/ || $6 !~ /^[01]\.[0-9]+$/) { bad = 1 } END { exit bad }' "$OUT/study.tsv"
    # Every attempt but the leak has volumes.
    [ "$(awk -F '\t' 'NR > 1 && $3 == "mean" && $11 == "nan"' "$OUT/study.tsv" | cut -f 1 | tr '\n' ' ')" = "attempt1 control-slices control-patients " ]
    ! find "$OUT" -name '*.part' | grep . || false
    # The model of each attempt is that of the last of two epochs, whatever the validation patients scored.
    for m in "$OUT"/fold0/*/model.safetensors; do
        grep -aqo '"epoch":"1"' "$m"
    done

    # Killed as a whole once some stream is there, then run again.
    whole=$OUT OUT=$BATS_TEST_TMPDIR/again
    setsid make -s -C "$ROOT" -f pipelines/Makefile study DATA="$BATS_FILE_TMPDIR/cases" OUT="$OUT" BASE=2 EPOCHS=2 CROP='-s 48x48' JOBS=1 \
        >killed.txt 2>&1 3>&- &
    group=$!
    until [ -e "$OUT/fold0/attempt2/model.safetensors.last" ] || ! kill -0 $group; do pause; done
    kill -9 -- -$group
    wait $group || true
    [ ! -e "$OUT/study.tsv" ]
    glio study >/dev/null 2>&1
    cmp "$whole/study.tsv" "$OUT/study.tsv"
}

@test "study: what is done is not done again, and -n shows the pipelines" {
    [ -e "$OUT/study.tsv" ] || skip "the study did not run"
    before=$(stat -c %Y "$OUT/study.tsv" "$OUT/all.tns")
    glio study >/dev/null
    [ "$before" = "$(stat -c %Y "$OUT/study.tsv" "$OUT/all.tns")" ]
    run -0 make -n -C "$ROOT" -f pipelines/Makefile combined DATA="$BATS_FILE_TMPDIR/cases" OUT="$BATS_TEST_TMPDIR/none"
    [[ $output == *"nii2slices -t "*" | recode -s brats2017"* ]]
    [[ $output == *"| znorm | crop -s 192x160"* ]]
    [[ $output == *"epochs -n 30 -s 1 -b 0 "*" | augment -s 1 -T 1,3 noise | train "* ]]
    [[ $output == *"| crop -u | dice -c brats2023"* ]]
    # What runs side by side shares the cores.
    cores=$(nproc)
    run -0 make -n -j$cores -C "$ROOT" -f pipelines/Makefile attempt2 DATA="$BATS_FILE_TMPDIR/cases" OUT="$BATS_TEST_TMPDIR/none"
    [[ $output == *"| train -r -s 1 "*" -j 1 "* ]]
}

@test "study: an attempt is a line of the table, from the streams it reads to its name in the scores" {
    mkdir -p tree/o/fold0/mine
    cp -r "$ROOT/pipelines" tree
    echo 'mine | norm | attention | -b 0.5 -T 1,2,3 | augment -s $(SEED) flip $(NOISE) | -L | what I think of it' >>tree/pipelines/attempts
    run -0 make -n -C tree -f pipelines/Makefile mine DATA=cases OUT=o NOISE='noise blur' SEED=3
    [[ $output == *"pick -m o/patients.folds -f 0 train < o/all.tns | znorm > o/fold0/norm/train.tns.part"* ]]
    [[ $output == *"pipelines/attention.yaml > o/fold0/mine/train.yaml"* ]]
    [[ $output == *"epochs -n 30 -s 3 -b 0.5 -T 1,2,3 o/fold0/norm/train.tns | augment -s 3 flip noise blur | train "*" -e o/fold0/norm/val.tns "*" -L"* ]]
    [[ $output == *"recode -s brats2017 | znorm | infer -t none -m o/fold0/mine/model.safetensors "*"> o/fold0/mine/volumes.tsv.part"* ]]
    run -0 make -n -C tree -f pipelines/Makefile study DATA=cases OUT=o
    [[ $output == *"touch o/fold0/mine/trained"* ]]
    run -0 make -C tree -f pipelines/Makefile help
    [[ $output == *" | mine | control | study "* ]]
    { printf 'row\tcase\tpart\tdice\tdice_loss\n'; printf 'case\tA\tmean123\t0.5\tnan\n'; } >tree/o/fold0/mine/slices.tsv
    run -0 tree/pipelines/table tree/o mine
    [[ $output == *"mine "*"what I think of it "*"0.500"* ]]
    # The tree's own targets are those of its table.
    for a in $(sed -n 's/^\([a-z0-9][a-z0-9.]*\) *|.*/\1/p' "$ROOT/pipelines/attempts"); do
        make -n -q -C "$ROOT" MAKE=true "$a" >/dev/null 2>&1 || [ $? = 1 ]
    done
}

@test "study: what the user typed is no word of make's, in any command" {
    for knob in CROP SHEET NOISE ROTATE; do
        run -0 make -n -C "$ROOT" -f pipelines/Makefile study DATA=cases OUT=none $knob='$(shell echo once)'
        [[ $output == *'$(shell echo once)'* ]]
        [[ $output != *" once "* ]]
    done
}

@test "study: the page stands alone, without errors, at 1280 and at 380 pixels" {
    need_command chromium
    [ -e "$OUT/study.html" ] || skip "the study did not run"
    ! grep -qE '(src|href)="(https?:|//)' "$OUT/study.html" || false
    # The page reports on itself: pictures that did not load, whether it is wider than the window, and what scrolls
    # without a sign of it.
    sed 's/ loading="lazy"//; s/<details/<details open/' "$OUT/study.html" >page.html
    cat >>page.html <<'EOF'
<script>
addEventListener("load", () => {
  const bad = [...document.images].filter(i => !i.naturalWidth).length;
  const mute = [...document.querySelectorAll(".wide, .sheet")].filter(e => e.scrollWidth > e.clientWidth &&
    getComputedStyle(e.nextElementSibling).display == "none").length;
  document.body.setAttribute("data-report", `images=${document.images.length} bad=${bad} svg=${document.querySelectorAll("svg").length} wide=${document.documentElement.scrollWidth > innerWidth} mute=${mute}`);
});
</script>
EOF
    for width in 1280 380; do
        chromium --headless --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" --window-size=$width,900 --enable-logging=stderr \
            --timeout=60000 --virtual-time-budget=100000 --dump-dom "file://$PWD/page.html" >dom.html 2>log.txt 3>&-
        ! grep CONSOLE log.txt || false
        grep -o 'data-report="[^"]*"' dom.html >report
        grep -qE 'images=[1-9][0-9]* bad=0 svg=1[0-9] wide=false mute=0' report
    done
}

@test "explore and predict: pages, segmentations and pictures" {
    glio explore >/dev/null 2>&1
    grep -q '5 cases' "$OUT/explore/explore.html"
    [ "$(ls "$OUT/explore/sheets" | wc -l)" = 5 ]
    [ -e "$OUT/fold0/combined/model.safetensors" ] || skip "the study did not run"
    mkdir new && cp -r "$BATS_FILE_TMPDIR/cases/"*001 new
    rm new/*/*_seg.nii.gz
    CASES=$PWD/new glio predict MODEL="$OUT/fold0/combined/model.safetensors" >/dev/null 2>&1
    [ "$(ls "$OUT/predict/segmentations" | wc -l)" = 1 ]
    [ "$(ls "$OUT/predict/pictures" | wc -l)" = 1 ]
    # The segmentation lies on its scan: the same grid, and values of the scheme alone.
    nii2slices -l file "$OUT/predict/segmentations/"*.nii.gz | tnsview -k slices,spacing | tail -n 1 | grep -q '16'
}

@test "study: data that will not do are refused before any long work, by name" {
    OUT=$BATS_TEST_TMPDIR/none
    mkdir empty
    CASES=$PWD/empty run -2 glio attempt2
    [[ $output == *"empty"* ]]
    cp -r "$BATS_FILE_TMPDIR/cases" lacking
    rm lacking/*003/*_t2.nii.gz
    CASES=$PWD/lacking run -2 glio attempt2
    [[ $output == *"003"*"t2"* ]]
    [ ! -e "$OUT/all.tns" ]
    run -2 make -s -C "$ROOT" -f pipelines/Makefile attempt2 DATA= OUT="$OUT"
    [[ $output == *"DATA"* ]]
}
