# A model scored at other sites: what is made, of whom, and what the tables say, counted by hand.
load ../lib/common

setup_file() {
    export OMP_WAIT_POLICY=passive
    cd "$BATS_FILE_TMPDIR"
    [ "${CONFIG:-release}" = release ] || return 0
    phantom -n 6 -s 2 -d 48x48x8 -o all
    mkdir learned new
    set -- all/*
    mv "$1" "$2" learned
    i=0
    for name in North_1_a North_1_b South_2_c South_2_d; do
        i=$((i + 1))
        shift $((i == 1 ? 2 : 1))
        mkdir new/$name
        for f in "$1"/*; do mv "$f" "new/$name/${name}_${f##*_}"; done
    done
    printf 'arch: unet\nbase: 2\n' >c.yaml
    nii2slices -t learned/* | recode -s brats2017 | znorm | crop -s 48x48 >t.tns
    epochs -b 0 -n 1 t.tns | train -j 1 -c c.yaml -o model
}

setup() {
    need_release "the tools run there in their own tests"
    need_command gnuplot
    cd "$BATS_TEST_TMPDIR"
    given=$BATS_FILE_TMPDIR
    P=$ROOT/pipelines
}

glio() { # NAME=VALUE...
    make -s -C "$ROOT" -f pipelines/Makefile external DATA="$PWD/new" MODEL="$given/model" OUT="$PWD/out" JOBS=1 "$@"
}

cell() { # TABLE ROW COLUMN
    awk -F '\t' -v r="$2" -v c="$3" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $1 == r { print $at[c]; exit }' "$1"
}

@test "external: whole volumes of other sites are scored as by hand, whom the model knows is left out, and what is made is kept" {
    cp -r "$given/new" .
    cp -r "$given"/learned/*1 new/North_1_known # one of those that it learned from, under another name
    glio REFERENCE="$given/learned" >said 2>err
    cat err
    X=out/external
    # By hand, with the model's own steps.
    nii2slices new/*/ | recode -s brats2017 | znorm | crop -s 48x48 | infer -t none -m "$given/model" 2>/dev/null | crop -u | dice -L -c brats2023 -l none >hand
    awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 == "case" && $at["part"] ~ /^(WT|TC|ET)$/ { print $at["case"] "\t" $at["trained"] "\t" $at["part"] "\t" $at["dice"] }' hand | sort >want
    awk -F '\t' 'NR > 1 { print $2 "\t" $4 "\t" $5 "\t" $6 }' $X/scores.tsv | sort >got
    diff want got
    # The sites are in the names; the known one is counted nowhere.
    [ "$(cut -f 1 $X/external.tsv | tr '\n' ' ')" = "site North_1 South_2 (all) " ]
    [ "$(cell $X/external.tsv North_1 cases)$(cell $X/external.tsv North_1 trained)$(cell $X/external.tsv South_2 cases)$(cell $X/external.tsv '(all)' cases)" = 2124 ]
    known=$(awk -F '\t' '$4 == "yes" { print $2; exit }' $X/scores.tsv)
    awk -F '\t' -v known="$known" '$2 != known && $3 == "WT" { s += $4; n++ } { split($1, w, "\t") } END { printf "%.6f\n", s / n }' <(awk -F '\t' 'BEGIN { OFS = "\t" } $2 != "yes" { print 0, $1, $3, $4 }' want) >mean
    [ "$(cell $X/external.tsv '(all)' WT)" = "$(cat mean)" ]
    grep -q 'Of DATA, 1 case is of a patient whom it learned from' $X/external.html
    grep -q "^the page: .*external.html" said
    # Brains and voxels are those of the streams; znorm makes each case's mean 0, and the raw mean is the scan's.
    want=$(nii2slices new/North_1_a | tnsview -k mean -n 1 | awk '{ printf "%.6g", $1 }')
    [ "$(awk -F '\t' '$2 == "North_1_a" && $4 == "flair" { print $5 }' $X/drift.tsv)" = "$want" ]
    [ "$(awk -F '\t' '$1 == "(reference)"' $X/drift.tsv | wc -l)" = 8 ] # two cases, four modalities
    ! find out -name '*.part' | grep . || false
    # Again: nothing is made anew; of a case that changed all is, and of one that is gone nothing stays.
    before=$(stat -c %Y.%i $X/cases/*/dice.tsv)
    glio REFERENCE="$given/learned" >/dev/null 2>&1
    [ "$before" = "$(stat -c %Y.%i $X/cases/*/dice.tsv)" ]
    rm -r new/North_1_b
    touch new/South_2_c/*t1.nii*
    glio REFERENCE="$given/learned" >/dev/null 2>&1
    [ ! -e $X/cases/North_1_b ]
    [ "$(cell $X/external.tsv '(all)' cases)" = 3 ]
    [ "$(stat -c %Y.%i $X/cases/*/dice.tsv | grep -cvxF "$before")" = 1 ]
}

# wider FOLDER: the same scans of 64x64 instead of 48x48, with enhancing tumour in a corner that no crop to 48x48 holds.
wider() {
    "$PYTHON" - "$1"/*.nii.gz <<'PY'
import gzip, struct, sys
import numpy as np
for name in sys.argv[1:]:
    b = bytearray(gzip.open(name).read())
    shape, code = struct.unpack_from("<3h", b, 42), struct.unpack_from("<h", b, 70)[0]
    v = np.frombuffer(b[352:], {2: "u1", 4: "<i2", 16: "<f4", 512: "<u2"}[code]).reshape(shape, order="F")
    v = np.pad(v, ((8, 8), (8, 8), (0, 0)))
    if name.endswith("_seg.nii.gz"):
        v[1:4, 1:4, 3] = 4
    struct.pack_into("<2h", b, 42, 64, 64)
    open(name, "wb").write(gzip.compress(bytes(b[:352]) + v.tobytes(order="F")))
PY
}

@test "external: tumour that the model's crop cuts off counts as missed; predict does not look at labels at all" {
    need_python numpy
    mkdir new
    cp -r "$given/new/North_1_a" "$given/new/South_2_c" new
    wider new/North_1_a
    run -1 pipe 'nii2slices new/North_1_a | recode -s brats2017 | znorm | crop -s 48x48 >x.tns'
    glio >/dev/null 2>err || { cat err; false; }
    # By another way: what is predicted without any label, as a file beside the case.
    cp -r new bare
    rm bare/*/*_seg.nii.gz
    nii2slices bare/North_1_a | recode -s brats2017 | znorm | crop -s 48x48 | infer -t none -m "$given/model" 2>/dev/null | crop -u |
        slices2nii -n pred -s brats2017 -o preds
    nii2slices -p preds new/North_1_a | recode -s brats2017 | dice -L -c brats2023 -l none >hand
    for part in WT TC ET; do
        want=$(awk -F '\t' -v p=$part 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $1 == "case" && $at["part"] == p { print $at["label_mm3"], $at["dice"] }' hand)
        [ "$(awk -F '\t' -v p=$part '$2 == "North_1_a" && $5 == p { print $8, $6 }' out/external/scores.tsv)" = "$want" ]
    done
    echo nonsense >"$(echo new/South_2_c/*_seg.nii.gz)"
    for d in new bare; do
        make -s -C "$ROOT" -f pipelines/Makefile predict DATA="$PWD/$d" MODEL="$given/model" OUT="$PWD/$d.out" JOBS=1 >/dev/null 2>err || { cat err; false; }
    done
    diff -r new.out/predict/segmentations bare.out/predict/segmentations
}

@test "external: knobs that are wrong are a line; sites are what a file says; a folder is for one question" {
    cp -r "$given/new" .
    refused() { # LINE NAME=VALUE...
        run -2 glio "${@:2}"
        [[ $output == *"external: $1"* ]] || { echo "$output"; return 1; }
        [ ! -e out ]
    }
    refused "MODEL: (wanted a model file, or a folder with a recipe, got" MODEL=
    refused "SITES: '$PWD/none' is no file" SITES="$PWD/none"
    printf 'North_1_a\tone\nNorth_1_b\n' >bad
    refused "SITES: $PWD/bad:2: (wanted a case, a tab, a site)" SITES="$PWD/bad"
    printf '%s\tone\n' North_1_a North_1_b South_2_c >few
    refused "SITES: '$PWD/few' has no site of South_2_d" SITES="$PWD/few"
    refused "INTERNAL: '$PWD/few' is no table of dice(1)" INTERNAL="$PWD/few"
    refused "REFERENCE: '$PWD/few' is no folder" REFERENCE="$PWD/few"
    # A site may be called as people like.
    { cat few; printf 'South_2_d\tthe <b>other $(id>PWNED) `one\n'; } >sites
    glio SITES="$PWD/sites" >/dev/null 2>err || { cat err; false; }
    [ "$(cut -f 1,2 out/external/external.tsv | tail -n +2)" = "$(printf 'one\t3\nthe <b>other $(id>PWNED) `one\t1\n(all)\t4')" ]
    grep -qF 'the &lt;b&gt;other $(id&gt;PWNED) `one' out/external/external.html
    [ -z "$(find . "$ROOT" -maxdepth 1 -name PWNED)" ]
    run -2 glio
    [[ $output == *"external: $PWD/out/external was made otherwise: SITES was"* ]]
    # A model that learned from all of them has nothing to be scored on.
    run -2 glio DATA="$given/learned" OUT="$PWD/other"
    [[ $output == *"external: the model learned from every patient of DATA (wanted others)"* ]]
}

@test "external: a folder with a recipe is a model, with its mirrors and its rules; its scores lie in it" {
    mkdir new folder
    cp -r "$given"/new/South_2_c new
    cp "$given/model" folder/one
    printf 'recipe\t1\nmodel\tone\nviews\tx\ntidy\t-w 100000\n' >folder/recipe
    nii2slices new/* | recode -s brats2017 | znorm | crop -s 48x48 | infer -t x -m folder/one 2>/dev/null | tidy -w 100000 | crop -u |
        dice -c brats2023 -l none >folder/scores.tsv
    glio MODEL="$PWD/folder" >/dev/null 2>err || { cat err; false; }
    T=out/external/external.tsv
    [ "$(cell $T '(internal)' cases)" = 1 ]
    for k in WT TC ET mean; do
        [ "$(cell $T '(internal)' $k)" = "$(cell $T South_2 $k)" ]
    done
    [ "$(cell $T South_2 difference)" = 0.000000 ]
}

@test "external: names with = in them, from where one stands, are names" {
    ln -s "$ROOT/pipelines" .
    cp -r "$given/new" .
    printf '%s\tone\n' North_1_a North_1_b South_2_c South_2_d >sites=1
    mkdir model=1
    cp "$given/model" model=1/one
    printf 'recipe\t1\nmodel\tone\n' >model=1/recipe
    make -s -f pipelines/Makefile external DATA=new MODEL=model=1 SITES=sites=1 OUT=out JOBS=1 </dev/null >/dev/null 2>err || { cat err; false; }
    [ "$(cell out/external/external.tsv one cases)" = 4 ]
    # So are those of a table of recipes.
    mkdir table=1
    printf 'arch: unet\nbase: 2\n' >table=1/small.yaml
    [ "$(. pipelines/recipe.sh; settings table=1/list 'small base=4' </dev/null)" = "$(printf 'arch: unet\nbase: 4')" ]
}

# What `external` would have left of a case: made CASE WT TC ET BIN, all voxels of the only modality in the unit bin that begins there.
made() { # FOLDER CASE TRAINED WT TC ET BIN
    d=$1/$2
    mkdir -p "$d"
    {
        printf 'row\tcase\tpatient\ttrained\tpart\tdice\thd95\tlabel_mm3\tpred_mm3\n'
        printf "case\t$2\t$2\t$3\t%s\t%s\t1\t1000\t900\n" WT "$4" TC "$5" ET "$6" 1 0.5
        printf "mean\t-\t-\t-\tWT\t0\t0\t0\t0\n"
    } >"$d/dice.tsv"
    printf '%s\t%s\t%s\t1 2 3\t8\t1 2 10 20\tflair\t77.5\t3.25\n' "$2" "$2" "$3" >"$d/keys.tsv"
    awk -v c="$2" -v b="$7" 'BEGIN { print "case\tmodality\tfrom\tto\tvoxels\tshare"; for (i = 0; i < 10; i++) printf "%s\tflair\t%d\t%d\t%d\t%.6f\n", c, i, i + 1, (i == b) * 500, i == b }' >"$d/intensities.tsv"
}

@test "external-table: sites, means, intervals and distances are those counted by hand" {
    mkdir o
    : >o/sites
    made o/cases BraTS19_CBICA_AAB_1 no 0.9 0.6 0.3 2 # mean 0.6
    made o/cases BraTS19_CBICA_BHQ_1 no 0.7 0.4 0.1 4 # 0.4
    made o/cases BraTS2021_00003 no 0.5 0.5 0.5 5
    made o/cases BraTS-GLI-00005-000 yes 1 1 1 9
    made o/cases phantom7 no 0.2 0.2 0.2 5
    mkdir in
    made in a no 1 0.9 0.8 0 # 0.9
    made in b no 0.8 0.7 0.6 0 # 0.7
    made in c yes 0 0 0 0
    { cat in/a/dice.tsv; tail -n +2 in/b/dice.tsv; tail -n +2 in/c/dice.tsv; } >o/internal
    "$P/external-table" o
    T=o/external.tsv
    [ "$(cut -f 1-3 $T | tail -n +2 | tr '\t\n' ' ,')" = "BraTS-GLI 0 1,BraTS19_CBICA 2 0,BraTS2021 1 0,phantom 1 0,(all) 4 1,(internal) 2 1," ]
    [ "$(cell $T BraTS19_CBICA WT)" = 0.800000 ]
    [ "$(cell $T BraTS19_CBICA mean)" = 0.500000 ]
    [ "$(cell $T BraTS19_CBICA mean_ci)" = 1.270600 ] # 12.706 * 0.1 * sqrt(2) / sqrt(2)
    [ "$(cell $T '(all)' mean)" = 0.425000 ]
    [ "$(cell $T '(internal)' mean)" = 0.800000 ]
    [ "$(cell $T BraTS19_CBICA difference)" = -0.300000 ]
    # Welch: variances 0.02 of two each, so that there are 2 degrees of freedom: 4.303 * sqrt(0.02).
    [ "$(cell $T BraTS19_CBICA difference_ci)" = 0.608536 ]
    [ "$(cell $T BraTS2021 difference_ci)" = nan ]
    # The mean of all has a fifth of its voxels in bins 2, 4 and 9 and two fifths in 5. To bring a case's there from
    # bin 2: (2 + 3 + 3 + 7) / 5, from 4: (2 + 1 + 1 + 5) / 5, from 5: (3 + 1 + 4) / 5.
    far() { awk -F '\t' -v c="$1" '$2 == c { print $11 }' o/drift.tsv; }
    [ "$(far BraTS19_CBICA_AAB_1) $(far BraTS19_CBICA_BHQ_1) $(far phantom7)" = "3.0000 1.8000 1.6000" ]
    [ "$(cell $T BraTS19_CBICA distance)" = 2.400000 ]
    # From a reference it is the shift: 2 of bin 2, from two cases in bin 0.
    made o/reference r1 no 0 0 0 0
    made o/reference r2 no 0 0 0 0
    "$P/external-table" o
    [ "$(far BraTS19_CBICA_AAB_1) $(far phantom7) $(far r1)" = "2.0000 5.0000 0.0000" ]
    # 500 voxels of 6 mm3; the box is x by y; half of a bin's voxels lie below its middle.
    [ "$(awk -F '\t' '$2 == "phantom7" { print $5, $6, $8, $12, $13, $14, $15 }' o/drift.tsv)" = "77.5 3.25 5.5 3 20 x 20 1 2 3 8" ]
    # A file of sites goes before the names; as text, what a reader looks for.
    printf '%s\tX\n' BraTS19_CBICA_AAB_1 BraTS2021_00003 >o/sites
    "$P/external-table" o
    [ "$(cut -f 1,2 $T | tail -n +2 | tr '\t\n' ' ,')" = "X 2,unknown 2,(all) 4,(internal) 2," ]
    "$P/external-table" -t o >text
    grep -qE '^X +2 +0\.700 +0\.550 +0\.400 +0\.550 ' text
    grep -qE '^\(internal\) +2 .* 0\.800 ' text
}

@test "external-page: says what the tables say, and needs nothing from elsewhere" {
    mkdir -p o
    : >o/sites
    i=0
    for dice in 0.9 0.8 0.7 0.6 0.5 0.4; do # the farther, the lower
        i=$((i + 1))
        made o/cases "site_$((i % 2))_$i" no $dice $dice $dice $i
    done
    made o/cases site_1_known yes 1 1 1 1
    made o/reference r no 0 0 0 0
    made in a no 1 0.9 0.8 0
    made in b no 0.9 0.9 0.9 0
    { cat in/a/dice.tsv; tail -n +2 in/b/dice.tsv; } >o/internal
    printf 'arch\tunet\nleaky\tyes\nspacing\t1 1 1 1 1 1\nstep\tznorm -p case\nscore\t0.75\n' >o/model
    printf 'gliopipe\t9.8.7\t\nDATA\tsome/<where>\t\nSCHEME\tbrats2012\t\nMODEL\t123\tmy/model\nREFERENCE\tother/cases\t\n' >o/made-with
    "$P/external-table" o
    "$P/external-page" o >page.html
    for words in 'gliopipe 9.8.7' 'some/&lt;where&gt;' 'brats2012' 'my/model' 'other/cases' '<b>0.650</b>' '<b>0.900</b>' \
        'Of DATA, 1 case is of a patient whom it learned from' 'site_1_known' 'The model is leaky' 'it scores 0.250 less than on 2 patients' \
        'rank correlation of distance and Dice is -1.00: cases whose intensities lie farther off score lower' 'not learned from' 'znorm -p case'; do
        grep -qF -- "$words" page.html || { echo "$words"; false; }
    done
    [ "$(grep -c '<svg' page.html)" = 2 ]
    ! grep -qE '(src|href)="(https?:|//)|<script' page.html || false
    [ "$(grep -c '<div class="wide"><table>' page.html)" = "$(grep -c '</table></div><p class="more">' page.html)" ]
    # Without a neighbour the model's own word is quoted for what it is.
    : >o/internal
    "$P/external-table" o
    "$P/external-page" o >page.html
    grep -q 'its validation scored 0.750' page.html
    # Where nothing is to be seen, nothing is said to be.
    for c in o/cases/site_*_[12]; do rm -r "$c"; done
    made o/cases site_0_9 no 0.9 0.9 0.9 9
    "$P/external-table" o
    "$P/external-page" o >page.html
    grep -q 'not more than chance makes of so few' page.html
    # Voxels that one of several models learned from are not strange to them.
    grep -q 'not learned from' page.html
    printf 'spacing\t1 2 3 1 2 3\n' >>o/model
    "$P/external-page" o >page.html
    grep -q 'voxels of 1 &times; 1 &times; 1 to 1 &times; 2 &times; 3 mm' page.html
    ! grep -q 'not learned from' page.html || false
}

@test "stats -p case: the histograms of the cases add up to that of all" {
    nii2slices "$given"/new/*/ | znorm >n.tns
    stats -i -b 20 <n.tns >all
    stats -i -b 20 -p case <n.tns >each
    [ "$(head -n 1 each)" = "$(printf 'case\tmodality\tfrom\tto\tvoxels\tshare')" ]
    [ "$(cut -f 1 each | tail -n +2 | uniq | tr '\n' ' ')" = "North_1_a North_1_b South_2_c South_2_d " ]
    awk -F '\t' 'NR > 1 { v[$2, $3] += $5; if (!(($2, $3) in n)) order[++k] = $2 "\t" $3 "\t" $4; n[$2, $3]; at[k] = $2 SUBSEP $3; name[$2 "\t" $3 "\t" $4] = $2 SUBSEP $3 }
        END { for (i = 1; i <= 80; i++) print order[i] "\t" v[name[order[i]]] }' each >sum
    tail -n +2 all | cut -f 1-4 | cmp - sum
    run -2 stats -i -p slice <n.tns
    [[ $output == *"-p: (wanted case, got 'slice')"* ]]
}
