# stats.sh - columns of tables by their names, texts of names and values, and means over cases with their intervals. For `.` alone.
LC_ALL=C
export LC_ALL

# col FILE NAME...: columns of a table.
col() {
    f=$1
    shift
    awk -F '\t' -v want="$*" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; n = split(want, w, " "); next }
        { for (k = 1; k <= n; k++) printf "%s%s", $at[w[k]], k < n ? "\t" : "\n" }' "$f"
}

# value NAME <TEXT: of lines of a name and a value, a tab between; a name may have several.
value() {
    awk -F '\t' -v name="$1" '$1 == name { print $2 }'
}
# noted NAME <MADE-WITH: the same, but the note for people where there is one.
noted() {
    awk -F '\t' -v name="$1" '$1 == name { print $3 != "" ? $3 : $2 }'
}

# For awk: 95 % t-intervals. quantile(degrees of freedom); half(n, sum, sum of squares), half the width of the
# interval of a mean, nan below two values; welch(...) of the difference of two means.
stats='
function quantile(df,    t, v) {
    split("12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 2.160 2.145 2.131 2.120 2.110 2.101 " \
        "2.093 2.086 2.080 2.074 2.069 2.064 2.060 2.056 2.052 2.048 2.045 2.042", t, " ")
    return df <= 30 ? t[int(df)] : 1.96 + 2.46 / df
}
function var(n, s, q,    v) {
    v = (q - s * s / n) / (n - 1)
    return v > 0 ? v : 0
}
function half(n, s, q) {
    return n < 2 ? "nan" : quantile(n - 1) * sqrt(var(n, s, q) / n)
}
function welch(n, s, q, m, t, r,    a, b) {
    if (n < 2 || m < 2) return "nan"
    a = var(n, s, q) / n; b = var(m, t, r) / m
    if (a + b == 0) return 0
    return quantile((a + b) ^ 2 / (a ^ 2 / (n - 1) + b ^ 2 / (m - 1))) * sqrt(a + b)
}
'

# For awk: the site that a case's name tells, which is the first two of the parts into which - and _ divide it.
named='
function named(c,    part, n) {
    n = split(c, part, /[-_]/)
    if (n == 1) { sub(/[0-9].*/, "", c); return c == "" ? "all" : c }
    return n == 2 ? part[1] : part[1] substr(c, length(part[1]) + 1, 1) part[2]
}
'
