# model.sh - a model and its use. For `.` alone; open_model takes `value` from stats.sh, read_case and prepared take the knobs that guard exports.
#
# A model is a file that train wrote, or a folder with a text `recipe`, which names several, and how they are used; a tab
# between name and value:
#
#     recipe  1          the first line
#     model   FILE       of that folder; several are averaged in this order
#     views   AXES       mirrored and averaged, as infer -t takes them
#     tidy    OPTIONS    what tidy does to the prediction,
#     rules   FILE       or what tidy -c chose, of that folder, for tidy -f

# Sets MODELS (a line each), VIEWS and TIDY (options); or says what is wrong, and fails.
open_model() { # MODEL
    MODELS=$1 VIEWS= TIDY= RULES=
    [ ! -f "$1" ] || return 0
    [ -f "$1/recipe" ] || { echo "(wanted a model file, or a folder with a recipe, got '$1')"; return 1; }
    bad=$(awk -F '\t' '
        function wrong(what) { printf "recipe:%d: %s", NR, what; exit }
        NR == 1 { if ($0 != "recipe\t1") wrong("no recipe of this version"); next }
        NF != 2 || seen[$1]++ && $1 != "model" { wrong("(wanted a name and a value, each once)") }
        $1 == "model" || $1 == "rules" { if ($2 !~ /^[A-Za-z0-9][A-Za-z0-9_.-]*$/) wrong("(wanted a file of this folder, got \047" $2 "\047)"); next }
        $1 == "views" { if ($2 !~ /^(x?y?z?|yx)$/ || $2 == "") wrong("views: (wanted some of x, y and z, got \047" $2 "\047)"); next }
        $1 == "tidy" { if ($2 !~ /^(-[il]|-[wteEn] [0-9.]+)( -[il]| -[wteEn] [0-9.]+)*$/) wrong("tidy: (wanted its options, got \047" $2 "\047)"); next }
        { wrong("unknown \047" $1 "\047") }
        END { if (!NR || !seen["model"]) printf "recipe: names no model" }' <"$1/recipe")
    [ -z "$bad" ] || { echo "'$1': $bad"; return 1; }
    MODELS=$(value model <"$1/recipe" | sed "s|^|$(printf '%s' "$1" | sed 's/[&\\|]/\\&/g')/|")
    VIEWS=$(value views <"$1/recipe")
    TIDY=$(value tidy <"$1/recipe")
    RULES=$(value rules <"$1/recipe")
    RULES=${RULES:+$1/$RULES}
    for file in $(value model <"$1/recipe") $(value rules <"$1/recipe"); do
        [ -f "$1/$file" ] || { echo "'$1': no file '$file', which its recipe names"; return 1; }
    done
}

# All that they are, to be known again; of a single file its bytes.
model_text() {
    printf '%s\n' "$MODELS" | while IFS= read -r file; do cat "$file"; done
    [ -z "$RULES" ] || cat "$RULES"
    printf %s "$VIEWS$TIDY"
}

# Of what infer -n says, on standard input: the least and the greatest voxel that any of the models learned from, six numbers.
learned_spacing() {
    awk -F '\t' '
        $1 == "spacing" && split($2, v, " ") == 6 { for (i = 1; i <= 6; i++) if (!(i in all) || (i <= 3 ? v[i] < all[i] : v[i] > all[i])) all[i] = v[i] }
        END { if (1 in all) print all[1], all[2], all[3], all[4], all[5], all[6] }'
}

# infer with the models of MODELS; further options are its own.
use_models() ( # OPTION...
    while IFS= read -r file; do set -- "$@" -m "$file"; done <<EOF
$MODELS
EOF
    infer -t "${VIEWS:-none}" "$@"
)
# And what comes after it.
use_rules() (
    set -f
    if [ -n "$RULES" ]; then
        tidy -f "$RULES"
    elif [ -n "$TIDY" ]; then
        tidy $TIDY
    else
        cat
    fi
)

segmented() {
    use_models $LIMITS | use_rules
}

# A case's slices, or with LAYOUT those of a data set.
read_case() { # CASE [-L]
    nii2slices ${LAYOUT:+-l "$LAYOUT"} ${WITHOUT:+-a "$WITHOUT"} ${FILES:+-m "$FILES"} ${WHO:+-w "$WHO"} ${2-} "$1"
}
# STEPS, of the model, one tool after the other, then LAST; guard has looked at them.
prepared() ( # LAST
    set -f
    IFS='
'
    set -- "$1" $STEPS
    unset IFS
    one_after_other "$@"
)
one_after_other() { # LAST STEP...
    last=$1
    shift
    if [ $# = 0 ]; then
        $last
    else
        step=$1
        shift
        $step | one_after_other "$last" "$@"
    fi
}
