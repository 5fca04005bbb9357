# Where the tools go: into a system (install), into packages of Debian (deb) and of Python (wheel). Recipes of other systems lie beside.

# Names that a package of Debian has, or that all systems do: packages give these tools the prefix alone.
TAKEN     := compare pack pick recode strip tidy train
# With PROGPREFIX the tools that bear it: all, unless it is said; taken: those.
PREFIXED  ?= $(TOOLS)
override PREFIXED := $(if $(filter taken,$(PREFIXED)),$(TAKEN),$(PREFIXED))
LIBDIR    ?= $(PREFIX)/lib
# Runs the tools where they are another processor's.
EMULATOR  ?=
as         = $(if $(filter $1,$(PREFIXED)),$(PROGPREFIX))$1

BUILT   := $(if $(filter build/release,$O),bin,$O/bin)
TO      := $(DESTDIR)$(PREFIX)
HEADERS := formats/tns.h formats/model.h formats/contract.h formats/safetensors.h lib/base/targets.h lib/base/tensor.h lib/kernels/kernels.h lib/nn/nn.h
PAGES   := $(wildcard man/*.5 man/*.7) man/gliopipe.1
BASHDIR := $(TO)/share/bash-completion/completions
ZSHDIR  := $(TO)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
# (What an empty prefix would put before, or take from, a system that compiles; the pipelines have it in a folder of their own.)
INSTALLED := $(if $(PROGPREFIX),$(TOOLS),$(filter-out strip,$(TOOLS)))
RENAMED   := $(foreach t,$(if $(PROGPREFIX),$(filter $(PREFIXED),$(TOOLS))),$t=$(PROGPREFIX)$t)

install: tools $(SHARED)
	@mkdir -p $(TO)/bin $(TO)/share/man/man1 $(TO)/share/man/man5 $(TO)/share/man/man7 $(BASHDIR) $(ZSHDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(TO)/share/gliopipe
	@mkdir -p $(TO)/libexec/gliopipe/bin
	@$(foreach t,$(INSTALLED),cp $(BUILT)/$t $(TO)/bin/$(call as,$t) && ln -sf ../../../bin/$(call as,$t) $(TO)/libexec/gliopipe/bin/$t && \
	  man/renamed $(RENAMED) <man/$t.1 >$(TO)/share/man/man1/$(call as,$t).1 && \
	  EMULATOR='$(EMULATOR)' tools/completions bash $(BUILT)/$t $(call as,$t) >$(BASHDIR)/$(call as,$t) && \
	  EMULATOR='$(EMULATOR)' tools/completions zsh $(BUILT)/$t $(call as,$t) >$(ZSHDIR)/_$(call as,$t) &&) :
	@for m in $(PAGES); do man/renamed $(RENAMED) <$$m >$(TO)/share/man/man$${m##*.}/$${m##*/} || exit; done
	@rm -rf $(TO)/libexec/gliopipe/pipelines && cp -R pipelines $(TO)/libexec/gliopipe && ln -sf ../libexec/gliopipe/pipelines/gliopipe $(TO)/bin/gliopipe
	@for h in $(HEADERS); do mkdir -p $(TO)/include/gliopipe/$${h%/*} && cp $$h $(TO)/include/gliopipe/$$h || exit; done
	@cp $O/libgliopipe.a $(SHARED) $(DESTDIR)$(LIBDIR) && ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/libgliopipe.so
	@cp formats/gliopipe.py $(TO)/share/gliopipe
	@printf '%s\n' 'prefix=$(PREFIX)' 'Name: gliopipe' 'Description: tensor streams of brain scans, and the engine of their networks' 'Version: $(VERSION)' \
	  'Cflags: -I$${prefix}/include/gliopipe' 'Libs: -L$(LIBDIR:$(PREFIX)/%=$${prefix}/%) -lgliopipe' 'Libs.private: $(strip $(LIBS)) -fopenmp' >$(DESTDIR)$(LIBDIR)/pkgconfig/gliopipe.pc
	@[ -n "$(PROGPREFIX)" ] || { cp $(BUILT)/strip $(TO)/libexec/gliopipe/bin && \
	  echo 'strip is left out of bin: binutils has a program of that name, and compilers call it (PROGPREFIX=glio- installs all)'; }

uninstall:
	@for t in $(foreach t,$(INSTALLED),$(call as,$t)); do rm -f $(TO)/bin/$$t $(TO)/share/man/man1/$$t.1 $(BASHDIR)/$$t $(ZSHDIR)/_$$t; done
	@rm -rf $(TO)/libexec/gliopipe $(TO)/bin/gliopipe $(TO)/include/gliopipe $(TO)/share/gliopipe $(DESTDIR)$(LIBDIR)/libgliopipe.* $(DESTDIR)$(LIBDIR)/pkgconfig/gliopipe.pc
	@for m in $(PAGES); do rm -f $(TO)/share/man/man$${m##*.}/$${m##*/}; done

# --- packages ---------------------------------------------------------------------------------------
# Their bytes depend on what was committed, not on when and where they are made.
deb wheel: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)

# ARCH=arm64: cross-built, with the libraries of that architecture (dpkg --add-architecture arm64) and an emulator that asks the tools
# for their options.
ARCH    ?= $(shell dpkg --print-architecture 2>/dev/null)
# (AArch64's is known before dpkg-dev is installed.)
TRIPLET  = $(or $(if $(filter arm64,$(ARCH)),aarch64-linux-gnu),$(shell dpkg-architecture -a$(ARCH) -qDEB_HOST_MULTIARCH 2>/dev/null))
FOREIGN  = $(filter-out $(shell dpkg --print-architecture),$(ARCH))
CROSS    = $(if $(FOREIGN),CC=$(TRIPLET)-gcc AR=$(TRIPLET)-ar O=build/$(ARCH) EMULATOR=qemu-$(firstword $(subst -, ,$(TRIPLET))))
PKG_deb  = $(if $(FOREIGN),make dpkg-dev qemu-user gcc-$(subst _,-,$(TRIPLET)) $(patsubst %,%:$(ARCH),$(filter %-dev,$(PKG_build))),$(PKG_build) dpkg-dev)
DEB      = build/deb/$(ARCH)
deb: packages-deb
	@$(MAKE) -s -j$(NPROC) CONFIG=release $(CROSS) tools
	@rm -rf $(DEB).root $(DEB) && mkdir -p $(dir $(DEB))
	@umask 022 && $(MAKE) -s CONFIG=release $(CROSS) install DESTDIR=$(DEB).root PREFIX=/usr LIBDIR=/usr/lib/$(TRIPLET) PROGPREFIX=glio- PREFIXED=taken
	@packaging/deb $(DEB).root $(DEB) $(VERSION) $(ABI) $(ARCH) $(TRIPLET)
	@rm -rf $(DEB).root && ls $(DEB)/*.deb

# The tools once more, with all libraries in them but those that every Linux has: archives, and beside them what Debian has no archive of.
# Their licences go along.
PKG_wheel  := $(PKG_build) python3
HERE_LIBS  := $(filter -lisal,$(LIBS))
WHOLE_LIBS := -Wl,-Bstatic -Wl,--start-group $(filter-out -lisal -lm -ldl -lpthread,$(LIBS)) -lgomp -Wl,--end-group -Wl,-Bdynamic $(HERE_LIBS) -ldl -lpthread -lm
$O/whole/%: $O/tools/%.o $(FRAME:%.c=$O/%.o) $(ARCHIVE)
	@mkdir -p $(@D)
	$(CC) -s -o $@ $(filter %.o,$^) $(filter %.a,$^) $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN/../lib/gliopipe' $(WHOLE_LIBS)
$(foreach p,$(PARTS),$(eval $O/whole/$(firstword $(subst _, ,$(notdir $p))): $O/$(p:.c=.o)))
$O/whole/model2onnx: $O/tools/model2onnx_script.o

.PHONY: whole
whole: $(TOOLS:%=$O/whole/%)
	@rm -rf $W && mkdir -p $W/lib/gliopipe $W/licences
	@for l in $(HERE_LIBS:-l%=%); do cp "$$($(CC) -print-file-name=lib$$l.so)" $W/lib/gliopipe/"$$(objdump -p $O/whole/nii2slices | grep -o "lib$$l\.so\.[0-9]*")" || exit; done
	@for l in $(HERE_LIBS:-l%=%.so) $(patsubst -l%,%.a,$(filter -l%,$(filter-out $(HERE_LIBS) -lm -ldl -lpthread,$(WHOLE_LIBS)))); do \
	  of=$$(dpkg -S "$$(realpath "$$($(CC) -print-file-name=lib$$l)")" | sed 's/:.*//') && cp -L /usr/share/doc/$$of/copyright $W/licences/$$of || exit; done
WHEEL = build/wheel
W     = $(WHEEL).root
wheel: packages-wheel
	@$(MAKE) -s -j$(NPROC) CONFIG=release tools whole
	@umask 022 && $(MAKE) -s CONFIG=release install BUILT=build/release/whole DESTDIR=$W PREFIX= PROGPREFIX=glio- PREFIXED=taken
	@packaging/wheel $W $(WHEEL) $(VERSION)
	@rm -rf $W

# What is committed, and recipes that get it from URL (HOME_PAGE: what they say beside).
DIST = build/gliopipe-$(VERSION).tar.gz
dist:
	@mkdir -p build && git archive --prefix=gliopipe-$(VERSION)/ HEAD | gzip -9n >$(DIST)
URL       ?= https://localhost/gliopipe-$(VERSION).tar.gz
HOME_PAGE ?= $(dir $(URL))
RECIPES    = build/recipes
recipes: dist
	@mkdir -p $(RECIPES) && sum=$$(sha256sum <$(DIST)) && for f in packaging/recipes/*; do \
	  sed "s,@URL@,$(URL),; s,@HOME@,$(HOME_PAGE),; s/@VERSION@/$(VERSION)/; s/@SHA256@/$${sum%% *}/" $$f >$(RECIPES)/$${f##*/} || exit; done
	@ls $(RECIPES)/*
