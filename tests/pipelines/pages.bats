# What the study's tables, sentences and pages say, of scores that are made up, so that what is right is known.
load ../lib/common

setup() {
    need_release "they are scripts"
    cd "$BATS_TEST_TMPDIR"
    P=$ROOT/pipelines
}

# A dice(1) table of the study's slices, one case for each value: slices FILE DICE...
slices() {
    mkdir -p "${1%/*}"
    awk -v values="${*:2}" 'BEGIN {
        print "row\tcase\tpatient\tslice\ttrained\tpart\tdice\tdice_loss"
        n = split(values, v, " ")
        for (i = 1; i <= n; i++) {
            if (v[i] == "-") continue
            printf "case\tc%d\tc%d\t-\tno\tmean123\t%s\tnan\n", i, i, v[i]
            printf "case\tc%d\tc%d\t-\tno\tmean0123\t0.9\t%s\n", i, i, 1 - v[i]
        }
    }' >"$1"
}

# One of volumes; a case is WT,TC,ET and what of ET is there in truth, in mm3: volumes FILE CASE...
volumes() {
    mkdir -p "${1%/*}"
    awk -v values="${*:2}" 'BEGIN {
        print "row\tcase\tpatient\tslice\ttrained\tpart\tdice\tlabel_mm3"
        n = split(values, v, " ")
        split("WT TC ET", part, " ")
        for (i = 1; i <= n; i++) {
            split(v[i], d, ",")
            for (k = 1; k <= 3; k++) printf "case\tc%d\tc%d\t-\tno\t%s\t%s\t%s\n", i, i, part[k], d[k], k < 3 ? 100 : d[4]
        }
    }' >"$1"
}

cell() { # TABLE ATTEMPT FOLD COLUMN
    awk -F '\t' -v a="$2" -v f="$3" -v c="$4" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next } $1 == a && $3 == f { print $at[c] }' "$1"
}

# A study of two folds, with all that its page reads.
study() {
    for f in 0 1; do
        for a in attempt1 attempt2 combined control-slices control-patients; do
            slices o/fold$f/$a/slices.tsv 0.$((4 + f)) 0.$((6 + f))
            printf 'epoch\ttrain_loss\tval_loss\tscore\n0\t0.9\t0.9\t0.1\n1\t0.5\t0.6\t0.7\n2\t0.2\t0.6\t0.4\n' >o/fold$f/$a/model.safetensors.tsv
            printf 'arch: unet\nkeep: last # why\n' >o/fold$f/$a/train.yaml
        done
        volumes o/fold$f/combined/volumes.tsv 0.9,0.8,1,0 0.7,0.6,1,0
        for s in leak raw leak-control; do
            slices o/fold$f/$s/constant0.tsv 0 0
            slices o/fold$f/$s/constant2.tsv 0.1 0.2
        done
    done
    printf 'gliopipe\t9.8.7\t\nDATA\t123\tsome/where\nSCHEME\tbrats2012\t\nBASE\t24\t\nEPOCHS\t3\t\nSEED\t77\t\nRATE\t\t\nCROP\t-m 16\t\nMEM\t\t\nFOLDS\t5\t\n' >o/made-with
    printf '# folds 1 k=5 seed=77 by=patient\n0\ta\ta\n0\tb\tb\n1\tc\tc\n' >o/patients.folds
    "$P/table" -t o attempt1 attempt2 combined control-slices control-patients >o/study.tsv
}

@test "leak: what is said follows the interval and its sign" {
    says() { # WORDS NOT-WORDS
        "$P/leak" o >leak.tsv
        grep -P '^say\t' leak.tsv | grep -qF "$1" || { cat leak.tsv; return 1; }
        ! grep -P '^say\t' leak.tsv | grep -qF "${2:-nothing of this}" || { cat leak.tsv; return 1; }
    }
    # Four others each, 0.5 apart, variance 1/6000 in both: t of 6 degrees of freedom, 2.447, times sqrt(2/24000).
    slices o/fold0/attempt1/slices.tsv 0.79 0.80 0.81 0.82
    slices o/fold0/attempt2/slices.tsv - - - - 0.29 0.30 0.31 0.32
    says 'the leak promises 0.500 too much (95 % interval 0.478 to 0.522)' 'does not show'
    mv o/fold0/attempt1 o/x && mv o/fold0/attempt2 o/fold0/attempt1 && mv o/x o/fold0/attempt2
    says 'scores less (0.500 less; 95 % interval -0.522 to -0.478). The leak does not show' 'too much'
    # The same cases in both: 0.49, 0.50, 0.51, and 4.303 * 0.01 / sqrt(3).
    slices o/fold0/attempt1/slices.tsv 0.8 0.7 0.9
    slices o/fold0/attempt2/slices.tsv 0.3 0.21 0.39
    says 'the leak promises 0.500 too much (95 % interval 0.475 to 0.525)'
    slices o/fold0/attempt1/slices.tsv 0.1 0.9 0.5
    slices o/fold0/attempt2/slices.tsv 0.2 0.4 0.7
    says 'holds 0' 'too much'
    slices o/fold0/attempt2/slices.tsv 0.2
    says 'A single case gives no interval' 'too much'

    # Paired: differences 0.19, 0.20, 0.21; 4.303 * 0.01 / sqrt(3). Labels that are nowhere leave a case out.
    rm -r o/fold0/attempt*
    slices o/fold0/control-slices/slices.tsv 0.29 0.5 0.41 -
    slices o/fold0/leak-control/constant0.tsv 0 0 0 0
    slices o/fold0/leak-control/constant2.tsv 0.1 0.3 0.2 -
    slices o/fold0/leak-control/constant3.tsv 0.1 0.1 0.1 -
    says 'it scores 0.400' 'not shown'
    says '(all of the brain oedema, the best of four)'
    says 'earns 0.200 on the same slices: 0.200 less (95 % interval 0.175 to 0.225), though nothing' 'earns nothing'
    slices o/fold0/control-slices/slices.tsv 0.01 0.02 0.03 -
    slices o/fold0/leak-control/constant2.tsv 0.2 0.2 0.2 -
    says 'by itself the leak earns nothing here' 'though nothing'
    slices o/fold0/control-slices/slices.tsv 0.1 0.3 0.2 -
    says 'not shown here' 'though nothing'
    slices o/fold0/control-patients/slices.tsv 0.8 0.81 0.82
    says 'what the control scores is not owed to the leak' 'owed to the neighbouring'
    slices o/fold0/control-patients/slices.tsv 0.0 0.01 0.0
    slices o/fold0/control-slices/slices.tsv 0.19 0.2 0.21 -
    says 'the labels of others leave 0.003, 0.197 less (95 % interval' 'owed to'
    slices o/fold0/leak-control/constant2.tsv 0.01 0.02 0.02 -
    slices o/fold0/leak-control/constant3.tsv 0.01 0.01 0.01 -
    says 'is owed to the neighbouring slices' 'not shown'
    slices o/fold0/control-patients/slices.tsv 0.1 0.2 0.3
    says 'is owed to the leak is not shown' 'owed to the neighbouring'
}

@test "table: means and intervals are over cases, a case of several folds counts once" {
    slices o/fold0/attempt1/slices.tsv 0.2 0.5
    slices o/fold1/attempt1/slices.tsv 0.6 - 0.6
    volumes o/fold0/combined/volumes.tsv 0.9,0.8,1,0 0.7,0.6,0.5,20
    slices o/fold0/combined/slices.tsv 0.5 0.5
    "$P/table" -t o attempt1 combined >t
    # c1: 0.4, c2: 0.5, c3: 0.6: mean 0.5, 4.303 * 0.1 / sqrt(3).
    [ "$(cell t attempt1 mean cases)" = 3 ]
    [ "$(cell t attempt1 mean slice_dice)" = 0.500000 ]
    [ "$(cell t attempt1 mean slice_dice_ci)" = 0.248434 ]
    [ "$(cell t attempt1 0 slice_dice)" = 0.350000 ]
    [ "$(cell t attempt1 mean WT)" = nan ]
    [ "$(cell t attempt1 mean volumes)" = 0 ]
    # (0.9 + 0.8 + 1) / 3 and (0.7 + 0.6 + 0.5) / 3; 12.706 * sqrt(2) * 0.15 / sqrt(2)
    [ "$(cell t combined mean mean)" = 0.750000 ]
    [ "$(cell t combined mean mean_ci)" = 1.905900 ]
    [ "$(cell t combined mean has_ET)" = 1 ]
    [ "$(cell t combined mean has_TC)" = 2 ]
    [ "$(cell t combined mean volumes)" = 2 ]
    # As text: cases, and the interval within what a Dice can be.
    "$P/table" o attempt1 combined >text
    grep -qE '^attempt1 .* 3  0\.500 0\.25-0\.75 ' text
    grep -qE '^combined .* 0\.750 0\.00-1\.00$' text
    # Patients that the model knew are not among the volumes' means.
    sed -i 's/\tno\t/\tyes\t/' o/fold0/combined/volumes.tsv
    "$P/table" -t o combined >t
    [ "$(cell t combined mean volumes)" = 0 ]
}

@test "table, leak: numbers are numbers where people write a comma" {
    printf 'LC_NUMERIC\ndecimal_point ","\nthousands_sep ""\ngrouping -1\nEND LC_NUMERIC\n' >source
    mkdir loc
    localedef -c -i source loc/comma 2>/dev/null || [ -e loc/comma/LC_NUMERIC ] || skip "no locales"
    [ "$(LOCPATH=$PWD/loc LC_ALL=comma locale decimal_point)" = , ]
    study
    for s in "table o attempt1 combined" "table -t o attempt1 combined" "leak o"; do
        "$P"/$s >plain
        LOCPATH=$PWD/loc LC_ALL=comma "$P"/$s >comma
        cmp plain comma
    done
    cp o/study.tsv plain
    need_command gnuplot
    "$P/study-page" o >plain.html
    LOCPATH=$PWD/loc LC_ALL=comma "$P/study-page" o >comma.html
    cmp plain.html comma.html
}

@test "study-page: says what it was made with, which epoch was taken, and what is not there" {
    need_command gnuplot
    study
    "$P/study-page" o >page.html
    made=$(sed -n '/class="made"/,/<\/p>/p' page.html | tr '\n' ' ')
    [[ $made =~ gliopipe\ 9.8.7,\ 20[0-9]{2}-[01][0-9]-[0-3][0-9]\. ]]
    for words in '3 cases of some/where' 'brats2012' 'base 24' '3 epochs' 'seed 77' 'crop -m 16' 'folds 0, 1 of 5'; do
        [[ $made == *"$words"* ]] || { echo "$words: $made"; false; }
    done
    # No ET in truth, so no Dice of it, though the convention gives 1.
    row=$(grep -o '<tr><td>combined.*</tr>' page.html | head -n 1)
    [[ $row == *'<td>&ndash;<small>none in truth</small></td>'* ]]
    [[ $row != *'<td>1.000'* ]]
    # An interval has as many decimals as what it is of.
    [ -z "$(grep -E '[0-9]\.[0-9]{1,2}(&ndash;| to )[0-9]|(&ndash;| to )[0-9]\.[0-9]{1,2}[^0-9]' page.html)" ]
    # The curve is of WT, TC and ET, and is called so.
    grep -q 'mean of WT, TC and ET' page.html
    ! grep -q 'labels 1 to 3, validation' page.html || false
    grep -q 'is the last one' page.html
    ! grep -q 'flatters it' page.html || false
    grep -q 'Fold by fold' page.html
    # What an empty and a constant prediction earn stand beside the control.
    grep -q '<b>0.150</b><span>what the best constant prediction earns' page.html
    grep -q '<b>0.000</b><span>what an empty prediction earns' page.html
    [ -z "$(grep "$(printf '/tmp/')" page.html)" ]
    # An epoch that was chosen by these patients' score is told to be; the circle moves.
    sed -i '/keep/d' o/fold*/*/train.yaml
    "$P/study-page" o >best.html
    grep -q 'flatters it' best.html
    ! grep -q 'is the last one' best.html || false
    ! diff -q <(sed -n '/id="curves-combined/,/<\/figure>/p' page.html) <(sed -n '/id="curves-combined/,/<\/figure>/p' best.html) >/dev/null || false
    # No picture, script or style from elsewhere; wide tables scroll, and say so on a phone.
    ! grep -qE '(src|href)="(https?:|//)|<script' page.html || false
    [ "$(grep -c '<div class="wide"><table>' page.html)" = "$(grep -c '</table></div><p class="more">' page.html)" ]
}

@test "study-page: attempts are compared patient by patient with the first" {
    need_command gnuplot
    study
    "$P/study-page" o >page.html
    run grep -c 'Patient by patient' page.html # one attempt alone has volumes
    [ "$output" = 0 ]
    # Six patients, three in a fold: 0.10 to 0.15 more each, in every region; and half of them less, half more, by as much.
    for f in 0 1; do
        first='' more='' same=''
        for i in 1 2 3; do
            d=$((9 + 3 * f + i))
            first="$first 0.3,0.3,0.3,9"
            more="$more 0.$((30 + d)),0.$((30 + d)),0.$((30 + d)),9"
            same="$same 0.$((30 + (f ? d - 3 : -d))),0.3,0.3,9"
        done
        for t in "attempt2$first" "combined$more" "attempt4$same"; do
            # shellcheck disable=SC2086
            set -- $t
            volumes "o/fold$f/$1/volumes.tsv" "${@:2}"
            sed -i "s/\tc\([0-9]\)/\tf$f.\1/g" "o/fold$f/$1/volumes.tsv"
        done
    done
    for f in 0 1; do slices o/fold$f/attempt4/slices.tsv 0.4; done
    "$P/table" -t o attempt1 attempt2 attempt4 combined >o/study.tsv
    "$P/study-page" o >page.html
    sed -n '/<h2>Patient by patient, against attempt2/,/<h2>/p' page.html >section
    # All six signs alike: 2 of 64. Holm over eight tests, four of which are as small: 8 times that.
    row=$(grep '<tr><td>combined' section)
    [[ $row =~ ^'<tr><td>combined</td><td>6</td>'(<td>\+0\.125<small>0\.1[12][0-9]\ to\ 0\.1[34][0-9]\<br\>p\ 0\.250\</small\>\</td\>){4}'</tr>'$ ]]
    row=$(grep '<tr><td>attempt4' section)
    [[ $row =~ ^'<tr><td>attempt4</td><td>6</td><td>+0.000<small>-0.'[01][0-9]+' to 0.'[01][0-9]+'<br>p 1.000</small></td>' ]]
}

@test "study-page: names with signs of HTML stay text" {
    need_command gnuplot
    study
    sed -i 's,some/where,<b>\&amp;"x,' o/made-with
    "$P/study-page" o >page.html
    grep -q '3 cases of &lt;b&gt;&amp;amp;&quot;x,' page.html
}

@test "the manual is named as it can be read before installing" {
    make -s -C "$ROOT" help >help
    make -s -C "$ROOT" -f pipelines/Makefile help >>help
    grep -qF 'man man/train.1' help
    grep -qF 'man man/train.1' "$ROOT/README.md"
    [ -z "$(grep -nE 'man (train|gliopipe|[a-z]+\([0-9]\))( |$)' help "$ROOT/README.md" "$ROOT/pipelines/README.md")" ]
}

# What predict leaves of one case whose name is HTML: 12 slices of 30 x 40 voxels of 1 x 1 x 3 mm, a box of tumour, and tools that name others.
predicted() {
    need_python numpy
    mkdir -p p/views p/notes p/sizes p/segmentations
    CASE='x "q" <b>&1' "$PYTHON" - <<'P' >stream
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
from blobs import record, np
out = sys.stdout.buffer
out.write(record(b"H", [("history", "nii2slices -l brats"), ("history", "znorm -p case")]))
for z in range(12):
    image, pred = np.zeros((2, 30, 40), "f4"), np.zeros((30, 40), "u1")
    image[:, 3:27, 3:37] = np.arange(34) + z + 1
    if 4 <= z < 8:
        pred[8:20, 10:24] = 2
        pred[10:18, 12:22] = 3
    out.write(record(b"R", [("case", os.environ["CASE"]), ("patient", "P"), ("slice", z), ("slices", 12), ("spacing", "1 1 3"), ("scheme", "canonical"), ("modalities", "t1gd,flair"), ("missing", "t2"), ("trained", "no")],
                     [("image", image), ("pred", pred), ("entropy", np.where(pred > 0, .5, .01).astype("f4"))], z))
out.write(record(b"E", count=12))
P
    case='x "q" <b>&1'
    overlay -p -z 3 -m t1gd,flair -u entropy -o p/views <stream
    measure <stream >p/volumes.tsv
    tnsview -k case,spacing,slices,modalities,missing,trained <stream | sort -u >"p/notes/$case.tsv"
    tnsview -n 1 <stream | sed -n 's/^ *history[=: ]*//p' >"p/notes/$case.steps"
    {
        echo "nii2slices: warning: $case: passed over: SMITH_JOHN_19700101.nii (option -m takes files of other names)"
        echo "infer: warning: stdin: record 3 ($case slice 3): spacing 1 1 3 is not what the model learned from (1 1 1 1 1 1)"
        echo "infer: warning: patient P is SMITH_JOHN in the model's training"
        echo "nii2slices: warning: other: no file for t1, which is background then"
        echo "infer: warning: stdin: record 5 ($case slice 5): something new about SMITH_JOHN"
    } >"p/notes/$case.txt"
    printf 'gliopipe\t9.8.7\t\nMODEL\t4711\tsome/where/best.safetensors\n' >p/made-with
    printf 'arch\tunet\nparameters\tbase=8\nspacing\t1 1 1 1 1 1\nscore\t0.8123\npatients\t13\n' >p/model
    printf '# Model card\n\n## Data\n\nTwo `sites`.\n\n## Ledger\n\n- `SMITH_JOHN`\n' >p/card.md
}

@test "report: a page says what was measured and how sure that is, in words of its own, and names nobody else" {
    predicted
    "$P/report" p
    [ "$(ls p/pages)" = "$case.html" ]
    page=p/pages/$case.html
    sed 's/base64,[A-Za-z0-9+\/=]*/base64,/g' "$page" >text
    # 12 x 14 x 4 voxels of 3 mm3, of which 8 x 10 x 4 enhance; a box of 10 x 8 mm: its diagonal is 12.8.
    grep -qF '<div><b>2.02<small> ml</small></b><span>whole tumour, unsure' text
    grep -qF '<div><b>0.96<small> ml</small></b><span>enhancing, unsure' text
    grep -qF '<tr><td>WT<small>whole tumour</small></td><td>2.02</td><td>1</td><td>0.50</td></tr>' text
    grep -qF '<td>0.96</td><td>12.8</td>' text
    for words in 'There is no scan of t2' 'Voxels of 1 x 1 x 3 mm are not like' 'Slices are 3 mm apart' 'files of the case&#39;s folder were passed over' 'unsure of the tumour as a whole (0.50' \
        'gliopipe 9.8.7' 'best.safetensors<small>checksum 4711' '0.812: mean Dice' '13 patients, voxels of 1 x 1 x 1' 'znorm -p case' '<code>sites</code>' 'A tool warned of something else'; do
        grep -qF "$words" text || grep -qF "${words/&#39;/\'}" text || { echo "$words"; false; }
    done
    run grep -F 'no scan of t1' text
    [ "$status" = 1 ]
    run grep -riE 'SMITH|1970' text p/report.html
    [ "$status" = 1 ]
    # Names are text, and links lead to them.
    grep -qF '<h1>x &quot;q&quot; &lt;b&gt;&amp;1</h1>' text
    grep -qF 'href="pages/x%20%22q%22%20%3Cb%3E%261.html"' p/report.html
    run grep -E '(src|href)="(https?:|//)' text p/report.html
    [ "$status" = 1 ]
    # What whoever prepared it left: the case's own pictures, and warnings in words. One report at a time.
    mkdir -p "p/quality/$case" "p/quality/${case}_mask"
    printf mine >"p/quality/$case/mask-axial.png"
    printf theirs >"p/quality/${case}_mask/mask-axial.png"
    for words in 'a mask of 412 ml is no likely brain (wanted 700 to 2200)' 't1 has 3 slices where t2, of the same kind, has 9: are some missing?' 't2 is turned by 60 degrees: did the registration fail?' 't1 shows nothing in 5 % of the brain: is an end of it missing?' 'flair has slices 5.5 mm apart'; do
        printf 'prepare: %s: %s\n' "$case" "$words" >>"p/notes/$case.txt"
    done
    run -1 flock p/.lock "$P/report" p
    [ "$output" = "report: another run works on 'p' (wait for it)" ]
    "$P/report" p
    grep -qF "base64,$(printf mine | base64)" "$page"
    run ! grep -F "base64,$(printf theirs | base64)" "$page"
    for words in 'brain measures 412 ml, which is no likely brain' 'fewer slices than another of its kind' 'its registration may have failed' 'slices may be missing, and what lies there was not looked at' 'Slices are 5.5 mm apart'; do grep -qF "$words" "$page"; done
    # A viewer of others, from a file or a wheel, with its licence; without it none.
    run ! grep -F "NiiVue" "$page"
    echo 'var niivue = "of others";' >niivue.umd.js
    NIIVUE=niivue.umd.js "$P/report" p
    grep -qF 'var niivue = "of others";' "$page"
    grep -qF 'Copyright (c) 2021, Niivue' "$page"
    run -2 env NIIVUE=none.js "$P/report" p
    "$PYTHON" -c 'import zipfile; zipfile.ZipFile("a.whl", "w").write("niivue.umd.js", "a/js/niivue.umd.js")'
    if command -v unzip >/dev/null; then
        "$P/report" p
        run ! grep -F "of others" "$page"
        NIIVUE=a.whl "$P/report" p
        grep -qF 'var niivue = "of others";' "$page"
        [ ! -e p/niivue.part ]
        printf x >b.whl
        run -2 env NIIVUE=b.whl "$P/report" p
        [ "$output" = "report: NIIVUE: no niivue.umd.js in 'b.whl'" ]
    fi
    # Names that are one number are of several patients: each page has its own rows.
    for n in 00012345678901234567 12345678901234567 12345678901234568; do
        awk -F '\t' -v OFS='\t' -v n="$n" 'NR > 1 { $2 = n } NR == 1 { for (i = 1; i <= NF; i++) if ($i == "ml") ml = i } NR > 1 && $1 == "part" { $ml = substr(n, length(n)) } NR > 1 || n ~ /^0/' p/volumes.tsv
    done >v
    mkdir -p q && cp p/made-with p/model q/ && cp v q/volumes.tsv
    "$P/report" q
    for n in 00012345678901234567 12345678901234567; do grep -qF '<b>7.00<small> ml</small></b><span>whole tumour' q/pages/$n.html; done
    grep -qF '<b>8.00<small> ml</small></b><span>whole tumour' q/pages/12345678901234568.html
    [ "$(grep -c '<tr><td>WT' q/pages/12345678901234568.html)" = 1 ]
    # What echo would make a tag of, the end of what it says, or a line feed stays the name that it is.
    name='a\0074b\0076\c\n'
    NAME=$name awk -F '\t' -v OFS='\t' 'NR > 1 { $2 = ENVIRON["NAME"] } 1' p/volumes.tsv >q/volumes.tsv
    "$P/report" q
    grep -qF '<h1>a&#92;0074b&#92;0076&#92;c&#92;n</h1>' "q/pages/$name.html"
    grep -qF '>a&#92;0074b&#92;0076&#92;c&#92;n</a>' q/report.html
    # A tumour without a core, or a small one, is doubted, however sure the network is; a large one with a core is not.
    doubted() { # WT TC: what the page says beside
        W=$1 T=$2 awk -F '\t' -v OFS='\t' 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 1 && $1 == "part" { $at["entropy"] = "0.1"; if ($at["part"] == "WT") $at["ml"] = ENVIRON["W"]; if ($at["part"] == "TC") $at["ml"] = ENVIRON["T"] } 1' p/volumes.tsv >q/volumes.tsv
        "$P/report" q
        { grep -oE 'whole tumour, [a-z ]+|no core to speak of|nobody had less than' "q/pages/$case.html" && grep -oE '<small>(doubtful|sure)' q/report.html; } | tr '\n' '|'
    }
    [ "$(doubted 30.55 0.03)" = 'whole tumour, doubtful|no core to speak of|<small>doubtful|' ]
    grep -qF 'this one does not say whom it learned from' "q/pages/$case.html"
    echo '- 3 of 20 cases learned from had no tumour.' >q/card.md
    [ "$(doubted 6 1)" = 'whole tumour, doubtful|nobody had less than|<small>doubtful|' ]
    grep -qF 'Of the 20 cases that this network learned from 3 had none.' "q/pages/$case.html"
    echo '- All 20 cases learned from had a tumour: and so on.' >q/card.md
    [ "$(doubted 30 1.3)" = 'whole tumour, sure|<small>sure|' ]
    grep -qF 'This network learned from 20 cases, all with a tumour' "q/pages/$case.html"
    # Without tumour the page says so; without what predict made there is none.
    awk -F '\t' -v OFS='\t' 'NR > 1 && $1 == "part" { $6 = 0; $7 = 0; $25 = "nan" } $1 != "lesion"' p/volumes.tsv >v && mv v p/volumes.tsv
    "$P/report" p
    grep -qF '<li>No tumour was found.</li>' "$page"
    run ! "$P/report" none
}

@test "report: in Chromium the slices scroll, nothing is wider than the window and nothing fails, at 1280 dark and at 380 light" {
    need_command chromium
    predicted
    "$P/report" p
    cp "p/pages/$case.html" page.html
    cat >>page.html <<'EOF'
<script>
addEventListener("load", () => setTimeout(() => {
  const canvas = [...document.querySelectorAll("#planes canvas")], slider = document.querySelectorAll("#planes input"), shown = document.getElementById("shown");
  const count = (c, rgb) => { const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 0; i < d.length; i += 4) n += rgb.every((v, k) => Math.abs(d[i + k] - v) < 3); return n; };
  const yellow = [240, 228, 66], blue = [86, 180, 233], lines = canvas.map(c => count(c, yellow) > 20 && count(c, blue) > 20).join();
  const to = (i, v) => { slider[i].value = v; slider[i].dispatchEvent(new Event("input")); };
  to(0, 0); const none = count(canvas[0], yellow) + count(canvas[0], blue), said = document.querySelector("#planes figcaption").textContent;
  to(0, 5); const back = count(canvas[0], yellow) > 20;
  shown.value = "none"; shown.dispatchEvent(new Event("change")); const bare = canvas.map(c => count(c, yellow)).join();
  const mute = [...document.querySelectorAll(".wide")].filter(e => e.scrollWidth > e.clientWidth && getComputedStyle(e.nextElementSibling).display == "none").length;
  const bad = [...document.images].filter(i => !i.naturalWidth).length, dark = getComputedStyle(document.body).backgroundColor;
  document.body.setAttribute("data-report", `lines=${lines} none=${none} said=${said} back=${back} bare=${bare} bad=${bad} images=${document.images.length} wide=${document.documentElement.scrollWidth > innerWidth} mute=${mute} page=${dark}`);
}, 100));
</script>
EOF
    for look in '1280 0 rgb(20, 23, 27)' '380 1 rgb(246, 247, 249)'; do
        set -- $look
        chromium --headless --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" --window-size="$1,900" --blink-settings=preferredColorScheme="$2" --enable-logging=stderr \
            --timeout=60000 --virtual-time-budget=100000 --dump-dom "file://$PWD/page.html" >dom.html 2>log.txt 3>&-
        run ! grep CONSOLE log.txt
        grep -o 'data-report="[^"]*"' dom.html >report
        grep -qF "lines=true,true,true none=0 said=axial, slice 0 back=true bare=0,0,0 bad=0 images=7 wide=false mute=0 page=${look#* * }" report || { cat report; false; }
    done
}
