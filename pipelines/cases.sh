# cases.sh - the cases of a folder, whose names never pass through make, and through no shell but in quotes.
# For `.` alone.
LC_ALL=C
export LC_ALL

images() { # FOLDER FIND-OPTION...
    from=$1
    shift
    find -L "$from" "$@" -type f \( -iname '*.nii' -o -iname '*.nii.gz' -o -iname '*.hdr' -o -iname '*.img' -o \
        -name dataset.json \) -printf '%P\t%s\t%T@\n'
}

# The images in a case's folder, or below a data set's root, with size and time. What begins with a dot is no case, and what predict made of
# them by BIDS no scan.
scans() { # FOLDER FIND-OPTION...
    images "$@" | sed '/^\./d; /^derivatives\/gliopipe\//d' | sort
}
hidden() { # DATA: names of folders of scans that begin with a dot
    for d in "$1"/.[!.]*/ "$1"/..?*/; do [ ! -d "$d" ] || break; done
    [ ! -d "$d" ] || images "$1" -mindepth 2 -maxdepth 2 | sed -n 's,^\(\.[^/]*\)/.*,\1,p' | tr '\001-\011\013-\037\177' '[?*]' | sort -u
}

names() { # of a list, the first three
    awk '{ if (NR <= 3) s = s (NR > 1 ? ", " : "") $0 } END { print s (NR > 3 ? " and " NR - 3 " more" : "") }'
}

# The folders of the cases, each ended by NUL.
folders() { # DATA
    find -L "$1" -mindepth 1 -maxdepth 1 -type d ! -name '.*' -print0 | sort -z
}

# Names of the cases whose files are not those that DONE/CASE lists.
undone() { # DATA DONE
    {
        folders "$1" | tr '\0' '\n' | sed 's,.*/,n\t,'
        scans "$1" -mindepth 2 | sed '/^[^/]*\/\./d; /^[^/]*\/derivatives\/gliopipe\//d; s/^/s\t/'
        find "$2" -type f -exec awk '{ name = FILENAME; sub(".*/", "", name); print "d\t" name "/" $0 }' {} +
    } | awk '
        { kind = substr($0, 1, 1); line = substr($0, 3); name = line; sub("/.*", "", name) }
        kind == "n" { order[++n] = name; bad[name] = 1 }
        kind == "s" { now[line]; delete bad[name] }
        kind == "d" { was[line] }
        END {
            for (l in now) if (!(l in was)) { sub("/.*", "", l); bad[l] = 1 }
            for (l in was) if (!(l in now)) { sub("/.*", "", l); bad[l] = 1 }
            for (i = 1; i <= n; i++) if (order[i] in bad) print order[i]
        }'
}

# A line for each name that will not do, with the reason. In a manifest, blanks separate.
unfit() { # NAMES study|...: a line each, \001 for a newline in it
    doubt=
    printf '%s\n' "$1" | iconv -f UTF-8 -t UTF-8 >/dev/null 2>&1 || doubt=1
    printf '%s\n' "$1" | while IFS= read -r name; do
        why=
        case $name in
        *[[:cntrl:]]*) why="a control character in its name" ;;
        *" "* | "#"*) case $2 in study | search | best) why="a blank in its name or # before it (wanted what a manifest of folds(1) can hold)" ;; esac ;;
        esac
        [ -z "$doubt" ] || printf %s "$name" | iconv -f UTF-8 -t UTF-8 >/dev/null 2>&1 || why="a name that is no UTF-8"
        [ ${#name} -le 200 ] || why="a name of ${#name} bytes (wanted at most 200)"
        [ -z "$why" ] || printf "%s: DATA: the case '%s' has %s\n" "$2" "$(printf %s "$name" | tr '\001-\037\177' '[?*]')" "$why"
    done
}
