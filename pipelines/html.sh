# html.sh - what the pages share: their head, figures from gnuplot, columns of tables. For `.` alone.
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# A column of a table by its name: col FILE NAME...
col() {
    f=$1
    shift
    awk -F '\t' -v want="$*" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; n = split(want, w, " "); next }
        { for (k = 1; k <= n; k++) printf "%s%s", $at[w[k]], k < n ? "\t" : "\n" }' "$f"
}

svg() { # WIDTH HEIGHT: settings for gnuplot
    echo "set terminal svg size $1,$2 dynamic enhanced font 'sans-serif,14' background '#ffffff'
set border 3; set tics nomirror out; set grid ytics lc rgb '#dddddd'"
}

figure() { # ID CAPTION <SVG
    sed -e '/^<?xml/d' -e '/^<!DOCTYPE/,/>$/d' >"$tmp/fig"
    [ -s "$tmp/fig" ] || return
    # gnuplot numbers its elements alike in each picture; a page needs them apart.
    printf '<figure>'
    sed -e "s/gp\(Dot\|Pt\)/$1\1/g" -e "s/id=\"gnuplot/id=\"$1/g" -e "s/gnuplot_plot/$1_plot/g" -e "s/Gnuplot/$2/" "$tmp/fig"
    printf '<figcaption>%s</figcaption></figure>\n' "$2"
}

text() {
    sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g'
}

picture() { # FILE ALT
    printf '<img alt="%s" loading="lazy" src="data:image/png;base64,' "$(printf %s "$2" | text)"
    base64 -w 0 "$1"
    printf '">\n'
}

begin_page() { # TITLE
    cat <<EOF
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gliopipe: $1</title>
<link rel="icon" href="data:,">
EOF
    cat <<'EOF'
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2126; background: #f6f7f9; margin: 0 }
main { max-width: 72rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.7rem; margin: 1rem 0 .2rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem }
p { margin: .5rem 0; max-width: 46rem }
.table { overflow-x: auto } table { border-collapse: collapse; width: 100%; background: #fff; font-size: .92rem }
th, td { padding: .35rem .5rem; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap }
th:first-child, td:first-child { text-align: left } td small { display: block; color: #5a6470; white-space: normal; min-width: 7.5rem }
thead th { background: #eceff3; font-weight: 600 } tr.leak td { background: #fdf1e9 }
td.study { color: #5a6470 }
figure { margin: 1rem 0; background: #fff; padding: .5rem; border: 1px solid #e3e6ea; border-radius: 6px; overflow-x: auto }
figure svg, figure img { width: 100%; height: auto; display: block } figcaption { font-size: .9rem; color: #48515c; padding: .4rem .3rem }
.big { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0 } .big div { background: #fff; border: 1px solid #e3e6ea; border-radius: 6px; padding: .6rem 1rem; flex: 1 1 9rem }
.big b { display: block; font-size: 1.6rem } .big span { font-size: .88rem; color: #48515c }
details { background: #fff; border: 1px solid #e3e6ea; border-radius: 6px; margin: .6rem 0; padding: .5rem .8rem } summary { cursor: pointer; font-weight: 600 }
details img { max-width: 100%; height: auto; display: block; margin: .6rem 0 }
@media (max-width: 40rem) { figure svg { min-width: 34rem } }
</style>
</head>
<body><main>
EOF
}

end_page() {
    echo '</main></body></html>'
}
