# recipe.sh - tables of recipes, and one recipe at work. For `.` alone; $SEED, $LIMITS and the tables are the caller's.
#
# A recipe is a line: NAME | STREAM | SETTINGS | SAMPLING | AUGMENTATION | ... SETTINGS are a YAML beside the table, without
# its ending, and what is to be otherwise in it, NAME=VALUE each; `-` is nothing, $(SEED) the seed.

recipes() { # TABLE: its lines, without comments and the blanks around |
    sed -e '/^#/d' -e 's/ *| */|/g' -e 's/^ *//' -e 's/ *$//' -e '/^$/d' "$1"
}
recipe() { # TABLE NAME
    recipes "$1" | awk -F '|' -v name="$2" '$1 == name'
}
cell() { # LINE COLUMN
    printf '%s\n' "$1" | awk -F '|' -v n="$2" -v seed="$SEED" '{ sub(/^-$/, "", $n); gsub(/\$\(SEED\)/, seed, $n); print $n }'
}

# The settings of train, where a change takes the place of a line (and a network that of an arch, and the reverse).
settings() ( # TABLE CELL
    set -f
    file=$(dirname "$1")/${2%% *}.yaml
    set -- $2
    shift
    awk -v changes="$*" '
        BEGIN {
            n = split(changes, change, " ")
            for (i = 1; i <= n; i++) {
                gone[substr(change[i], 1, index(change[i], "=") - 1)]
                sub("=", ": ", change[i])
            }
            if ("arch" in gone || "network" in gone) { gone["arch"]; gone["network"] }
        }
        !(substr($0, 1, index($0, ":") - 1) in gone)
        END { for (i = 1; i <= n; i++) print change[i] }' <"$file"
)
# The description of a network that lies beside them.
description() { # TABLE <SETTINGS: its name
    name=$(sed -n 's/^network: *\([^ #]*\).*/\1/p')
    [ -z "$name" ] || [ ! -f "$(dirname "$1")/$name" ] || printf '%s\n' "$name"
}

# A line for what is wrong with a table, with the name of the recipe; one column is named `-` if it is free.
unsound() { # TABLE COLUMNS
    recipes "$1" | awk -F '|' -v columns="$2" '
        function wrong(what) { print (NF && $1 != "" ? $1 ": " : "") what; exit }
        NF != columns { wrong("(wanted " columns " cells, separated by |, got " NF ")") }
        $1 !~ /^[A-Za-z0-9][A-Za-z0-9_.+-]*$/ || length($1) > 60 { wrong("no name of a recipe (wanted letters, digits and _ . + -)") }
        $1 in seen { wrong("stands twice") }
        { seen[$1] }
        $2 != "tumour" && $2 != "all" { wrong("stream: (wanted tumour or all, got \047" $2 "\047)") }
        $3 !~ /^[A-Za-z0-9_.\/-]+( [a-z_0-9]+=[^ ]+)*$/ { wrong("settings: (wanted NAME and changes NAME=VALUE, got \047" $3 "\047)") }
        { for (i = 4; i <= 5; i++) { t = $i; gsub(/\$\(SEED\)/, "1", t); if (t !~ /^[A-Za-z0-9 .,:=@\/+-]+$/) wrong("\047" $i "\047: (wanted letters, digits, blanks and . , : = @ / + -)") } }
        $5 != "-" && $5 !~ /^augment / { wrong("augmentation: (wanted augment ... or -, got \047" $5 "\047)") }
        columns > 5 {
            if ($6 !~ /^[1-9][0-9]?$/) wrong("folds: (wanted 1 to 99, got \047" $6 "\047)")
            if ($7 !~ /^[1-9][0-9]*-[1-9][0-9]*$/) wrong("passes: (wanted LEAST-MOST, got \047" $7 "\047)")
            if ($8 !~ /^(-|x?y?z?)$/ || $8 == "") wrong("views: (wanted some of x, y and z, or -, got \047" $8 "\047)")
            if ($9 !~ /^(-|(-[il]|-[wteEn] [0-9.]+)( -[il]| -[wteEn] [0-9.]+)*)$/) wrong("tidy: (wanted its options, got \047" $9 "\047)")
        }
        END { if (!NR) print "holds no recipes" }'
    recipes "$1" | cut -d '|' -f 3 | while read -r file _; do
        [ -f "$(dirname "$1")/$file.yaml" ] || echo "settings: no $(dirname "$1")/$file.yaml"
    done
}

# What the tools would refuse of a table that is well formed, before there is a stream: the first line of it.
refusal() ( # TABLE
    tmp=$(mktemp -d) || exit 1
    trap 'rm -rf "$tmp"' EXIT
    recipes "$1" | while IFS= read -r line; do
        lay_out "$1" "$line" "$tmp/run"
        grep -q '^size:' "$tmp/run/train.yaml" || echo 'size: 64x64' >>"$tmp/run/train.yaml"
        : >"$tmp/run/none"
        train -n -c "$tmp/run/train.yaml" 2>"$tmp/said" >/dev/null || {
            sed -n "1s,^train: $tmp/run/,$(cell "$line" 1): ,p" "$tmp/said"
            exit
        }
        passes "$tmp/run" "$tmp/run/none" 1 2>&1 >/dev/null | grep -vE '^(epochs: .*/none|augment: stdin): ' | sed "s/^/$(cell "$line" 1): /;q"
        rm -r "$tmp/run"
    done | head -n 1
)

# All that a table says, its files with it, to be known again.
told() { # TABLE
    recipes "$1"
    recipes "$1" | cut -d '|' -f 3 | while IFS= read -r cell; do
        settings "$1" "$cell"
        text=$(settings "$1" "$cell" | description "$1")
        [ -z "$text" ] || cat "$(dirname "$1")/$text"
    done
}

# A run's folder: the settings and what the stream goes through.
lay_out() { # TABLE LINE FOLDER
    mkdir -p "$3" &&
        settings "$1" "$(cell "$2" 3)" >"$3/train.yaml.part" &&
        text=$(description "$1" <"$3/train.yaml.part") &&
        { [ -z "$text" ] || { mkdir -p "$(dirname "$3/$text")" && cp "$(dirname "$1")/$text" "$3/$text"; }; } &&
        cell "$2" 4 >"$3/sampling" && cell "$2" 5 >"$3/augmentation" &&
        mv "$3/train.yaml.part" "$3/train.yaml"
}

# How many records the run in a folder has had; they need not be made again.
had() { # FOLDER
    [ ! -e "$1/model.safetensors.last" ] ||
        head -c 16777216 "$1/model.safetensors.last" | grep -aom 1 '"run\.position":"[0-9]*"' | tr -cd 0-9
}
passes() ( # FOLDER STREAM PASSES: the stream that the run learns from
    set -f
    skip=$(had "$1")
    set -- "$2" "epochs -n $3 -s $SEED $(cat "$1/sampling") ${skip:+-k $skip}" "$(cat "$1/augmentation")"
    if [ -z "$3" ]; then $2 "$1"; else $2 "$1" | $3; fi
)
# Begins the run or goes on with it.
learn() ( # FOLDER STREAM PASSES TRAIN-OPTION...
    run=$1 stream=$2 n=$3
    shift 3
    passes "$run" "$stream" "$n" | train -r -s "$SEED" -c "$run/train.yaml" $LIMITS -o "$run/model.safetensors" "$@"
)
