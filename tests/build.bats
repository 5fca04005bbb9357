#!/usr/bin/env bats
# What make does beside compiling: packages, warnings, peers.
load lib/common

setup() {
    need_release "make is the same"
    cd "$BATS_TEST_TMPDIR"
    unset MAKEFLAGS WERROR
}

# A machine with user $1: apt knows the packages of the file `known`, those of `installed` are there.
machine() {
    mkdir bin
    echo 'for p; do :; done; grep -qx "$p" installed && echo install ok installed' >bin/dpkg-query
    echo 'for p; do :; done; grep -qx "$p" known' >bin/apt-cache
    echo 'echo "$@" >>apt' >bin/apt-get
    echo "echo $1" >bin/id
    echo 'exit 1' >bin/sudo
    sed -i '1i #!/bin/sh' bin/*
    chmod +x bin/*
    printf '%s\n' here also here-too >installed
    printf '%s\n' here also here-too new newer >known
}

@test "packages: installs what is missing, of alternatives one that this release has, and says what" {
    machine 0
    PATH=$PWD/bin:$PATH run "$ROOT/.ci/packages" here 'old|new' 'also|newer' 'old|' 'newer|'
    [ "$status" -eq 0 ]
    [ "$output" = "installing: new newer" ]
    [ "$(tail -n 1 apt)" = "install -y -qq --no-install-recommends new newer" ]
}

@test "packages: nothing is missing, nothing is asked" {
    machine 0
    PATH=$PWD/bin:$PATH run "$ROOT/.ci/packages" here 'old|also' 'old|' 'also|'
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    [ ! -e apt ]
}

@test "packages: who may not install them gets the line that would, and no success" {
    machine 1000
    PATH=$PWD/bin:$PATH run "$ROOT/.ci/packages" here 'old|new'
    [ "$status" -eq 1 ]
    [[ $output == *"sudo apt-get install -y new" ]]
    [ ! -e apt ]
}

@test "packages: make packages asks for all that demo and check need" {
    for target in demo check; do
        make -n -C "$ROOT" MAKE=true $target | grep -o "packages .*" | head -n 1
    done >asked
    make -n -C "$ROOT" packages | grep -o "packages .*" | tr ' ' '\n' | sort >all
    tr ' ' '\n' <asked | sort -u >needed
    [ "$(wc -l <asked)" = 2 ]
    [ -z "$(comm -23 needed <(sort -u all))" ]
}

@test "packages: a machine that has no compiler yet is asked for the same" {
    for cc in cc "$PWD/none"; do
        make -n -C "$ROOT" O="$PWD/o" CC="$cc" packages-check 2>>err | grep -o "packages .*"
    done | uniq >asked
    [ ! -s err ]
    [ "$(wc -l <asked)" = 1 ]
}

@test "make: a compiler's new warning stops the check, but no user's build, and compiles nothing anew" {
    echo '#warning new' >w.h
    build=(make -s -C "$ROOT" "O=$PWD/o" "CPPFLAGS=-include $PWD/w.h" "$PWD/o/lib/base/rng.o")
    run -2 "${build[@]}" WERROR=-Werror
    run -0 "${build[@]}"
    [[ $output == *warning* ]]
    make -q "${build[@]:2}" WERROR=-Werror
    run make -n -C "$ROOT" MAKE='echo "WERROR=$$WERROR";:' check
    [[ $output == *WERROR=-Werror* ]]
}

@test "make bench-peers: a peer that cannot be imported is a failure that names it" {
    mkdir -p peers/bin
    printf '#!/bin/sh\n' | tee peers/bin/pip >peers/bin/python
    echo 'case $2 in *openvino*) echo "No module named openvino" >&2; exit 1 ;; esac' >>peers/bin/python
    chmod +x peers/bin/*
    run make -C "$ROOT" bench-peers "PEERS=$PWD/peers" PKG_bench=
    [ "$status" -ne 0 ]
    [[ $output == *"No module named openvino"* ]]
}

@test "lib/nn: no files in a circle, and no room needs what stands above it" {
    for f in "$ROOT"/lib/nn/*.c; do
        echo "$ROOT/build/release/lib/nn/$(basename "$f" .c).o"
    done >objects
    xargs nm -A --defined-only <objects | awk '$2 ~ /[TDRB]/ {sub(/:.*/, "", $1); print $3, $1}' | sort >made
    xargs nm -A --undefined-only <objects | awk '{sub(/:.*/, "", $1); print $NF, $1}' | sort >needed
    join needed made | awk '$2 != $3 {print $2, $3}' | sort -u >arrows
    [ "$(wc -l <arrows)" -gt 20 ]
    run tsort arrows
    [ "$status" -eq 0 ]
    # The table of rooms, from above: each file's row. Then each pair of files, by symbols and by includes.
    cd "$ROOT/lib/nn"
    sed -nE 's/^\| [a-z]+ \| ([^|]*`[^|]*) \|.*/\1/p' README.md | while read -r row; do
        room=$((room + 1))
        for f in $(grep -o '`[^`]*`' <<<"$row" | tr -d '`' | sed 's/NAME/*/'); do echo "$f $room"; done
    done >"$BATS_TEST_TMPDIR/rooms"
    {
        sed -E 's,[^ ]*/([^ /]*)\.o,\1.c,g' "$BATS_TEST_TMPDIR/arrows"
        grep '^#include "lib/nn/' ./*.[ch] | sed -E 's,^\./([^:]*):.*/(.*)"$,\1 \2,'
    } | awk 'NR == FNR { room[$1] = $2; next }
        !($1 in room) || !($2 in room) { print $1, $2 ": in no room" }
        room[$1] > room[$2] && $2 != "nn.h" { print $1 " needs " $2 ", which stands above it" }' "$BATS_TEST_TMPDIR/rooms" - >"$BATS_TEST_TMPDIR/up"
    cat "$BATS_TEST_TMPDIR/up"
    [ ! -s "$BATS_TEST_TMPDIR/up" ]
    [ "$(sort -u -k 2,2 "$BATS_TEST_TMPDIR/rooms" | wc -l)" = 6 ]
}

# What make installed below the folder $1, with glio- before all tools or some: pages, references and commands in them bear its names.
pages_agree() {
    (cd "$1/bin" && printf '%s\n' * | sed 's/$/.1/') >programs
    (cd "$1/share/man/man1" && printf '%s\n' * | sed 's/\.gz$//') | cmp - programs
    grep -v '^gliopipe\.1$' programs | sed 's/\.1$//' >tools
    (cd "$1/share/bash-completion/completions" && printf '%s\n' *) | cmp - tools
    (cd "$1"/share/zsh/*s && printf '%s\n' * | sed 's/^_//') | cmp - tools
    gzip -cdf "$1"/share/man/man?/* >all
    # (Names of ours that nothing is installed under: none is left where a name of a page or a command stands.)
    (cd "$ROOT/man" && printf '%s\n' *.1 | sed 's/\.1$//') | grep -vxF -f tools -e gliopipe >gone || true
    while read -r t; do
        run ! grep -E "(Nm|Xr) $t( |$)|(^|[|({;] *)$t( -| <)" all
    done <gone
    while read -r t; do
        gzip -cdf "$1/share/man/man1/$t.1"* | grep -qxF ".Nm $t" || { echo "$t"; false; }
    done <tools
}

@test "install: tools, pages and completions under their names, and uninstall takes all of it away" {
    make -s -C "$ROOT" install DESTDIR="$PWD/d" PREFIX=/usr PROGPREFIX=glio-
    here=$PWD/d/usr
    [ "$("$here/bin/glio-dice" -V)" = "$("$here/bin/glio-strip" --version)" ]
    pages_agree "$here"
    # The pipelines work from any folder, and find the tools.
    "$here/bin/glio-phantom" -n 1 -s 1 -d 16x16x8 -o cases
    (PATH=/usr/bin:/bin "$here/bin/gliopipe" streams DATA=cases OUT=o CROP='-s 8x8')
    "$here/libexec/gliopipe/bin/tnsview" -c <o/streams
    [ "$("$here/bin/gliopipe" -V)" = "$("$here/bin/glio-dice" -V)" ]
    run -2 "$here/bin/gliopipe" onnx2model
    # What a tool did is told under its own name.
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make >in.tns
    "$here/bin/glio-znorm" <in.tns | cmp - <(znorm <in.tns)
    # A program in C finds the library by pkg-config, whole and shared, and one in Python its file.
    export PKG_CONFIG_PATH=$here/lib/pkgconfig
    [ "$(pkg-config --modversion gliopipe)" = "$("$here/bin/glio-dice" -V)" ]
    sed -n '/^\.\\" begin scale.c/,/^\.\\" end scale.c/p' "$ROOT/man/tns.5" | sed '1d; $d; s/^\\&//; s/\\(aq/'\''/g; s/\\-/-/g; s/\\e/\\/g' >scale.c
    for how in "" --static; do
        # shellcheck disable=SC2046
        cc -o scale scale.c $(pkg-config --define-variable=prefix="$here" --cflags gliopipe) ${how:+"$here/lib/libgliopipe.a"} \
            $(pkg-config $how --define-variable=prefix="$here" --libs gliopipe | sed "${how:+s/-lgliopipe//}") -Wl,-rpath,"$here/lib"
        "$PYTHON" "$ROOT/tests/lib/mkstream.py" make | ./scale 2 | "$here/bin/glio-tnsview" -c
        [ -n "$how" ] || ldd ./scale | grep -qF "$here/lib/libgliopipe.so.0"
        [ -z "$how" ] || ldd ./scale | grep -vq libgliopipe
    done
    "$PYTHON" "$ROOT/tests/lib/mkstream.py" make | PYTHONPATH=$here/share/gliopipe "$PYTHON" -c 'import sys, gliopipe; assert len(list(gliopipe.Reader(sys.stdin.buffer))) == 6'
    # shellcheck disable=SC1091
    . "$here/share/bash-completion/completions/glio-dice"
    complete -p glio-dice
    completed() { # WORD...: what stands behind the last
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _gliopipe_glio_dice
        echo "${COMPREPLY[*]}"
    }
    [ "$(completed glio-dice --co)" = "--constant --convention" ]
    [ "$(completed glio-dice -p '')" = "case slice" ]
    [ "$(completed glio-dice --per = s)" = "slice" ]
    [ "$(completed glio-dice -d su)" = "surface" ]
    [ -z "$(completed glio-dice s)" ]
    # And zsh at a terminal of its own: what a line with tabs has become when it runs.
    cat >typed <<'E'
zmodload zsh/zpty && zpty -b z zsh -f -i || exit
zpty -w z 'PS1= PS2= RPS1=; unsetopt prompt_cr prompt_sp; fpath=('$1' $fpath); autoload -Uz compinit; compinit -u -D; glio-dice() { print -r -- "GOT<$*>" }; print REA""DY'
zpty -r z out '*READY*'
for line in $'glio-dice --conv\t=monai' $'glio-dice -p ca\t' $'glio-dice --dist\tsu\t' $'glio-dice cas\t'; do
    zpty -w z $line
    zpty -r z out '*GOT<*>*'
    print -r -- ${${out##*GOT}%%$'\r'*}
done
E
    ! command -v zsh >/dev/null || zsh -f typed "$here/share/zsh/vendor-completions" >completed
    ! command -v zsh >/dev/null || [ "$(paste -sd ' ' completed)" = '<--convention=monai> <-p case> <--distance=surface> <cases>' ]
    make -s -C "$ROOT" uninstall DESTDIR="$PWD/d" PREFIX=/usr PROGPREFIX=glio-
    [ -z "$(find d ! -type d)" ]
}

@test "deb: the packages of Debian, in which names that others have bear a prefix, and the pipelines know" {
    need_command dpkg-shlibdeps
    COMPRESS=none make -s -C "$ROOT" deb DEB="$PWD/deb" PKG_deb=
    for deb in deb/*.deb; do dpkg-deb -x "$deb" r && dpkg-deb -f "$deb" Package Depends; done >said
    [ "$(grep -c ^Package: said)" = 4 ]
    grep -q '^Depends: make, .*libc6 (>=' said
    [ "$(cd r/usr/bin && echo glio-*)" = "glio-compare glio-pack glio-pick glio-recode glio-strip glio-tidy glio-train" ]
    pages_agree r/usr
    (cd r && dpkg-deb -I ../deb/gliopipe_*.deb md5sums | md5sum -c --quiet)
    PATH=r/usr/bin:/usr/bin:/bin phantom -n 1 -s 1 -d 16x16x8 -o cases
    (PATH=r/usr/bin:/usr/bin:/bin gliopipe streams DATA=cases OUT=o CROP='-s 8x8')
    r/usr/bin/tnsview -c <o/streams
    run ! grep -rlF "$ROOT" r
}

@test "wheel: a zip of tools that need the C library alone, of what RECORD says, whose pipelines find them" {
    [ -n "${LONG-}" ] || skip "it wants LONG=1"
    make -s -C "$ROOT" wheel WHEEL="$PWD/w" PKG_wheel=
    "$PLAIN_PYTHON" - w/*.whl <<'E'
import base64, hashlib, os, re, sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
record, = [n for n in z.namelist() if n.endswith("/RECORD")]
for line in z.read(record).decode().splitlines():
    name, digest, size = line.rsplit(",", 2)
    b = z.read(name)
    assert not digest or (int(size) == len(b) and digest[7:] == base64.urlsafe_b64encode(hashlib.sha256(b).digest()).decode().rstrip("=")), name
    to = re.sub(r"^gliopipe-[^/]*\.data/(scripts|data)", lambda m: {"scripts": "v/bin", "data": "v"}[m[1]], name)
    os.makedirs(os.path.dirname("./" + to), exist_ok=True)
    open(to, "wb").write(b)
    os.chmod(to, z.getinfo(name).external_attr >> 16)
E
    run ! sh -c 'ldd v/bin/* 2>/dev/null | grep "=>" | grep -vE "lib(c|m|isal)\.so|ld-linux"'
    PATH=v/bin:/usr/bin:/bin phantom -n 1 -s 1 -d 16x16x8 -o cases
    (PATH=v/bin:/usr/bin:/bin gliopipe streams DATA=cases OUT=o CROP='-s 8x8')
    v/bin/tnsview -c <o/streams
}

@test "recipes: conda-forge's, Homebrew's and Spack's are sound, name the release, and their commands install all of it" {
    need_command ruby
    make -s -C "$ROOT" recipes RECIPES="$PWD/r" DIST="$PWD/d.tgz" URL=https://here.invalid/d.tgz
    sum=$(sha256sum <d.tgz)
    for f in r/*; do
        grep -qF "${sum%% *}" "$f"
        grep -qF https://here.invalid/d.tgz "$f"
        run ! grep @ "$f"
    done
    tar xzf d.tgz
    [ -x gliopipe-*/packaging/deb ]
    # Each is run by a stand-in of its system, which says what it would have run.
    sed -n 's/^    - \(cmake\|make\) /\1 /p' r/recipe.yaml | grep -v '^make$' >conda
    ruby -e 'class Place < String; def /(x) = Place.new(self + "/" + x); def stage = yield; end
        class Formula
          def self.method_missing(*) = nil
          def buildpath = Place.new(".")
          def prefix = "$PREFIX"
          def resource(*) = Place.new
          def system(*a) = puts(a.join(" "))
          def self.resource(*) = nil
          def self.test = nil
        end
        load "r/gliopipe.rb"; Gliopipe.new.install' >brew
    "$PYTHON" - >spack <<'E'
import sys, types
class MakefilePackage:
    stage, spec = types.SimpleNamespace(source_path="."), types.SimpleNamespace(satisfies=lambda s: False)
for name in ("spack_repo", "spack_repo.builtin", "spack_repo.builtin.build_systems", "spack_repo.builtin.build_systems.makefile", "spack", "spack.package"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["spack_repo.builtin.build_systems.makefile"].MakefilePackage = MakefilePackage
say = sys.modules["spack.package"]
say.__all__ = []
def put(name, f):
    setattr(say, name, f)
    say.__all__.append(name)
for name in ("license", "version", "variant", "resource", "depends_on", "conflicts"):
    put(name, lambda *a, **k: None)
put("join_path", lambda *a: "/".join(a))
put("which", lambda name: lambda *a: print(name, *a))
put("make", lambda *a: print("make", *a))
names = {}
exec(open("r/package.py").read(), names)
p = names["Gliopipe"]()
p.build(p.spec, "$PREFIX")
p.install(p.spec, "$PREFIX")
E
    for of in conda brew spack; do
        [ "$(cut -d ' ' -f 1 $of | paste -sd ' ')" = "cmake cmake make" ]
        # (What is built is taken as it is, with this system's libraries.)
        PREFIX=$PWD/$of.d sh -ec "$(sed -n 's/CPPFLAGS=[^ ]*//; s/ -Inifti[^ ]*//; s/ -Lnifti[^ ]*//; s/LDFLAGS=[^ ]*//; s/["]//g; s/^make/& -s -C "$ROOT"/p' $of)" >/dev/null
        pages_agree $of.d
        (cd $of.d && find . | sort) >$of.tree
        cmp $of.tree conda.tree
        $of.d/bin/glio-recode -V
    done
}

@test "site: every page of the manual, and no link that leads nowhere" {
    "$ROOT/man/site" site
    [ "$(cd site && ls *.html | grep -v '^index')" = "$(cd "$ROOT/man" && ls *.[157] | sed 's/$/.html/')" ]
    for f in site/*.html; do
        grep -o 'href="[^"]*"' "$f" | sed 's/href="//; s/"$//' | sort -u | while IFS='#' read -r page part; do
            [ -e "site/${page:-${f##*/}}" ] || echo "$f: no page $page"
            [ -z "$part" ] || grep -qF "id=\"$part\"" "site/${page:-${f##*/}}" || echo "$f: no part $part"
        done
    done >dead
    cat dead
    [ ! -s dead ]
    grep -q 'href="dice.1.html">dice</a></dt><dd>how well predictions agree' site/index.html
    run ! grep -lE 'https?://[^"<]*\.(css|js)' site/*
}
