# stamp.sh - what a folder was made with: made-with has a line for each knob of $STAMP (name, value, a note for people), cases.tsv
# the files that were read. For guard alone, whose knobs, names and die it uses.

sum() {
    set -- $(cksum)
    echo "$1"
}

knobs() { # CASES
    printf 'gliopipe\t%s\t\n' "$(nii2slices -V)"
    for name in $STAMP; do
        case $name in
        DATA) printf 'DATA\t%s\t%s\n' "$(printf '%s\n' "$1" | sum)" "$DATA" ;;
        WHERE) printf 'DATA\t%s\t\n' "$(realpath "$DATA")" ;;
        MODEL) printf 'MODEL\t%s\t%s\n' "$(model_text | sum)" "$MODEL" ;;
        FOLDS) printf 'FOLDS\t%s\t\n' "$K" ;;
        SETTINGS) printf 'SETTINGS\t%s\t%s\n' "$(told "$SETTINGS" | sum)" "$SETTINGS" ;;
        REFERENCE) printf 'REFERENCE\t%s\t\n' "${REFERENCE:+$(realpath "$REFERENCE")}" ;;
        SPLIT | WHO | NETWORK | SITES | INTERNAL)
            eval "file=\$$name"
            printf '%s\t%s\t%s\n' $name "${file:+$(sum <"$file")}" "$file"
            ;;
        *) eval "printf '%s\t%s\t\n' $name \"\$$name\"" ;;
        esac
    done
}

# Is anything there that this kind of run makes?
made() { # FOLDER
    [ -d "$1" ] || return
    [ -n "$(case $kind in
    study) find "$1" -mindepth 1 -maxdepth 1 \( -name '*.tns' -o -name '*.folds' -o -name 'fold[0-9]*' -o -name 'study.*' \) ! -name '*.part' -print -quit ;;
    *) find "$1" -mindepth 1 ! -name '.lock*' ! -name made-with ! -name cases.tsv ! -name '*.part' -print -quit ;;
    esac)" ]
}
# Or what it would write over?
taken() { # FOLDER
    made "$1" && return
    [ "$kind" = study ] || { find "$1" -mindepth 1 ! -name '.lock*' | grep -q . && return; }
    for n in $WHOLE cases.tsv made-with; do
        [ ! -e "$1/$n.part" ] && [ ! -L "$1/$n.part" ] || return 0
    done
    [ -e "$1/cases.tsv" ]
}

# Does its made-with have the form of one?
stamped() { # FOLDER
    awk -F '\t' 'NF != 3 || $1 in seen || (NR == 1 && ($1 != "gliopipe" || $2 == "")) { bad = 1 } { seen[$1] } END { exit bad || !NR }' "$1/made-with" 2>/dev/null
}

put() { # FILE TEXT: all of it, or not at all
    printf '%s\n' "$2" 2>/dev/null >"$1.part" && printf '%s\n' "$2" | cmp -s - "$1.part" && mv "$1.part" "$1" || {
        rm -f "$1.part"
        die "$1: cannot be written"
    }
}

# Refuses what differs from the last time, or notes what it is.
stamp() { # FOLDER
    cases=$(scans "$DATA" $depth)
    now=$(knobs "$cases")
    if [ -e "$1/made-with" ]; then
        stamped "$1" || die "$1/made-with is cut, or no such file of ours (take another OUT=, or remove $1)"
    else
        ! taken "$1" || die "$1 does not say what it was made with (wanted $1/made-with; take another OUT=, or remove $1)"
    fi
    if made "$1"; then
        changed=$(printf '%s\n' "$now" | awk -F '\t' '
            FNR == NR { old[$1] = $2; note[$1] = $3; next }
            !($1 in old) { printf "%s%s was not noted", sep, $1; sep = ", "; next }
            old[$1] != $2 {
                if ($3 != "" && $3 == note[$1]) printf "%s%s \047%s\047 has changed", sep, $1, $3
                else printf "%s%s was \047%s\047 and is \047%s\047", sep, $1, note[$1] $3 == "" ? old[$1] : note[$1], note[$1] $3 == "" ? $2 : $3
                sep = ", "
            }' "$1/made-with" -)
        case $kind$changed in
        predict* | external* | streams*) ;;
        *"DATA "*)
            other=$(printf '%s\n' "$cases" | comm -3 "$1/cases.tsv" - | sed "s/^$tab//" | cut -f 1 | sort -u)
            changed="$changed ($(printf '%s\n' "$other" | names) differ$([ "$(printf '%s\n' "$other" | wc -l)" != 1 ] || echo s))"
            ;;
        esac
        [ -z "$changed" ] || die "$1 was made otherwise: $changed; give what it was made with, another OUT=, or remove $1"
    else
        put "$1/made-with" "$now"
        put "$1/cases.tsv" "$cases"
    fi
}
