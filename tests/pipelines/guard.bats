# What stands before the pipelines: names, knobs, numbers of yesterday, two runs in one folder, runs that fail.
load ../lib/common

setup_file() {
    export OMP_WAIT_POLICY=passive
    cd "$BATS_FILE_TMPDIR"
    [ "${CONFIG:-release}" = release ] || return 0
    phantom -n 5 -s 2 -d 32x32x8 -o cases
    # A model that was taught on cropped, normalised slices, and one on slices as they come.
    printf 'arch: unet\nbase: 2\n' >c.yaml
    nii2slices -t cases/*1 | recode -s brats2017 | znorm | crop -s 32x32 >t.tns
    epochs -b 0 -n 1 t.tns | train -j 1 -c c.yaml -o model
    nii2slices -t cases/*2 | recode -s brats2017 >raw.tns
    epochs -b 0 -n 1 raw.tns | train -j 1 -c c.yaml -o raw
}

setup() {
    need_release "the tools run there in their own tests"
    cd "$BATS_TEST_TMPDIR"
    given=$BATS_FILE_TMPDIR
}

# A target from the top of the tree; what is not said otherwise is small.
glio() { # TARGET... NAME=VALUE...
    make -s -C "$ROOT" -f pipelines/Makefile DATA="$given/cases" OUT="$PWD/out" BASE=2 EPOCHS=1 FOLD=0 CROP='-s 32x32' JOBS=1 "$@"
}

# What is below a folder, with the bytes of each file.
state() {
    find "$1" -type f ! -name '.lock*' -exec cksum {} + | sort -k 3
}

@test "predict: names of cases are names, whatever a shell or make would read in them" {
    mkdir new
    names=('A$(id>PWNED)' 'A&id>PWNED&B' '`id>PWNED`' 'x(1)' "O'Brien" 'a$b' 'a$(shell id>PWNED)' 'a:b' 'Patient 01' '"q";id>PWNED' '*' '\' '-n' '%' '#1')
    for n in "${names[@]}"; do
        mkdir "new/$n"
        ln "$given"/cases/*_001/*.gz "new/$n/"
    done
    glio predict DATA="$PWD/new" MODEL="$given/model" >log 2>&1
    # Each has its segmentation and its picture, of the same bytes as those of an innocent one.
    [ "$(ls out/predict/segmentations | wc -l)" = ${#names[@]} ]
    [ "$(ls out/predict/pictures | wc -l)" = ${#names[@]} ]
    # And its line in the table of volumes: what is in the segmentation.
    printf '%s\n' "${names[@]}" | sort >wanted
    awk -F '\t' '$1 == "part" && $4 == "WT" { print $2 }' out/predict/volumes.tsv | sort | cmp - wanted
    [ "$(head -n 1 out/predict/volumes.tsv | cut -f 1-6)" = "$(printf 'row\tcase\tpatient\tpart\tlesion\tml')" ]
    [ "$(grep -c '^row' out/predict/volumes.tsv)" = 1 ]
    for n in "${names[@]}"; do
        cmp "out/predict/segmentations/${n}_pred.nii.gz" 'out/predict/segmentations/x(1)_pred.nii.gz'
    done
    [ -z "$(find . "$ROOT/pipelines" "$ROOT" -maxdepth 1 -name '*PWNED*' -type f)" ]
    # The folders that are typed, too.
    mkdir 'new $(id>PWNED) `id>PWNED`'"'"
    mv 'new/x(1)' 'new $(id>PWNED) `id>PWNED`'"'"
    glio predict DATA="$PWD/new "'$(id>PWNED) `id>PWNED`'"'" MODEL="$given/model" OUT="$PWD/other" JOBS=1 >log 2>&1
    [ "$(ls other/predict/segmentations)" = 'x(1)_pred.nii.gz' ]
    [ -z "$(find . "$ROOT" -maxdepth 1 -name '*PWNED' -type f)" ]
    run -2 glio predict DATA="$PWD/cases" MODEL="$given/model" OUT='o$(shell id>PWNED)'
    run -2 glio predict MODEL="$given/model" OUT='o;id>PWNED'
    [[ $output == *"OUT: (wanted letters"* ]]
    [ ! -e "$ROOT/PWNED" ]
    [ ! -e PWNED ]
}

@test "predict: names that no tool can carry are refused one by one, with the reason, before anything is read" {
    mkdir new
    for n in fit $'a\tb' $'two\nlines' $'\xff\xfe'; do cp -r "$given"/cases/*_001 "new/$n"; done
    run -2 glio predict DATA="$PWD/new" MODEL="$given/model"
    [ "$(grep -c "^predict: DATA: the case '" <<<"$output")" = 3 ]
    [ "$(grep -c 'a control character' <<<"$output")" = 2 ]
    [ "$(grep -c 'no UTF-8' <<<"$output")" = 1 ]
    [ ! -e out ]
    # A manifest of folds separates by blanks.
    mkdir study && cp -r "$given"/cases/* study && mv study/*_002 'study/Patient 01' && mv study/*_003 'study/#3'
    run -2 glio attempt2 DATA="$PWD/study"
    [[ $output == *"the case 'Patient 01' has a blank"* ]]
    [[ $output == *"the case '#3' has"* ]]
    [ ! -e out ]
}

@test "predict: the model says how its scans are prepared" {
    mkdir new && cp -r "$given"/cases/*_004 new
    for m in model raw; do
        glio predict DATA="$PWD/new" MODEL="$given/$m" OUT="$PWD/$m" CROP='-s 16x16' >/dev/null 2>&1
    done
    nii2slices new/* | recode -s brats2017 | infer -t none -m "$given/raw" | slices2nii -n pred -s brats2017 -o by-hand
    cmp by-hand/*.gz raw/predict/segmentations/*.gz
    nii2slices new/* | recode -s brats2017 | znorm | crop -s 32x32 | infer -t none -m "$given/model" | crop -u | slices2nii -n pred -s brats2017 -o cropped
    cmp cropped/*.gz model/predict/segmentations/*.gz
    # A step that predict does not know is named, and nothing is run that a file says.
    "$PYTHON" - "$given/model" <<'PY'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", b[:8])[0]
for name, steps in ("strange", "resample -r 1\n"), ("evil", "znorm;id>PWNED\n"):
    h = json.loads(b[8:8 + n])
    h["__metadata__"].pop("xxh3")
    h["__metadata__"]["steps"] = steps
    t = json.dumps(h).encode()
    t += b" " * (-len(t) % 64 + 56)
    open(name, "wb").write(struct.pack("<Q", len(t)) + t + b[8 + n:])
PY
    run -2 glio predict DATA="$PWD/new" MODEL="$PWD/strange"
    [[ $output == *"'resample -r 1'"* ]]
    [ ! -e out ]
    run -2 glio predict DATA="$PWD/new" MODEL="$PWD/evil"
    [ ! -e PWNED ]
    [ ! -e "$ROOT/PWNED" ]
    [ ! -e out ]
}

@test "predict: a folder with a recipe is a model, and what is wrong in the recipe is a line" {
    mkdir new folder && cp -r "$given"/cases/*_004 new
    cp "$given/model" folder/one
    printf 'recipe\t1\nmodel\tone\ntidy\t-w 40 -i\n' >folder/recipe
    glio predict DATA="$PWD/new" MODEL="$PWD/folder" >/dev/null 2>&1
    nii2slices new/* | recode -s brats2017 | znorm | crop -s 32x32 | infer -t none -m folder/one | tidy -w 40 -i | crop -u | slices2nii -n pred -s brats2017 -o by-hand
    cmp by-hand/*.gz out/predict/segmentations/*.gz
    # Another rule is another model.
    sed -i 's/40/50/' folder/recipe
    run -2 glio predict DATA="$PWD/new" MODEL="$PWD/folder"
    [[ $output == *"MODEL '$PWD/folder' has changed"* ]]
    refused() { # RECIPE WORDS
        printf "$1" >folder/recipe
        run -2 glio predict DATA="$PWD/new" MODEL="$PWD/folder" OUT="$PWD/other"
        [ "$(grep -v '^make' <<<"$output" | wc -l)" = 1 ]
        [[ $output == "predict: MODEL: '$PWD/folder': $2"* ]] || { echo "$output"; return 1; }
        [ ! -e other ]
    }
    refused 'recipe\t2\nmodel\tone\n' "recipe:1: no recipe of this version"
    refused 'recipe\t1\n' "recipe: names no model"
    refused 'recipe\t1\nmodel\ttwo\n' "no file 'two'"
    refused 'recipe\t1\nmodel\t../folder/one\n' "recipe:2: (wanted a file of this folder"
    refused 'recipe\t1\nmodel\tone\nviews\tw\n' "recipe:3: views: (wanted some of x, y and z, got 'w')"
    refused 'recipe\t1\nmodel\tone\ntidy\t-w 5;id\n' "recipe:3: tidy: (wanted its options"
    refused 'recipe\t1\nmodel\tone\nrun\tid\n' "recipe:3: unknown 'run'"
    rm folder/recipe
    run -2 glio predict DATA="$PWD/new" MODEL="$PWD/folder" OUT="$PWD/other"
    [[ $output == *"wanted a model file, or a folder with a recipe, got '$PWD/folder'"* ]]
}

@test "predict: one case that fails is named, the others are done, and only what changed is done again" {
    mkdir new
    cp -r "$given"/cases/*_00[123] new
    rm new/*_002/*_t2.nii.gz
    run -2 glio predict DATA="$PWD/new" MODEL="$given/model"
    [[ $output == *"_002' failed"* ]]
    [[ $output == *"t2"* ]]
    [ "$(ls out/predict/segmentations | wc -l)" = 2 ]
    [ -z "$(find out -name '*.part')" ]
    state out/predict/segmentations >before
    cp "$given"/cases/*_002/*_t2.nii.gz new/*_002
    : >out/predict/segmentations/"$(ls out/predict/segmentations | head -n 1)" # would be made again if it were
    glio predict DATA="$PWD/new" MODEL="$given/model" >/dev/null 2>&1
    [ "$(ls out/predict/segmentations | wc -l)" = 3 ]
    [ "$(find out/predict/segmentations -size 0 | wc -l)" = 1 ]
    touch -d 2001-01-01 new/*_001/*_t1.nii.gz
    glio predict DATA="$PWD/new" MODEL="$given/model" >/dev/null 2>&1
    state out/predict/segmentations | grep -v _002_ | diff before -
    # Another model has nothing to say in this folder.
    run -2 glio predict DATA="$PWD/new" MODEL="$given/raw"
    [[ $output == *"MODEL was '$given/model' and is '$given/raw'"* ]]
    run -2 glio predict MODEL="$given/model"
    [[ $output == *"DATA was '$PWD/new' and is '$given/cases'; give"* ]]
    # What a scanner gives is no case, and it is said what to do.
    mkdir -p raw/A raw/B
    echo DICM >raw/A/IM1
    ln "$given"/cases/*_001/*_t1.nii.gz raw/B/5_AX.nii.gz
    run -2 glio predict DATA="$PWD/raw" MODEL="$given/model" OUT="$PWD/scans"
    [[ $output == *"predict: '$PWD/raw/A' holds no NIfTI files (what a scanner gives is first prepared: make prepare RAW='$PWD/raw' DATA="* ]]
    [[ $output == *"predict: '$PWD/raw/B' failed"*"predict: what a scanner gives is first prepared: make prepare RAW='$PWD/raw' DATA="* ]]
    [ ! -e scans ]
}

@test "predict: of a case that changed nothing old is left, of one that is gone it is told" {
    mkdir new
    cp -r "$given"/cases/*_00[1234] new
    glio predict DATA="$PWD/new" MODEL="$given/model" >/dev/null 2>&1
    echo mine >out/predict/segmentations/own.part
    rm new/*_002/*_t2.nii.gz new/*_004/*
    mv new/*_003 .
    run -2 glio predict DATA="$PWD/new" MODEL="$given/model"
    [[ $output == *"_002' failed"* ]]
    [[ $output == *"_004' holds no NIfTI files"* ]]
    [[ $output == *"keeps what was made of 1 not in '$PWD/new' any more: BraTS20_Training_003"* ]]
    [ -z "$(find out -name '*_00[24]*')" ]
    [ "$(find out -name '*_003*' | wc -l)" = "$(find out -name '*_001*' | wc -l)" ]
    # In a data set, what was made of all goes when one of its cases has gone.
    phantom -n 2 -d 32x32x8 -l msd -o Task01
    glio predict DATA="$PWD/Task01" LAYOUT=msd SCHEME=msd MODEL="$given/model" OUT="$PWD/msd" >/dev/null 2>&1
    [ "$(ls msd/predict/segmentations | wc -l)" = 2 ]
    gone=$(ls Task01/imagesTr | head -n 1)
    rm Task01/*Tr/"$gone"
    glio predict DATA="$PWD/Task01" LAYOUT=msd SCHEME=msd MODEL="$given/model" OUT="$PWD/msd" >/dev/null 2>&1
    [ -z "$(find msd -name "${gone%.nii.gz}*")" ]
    [ "$(ls msd/predict/segmentations | wc -l)" = 1 ]
    [ "$(ls msd/predict/pictures | wc -l)" = 1 ]
    [ "$(cat out/predict/segmentations/own.part)" = mine ]
}

@test "study: files that no run made stay, whether a run is refused, fails, or is done" {
    mkdir -p dl/backup.part/deep dl/empty/er bare ex/explore/x.part
    for f in dl/thesis.part dl/.lockbox dl/backup.part/deep/f ex/explore/x.part/f; do echo mine >$f; done
    mine() { find dl bare ex | sort; find dl ex -type f -exec cat {} +; }
    mine >before
    same() { mine | diff before -; }
    cp -r "$given/cases" cut
    scan=$(ls cut/*_005/*_t1.nii.gz)
    head -c 500 "$scan" >half && mv half "$scan"
    for d in dl bare; do run -2 glio attempt2 DATA="$PWD/cut" OUT="$PWD/$d"; done
    same
    run -2 glio explore OUT="$PWD/ex"
    [[ $output == *"does not say what it was made with"* ]]
    same
    for f in cases.tsv all.tns.part; do # of somebody else
        echo mine >dl/$f
        run -2 glio attempt2 OUT="$PWD/dl"
        [[ $output == *"does not say what it was made with"* ]]
        [ "$(cat dl/$f)" = mine ]
        rm dl/$f
        same
    done
    glio attempt2 OUT="$PWD/dl" >/dev/null 2>&1
    mkdir -p dl/fold0/own dl/fold0/raw/own.part
    glio attempt2 OUT="$PWD/dl" >/dev/null 2>&1
    for d in backup.part/deep empty/er fold0/own fold0/raw/own.part; do [ -d dl/$d ]; done
    [ "$(cat dl/thesis.part)" = mine ]
    # As long as it is refused, a run takes away nothing at all.
    : >dl/all.tns.part
    : >dl/fold0/raw/val.tns.part
    run -2 glio attempt2 OUT="$PWD/dl" BASE=3
    [ -e dl/all.tns.part ]
    [ -e dl/fold0/raw/val.tns.part ]
    # Where all cases have as many slices, those with tumour decide who is dealt where.
    folds -k 5 -s 1 <dl/all.tns | cmp - dl/patients.folds
}

@test "study: OUT is a folder of its own" {
    for out in / . "$ROOT" "$ROOT/pipelines/.." /proc; do
        run -2 glio attempt2 OUT="$out"
        [ "$(grep -v '^make' <<<"$output" | wc -l)" = 1 ]
        [[ $output == *"OUT: (wanted a folder of its own, got '$out'"* ]]
    done
    run -2 glio attempt2 OUT="$given/cases"
    [[ $output == *"among what is read"* ]]
}

@test "study: a case without any tumour is dealt, validated, and counted on the page" {
    cp -r "$given/cases" data
    cp -r data/*_001 data/healthy
    cat >healthy.py <<'PY'
import glob, gzip, os
for f in glob.glob("data/healthy/*"):
    b = bytearray(gzip.decompress(open(f, "rb").read()))
    if "_seg" in f:
        b[352:] = bytes(len(b) - 352)
    else: # somebody else's voxels
        b[352 + 2 * (16 * 32 + 16)] ^= 1
    open(f.replace("BraTS20_Training_001", "healthy"), "wb").write(gzip.compress(bytes(b)))
    os.remove(f)
PY
    "$PYTHON" "$PWD/healthy.py"
    glio "$PWD/out/patients.folds" DATA="$PWD/data" >/dev/null 2>&1
    [ "$(grep -c healthy out/patients.folds)" = 1 ]
    [ "$(grep -vc '^#' out/patients.folds)" = 6 ]
    fold=$(awk '$2 == "healthy" { print $1 }' out/patients.folds)
    glio attempt2 "$PWD/out/slices.folds" DATA="$PWD/data" FOLD="$fold" >log 2>&1 || { cat log; false; }
    grep -q healthy "out/fold$fold/attempt2/volumes.tsv"
    [ -z "$(grep healthy "out/fold$fold/attempt2/slices.tsv")" ]
    # A fold that holds no tumour cannot validate: told before anything is trained.
    mkdir two
    cp -r data/healthy data/*_002 two
    run -2 glio attempt2 DATA="$PWD/two" OUT="$PWD/none" FOLDS=2 FOLD=
    [[ $output == *"study: no case of fold "[01]" has a tumour"* ]]
    [ -z "$(find none -name trained)" ]
    need_command gnuplot
    "$ROOT/pipelines/table" -t out attempt2 >out/study.tsv
    "$ROOT/pipelines/study-page" out | grep -q "6 cases of $PWD/data (1 without tumour)"
}

@test "study: a made-with that is empty, cut or another's is refused, and one that cannot be written is an error" {
    glio attempt2 >/dev/null 2>&1
    cp out/made-with kept
    for how in ': >' 'head -c -9 kept >' 'sed /^BASE/d kept >' 'grep -v ^gliopipe kept >' 'cat kept kept >' 'seq 9 >'; do
        bash -c "$how out/made-with"
        cp out/made-with before
        run -2 glio attempt2
        [ "$(grep -c '^study:' <<<"$output")" = 1 ] || { echo "$how: $output"; false; }
        [[ $output == *"another OUT="* ]]
        cmp before out/made-with
    done
    cp kept out/made-with
    glio attempt2 >/dev/null 2>&1
    # A disk that is full.
    rm -r out/fold0 out/*.tns out/*.folds
    ln -s /dev/full out/made-with.part
    run -2 glio attempt2
    [[ $output == *"study: $PWD/out/made-with: cannot be written"* ]]
    [ ! -e out/all.tns ]
}

@test "study: a manifest of the user's is looked at before scans are read, by names" {
    ls "$given/cases" | folds -k 5 -s 7 -l - >good
    grep -v _004 good >lacking
    sed 's/by=patient/by=slice/; s/_001\t/_001:3\t/' good | grep -E '#|:3' >slices
    : >empty
    printf 'of my own\n' >prose
    for m in lacking slices empty prose; do
        run -2 glio attempt2 SPLIT="$PWD/$m"
        [ "$(grep -v '^make' <<<"$output" | wc -l)" = 1 ]
        [[ $output == "study: SPLIT: "*"$PWD/$m"* ]]
        [ ! -e out ]
    done
    run -2 glio attempt2 SPLIT="$PWD/good" FOLDS=6 FOLD=
    [[ $output == *"SPLIT: $PWD/good: no fold 5"* ]]
    run -2 glio attempt2 SPLIT="$PWD/lacking"
    [[ $output == *"neither the case nor the patient of BraTS20_Training_004"* ]]
    [ ! -e out ]
    glio "$PWD/out/patients.folds" SPLIT="$PWD/good" >/dev/null 2>&1
    cmp good out/patients.folds
}

@test "study: numbers and names are taken as they are meant" {
    for k in FOLD=01 BASE=02 SEED=00 EPOCHS=01 FOLDS=05; do
        run -2 glio attempt2 $k
        [[ $output == *"${k%=*}: (wanted a whole number, got '${k#*=}')"* ]]
    done
    [ ! -e out ]
    # Names that look like an option, or to awk like an assignment; a folder with a dot before it.
    mkdir tree
    ln -s "$ROOT"/{pipelines,bin} tree/
    cp -r "$given/cases" tree/-six
    mv tree/-six/*_003 tree/-six/.003
    printf 'BraTS20_Training_00%s\n' $'1\ta' $'2\tb' $'4\tc' $'5\td' >tree/-w=1
    run -0 make -s -C tree -f pipelines/Makefile attempt2 DATA=-six WHO=-w=1 OUT="$PWD/out" BASE=2 EPOCHS=1 FOLDS=2 FOLD=0 JOBS=1
    [[ $output == *"passed over, because of the dot: .003"* ]]
    [[ $output != *find:* ]]
    [ "$(grep -vc '^#' out/patients.folds)" = 4 ]
    [ "$(cut -f 1 out/cases.tsv | grep -c '^\.')" = 0 ]
}

@test "study: a network of the user's takes the place of the attempt's, and is what a folder is known by" {
    sed 's/kernel: 3/kernel: 5/' "$ROOT/pipelines/networks/unet.yaml" >mine.yaml
    glio attempt2 NETWORK="$PWD/mine.yaml" >/dev/null 2>&1
    infer -n -m out/fold0/attempt2/model.safetensors >said
    sed -n 's/^network.//p' said | cmp - mine.yaml
    grep -qFx $'parameters\tbase=2' said
    [ -s out/fold0/attempt2/volumes.tsv ]
    echo '# another thought' >>mine.yaml
    run -2 glio attempt2 NETWORK="$PWD/mine.yaml"
    [[ $output == *"NETWORK '$PWD/mine.yaml' has changed"* ]]
    run -2 glio attempt2
    [[ $output == *"NETWORK was '$PWD/mine.yaml' and is ''"* ]]
    run -2 glio attempt2 NETWORK=none.yaml
    [[ $output == *"NETWORK: 'none.yaml' is no file"* ]]
    # Without BASE the text says how wide it is; of the attempt's own network nothing is left.
    run -0 make -n -C "$ROOT" -f pipelines/Makefile residual DATA="$given/cases" OUT="$PWD/none" NETWORK="$PWD/mine.yaml"
    [[ $output == *"sed '/^base:/d;s/^arch:.*/network: network.yaml/;/^dropout:/d' pipelines/residual.yaml"* ]]
}

@test "study: another knob, case or scan in the same folder is refused, by name, and nothing changes" {
    cp -r "$given/cases" data
    glio attempt2 DATA="$PWD/data" >/dev/null 2>&1
    state out >before
    refused() { # NAME=VALUE WORDS
        run -2 glio attempt2 DATA="$PWD/data" "$1"
        [[ $output == *"$2"*"another OUT="* ]] || { echo "$output"; return 1; }
        [ "$(wc -l <<<"$(grep "^study:" <<<"$output")")" = 1 ]
        state out | cmp before -
    }
    refused BASE=3 "BASE was '2' and is '3'"
    refused EPOCHS=2 "EPOCHS was '1' and is '2'"
    refused SEED=9 "SEED was '1' and is '9'"
    refused RATE=0.1 "RATE was '' and is '0.1'"
    refused SCHEME=brats2012 "SCHEME was 'brats2017' and is 'brats2012'"
    refused CROP='-m 16' "CROP was '-s 32x32' and is '-m 16'"
    refused MEM=500M "MEM was '' and is '500M'"
    refused FOLDS=4 "FOLDS was '5' and is '4'"
    refused DATA="$given/cases" "DATA was '$PWD/data' and is '$given/cases'"
    cp -r data/*_001 data/BraTS20_Training_009
    refused JOBS=1 "BraTS20_Training_009/"
    rm -r data/BraTS20_Training_009
    touch -d 2001-01-01 data/*_003/*_t1.nii.gz
    refused JOBS=1 "DATA '$PWD/data' has changed (BraTS20_Training_003/BraTS20_Training_003_t1.nii.gz differs)"
    touch -r "$given"/cases/*_003/*_t1.nii.gz data/*_003/*_t1.nii.gz
    refused JOBS=1 "differs"
    # Nobody knows what this was made with.
    mv out/made-with kept
    run -2 glio attempt2 DATA="$given/cases"
    [[ $output == *"does not say what it was made with"* ]]
    mv kept out/made-with
    # The tools' version.
    sed -i 's/^gliopipe\t[^\t]*/gliopipe\t0.0.9/' out/made-with
    state out >before
    refused JOBS=1 "gliopipe was '0.0.9' and is '"
    # Threads are no other question, and another folder is free.
    glio attempt2 OUT="$PWD/free" JOBS=2 >/dev/null 2>&1
    glio attempt2 OUT="$PWD/free" JOBS=1 >/dev/null 2>&1
    cmp out/fold0/attempt2/slices.tsv free/fold0/attempt2/slices.tsv
}

@test "study: a second run in one folder gets a line, one of another fold waits for what they share" {
    glio attempt2 >/dev/null 2>&1
    state out >before
    run -2 flock out/.lock.fold0 make -s -C "$ROOT" -f pipelines/Makefile attempt2 DATA="$given/cases" OUT="$PWD/out" BASE=2 EPOCHS=1 CROP='-s 32x32'
    [ "$(grep -v '^make' <<<"$output")" = "study: another run works on $PWD/out/fold0 (wait for it, or another OUT=)" ]
    state out | cmp before -
    # Two folds at once: all.tns and the manifest are made once, by one of them.
    rm -r out
    glio attempt2 FOLD=0 >a 2>&1 3>&- &
    glio attempt2 FOLD=1 >b 2>&1 3>&- || { cat b; false; }
    wait $! || { cat a; false; }
    [ -e out/fold0/attempt2/slices.tsv ]
    [ -e out/fold1/attempt2/slices.tsv ]
    [ -z "$(find out -name '*.part')" ]
    # Attempts of one fold: its streams are made once, an attempt is done by one run at a time.
    glio attempt3 >a 2>&1 3>&- &
    glio attempt4 attempt5 >b 2>&1 3>&- || { cat b; false; }
    wait $! || { cat a; false; }
    ls out/fold0/attempt[345]/slices.tsv | wc -l >n
    [ "$(cat n)" = 3 ]
    [ -z "$(find out -name '*.part')" ]
    run -2 flock out/.lock.fold0.attempt4 make -s -C "$ROOT" -f pipelines/Makefile attempt4 DATA="$given/cases" OUT="$PWD/out" BASE=2 EPOCHS=1 CROP='-s 32x32'
    [[ $output == *"study: another run works on $PWD/out/fold0/attempt4 (wait"* ]]
    flock -s out/.lock.fold0 "$BASH" -c "$(declare -f glio); given='$given'; glio attempt4" >a 2>&1
    for d in explore predict; do
        mkdir -p "out/$d"
        run -2 flock "out/$d/.lock" make -s -C "$ROOT" -f pipelines/Makefile $d DATA="$given/cases" OUT="$PWD/out" MODEL="$given/model"
        [[ $output == *"another run works on $PWD/out/$d"* ]]
    done
}

@test "study: too few patients for the folds is told before anything is read" {
    mkdir few && cp -r "$given"/cases/*_00[123] few
    run -2 glio study DATA="$PWD/few"
    [[ $output == *"too few patients for 5 folds (3)"* ]]
    [ ! -e out ]
    # Where the names lie in a data set's own files: after they are read, but before anything is trained.
    phantom -n 3 -d 32x32x8 -l msd -o Task01
    run -2 glio study DATA="$PWD/Task01" LAYOUT=msd SCHEME=msd
    [[ $output == *"too few patients for 5 folds (3)"* ]]
    [[ $output != *"train: "* ]]
    [ ! -e out/fold0 ]
    rm -r out
    run -2 glio attempt2 FOLD=5
    [[ $output == *"FOLD: (wanted less than 5"* ]]
    [ ! -e out ]
    run -2 glio attempt2 BASE=wide
    [[ $output == *"BASE: (wanted a whole number, got 'wide')"* ]]
    [ ! -e out ]
}

@test "study: a run that fails leaves no part and no empty folder, and what was left when one was killed goes" {
    cp -r "$given/cases" cut
    scan=$(ls cut/*_005/*_t1.nii.gz)
    head -c 500 "$scan" >half && mv half "$scan"
    run -2 glio attempt2 DATA="$PWD/cut"
    [[ $output == *"_005"* ]]
    [ ! -e out ]
    # What is not the study's stays.
    mkdir out && echo mine >out/notes
    run -2 glio attempt2 DATA="$PWD/cut"
    [ "$(ls -A out)" = notes ]
    # As a killed run leaves it.
    rm -r out
    glio attempt2 >/dev/null 2>&1
    rm -r out/fold0/attempt2
    mkdir -p out/fold0/crop
    : >out/all.tns.part
    : >out/fold0/raw/train.tns.part
    mkdir -p out/fold0/attempt2/sheets.part
    glio attempt2 >/dev/null 2>&1
    [ -z "$(find out -name '*.part')" ]
    [ -z "$(find out -type d -empty)" ]
    [ -s out/fold0/attempt2/slices.tsv ]
    # A later step fails: what was whole stays.
    rm out/fold0/attempt2/slices.tsv
    mv out/fold0/attempt2/model.safetensors kept
    run -2 glio attempt2
    [ -e out/all.tns ]
    [ -z "$(find out -name '*.part')" ]
    [ -z "$(find out -type d -empty)" ]
}

@test "study: stopped from the keyboard at any moment, a run leaves no part" {
    for wanted in all.tns.part fold0/attempt2/model.safetensors.tsv; do
        # Bash starts what runs beside it deaf to this signal.
        "$PLAIN_PYTHON" - make -s -C "$ROOT" -f pipelines/Makefile DATA="$given/cases" OUT="$PWD/out" BASE=2 EPOCHS=300 CROP='-s 32x32' attempt2 >log 2>&1 3>&- <<'PY' &
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.setsid()
os.execvp(sys.argv[1], sys.argv[1:])
PY
        run=$!
        until [ -e "out/$wanted" ] || ! kill -0 $run 2>/dev/null; do [ $wanted = all.tns.part ] || pause; done
        kill -INT -- -$run 2>/dev/null || true
        wait $run || true
        # Make may end before those it waited for.
        for l in out/.lock out/.lock.fold0; do [ ! -e $l ] || flock $l true; done
        [ -z "$(find out -name '*.part')" ]
        [ -z "$(find out -mindepth 1 -type d -empty)" ]
    done
    [ -s out/all.tns ]
}

@test "study: FILES and WHO reach every reading of the cases, and the folds" {
    cp -r "$given/cases" data
    for f in data/*/*_t1ce.nii.gz; do mv "$f" "${f%_t1ce.nii.gz}_post.nii.gz"; done
    run -2 glio attempt2 DATA="$PWD/data"
    [ ! -e out ]
    # Two cases are of one patient, so four are left for five folds.
    printf 'BraTS20_Training_00%s\n' $'1\tanna' $'2\tanna' $'3\tberta' $'4\tcarla' $'5\tdora' >who
    run -2 glio attempt2 DATA="$PWD/data" FILES='t1gd=*_post.nii.gz' WHO="$PWD/who"
    [[ $output == *"too few patients for 5 folds (4)"* ]]
    [ ! -e out ]
    glio attempt2 DATA="$PWD/data" FILES='t1gd=*_post.nii.gz' WHO="$PWD/who" FOLDS=4 FOLD= >/dev/null 2>&1
    [ "$(grep -c 'anna$' out/patients.folds)" = 2 ]
    [ -s out/fold3/attempt2/volumes.tsv ]
    sed -i 's/dora/emma/' who
    run -2 glio attempt2 DATA="$PWD/data" FILES='t1gd=*_post.nii.gz' WHO="$PWD/who" FOLDS=4 FOLD=
    [[ $output == *"WHO '$PWD/who' has changed"* ]]
    glio predict DATA="$PWD/data" FILES='t1gd=*_post.nii.gz' MODEL="$given/model" OUT="$PWD/predicted" >/dev/null 2>&1
    [ "$(ls predicted/predict/segmentations | wc -l)" = 5 ]
}

@test "study: OUT among the cases, or no cases, is refused" {
    cp -r "$given/cases" data
    run -2 glio attempt2 DATA="$PWD/data" OUT="$PWD/data/out"
    [[ $output == *"OUT: '$PWD/data/out' lies in '$PWD/data'"* ]]
    [ ! -e data/out ]
    mkdir none
    run -2 glio explore DATA="$PWD/none"
    [[ $output == *"holds no folders"* ]]
    [ ! -e out ]
    run -2 glio explore DATA="$PWD/nowhere"
    [[ $output == *"is no folder"* ]]
    [ ! -e out ]
}

@test "predict: a data set by BIDS comes out as its derivatives, and other cases under names that BIDS has" {
    for c in 001 002; do
        for s in ses-1 ses-2; do
            mkdir -p set/sub-$c/$s/anat
            for m in flair=FLAIR t1=T1w t1ce=ce-gadolinium_T1w t2=T2w; do
                ln "$given"/cases/*_$c/*_${m%=*}.nii.gz "set/sub-$c/$s/anat/sub-${c}_${s}_${m#*=}.nii.gz"
            done
        done
    done
    glio predict LAYOUT=bids BIDS=1 DATA="$PWD/set" MODEL="$given/model" LABELS=msd >log 2>&1
    # Each session has its page, with what is known of it alone.
    [ "$(ls out/predict/pages | wc -l)" = 4 ]
    [ "$(grep -cE '<tr><td>(voxels</td><td>7.5 x 7.5 x|patient</td><td>the network has not seen|patient</td><td>the network learned)' out/predict/pages/sub-002_ses-1.html)" = 2 ]
    [ "$(grep -o 'href="pages/[^"]*' out/predict/report.html | wc -l)" = 4 ]
    d=out/predict/derivatives/gliopipe
    (cd $d && find . -type f | sort) >got
    { for f in README.md dataset_description.json dseg.json dseg.tsv; do echo ./$f; done
      for c in 001 002; do for s in ses-1 ses-2; do for e in json nii.gz; do echo ./sub-$c/$s/anat/sub-${c}_${s}_dseg.$e; done; done; done; } | sort | diff - got
    cmp $d/sub-001/ses-2/anat/sub-001_ses-2_dseg.nii.gz out/predict/segmentations/sub-001_ses-2_pred.nii.gz
    jq -e '.DatasetType == "derivative" and .GeneratedBy[0].Name == "gliopipe" and .Name and .BIDSVersion' $d/dataset_description.json >/dev/null
    jq -e '.Manual == false' $d/sub-001/ses-1/anat/sub-001_ses-1_dseg.json >/dev/null
    # By the validator where it can be had: on PyPI, which make bench-peers asks.
    validator=$(command -v bids-validator-deno || ls "$ROOT/build/peers/bin/bids-validator-deno" 2>/dev/null) || validator=
    if [ -n "$validator" ]; then
        "$validator" $d >said 2>&1 || { cat said; false; }
        run ! grep -F '[ERROR]' said
        grep -q '4 - Subjects\|2 - Subjects' said
    else
        echo "# what BIDS=1 writes was not looked at by bids-validator-deno, which is on PyPI" >&3
    fi
    # Read in again as labels of the same data set, what is ours is none.
    cp -r out/predict/derivatives set
    nii2slices -l bids set >s
    [ "$(tnsview -k scheme <s | sort -u)" = "" ] || [ "$(tnsview -k scheme <s | grep -c raw)" = 0 ]
    mv set/derivatives/gliopipe set/derivatives/theirs
    nii2slices -l bids set | recode -s msd | tnsview -c
    # Nothing is done again for it; names of other layouts become letters and digits.
    mkdir new
    for n in BraTS-GLI-00005-001 'x(1)'; do mkdir "new/$n" && ln "$given"/cases/*_001/*.gz "new/$n/"; done
    glio predict BIDS=1 DATA="$PWD/new" MODEL="$given/model" OUT="$PWD/other" >log 2>&1
    [ -e other/predict/derivatives/gliopipe/sub-BraTSGLI00005/ses-001/anat/sub-BraTSGLI00005_ses-001_dseg.nii.gz ]
    [ -e other/predict/derivatives/gliopipe/sub-x1/anat/sub-x1_dseg.json ]
    mkdir 'new/x1' && ln "$given"/cases/*_001/*.gz new/x1/
    run -2 glio predict BIDS=1 DATA="$PWD/new" MODEL="$given/model" OUT="$PWD/other"
    [[ $output == *"bids: cases 'x(1)' and 'x1' would both be sub-x1"* ]]
}

@test "predict: the numbers that dseg.tsv explains are those of recode" {
    mkdir segmentations
    printf 'row\tcase\tpatient\npart\tA\tA\n' >volumes.tsv
    "$PYTHON" "$ROOT/tests/lib/blobs.py" -p 1 -n 1 -k scheme=canonical >s
    for scheme in brats2012 brats2017 brats2023 bratsped msd nnunet; do
        LABELS=$scheme VERSION=1 "$ROOT/pipelines/bids" "$PWD"
        recode -i -s $scheme <s >r
        "$PYTHON" - <<'P'
import os, sys
sys.path.insert(0, os.environ["ROOT"] + "/tests/lib")
import mkstream
one, two = ([t for k, _, _, t, _ in mkstream.parse(open(f, "rb").read()) if k == "R"][0]["label"].ravel().tolist() for f in "sr")
said = dict((l.split("\t")[2], int(l.split("\t")[0])) for l in open("derivatives/gliopipe/dseg.tsv").read().splitlines()[1:])
assert {(a, b) for a, b in zip(one, two)} == {(i, said[n]) for i, n in enumerate(("BG", "NCR", "ED", "ET"))}, said
P
    done
}
