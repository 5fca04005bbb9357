# memory.bash - what infer plans, takes and refuses. `over` is where findings go. Loaded after common.bash.

# least FILE ARGS...: the least that it names, into $least.
least() {
    local file=$1
    shift
    least=$(infer -t none -F -M 1K "$@" 2>&1 >out.least <"$file" | sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p')
}

# kept FILE ARGS...: what infer took for the stream, in KiB, is no more than it had planned, nor than its
# ceiling; and the same with the least ceiling that it names, which gives the same bytes.
kept() {
    local file=$1 kib plan least=0
    shift
    kib=$(command time -q -o peak -f %M infer -t none -F -v "$@" <"$file" 2>said >out && cat peak)
    plan=$(sed -n 's/.* \([0-9.]*\) MiB$/\1/p' said | sort -n | tail -1)
    echo "$*: planned $plan MiB, took $kib KiB" >>took
    awk -v p="$plan" -v k="$kib" 'BEGIN { exit !(k > 0 && k <= p * 1024) }' || echo "$file $*: planned $plan MiB, took $kib KiB" >>over
    least "$file" "$@"
    # A later record may need more than the first.
    until kib=$(command time -q -o peak -f %M infer -t none -F -M "${least}M" "$@" <"$file" 2>said >out.least && cat peak); do
        ! grep -q "at least $least " said || return 1
        least=$(sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p' said)
    done
    awk -v p="$least" -v k="$kib" 'BEGIN { exit !(k > 0 && k <= p * 1024) }' || echo "$file -M ${least}M $*: took $kib KiB" >>over
    cmp out out.least || echo "$file $*: other bytes with -M ${least}M" >>over
}
