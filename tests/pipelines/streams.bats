# make streams: cases side by side, and again only those that have changed.
load ../lib/common

setup() {
    need_release "the tools run there in their own tests"
    cd "$BATS_TEST_TMPDIR"
    phantom -n 4 -s 2 -d 32x32x8 -o cases
}

glio() { # TARGET... NAME=VALUE...
    make -s -C "$ROOT" -f pipelines/Makefile DATA="$PWD/cases" OUT="$PWD/out" CROP='-s 32x32' JOBS=1 "$@"
}

# Each stream with what would tell that it was written anew.
made() {
    (cd out/streams && stat -c '%n %i %z' -- *.tns) >"$1"
}

@test "streams: each case becomes what the tools make of it, side by side, and a run that has nothing to do does nothing" {
    glio -j3 streams >said
    grep -q '^the stream: .*/out/streams ' said
    [ "$(ls out/streams/*.tns | wc -l)" = 4 ]
    for c in cases/*; do
        nii2slices "$c" | recode -s brats2017 | znorm | crop -F -s 32x32 | pack | cmp - "out/streams/${c##*/}.tns"
    done
    tnsview -c <out/streams
    made before
    glio -j3 streams >/dev/null
    made after
    cmp before after
    # Another question is another folder.
    run -2 glio streams PACK=-r
    [[ $output == *"out/streams was made otherwise: PACK was '' and is '-r'"* ]]
    run -2 glio streams TUMOUR=yes
    glio streams PACK=-r TUMOUR=1 OUT="$PWD/tumour" >/dev/null
    nii2slices -t cases/*_003 | recode -s brats2017 | znorm | crop -F -s 32x32 | pack -r | cmp - tumour/streams/BraTS20_Training_003.tns
}

@test "streams: a case that has changed, is new or is gone is done anew, comes or goes, and the others stay" {
    glio streams >/dev/null
    made before
    touch -d 2001-01-01 cases/*_002/*_t1.nii.gz
    rm -r cases/*_003
    mkdir cases/new
    ln cases/*_001/*.gz cases/new
    glio -j2 streams >/dev/null
    made after
    [ "$(comm -12 before after | cut -d ' ' -f 1 | tr '\n' ' ')" = "BraTS20_Training_001.tns BraTS20_Training_004.tns " ]
    [ "$(cut -d ' ' -f 1 after | tr '\n' ' ')" = "BraTS20_Training_001.tns BraTS20_Training_002.tns BraTS20_Training_004.tns new.tns " ]
    [ ! -e out/streams/done/BraTS20_Training_003 ]
    # What fails leaves nothing old in its place, and does not keep others from being made; the next run mends it.
    mv cases/*_002/*_t2.nii.gz t2.nii.gz
    rm out/streams/new.tns
    run -2 glio -j2 streams
    [[ $output == *"BraTS20_Training_002' failed"*"not every case has a stream"* ]]
    [ ! -e out/streams/BraTS20_Training_002.tns ]
    [ -e out/streams/new.tns ]
    [ -z "$(find out -name '*.part')" ]
    mv t2.nii.gz cases/BraTS20_Training_002/BraTS20_Training_002_t2.nii.gz
    glio streams >/dev/null
    tnsview -c <out/streams
    [ "$(ls out/streams/*.tns | wc -l)" = 4 ]
}

@test "streams: the study's stream is the same, and makes the same passes, made side by side or not" {
    for j in 1 2; do
        make -s -C "$ROOT" -f pipelines/Makefile -j$j DATA="$PWD/cases" OUT="$PWD/out$j" FOLDS=2 "$PWD/out$j/all.tns" >/dev/null
        epochs -n 1 -s 1 "out$j/all.tns" >epochs$j
    done
    cmp epochs1 epochs2
    [ -z "$(find out2 -name '*.part')" ]
    # What a run that failed has made is not taken for what another one asks for.
    mv cases/*_002/*_t2.nii.gz t2.nii.gz
    run ! make -s -C "$ROOT" -f pipelines/Makefile -j2 DATA="$PWD/cases" OUT="$PWD/out3" FOLDS=2 "$PWD/out3/all.tns"
    [ ! -e out3/all.tns ]
    mv t2.nii.gz cases/BraTS20_Training_002/BraTS20_Training_002_t2.nii.gz
    for c in cases/*; do printf '%s\twho%s\n' "${c##*/}" "${c##*_}"; done >who
    make -s -C "$ROOT" -f pipelines/Makefile -j2 DATA="$PWD/cases" OUT="$PWD/out3" FOLDS=2 WHO="$PWD/who" "$PWD/out3/all.tns" >/dev/null
    [ "$(tnsview -k patient <out3/all.tns | sort -u | tr '\n' ' ')" = "who001 who002 who003 who004 " ]
}

@test "streams: those of best and search are the same, side by side or not" {
    for j in 1 2; do
        for s in tumour all; do make -s -C "$ROOT" -f pipelines/Makefile -j$j BEHIND=1 DATA="$PWD/cases" OUT="$PWD/o$j" CROP='-s 32x32' "$PWD/o$j/best/all-$s.tns"; done
    done
    for s in tumour all; do
        nii2slices $([ $s = all ] || echo -t) cases/*/ | recode -s brats2017 | znorm | crop -s 32x32 | cmp - o1/best/all-$s.tns
        cmp <(epochs -n 1 o1/best/all-$s.tns) <(epochs -n 1 o2/best/all-$s.tns)
    done
}
