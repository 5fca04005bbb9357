# html.sh - what the pages share: their head, figures from gnuplot, what a folder was made with. For `.` alone.
. "$(dirname "$0")/stats.sh"
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

svg() { # WIDTH HEIGHT: settings for gnuplot. Narrow, with letters that can be read on a phone.
    echo "set terminal svg size $1,$2 dynamic enhanced font 'sans-serif,$(($1 / 60 + 8))' background '#ffffff'
set border 3; set tics nomirror out; set grid lc rgb '#dddddd'; unset key"
}

knob() { # FOLDER NAME: its value when the folder was made, or the note for people where there is one
    [ ! -e "$1/made-with" ] || noted "$2" <"$1/made-with" | text
}

region() { # its colour
    case $1 in
    WT) echo '#56b4e9' ;;
    TC) echo '#d55e00' ;;
    *) echo '#b8a800' ;;
    esac
}

# A figure of rows, in each a line of dots for each region, the means black; what is not there in truth is not drawn.
# Standard input: row (from 0), part, Dice, label_mm3, by dice(1). LABELS are gnuplot's: 'name' row, ...
region_rows() { # ROWS LABELS
    awk -F '\t' -v out="$tmp/dots" '
        BEGIN { at["WT"] = -0.25; at["TC"] = 0; at["ET"] = 0.25 }
        ($2 in at) && $4 > 0 { y = $1 + at[$2]; sum[y] += $3; n[y]++; print $3, y >(out $2) }
        END { for (y in sum) print sum[y] / n[y], y >(out "mean") }'
    [ -e "$tmp/dotsmean" ] || return
    plot=
    for p in WT TC ET; do
        [ ! -e "$tmp/dots$p" ] || plot="$plot '$tmp/dots$p' with points pt 7 ps 0.6 lc rgb '$(region $p)',"
    done
    gnuplot <<EOF
$(svg 480 $((100 + 48 * $1)))
set xlabel 'Dice of the volume'; set xrange [-0.02:1.02]; set yrange [$1-0.4:-0.6]; set ytics ($2)
plot $plot '$tmp/dotsmean' using 1:(\$2-0.11):(0):(0.22) with vectors nohead lw 2 lc rgb '#000000'
EOF
}

key() { # COLOUR TEXT...: a legend that wraps
    printf '<p class="key">'
    while [ $# -gt 1 ]; do
        printf '<span><i style="background:%s"></i>%s</span> ' "$1" "$2"
        shift 2
    done
    echo '</p>'
}

begin_table() { # HEADING...
    printf '<div class="wide"><table><thead><tr>'
    for h; do printf '<th>%s</th>' "$h"; done
    echo '</tr></thead><tbody>'
}
end_table() {
    echo "</tbody></table></div>$more"
}
more='<p class="more">&rarr; goes on to the right</p>'

figure() { # ID CAPTION <SVG
    sed -e '/^<?xml/d' -e '/^<!DOCTYPE/,/>$/d' >"$tmp/fig"
    [ -s "$tmp/fig" ] || return
    # gnuplot numbers its elements alike in each picture; a page needs them apart.
    printf '<figure>'
    sed -e "s/gp\(Dot\|Pt\)/$1\1/g" -e "s/id=\"gnuplot/id=\"$1/g" -e "s/gnuplot_plot/$1_plot/g" -e 's,<title>[^<]*</title>,,g' "$tmp/fig"
    printf '<figcaption>%s</figcaption></figure>\n' "$2"
}

# As HTML; without backslashes, of which echo makes other characters in some shells.
text() {
    sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g' -e 's/\\/\&#92;/g'
}

picture() { # FILE ALT
    printf '<div class="sheet"><img alt="%s" loading="lazy" src="data:image/png;base64,' "$(printf %s "$2" | text)"
    base64 -w 0 "$1"
    printf '"></div>%s\n' "$more"
}

# The Markdown that card writes: headings, paragraphs, lists, tables, indented code and `code`.
markdown() {
    text | awk '
        function inline(s,    out) {
            while (match(s, /`[^`]*`/)) { out = out substr(s, 1, RSTART - 1) "<code>" substr(s, RSTART + 1, RLENGTH - 2) "</code>"; s = substr(s, RSTART + RLENGTH) }
            return out s
        }
        function close_(    t) { if (in_) { print in_ == "p" ? "</p>" : in_ == "ul" ? "</ul>" : in_ == "pre" ? "</pre>" : end; in_ = "" } }
        function open_(tag) { if (in_ != tag) { close_(); in_ = tag; return 1 } return 0 }
        /^$/ { close_(); next }
        /^# / { close_(); print "<h1>" inline(substr($0, 3)) "</h1>"; next }
        /^## / { close_(); print "<h2>" inline(substr($0, 4)) "</h2>"; next }
        /^- / { if (open_("ul")) print "<ul>"; print "<li>" inline(substr($0, 3)) "</li>"; next }
        /^    / { if (open_("pre")) printf "<pre>"; print substr($0, 5); next }
        /^\|---/ { next }
        /^\|/ {
            head = open_("table")
            if (head) print "<div class=\"wide\"><table><thead>"
            n = split($0, cell, / *\| */)
            printf "<tr>"
            for (i = 2; i < n; i++) printf head ? "<th>%s</th>" : "<td>%s</td>", inline(cell[i])
            print "</tr>" (head ? "</thead><tbody>" : "")
            next
        }
        { if (open_("p")) print "<p>"; print inline($0) }
        END { close_() }' end="</tbody></table></div>$more"
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
:root { color-scheme: light dark; --ink: #1d2126; --dim: #5a6470; --page: #f6f7f9; --card: #fff; --head: #eceff3; --line: #dfe3e8; --leak: #fdf1e9 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --dim: #a3adb8; --page: #14171b; --card: #1e2329; --head: #2a3038; --line: #363d46; --leak: #3a2a20 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 0 }
main { max-width: 66rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.7rem; margin: 1rem 0 .2rem } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem }
p { margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere } .made { color: var(--dim); font-size: .9rem }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; background: var(--card) }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .92rem }
th, td { padding: .35rem .5rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); white-space: nowrap; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); border: 0; box-shadow: inset -1px -1px var(--line) }
td small { display: block; color: var(--dim) } td:first-child small { white-space: normal; min-width: 7.5rem }
thead th, thead th:first-child { background: var(--head); font-weight: 600 } tr.leak td, tr.leak td:first-child { background: var(--leak) }
td.study { color: var(--dim) }
.key { font-size: .9rem } .key span { margin-right: .9rem; white-space: nowrap } .key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem; vertical-align: -.08rem }
figure { margin: 1rem 0; background: var(--card); padding: .5rem; border: 1px solid var(--line); border-radius: 6px; max-width: 36rem; box-sizing: border-box }
figure svg { width: 100%; height: auto; display: block; border-radius: 4px } figcaption { font-size: .9rem; color: var(--dim); padding: .4rem .3rem 0 }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .7rem } .panels figure { margin: 0 }
.big { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .8rem; margin: 1rem 0 } .big div { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem 1rem }
.big b { display: block; font-size: 1.6rem } .big span { font-size: .88rem; color: var(--dim) }
details { background: var(--card); border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .5rem .8rem } summary { cursor: pointer; font-weight: 600 }
.sheet { overflow-x: auto; margin: .6rem 0 } .sheet img { max-width: 100%; height: auto; display: block; border-radius: 4px }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere }
.more { display: none; color: var(--dim); font-size: .85rem; margin: .2rem 0 }
@media (max-width: 66rem) { .wide + .more { display: block } }
@media (max-width: 48rem) { .sheet + .more { display: block } .sheet img { max-width: none; width: 44rem } table { font-size: .88rem } }
</style>
</head>
<body><main>
EOF
}

end_page() {
    echo '</main></body></html>'
}
