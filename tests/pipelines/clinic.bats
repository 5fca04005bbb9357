# A real patient as a hospital would have him (lib/roughen.py), prepared, segmented and brought back, beside himself as he lies in his data set.
# MODEL is a model of BraTS's four scans.
load ../lib/common

@test "clinic: a patient who is turned, resampled to 0.9 x 0.9 x 5 mm and given a skull comes within 0.05 Dice of himself" {
    need_release "it is of pipelines"
    need_data
    [ -n "${LONG-}" ] && [ -n "${MODEL-}" ] || skip "it wants LONG=1, and MODEL"
    need_command elastix
    cd "$BATS_TEST_TMPDIR"
    set -- "$DATA"/brats/*/
    name=$(basename "$1")
    mkdir raw self
    ln -s "$1" "self/$name"
    PYTHONPATH=$ROOT/tests/lib "$PYTHON" "$ROOT/tests/lib/roughen.py" "$1" "raw/$name"
    mv "raw/$name/truth" .
    glio() { make -s -C "$ROOT" -f pipelines/Makefile "$@"; }
    REGISTER=elastix glio prepare RAW="$PWD/raw" DATA="$PWD/data" MASK='brain_*'
    glio predict DATA="$PWD/data" MODEL="$MODEL" OUT="$PWD/rough"
    glio predict DATA="$PWD/self" MODEL="$MODEL" OUT="$PWD/plain"
    NAME=$name CASE=$1 py <<'P'
n = os.environ["NAME"]
def whole(truth, found):
    t, f = load(truth)[1] > 0, load(found)[1] > 0
    return 2 * (t & f).sum() / (t.sum() + f.sum())
itself = whole(f"{os.environ['CASE']}/{n}_seg.nii.gz", f"plain/predict/segmentations/{n}_pred.nii.gz")
rough = whole("truth/seg.nii.gz", f"rough/predict/originals/{n}_pred.nii.gz")
print(n, "whole tumour:", round(itself, 4), "itself,", round(rough, 4), "roughened")
assert abs(itself - rough) < 0.05
P
}
