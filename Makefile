# gliopipe. `make help` lists the targets. One Makefile for the whole tree; pipelines/ has its own,
# which only chains the tools.
#
# Objects live in build/$(CONFIG); the release tools are also linked into bin/.

# Every rule stands here: to look for built-in ones takes longer than the rest.
MAKEFLAGS += -r

CONFIG     ?= release
PREFIX     ?= /usr/local
PROGPREFIX ?=
DESTDIR    ?=
CC         ?= cc
AR         ?= ar
CPPFLAGS   ?=
CFLAGS     ?=
LDFLAGS    ?=
LDLIBS     ?=
T ?=# words of make check
H ?=# a fuzzer's name
B ?=# a benchmark's name

O := build/$(CONFIG)

# --- flags ----------------------------------------------------------------------------------------
# Objects for the shared library too: names are bound as in a program, so that calls within it cost no more.
OPT_release := -O2 -g1 -fPIC -fno-semantic-interposition
OPT_debug   := -O0 -g3
OPT_asan    := -Og -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan    := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
# For the fuzzers: CC=clang.
OPT_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
ifeq ($(OPT_$(CONFIG)),)
$(error CONFIG=$(CONFIG): wanted release, debug, asan, tsan or fuzz)
endif

VERSION := 0.1.0
ABI     := 0# of the shared library: another number when a program that was built with it would not run any more
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
# clang warns where a loop marked `omp simd` stays scalar without optimisation; that is no fault.
WARN    += $(if $(findstring clang,$(shell $(CC) --version 2>/dev/null)),-Wno-pass-failed)
# A user's compiler may know warnings that ours does not. They are errors under `make check` and its like only, and make no
# other object, so FLAGS_NOW is without it.
WERROR  ?=
# Built when asked for (MPI=1): train by several processes. Tests build it beside, where there is mpicc.
MPI       ?=
MPICC     ?= mpicc
MPI_DIR   ?= mpi# below build/CONFIG: another one for another MPI
HAVE_MPI  := $(shell command -v $(MPICC) 2>/dev/null)
HAVE_ISAL := $(shell printf '\#include <isa-l/igzip_lib.h>\n' | $(CC) $(CPPFLAGS) -E - >/dev/null 2>&1 && echo -DHAVE_ISAL)
NIFTI_INC := $(addprefix -isystem ,$(firstword $(wildcard /usr/include/nifti /usr/local/include/nifti)))
# The sanitized build inflates with zlib, so that the tests of tools go through both inflaters.
ALL_CPPFLAGS := -I. $(NIFTI_INC) -D_GNU_SOURCE -DGLIOPIPE_VERSION='"$(VERSION)"' $(if $(filter asan,$(CONFIG)),,$(HAVE_ISAL)) $(CPPFLAGS)
# No compiler fuses a product and a sum where the source does not say so (simd/vec.h): the same bytes from all of them.
# Nor does an object know the folder that it was made in.
ALL_CFLAGS   := -std=c11 -ffp-contract=off $(WARN) $(OPT_$(CONFIG)) -fopenmp -MMD -MP '-ffile-prefix-map=$(CURDIR)=.' $(CFLAGS)
ALL_LDFLAGS  := $(OPT_$(CONFIG)) -fopenmp -Wl,--as-needed $(LDFLAGS)
LIBS := $(if $(HAVE_ISAL),-lisal) -lniftiio -lznz -lz -lzstd -lxxhash -lyaml -ljansson -lutf8proc -lpng16 -ldl -lpthread -lm $(LDLIBS)

# Kernels: each file of lib/kernels/simd is compiled once for each ISA level. KR_LEVEL
# names the level inside the source; `plain` is what the compiler emits without any flag.
MACHINE := $(or $(shell $(CC) -dumpmachine 2>/dev/null),$(shell uname -m))# before a compiler is installed
ifneq ($(filter x86_64%,$(MACHINE)),)
LEVELS := plain avx2 avx512
else ifneq ($(filter aarch64%,$(MACHINE)),)
LEVELS := plain neon
else
LEVELS := plain
endif
ISA_plain  := $(if $(filter release,$(CONFIG)),-O2)# for machines that few have: less to compile
ISA_neon   :=
ISA_avx2   := -mavx2 -mfma -mf16c
# Products of bfloat16 (simd/bf16_*.c) have levels beside these, which are the level's own in all else.
LEVELS_BF16 := $(LEVELS) $(if $(filter avx512,$(LEVELS)),avx512bf16 amx)
ISA_avx512 := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512
ISA_avx512bf16 := $(ISA_avx512) -mavx512bf16 -DKR_LEVEL_avx512=1 -DKR_BASE=avx512
ISA_amx    := $(ISA_avx512bf16) -mamx-tile -mamx-bf16
# -g1 and no clones: the same loops in half the time to compile (a copy of the transforms for each caller gains nothing).
KERNEL_CFLAGS := $(if $(filter release,$(CONFIG)),-O3 -g1) -fno-math-errno -fno-trapping-math
KERNEL_CFLAGS += $(if $(findstring clang,$(shell $(CC) --version 2>/dev/null)),,-fno-ipa-cp-clone)

# --- sources --------------------------------------------------------------------------------------
# Fuzzers are for readers of bytes, and `make check` sanitizes all but the engine (LIGHT=1), which takes its
# time: `make check-long` does that.
LIGHT     ?= $(filter fuzz,$(CONFIG))
BOXES     := lib/base lib/image lib/metric $(if $(LIGHT),,lib/nn lib/kernels) formats
NETWORKS  := unet attention residual nnunet2d transunet unet3d attention3d residual3d transunet3d# descriptions that the program knows, of pipelines/networks
READERS   := $(wildcard lib/nn/text*.c)# of the engine, what reads bytes
SRC       := $(sort $(foreach d,$(BOXES),$(wildcard $(d)/*.c)) $(READERS))
SIMD_SRC  := $(if $(LIGHT),,$(filter-out lib/kernels/simd/bf16_%,$(wildcard lib/kernels/simd/*.c)))
BF16_SRC  := $(if $(LIGHT),,$(wildcard lib/kernels/simd/bf16_*.c))
FRAME     := $(wildcard tools/tool*.c)# every tool stands on it
PARTS     := $(filter-out $(FRAME),$(wildcard tools/*_*.c))# tools/NAME_PART.c belongs to tools/NAME.c
TOOLS     := $(patsubst tools/%.c,%,$(filter-out $(FRAME) $(PARTS) $(if $(LIGHT),tools/train.c tools/infer.c tools/strip.c tools/model2onnx.c),$(wildcard tools/*.c)))
UNIT      := $(patsubst tests/unit/%.c,%,$(if $(LIGHT),$(filter-out tests/unit/nn_% tests/unit/kernels_%,$(wildcard tests/unit/*.c)) tests/unit/nn_text.c,$(wildcard tests/unit/*.c)))
BENCHC    := $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/*.c))

SIMD_OBJ  := $(foreach l,$(LEVELS),$(patsubst lib/kernels/simd/%.c,$(O)/lib/kernels/simd/%_$(l).o,$(SIMD_SRC)))
SIMD_OBJ  += $(foreach l,$(LEVELS_BF16),$(patsubst lib/kernels/simd/%.c,$(O)/lib/kernels/simd/%_$(l).o,$(BF16_SRC)))
OBJ       := $(SRC:%.c=$(O)/%.o) $(if $(LIGHT),,$(O)/lib/nn/texts.o)
ARCHIVE   := $(O)/libgliopipe$(if $(LIGHT),-light).a# less is in it, so it has another name

# --- what a machine needs ------------------------------------------------------------------------
# Debian's names, bookworm's and trixie's; a| where the release has it. Versions of clang-format differ: one is heard.
CLANG_FORMAT := clang-format-19
PKG_build := gcc make libc6-dev libnifti-dev zlib1g-dev libzstd-dev libxxhash-dev libyaml-dev libjansson-dev libutf8proc-dev libpng-dev libisal-dev libopenblas0-pthread
PKG_demo  := $(PKG_build) gnuplot-nox
PKG_check := $(PKG_demo) openmpi-bin libopenmpi-dev mpich libmpich-dev slurm-wlm munge bats clang $(CLANG_FORMAT)| libomp-dev libclang-rt-dev python3 python3-numpy python3-pydicom python3-onnx dcm2niix groff mandoc locales pkgconf time jq bsdextrautils ruby zsh chromium|
# AArch64 is emulated.
PKG_check += $(if $(filter x86_64%,$(MACHINE)),gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
PKG_site  := mandoc
PKG_bench := $(PKG_build) openmpi-bin libopenmpi-dev libopenblas0 python3-nibabel python3-torch python3-venv time

STUDY := $(filter-out control-%,$(shell sed '/^\#/d; s/ *|.*//' pipelines/attempts)) volume control study tidy prepare streams explore predict report external search best
PACKAGES := packages packages-build packages-demo packages-check packages-bench packages-site packages-deb packages-wheel
.PHONY: $(STUDY) $(STUDY:%=slurm-%) $(PACKAGES) all help check check-long fuzz lint bench bench-peers install uninstall deb wheel dist recipes clean demo format tools
.SECONDARY:
.DELETE_ON_ERROR:

all: tools

help:
	@echo 'make                 the tools, into bin/ (CONFIG=release|debug|asan|tsan: build/CONFIG/bin)'
	@echo 'make demo            the whole study on synthetic patients, with a page to look at'
	@echo 'make study DATA=dir  the study on real patients (attempt1 to residual, control: one part of it)'
	@echo 'make prepare RAW=dir DATA=dir   from DICOM or scans of several grids to cases (man man/gliopipe-prepare.7)'
	@echo 'make streams DATA=dir -j4   a packed stream for each case, in a folder that epochs and all other tools take; again only what changed'
	@echo 'make explore | predict   look at the cases; segment unlabelled ones with MODEL=file or folder, with a report'
	@echo 'make best DATA=dir HOURS=8   the recommended recipe in the time there is: models, rules, scores and a card in a folder'
	@echo '                     for make predict'
	@echo 'make tidy DATA=dir FOLDS=5   rules for what networks predict, chosen by patients whom they have not seen'
	@echo 'make external        score labelled ones of other sites with MODEL=, by site, and say what drifts'
	@echo 'make search DATA=dir which recipe is best: successive halving over a table of them (SETTINGS=), on any number of machines'
	@echo '                     the knobs of these: make -f pipelines/Makefile help'
	@echo 'make slurm-study | slurm-predict | slurm-search ... DATA=dir   the same as jobs of Slurm (SLURM= options of sbatch, RANKS=; man man/gliopipe-cluster.7)'
	@echo 'make packages        installs what all of this needs, and says what (demo, check and their like call it)'
	@echo 'make check           every test (T=WORD: only test files whose name holds WORD)'
	@echo 'make check-long      the engine under the sanitizers, a hundred kills, every fault in every tool,'
	@echo '                     make check on fresh Debians with every compiler they have (hours; root for the last)'
	@echo 'make fuzz            SECONDS= of processor time for each fuzzer (H=NAME: one)'
	@echo 'make lint            formatting, include rules, man pages'
	@echo 'make bench           every benchmark beside its peer (B=NAME: one)'
	@echo 'make bench-peers     installs the peers that Debian has not, into build/peers, and tries each (TORCH=: without'
	@echo '                     the newest PyTorch, whose wheel brings gigabytes of GPU libraries)'
	@echo 'make MPI=1           the tools, and train by several processes too (mpirun -n N; Debian: libopenmpi-dev openmpi-bin)'
	@echo 'make site            the manual as pages of HTML, into build/site'
	@echo 'make install         PREFIX= DESTDIR= PROGPREFIX= (GNU recode exists: PROGPREFIX=glio-)'
	@echo 'make deb | wheel     packages of Debian into build/deb (ARCH=arm64: cross-built), of Python into build/wheel'
	@echo 'make recipes URL=    those of conda-forge, Homebrew and Spack for a release that lies there (make dist makes it)'
	@echo 'make clean           removes build/ and bin/'
	@echo 'man man/train.1      the page of a tool, before it is installed (man/gliopipe.7: where to begin)'

# Installs those that are missing when it may, and says which; else prints the line that would.
packages: packages-check
$(filter-out packages,$(PACKAGES)): packages-%:
	@.ci/packages $(PKG_$*:%='%')

# --- rules ----------------------------------------------------------------------------------------
# A change of flags rebuilds what they touch.
STAMP := $(O)/flags
FLAGS_NOW := $(if $(MPI),MPI )$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(KERNEL_CFLAGS) $(LEVELS_BF16)
$(shell mkdir -p $(O); printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $(STAMP) || printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' > $(STAMP))

$(O)/%.o: %.c $(STAMP)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(WERROR) -c -o $@ $<

$(O)/%.o: $(O)/%.c $(STAMP)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(WERROR) -c -o $@ $<

# lib/nn/known.h: each description as a string.
$(O)/lib/nn/texts.c: $(NETWORKS:%=pipelines/networks/%.yaml) Makefile
	@mkdir -p $(@D)
	@{ echo '#include "lib/nn/known.h"'; \
	   echo 'const char *const nn_names[] = {$(NETWORKS:%="%",) 0};'; \
	   echo 'const char *const nn_texts[] = {'; \
	   for n in $(NETWORKS); do \
	     sed 's/[\\"]/\\&/g; s/.*/    "&\\n"/; $$s/$$/,/' pipelines/networks/$$n.yaml || exit; done; \
	   echo '0};'; } >$@

define simd_rule
$(O)/lib/kernels/simd/%_$(1).o: lib/kernels/simd/%.c $(STAMP)
	@mkdir -p $$(@D)
	$$(CC) $$(ALL_CPPFLAGS) $$(ALL_CFLAGS) $$(WERROR) $$(KERNEL_CFLAGS) $$(ISA_$(1)) -DKR_LEVEL=$(1) -DKR_LEVEL_$(1)=1 -c -o $$@ $$<
endef
$(foreach l,$(LEVELS_BF16),$(eval $(call simd_rule,$(l))))

# What takes longest to compile comes first.
$(ARCHIVE): $(sort $(filter %conv3x3_winograd_% %conv3x3_weight_%,$(SIMD_OBJ))) $(SIMD_OBJ) $(OBJ)
	@rm -f $@
	$(AR) rcsD $@ $^

# What C programs link with; lib/gliopipe.map names what it shows.
SHARED := $(O)/libgliopipe.so.$(ABI)
$(SHARED): $(ARCHIVE) lib/gliopipe.map
	$(CC) -shared -Wl,-soname,$(@F) -Wl,-Bsymbolic -Wl,--version-script=lib/gliopipe.map -Wl,-z,defs -o $@ -Wl,--whole-archive $< -Wl,--no-whole-archive $(ALL_LDFLAGS) $(LIBS)
	@ln -sf $(@F) $(@D)/libgliopipe.so

$(O)/bin/%: $(O)/tools/%.o $(FRAME:%.c=$(O)/%.o) $(ARCHIVE)
	@mkdir -p $(@D)
	$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) $(LIBS)

$(foreach p,$(PARTS),$(eval $(O)/bin/$(firstword $(subst _, ,$(notdir $(p)))): $(O)/$(p:.c=.o)))

# A program in Python that model2onnx runs, and what it reads streams by, as strings.
$(O)/tools/model2onnx_script.c: tools/model2onnx.py formats/gliopipe.py
	@mkdir -p $(@D)
	@{ echo 'extern const char model2onnx_script[], model2onnx_codec[];'; \
	   for f in script:$< codec:$(word 2,$^); do \
	     echo "const char model2onnx_$${f%%:*}[] ="; sed 's/[\\"]/\\&/g; s/.*/"&\\n"/' $${f#*:}; echo ';'; done; } >$@
$(O)/bin/model2onnx: $(O)/tools/model2onnx_script.o

# The same program, with MPI.
MPI_FLAGS := -DHAVE_MPI -DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX $(if $(HAVE_MPI),$(patsubst -I%,-isystem %,$(filter -I%,$(shell $(MPICC) -show 2>/dev/null))))
MPI_LIBS  := $(if $(HAVE_MPI),$(filter -L% -l% -Wl%,$(shell $(MPICC) -show 2>/dev/null)))
$(O)/$(MPI_DIR)/train_mpi.o: tools/train_mpi.c $(STAMP)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(MPI_FLAGS) $(ALL_CFLAGS) $(WERROR) -c -o $@ $<
MPI_TRAIN := $(O)/tools/train.o $(patsubst %.c,$(O)/%.o,$(filter-out tools/train_mpi.c,$(wildcard tools/train_*.c))) $(O)/$(MPI_DIR)/train_mpi.o
$(O)/$(MPI_DIR)/train: $(MPI_TRAIN) $(FRAME:%.c=$(O)/%.o) $(ARCHIVE)
	$(CC) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) $(MPI_LIBS) $(LIBS)

$(O)/unit/%: $(O)/tests/unit/%.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(CC) -o $@ $(filter %.o %.a,$^) $(ALL_LDFLAGS) $(LIBS)

$(O)/warm: $(O)/tests/lib/warm.o
	$(CC) -o $@ $^ $(ALL_LDFLAGS)

$(O)/bench/%: $(O)/tests/bench/%.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(CC) -o $@ $(filter %.o %.a,$^) $(ALL_LDFLAGS) $(LIBS)

ifneq ($(MPI),)
ifeq ($(HAVE_MPI),)
$(error MPI=$(MPI): no $(MPICC) (Debian: libopenmpi-dev and openmpi-bin))
endif
bin/train: build/release/mpi/train
	@mkdir -p bin
	@ln -f $< $@ 2>/dev/null || cp -f $< $@
endif

bin/%: build/release/bin/%
	@mkdir -p bin
	@ln -f $< $@ 2>/dev/null || cp -f $< $@

tools: $(TOOLS:%=$(O)/bin/%) $(if $(filter build/release,$(O)),$(TOOLS:%=bin/%))
units: $(UNIT:%=$(O)/unit/%) $(if $(filter release,$(CONFIG)),$(SHARED) $(O)/warm $(O)/shim.so $(if $(HAVE_MPI),$(O)/$(MPI_DIR)/train))
benches: $(BENCHC:%=$(O)/bench/%) $(if $(HAVE_MPI),$(O)/$(MPI_DIR)/train)

-include $(OBJ:.o=.d) $(SIMD_OBJ:.o=.d) $(TOOLS:%=$(O)/tools/%.d) $(PARTS:%.c=$(O)/%.d) $(FRAME:%.c=$(O)/%.d) $(UNIT:%=$(O)/tests/unit/%.d) $(BENCHC:%=$(O)/tests/bench/%.d) $(wildcard $(O)/tests/fuzz/*.d)

# --- the study --------------------------------------------------------------------------------------
# All that is asked for in one run: two would not be let into one folder. Names are passed on as they are typed.
$(foreach n,DATA FILES WHO OUT MODEL SPLIT NETWORK SETTINGS RAW ATLAS MASK STRIP SEQUENCES,$(eval override $n := $$(value $n)))
$(STUDY) $(STUDY:%=slurm-%): pipelines ;@:
.PHONY: pipelines
pipelines: packages-demo
	@$(MAKE) -s tools
	@$(MAKE) --no-print-directory -f pipelines/Makefile $(filter $(STUDY) $(STUDY:%=slurm-%),$(MAKECMDGOALS))

demo: packages-demo
	@$(MAKE) -s -j$(NPROC) tools
	@$(MAKE) --no-print-directory -f pipelines/Makefile demo
	@echo 'next:        make study DATA=folder-of-cases BASE=16   (make help, man man/gliopipe.7)'

# --- proof ----------------------------------------------------------------------------------------
NPROC := $(shell nproc 2>/dev/null || echo 2)
check check-long fuzz lint: export WERROR := -Werror
check: packages-check
	@$(MAKE) -s -j$(NPROC) check-release check-asan
	@tests/run $(T)

.PHONY: check-release check-asan
check-release:
	@$(MAKE) CONFIG=release tools units
check-asan:
	@$(MAKE) CONFIG=asan LIGHT=1 tools units replays

lint:
	@$(MAKE) -s -j$(NPROC) CONFIG=release tools
	@tests/lint

format:
	@$(CLANG_FORMAT) -i $$(git ls-files '*.c' '*.h')

# Coverage-guided, SECONDS of processor time for each harness (H=NAME: one alone); new inputs join the corpus in
# build/fuzz/corpus, findings lie in build/fuzz/findings until they are mended and put into tests/fuzz/corpus.
FUZZ := $(filter-out fuzz replay,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)))
SECONDS ?= 60
fuzz: packages-check
	@$(MAKE) -s -j$(NPROC) CONFIG=fuzz CC=clang $(FUZZ:%=build/fuzz/fuzz/%)
	@$(MAKE) -s -j$(NPROC) CONFIG=asan LIGHT=1 tools
	@tests/fuzz/run $(SECONDS) $(or $(H),$(FUZZ) arguments)

$(O)/fuzz/%: $(O)/tests/fuzz/%.o $(O)/tests/fuzz/fuzz.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(CC) -fsanitize=fuzzer -o $@ $(filter %.o %.a,$^) $(ALL_LDFLAGS) $(LIBS)

# The same harnesses without libFuzzer, for `make check`: corpus and past findings once more.
$(O)/replay/%: $(O)/tests/fuzz/%.o $(O)/tests/fuzz/fuzz.o $(O)/tests/fuzz/replay.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(CC) -o $@ $(filter %.o %.a,$^) $(ALL_LDFLAGS) $(LIBS)
replays: $(FUZZ:%=$(O)/replay/%)

# Preloaded into tools, makes the system fail.
$(O)/shim.so: tests/faults/shim.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=c11 $(WARN) $(WERROR) -Wno-missing-prototypes -O1 -g -shared -fPIC -o $@ $< -ldl

# The engine under the sanitizers, every fault in every tool, call by call, and all of it on each release of Debian.
check-long: packages-check
	@$(MAKE) -s -j$(NPROC) CONFIG=release tools units
	@$(MAKE) -s -j$(NPROC) CONFIG=asan tools units
	@$(MAKE) -s -j$(NPROC) CONFIG=tsan CC=clang tools units
	@LONG=1 TEST_LIMIT=3600 tests/run slurm train infer optimiser bytes nii2slices nifti phantom races nn_ kernels_ baddays aarch64 build
	@tests/faults/run $(O)/shim.so bin
	@tests/portable/releases bookworm trixie
	@tests/portable/packages bookworm trixie

bench: packages-bench
	@$(MAKE) -s -j$(NPROC) tools benches
	@tests/bench/run $(B)

TORCH ?= torch
PEERS ?= build/peers
PEER_MODULES := numpy nibabel onnxruntime openvino
bench-peers: packages-bench
	@[ -x $(PEERS)/bin/python ] || $(or $(wildcard /usr/bin/python3),python3) -m venv $(PEERS)
	@$(PEERS)/bin/pip install -q --upgrade $(PEER_MODULES) $(TORCH) $(if $(TORCH),dynamic_network_architectures monai) bids-validator-deno
	@for m in $(PEER_MODULES) $(if $(TORCH),torch); do \
	  $(PEERS)/bin/python -c "import $$m; print('$$m', $$m.__version__)" || exit; done
	@$(PEERS)/bin/bids-validator-deno --version

site: packages-site
	@man/site build/site
	@echo 'look at it:  xdg-open build/site/index.html'

include packaging/rules.mk

clean:
	rm -rf build bin
