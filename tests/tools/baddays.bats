# Bad days, from outside, for every tool at its work (tests/lib/work.py): the outcome is exactly the right output, or
# an error of one line, no end record, and nothing under a final name that is not whole.
load ../lib/common

# Python with d, a folder of inputs; right, the outputs as they should be (bytes, files), in the order of COMMANDS;
# and judge().
bad() {
    fails
    cat >script
    # shellcheck disable=SC2086
    PYTHONPATH="$ROOT/tests/lib" ${NAMESPACE-} "$PLAIN_PYTHON" -c 'import os, pickle, resource, shutil, signal, subprocess, sys, time
from work import *
d = os.environ["BATS_FILE_TMPDIR"]
right = pickle.load(open(f"{d}/right", "rb"))
os.chdir(d)
findings, tried = [], 0
# The sanitizers make every start slow: half of the values will do, but for check-long.
half = slice(None, None, 2 if os.environ.get("CONFIG") == "asan" and not os.environ.get("LONG") else 1)
def fresh(before):
    shutil.rmtree("out", ignore_errors=True)
    if before:
        shutil.copytree(before, "out")
def judge(what, r, i, stderr=True, kinds=(1,)):
    """The outcome of command i is right, or an honest refusal."""
    global tried
    tried += 1
    tool, command, before = COMMANDS[i]
    now, said = tree(d, before and "out"), lines(r.stderr)
    if r.returncode == 0 and r.stdout == right[i][0] and now == right[i][1]:
        return True
    left = [p for p in os.listdir("out") if p.startswith(".")] if before else []
    if tool == "train": # what it leaves leads to the right model
        more = shell(command.format("train" if " -r" in command else "train -r"), d)
        whole = more.returncode == 0 and tree(d, "out") == right[i][1]
    else:
        whole = all(right[i][1].get(k) == v for k, v in now.items())
    if r.returncode not in kinds or r.returncode > 0 and len(said) != stderr or END in r.stdout or not whole or left:
        findings.append(f"{what}: {command.format(tool)}: status {r.returncode}, files {sorted(now)} {left}, said {said}")
    return False
exec(open(sys.argv[1]).read())
for f in findings:
    print("#", f)
print(f"# {tried} runs, {len(findings)} findings")
sys.exit(bool(findings) or not tried)' "$PWD/script" >result 2>&1 && status=0 || status=$?
    cat result
    tail -n 1 result >&3
    return $status
}

setup_file() {
    "$PYTHON" -c 'import numpy' 2>/dev/null || return 0
    export OMP_NUM_THREADS=1
    # make check sanitizes all but train and infer: here those of the release then.
    # (Before what the system has: binutils has a strip, too.)
    local tools=${TOOLS:-$ROOT/bin}
    [ -x "$tools/strip" ] || export PATH=$tools:$ROOT/build/release/bin:$PATH
    PYTHONPATH="$ROOT/tests/lib" "$PYTHON" - <<'EOF'
import os, pickle, shutil
from work import *
d = os.environ["BATS_FILE_TMPDIR"]
prepare(d)
right = []
for tool, command, before in COMMANDS:
    shutil.rmtree(f"{d}/out", ignore_errors=True)
    if before:
        shutil.copytree(f"{d}/{before}", f"{d}/out")
    r = shell(command.format(tool), d)
    assert r.returncode == 0, (command, r)
    right.append((r.stdout, tree(d, before and "out")))
pickle.dump(right, open(f"{d}/right", "wb"))
EOF
}

@test "bad days: a full disk" {
    unshare -m sh -c 'mount -t tmpfs -o size=16k none .' 2>/dev/null || skip "no file system may be mounted here"
    NAMESPACE="unshare -m" bad <<'EOF'
for i, (tool, command, before) in enumerate(COMMANDS):
    for k in ((4, 8, 24, 64) if tool != "train" else (8, 64, 160, 260, 400))[half]:
        shutil.rmtree("out", ignore_errors=True)
        os.mkdir("out")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", "out"], check=True)
        for f in os.listdir(before) if before else ():
            shutil.copy(f"{before}/{f}", "out")
        used = sum(os.stat(f"out/{f}").st_blocks for f in os.listdir("out")) // 2
        subprocess.run(["mount", "-o", f"remount,size={used + k}k", "out"], check=True)
        # Standard output lies on the full disk too.
        with open("out/stdout", "w+b") as out:
            p = subprocess.run(["/bin/sh", "-c", "exec " + command.format(tool)], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE)
            p.stdout = open("out/stdout", "rb").read()
        os.remove("out/stdout")
        subprocess.run(["mount", "-o", "remount,size=4m", "out"], check=True)
        if not judge(f"{k} KiB", p, i) and b"No space left" not in p.stderr:
            findings.append(f"{k} KiB: {command.format(tool)}: says {p.stderr}")
        subprocess.run(["umount", "-l", "out"], check=True)
EOF
}

@test "bad days: standard input, output or error is closed" {
    bad <<'EOF'
for i, (tool, command, before) in enumerate(COMMANDS):
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        plain = command.split("<")[0] if "<&-" in closed else command
        fresh(before)
        r = shell(f"{plain.format(tool)} {closed}", d)
        if closed == ">&-" and r.returncode == 0 and not right[i][0]:
            judge(closed, r, i)
            continue
        fine = judge(closed, r, i, stderr="2>" not in closed, kinds=(1, 2))
        # Without a voice, the work itself is not hindered.
        if closed == "2>&-" and not fine:
            findings.append(f"{closed}: {command.format(tool)}: status {r.returncode}")
EOF
}

@test "bad days: nobody reads standard output" {
    bad <<'EOF'
for i, (tool, command, before) in enumerate(COMMANDS):
    fresh(before)
    r, w = os.pipe()
    os.close(r)
    p = subprocess.run(["/bin/sh", "-c", "exec " + command.format(tool)], stdin=subprocess.DEVNULL, stdout=w, stderr=subprocess.PIPE)
    os.close(w)
    p.stdout = right[i][0] if p.returncode == 0 else b""
    judge("SIGPIPE", p, i, kinds=(-signal.SIGPIPE,))
    if p.returncode and [l for l in p.stderr.splitlines() if b": warning: " not in l]:
        findings.append(f"{command.format(tool)}: says {p.stderr}")
    if p.returncode == 0 and right[i][0]:
        findings.append(f"{command.format(tool)}: does not notice")
EOF
}

@test "bad days: no file may grow" {
    bad <<'EOF'
for i, (tool, command, before) in enumerate(COMMANDS):
    for limit in (0, 1000, 9000, 50000)[half]:
        fresh(before)
        with open("stdout", "w+b") as out:
            p = subprocess.run(["/bin/sh", "-c", "exec " + command.format(tool)], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
            p.stdout = open("stdout", "rb").read()
        if not judge(f"{limit} bytes", p, i) and b"File too large" not in p.stderr:
            findings.append(f"{limit} bytes: {command.format(tool)}: {p.stderr}")
EOF
}

@test "bad days: little address space" {
    need_release "it needs more"
    bad <<'EOF'
for i, (tool, command, before) in enumerate(COMMANDS):
    for mib in range(4, 44, int(os.environ.get("LONG") and 1 or 6)):
        fresh(before)
        r = shell(f"ulimit -v {mib * 1024}; exec {command.format(tool)}", d)
        # Too little for the loader itself is the loader's to say, before the tool begins: 127, or a signal from the kernel.
        if r.returncode == 127 or r.returncode == -signal.SIGSEGV and mib <= 4:
            continue
        judge(f"{mib} MiB", r, i)
EOF
}

@test "bad days: asked to end, or killed, while files are being written" {
    bad <<'EOF'
assert shell("nii2slices cases/*/ | recode -s brats2017 >all.tns", d).returncode == 0
data = open("all.tns", "rb").read()
def wait(p, done):
    """Until it is done, or the process is over, or a minute."""
    end = time.monotonic() + 60
    while not done() and p.poll() is None and time.monotonic() < end:
        pass
    assert done()
def begin():
    """slices2nii when it has written all files and waits for the end of the stream."""
    fresh("empty")
    p = subprocess.Popen(["slices2nii", "-o", "out"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(data[:-64])
    p.stdin.flush()
    wait(p, lambda: sum(f.endswith(".tmp") for f in os.listdir("out")) == 2)
    return p
for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    p = begin()
    p.send_signal(sig)
    said = p.communicate()[1]
    tried += 1
    if p.returncode != -sig or said or os.listdir("out"):
        findings.append(f"{sig}: status {p.returncode}, says {said}, leaves {os.listdir('out')}")
p = begin()
p.kill()
p.communicate()
tried += 1
if [f for f in os.listdir("out") if not f.startswith(".")]:
    findings.append(f"killed: leaves {os.listdir('out')}")
# What it left is in nobody's way.
left = set(os.listdir("out"))
r = shell("slices2nii -o out <all.tns && slices2nii -o again <all.tns", d)
tried += 1
now = {f for f in os.listdir("out") if f not in left}
if r.returncode or now != set(os.listdir("again")) or any(open(f"out/{f}", "rb").read() != open(f"again/{f}", "rb").read() for f in now):
    findings.append(f"after a kill: {r}")
# phantom, with its files open.
for sig in (signal.SIGTERM, signal.SIGKILL):
    fresh("empty")
    p = subprocess.Popen(["phantom", "-d", "512x512x200", "-o", "out"])
    wait(p, lambda: any(files for _, _, files in os.walk("out")))
    p.send_signal(sig)
    p.wait()
    tried += 1
    left = [f for _, _, files in os.walk("out") for f in files if sig == signal.SIGTERM or not f.startswith(".")]
    if p.returncode != -sig or left:
        findings.append(f"phantom, {sig}: status {p.returncode}, leaves {left}")
# Filters have half a stream, and wait.
for tool, args in (("recode", ["-s", "brats2017"]), ("znorm", []), ("crop", ["-m", "16"])):
    with open("half.out", "w+b") as out:
        p = subprocess.Popen([tool, *args], stdin=subprocess.PIPE, stdout=out)
        p.stdin.write(open("raw.tns" if tool == "recode" else "label.tns", "rb").read()[:-64])
        p.stdin.flush()
        p.terminate()
        p.communicate()
    tried += 1
    if p.returncode != -signal.SIGTERM or END in open("half.out", "rb").read():
        findings.append(f"{tool}: status {p.returncode}")
EOF
}

@test "bad days: killed at any moment, a tool leaves no part of many segments that is a whole stream" {
    bad <<'EOF'
import random
draw = random.Random(1)
for tool, args, given in ("recode", ["-s", "brats2017"], "raw.tns"), ("znorm", [], "label.tns"):
    with open("many.tns", "wb") as f:
        f.write(open(given, "rb").read() * 400)
    begun = time.monotonic()
    want = subprocess.run([tool, *args], stdin=open("many.tns", "rb"), stdout=subprocess.PIPE, check=True).stdout
    span = time.monotonic() - begun
    parts = 0
    for _ in range(int(os.environ.get("LONG") and 500 or 5)):
        with open("killed.tns", "wb") as out:
            p = subprocess.Popen([tool, *args], stdin=open("many.tns", "rb"), stdout=out)
        moment = time.monotonic() + draw.uniform(0, span)
        while p.poll() is None and time.monotonic() < moment:
            pass
        p.kill()
        p.wait()
        tried += 1
        size = os.path.getsize("killed.tns")
        parts += 0 < size < len(want)
        r = subprocess.run(["tnsview", "-c"], stdin=open("killed.tns", "rb"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if (r.returncode == 0) != (size == len(want)):
            findings.append(f"{tool}: {size} of {len(want)} bytes: {r}")
    print(f"# {tool}: {parts} times in the middle")
EOF
}
